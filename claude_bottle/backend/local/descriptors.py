"""Descriptors for a program that takes them by number."""

import os
from contextlib import ExitStack

FIRST = 10
"""lowest number given out; those below are the standard streams and what shells use"""


class DescriptorTable:
    """Collects descriptors and the numbers they will have in the child; all are closed here in the end."""

    def __init__(self, closing: ExitStack) -> None:
        self.fds: dict[int, int] = {}
        self._closing = closing

    def add(self, fd: int) -> int:
        """Take over a descriptor of ours and return its number in the child."""
        self._closing.callback(os.close, fd)
        number = FIRST + len(self.fds)
        self.fds[number] = fd
        return number

    def text(self, text: str) -> int:
        """Offer a text as a file to be read from its start; return its number in the child."""
        fd = os.memfd_create("text", os.MFD_CLOEXEC)
        number = self.add(fd)
        view = memoryview(text.encode("utf-8", "surrogateescape"))
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        return number
