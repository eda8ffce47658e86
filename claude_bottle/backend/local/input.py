"""A file as standard input, handed in through a pipe.

A program that held the file itself could open it anew for writing (/proc/self/fd/0), wherever it lies outside. The
price is that bytes are read ahead; those that the program left in the pipe are given back in the end, so that a shell's
`while read` around a bottle goes on where it should.
"""

import fcntl
import os
import select
import stat
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress

CHUNK_BYTES = 65536


class InputFile:
    """Standard input from a file, and the pipe that stands in for it."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._pending = b""
        self.read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC)
        """the program's end, which we keep to learn what is left in the end; our end, -1 at the end of the file"""
        os.set_blocking(self.write_fd, False)

    def interest(self) -> dict[int, int]:
        """Return which poll(2) events on which descriptors matter now."""
        return {self.write_fd: select.POLLOUT} if self.write_fd >= 0 else {}

    def handle(self, ready: Mapping[int, int]) -> None:
        """Hand on as much as the pipe takes."""
        if self.write_fd not in ready:
            return
        try:
            self._pending = self._pending or os.read(self._source, CHUNK_BYTES)
            if self._pending:
                self._pending = self._pending[os.write(self.write_fd, self._pending) :]
                return
        except BlockingIOError:
            return
        except OSError:  # a file that cannot be read to its end ends here
            self._pending = b""
        self._end()

    def close(self) -> None:
        """Give back what was read in vain; idempotent."""
        self._end()
        if self.read_fd >= 0:
            unread = struct.unpack("i", fcntl.ioctl(self.read_fd, termios.FIONREAD, bytes(4)))[0]
            with suppress(OSError):
                os.lseek(self._source, -unread - len(self._pending), os.SEEK_CUR)
            os.close(self.read_fd)
            self.read_fd = -1

    def _end(self) -> None:
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1


def open_input() -> InputFile | None:
    """Return our standard input if it is a file, else None."""
    return InputFile(0) if stat.S_ISREG(os.fstat(0).st_mode) else None
