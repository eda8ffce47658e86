"""Reading files that a person named: never a pipe that waits, never more than expected."""

import os
import stat
from pathlib import Path


class NotAFileError(OSError):
    """A folder, pipe, socket or device stands where a file is meant."""


def read_regular(path: Path, limit: int) -> tuple[os.stat_result, bytes]:
    """Status and at most `limit` bytes of a regular file; links are followed.

    Raises:
        NotAFileError: something else is there.
        OSError, ValueError: it cannot be opened, or no file can have that name.
    """
    # O_NONBLOCK: opening a pipe must not wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFileError("is not a file")
        with open(descriptor, "rb", closefd=False) as stream:
            return status, stream.read(limit)
    finally:
        os.close(descriptor)
