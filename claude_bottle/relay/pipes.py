"""Kernel pipes for bulk data: bytes go from socket to socket without passing through this process.

A pipe is taken while bytes are in flight and comes back when it is empty, so idle connections hold none.
"""

from __future__ import annotations

import fcntl
import os

PIPE_BYTES = 1 << 20
"""wanted size; the kernel gives an unprivileged user 64 MiB of it in all (fs.pipe-user-pages-soft)"""
SMALLEST_BYTES = 64 << 10
"""below this, copying is as fast"""


class Pipe:
    """One pipe and how much it takes."""

    __slots__ = ("filled", "sink", "size", "source")

    def __init__(self) -> None:
        self.source, self.sink = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.size = _enlarge(self.sink)
        self.filled = 0

    def close(self) -> None:
        """Close both ends; what is inside is lost."""
        os.close(self.source)
        os.close(self.sink)


def _enlarge(fd: int) -> int:
    """Give a pipe the wanted size, or what the user's share of pipe memory allows; what it has then."""
    size = PIPE_BYTES
    while size >= SMALLEST_BYTES:
        try:
            return fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
        except OSError:
            size //= 4
    return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)


class PipePool:
    """Pipes to take and give back; never more than `most` open at once."""

    def __init__(self, most: int) -> None:
        self._free: list[Pipe] = []
        self._left = most

    def take(self) -> Pipe | None:
        """An empty pipe, or None when bytes must be copied instead."""
        if self._free:
            return self._free.pop()
        if self._left <= 0:
            return None
        try:
            pipe = Pipe()
        except OSError:
            return None
        if pipe.size < SMALLEST_BYTES:
            pipe.close()
            return None
        self._left -= 1
        return pipe

    def give(self, pipe: Pipe) -> None:
        """Take a pipe back; one with bytes inside is closed."""
        if pipe.filled:
            pipe.close()
            self._left += 1
        else:
            self._free.append(pipe)

    def trim(self, keep: int) -> None:
        """Close free pipes but `keep`."""
        while len(self._free) > keep:
            self._free.pop().close()
            self._left += 1
