"""One path set back to what stood there, in a tree that the agent arranged.

Every folder from the root down is opened by descriptor without following a symlink, and what is written is a new file
that takes the old one's place by rename(2), which replaces a symlink and does not follow it.
"""

# descriptors and names; pathlib has neither dir_fd nor O_NOFOLLOW
# ruff: noqa: PTH118, PTH208
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from claude_bottle.errors import BottleError
from claude_bottle.workfolder.entry import Entry

SAVED_BYTES = 64 * 1024 * 1024
"""longest file that is saved before it is replaced; a longer one is left and an error"""


def put_back(path: Path, before: Entry | None, text: bytes | None, replaced: Path) -> None:
    """Make `path` what it was: a file or symlink with the text, or nothing when `before` is None.

    What stands there now is copied into the folder `replaced` first, as NUMBER-NAME, never executable.

    Raises:
        BottleError: the text was not kept, or a folder or a very long file stands there.
        OSError: a folder on the way is missing no longer but a symlink, or cannot be written.
    """
    if before is not None and text is None:
        raise BottleError("its text was too long to keep, or could not be read")
    with _open_parent(path, create=before is not None) as parent:
        if parent is None:
            return
        _save(path.name, parent, replaced)
        if before is None:
            _remove(path.name, parent)
        else:
            _put(path.name, parent, before, text or b"")


@contextmanager
def _open_parent(path: Path, *, create: bool) -> Iterator[int | None]:
    """Open the folder that holds the path; None when it does not exist and need not."""
    descriptor = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in path.parts[1:-1]:
            try:
                below = _open_folder(name, descriptor)
            except FileNotFoundError:
                if not create:
                    yield None
                    return
                os.mkdir(name, dir_fd=descriptor)
                below = _open_folder(name, descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _open_folder(name: str, parent: int) -> int:
    return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _save(name: str, parent: int, replaced: Path) -> None:
    """Copy what stands there; FIFOs, sockets and devices hold nothing to copy and are not opened."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        raise BottleError("a folder stands there now")
    if stat.S_ISLNK(status.st_mode):
        text = os.fsencode(os.readlink(name, dir_fd=parent))
    elif stat.S_ISREG(status.st_mode):
        if status.st_size > SAVED_BYTES:
            raise BottleError(f"a file of {status.st_size:,} bytes stands there now, too long to save first")
        text = _read(name, parent)
    else:
        return
    replaced.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = 1 + max((int(old.partition("-")[0]) for old in os.listdir(replaced)), default=0)
    target = os.path.join(replaced, f"{number:04}-{name}"[:255])
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(text)


def _read(name: str, parent: int) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    with open(descriptor, "rb") as file:
        return file.read(SAVED_BYTES)


def _remove(name: str, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return


def _put(name: str, parent: int, before: Entry, text: bytes) -> None:
    temporary = f".claude-bottle.{os.getpid()}"
    if before.kind == "symlink":
        os.symlink(text, temporary, dir_fd=parent)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o600, dir_fd=parent), "wb") as file:
            file.write(text)
            os.fchmod(file.fileno(), before.mode & 0o777)
    try:
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError:
        os.unlink(temporary, dir_fd=parent)
        raise
