"""What is known about bottles outside them: one folder per bottle, shared by every backend.

`$XDG_STATE_HOME/claude-bottle/<slug>/` (0700) holds the audit log, kept old texts, and while a bottle runs its record
and logs; sockets go to `$XDG_RUNTIME_DIR/claude-bottle/<slug>/` when there is one. The lock is a flock on the folder
itself: the kernel drops it when its holder dies, so a record without a lock is what a crash left.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from claude_bottle.errors import BackendError, UsageError

RECORD = "state.json"
MOST_COPIES = 1000
"""bottles of one name that may run at once"""


def state_root(environ: Mapping[str, str], home: Path) -> Path:
    """Return the folder of all bottles. Source: XDG Base Directory Specification."""
    base = environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else home / ".local/state") / "claude-bottle"


def runtime_root(environ: Mapping[str, str], home: Path) -> Path:
    """Return the folder of all sockets: below XDG_RUNTIME_DIR if it is usable, else below the state."""
    base = environ.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/") and os.access(base, os.W_OK | os.X_OK):
        return Path(base) / "claude-bottle"
    return state_root(environ, home) / ".run"


class BottleFolder:
    """The state folder of one bottle name."""

    def __init__(self, root: Path, slug: str) -> None:
        self.slug = slug
        self.path = root / slug
        self._lock_fd = -1

    @property
    def audit(self) -> Path:
        """The bottle's audit log; it stays when the bottle ends."""
        return self.path / "audit.jsonl"

    @property
    def gate_log(self) -> Path:
        """What the gate process writes to stderr."""
        return self.path / "gate.log"

    @property
    def output_log(self) -> Path:
        """What a detached agent prints."""
        return self.path / "output.log"

    @property
    def snapshot(self) -> Path:
        """What the host would execute in the work folder, as it was before the bottle started."""
        return self.path / "workfolder.json"

    @property
    def kept(self) -> Path:
        """Old texts of files that the agent changed and the host obeys."""
        return self.path / "kept"

    def lock(self) -> bool:
        """Take the bottle's lock; return False when a running bottle holds it."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock_fd = fd
        return True

    def unlock(self) -> None:
        """Give the lock back; idempotent."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def is_running(self) -> bool:
        """Tell whether somebody holds the lock."""
        if not self.path.is_dir():
            return False
        if not self.lock():
            return True
        self.unlock()
        return False

    def read_record(self) -> dict[str, Any] | None:
        """Return what was recorded at start, or None when nothing (readable) is there."""
        try:
            record = json.loads((self.path / RECORD).read_bytes())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def write_record(self, record: Mapping[str, object]) -> None:
        """Record what a sweep has to know; whole or not at all."""
        temporary = self.path / f".{RECORD}"
        try:
            temporary.write_text(json.dumps(record))
            temporary.replace(self.path / RECORD)
        except OSError as error:
            hint = "make room there, or set XDG_STATE_HOME to another folder"
            raise BackendError(f"cannot write: {error.strerror}", where=str(temporary), hint=hint) from error

    def clear(self) -> None:
        """Remove all that belongs to a run; the audit log, kept texts and what a detached agent printed stay."""
        for name in (RECORD, f".{RECORD}", self.gate_log.name, self.snapshot.name):
            (self.path / name).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            if self.output_log.stat().st_size == 0:
                self.output_log.unlink()


class StateStore:
    """All bottles of one user."""

    def __init__(self, environ: Mapping[str, str], home: Path) -> None:
        self.root = state_root(environ, home)
        self.runtime = runtime_root(environ, home)

    def folders(self) -> Iterator[BottleFolder]:
        """Yield every bottle that has ever run, by name.

        Raises:
            BackendError: their folder cannot be read.
        """
        try:
            paths = sorted(self.root.iterdir()) if self.root.exists() else []
        except OSError as error:
            raise BackendError(
                f"cannot read folder: {error.strerror}", where=str(self.root), hint="set XDG_STATE_HOME"
            ) from error
        for path in paths:
            if path.is_dir() and not path.name.startswith("."):
                yield BottleFolder(self.root, path.name)

    def folder(self, slug: str) -> BottleFolder:
        """Return one bottle's folder.

        Raises:
            UsageError: no bottle of that name has ever run.
        """
        folder = BottleFolder(self.root, slug)
        if not slug or "/" in slug or slug.startswith(".") or not folder.path.is_dir():
            known = ", ".join(item.slug for item in self.folders())
            raise UsageError(f"no bottle named {slug!r}", where=str(self.root), hint=f"known: {known or 'none'}")
        return folder

    def claim(self, name: str) -> BottleFolder:
        """Return a locked folder for a new bottle: `name`, or `name-2`, `name-3` … while those run.

        Raises:
            BackendError: the folder cannot be made, or a thousand bottles of that name run.
        """
        for count in range(1, MOST_COPIES + 1):
            folder = BottleFolder(self.root, name if count == 1 else f"{name}-{count}")
            make_private(folder.path)
            if folder.lock():
                return folder
        raise BackendError(f"{MOST_COPIES} bottles named {name} run already", hint="claude-bottle stop --all")

    def runtime_folder(self, slug: str) -> Path:
        """Make the empty folder for a bottle's sockets and return it."""
        path = self.runtime / slug
        remove_tree(path)
        make_private(path)
        return path


def make_private(path: Path) -> None:
    """Make a folder that only its owner can enter, parents too.

    Raises:
        BackendError: it cannot be made, or somebody else owns it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.mkdir(exist_ok=True, mode=0o700)
        status = path.lstat()
        if status.st_uid != os.geteuid():
            raise BackendError(f"belongs to user {status.st_uid}", where=str(path), hint="set XDG_STATE_HOME")
        if status.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise BackendError(
            f"cannot make folder: {error.strerror}", where=str(path), hint="set XDG_STATE_HOME to a writable folder"
        ) from error


def remove_tree(path: Path) -> None:
    """Remove a folder of ours that may be gone."""
    if not os.path.lexists(path):
        return
    from shutil import rmtree  # a start that has nothing to remove does without

    with suppress(FileNotFoundError):
        rmtree(path)
