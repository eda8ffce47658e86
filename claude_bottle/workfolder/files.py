"""Careful file access in a tree that the agent may have arranged: regular files only, symlinks never followed."""

import os
import stat
from collections.abc import Sequence

POINTER_LIMIT_BYTES = 64 * 1024
"""longest `.git` file or pointer that is read; git's own are under 5 KiB"""


def read_regular(path: str, limit_bytes: int, *, dir_fd: int | None = None) -> bytes | None:
    """Read at most `limit_bytes` of a regular file; None for everything else (missing, symlink, FIFO, no permission).

    The type is asked before the file is opened: opening a FIFO or a device can already have an effect. The last
    component is never followed; that the folders before it are real is the caller's knowledge.
    """
    try:
        if not stat.S_ISREG(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return _read_up_to(descriptor, limit_bytes)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _read_up_to(descriptor: int, limit_bytes: int) -> bytes:
    parts = []
    while limit_bytes > 0 and (part := os.read(descriptor, limit_bytes)):
        parts.append(part)
        limit_bytes -= len(part)
    return b"".join(parts)


def read_line(path: str) -> str | None:
    """Read a one-line pointer file such as `commondir`; None when it is not a small regular file."""
    text = read_regular(path, POINTER_LIMIT_BYTES)
    return None if text is None or b"\0" in text else os.fsdecode(text.rstrip(b"\r\n"))


def is_inside(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or below it, by spelling; both absolute and normal."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def path_outside(roots: Sequence[str]) -> str:
    """The user's PATH without relative folders and those in the roots: an agent may have put its own `git` there."""
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder.startswith("/")]
    real = ((folder, os.path.realpath(folder)) for folder in folders)
    kept = [folder for folder, path in real if not any(is_inside(path, root) for root in roots)]
    return os.pathsep.join(kept) or os.defpath


def show(text: str) -> str:
    """Text from the tree, fit for a terminal: whatever is not printable is escaped, line ends and bidi marks too."""
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as os.fsdecode carries it (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
