"""What every verb needs of the outside world, gathered in one place."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from claude_bottle.errors import BottleError, ManifestError, UsageError

if TYPE_CHECKING:
    from claude_bottle.backend.base import Backend
    from claude_bottle.backend.state import StateStore
    from claude_bottle.manifest import Manifest
    from claude_bottle.plan import Caller

Started = Callable[[str], None]
"""told the bottle's name once its program runs"""


def say(text: str) -> None:
    """Print a notice for the person at the keyboard; carriage returns, because the terminal may be in raw mode."""
    end = "\r\n" if sys.stderr.isatty() else "\n"
    sys.stderr.write(f"claude-bottle: {text}".replace("\n", end) + end)
    sys.stderr.flush()


def print_error(error: BottleError) -> None:
    """Print an error, and the next step where there is one."""
    problems = error.problems if isinstance(error, ManifestError) else (error,)
    for problem in problems:
        say(f"error: {problem}")
        if problem.hint:
            say(f"hint: {problem.hint}")


def home() -> Path:
    """Return the caller's home folder.

    Raises:
        UsageError: there is none, or a fresh folder in its place would cover the whole system.
    """
    try:
        folder = Path.home()
    except RuntimeError:
        raise UsageError("the user has no home folder", where="HOME", hint="set HOME to a folder of yours") from None
    if not folder.is_absolute() or folder == Path("/"):
        raise UsageError(f"{str(folder)!r} cannot be a home folder", where="HOME", hint="set HOME to a folder of yours")
    return folder


def state_store() -> "StateStore":
    """Return the state of all the caller's bottles."""
    from claude_bottle.backend.state import StateStore

    return StateStore(os.environ, home())


def backend(name: str = "local") -> "Backend":
    """Return the backend of that name.

    Raises:
        UsageError: there is none.
    """
    if name != "local":
        raise UsageError(f"no backend named {name!r}", hint="backends: local")
    from claude_bottle.backend.local.backend import LocalBackend

    return LocalBackend(state_store(), say)


def caller() -> "Caller":
    """Return who calls."""
    import pwd

    from claude_bottle.plan import Caller

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = "user"
    return Caller(uid=os.getuid(), gid=os.getgid(), user=user, home=home(), environ=os.environ)


def read_manifest(named: str | None) -> "Manifest":
    """Load the manifest that was named, or the nearest one upward from the current folder.

    Raises:
        UsageError: there is none.
        ManifestError: it has mistakes.
    """
    from claude_bottle.manifest import find_manifest, load_manifest

    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise UsageError("the current folder has been removed", hint="cd to one that exists") from None
    path = Path(named) if named else find_manifest(here)
    if path is None:
        raise UsageError(
            "no claude-bottle.toml in this folder or above", where=str(here), hint="write one: claude-bottle init"
        )
    return load_manifest(path)
