"""One watched file as it is: its type, its mode, and its text or a mark that tells whether it changed."""

# paths are text as the walk gives it; a Path object costs as much as the file system
# ruff: noqa: PTH115
import os
import stat
from typing import Literal, NamedTuple

KEPT_BYTES = 256 * 1024
"""longest file whose text is kept, so that it can be put back"""

CONFIG_KEPT_BYTES = 1024 * 1024
"""the same for git configuration, which is compared key by key"""

HASHED_BYTES = 8 * 1024 * 1024
"""longest file that is read at all; about 10 ms"""


class Entry(NamedTuple):
    """What stood at a path."""

    kind: Literal["file", "symlink", "other"]
    """`other` is a FIFO, socket or device, or a file that cannot be read; never opened"""
    mode: int
    """permission bits"""
    text: bytes | None
    """content of a file or target of a symlink; None when it is too long to keep"""
    mark: str = ""
    """for what is not kept: a hash, or for very long files inode, size and change time. The change time is the one time
    stamp that a file's owner cannot set"""


def read_entry(path: str, *, kept_bytes: int = KEPT_BYTES) -> Entry | None:
    """Look at one path without following a symlink there; None when nothing is there."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        try:
            return Entry("symlink", 0, os.fsencode(os.readlink(path)))
        except OSError:
            return None
    if stat.S_ISREG(status.st_mode):
        try:
            return _read_file(path, mode, kept_bytes)
        except OSError as error:
            return Entry("other", mode, None, error.strerror or "unreadable")
    return Entry("other", mode, None, f"type {stat.S_IFMT(status.st_mode):o}")


def _read_file(path: str, mode: int, kept_bytes: int) -> Entry:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if status.st_size <= kept_bytes:
            return Entry("file", mode, file.read(kept_bytes))
        if status.st_size > HASHED_BYTES:
            return Entry("file", mode, None, f"{status.st_ino} {status.st_size} {status.st_ctime_ns}")
        import hashlib  # 4 ms, and few watched files are long

        return Entry("file", mode, None, hashlib.file_digest(file, "sha256").hexdigest())
