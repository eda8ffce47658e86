"""What of the host may be shown inside a bottle: never what would lead out of it again.

A bind mount carries Unix sockets, devices and keys with it; the network seal does not stop them.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

MAX_SCANNED = 2000
"""directory entries looked at for sockets; a bigger folder is looked at in part"""
MAX_DEPTH = 3
"""levels looked at for sockets: `.docker/run/docker.sock` is on the second"""

Refusal = tuple[str, str]
"""what is wrong and a hint"""


def forbidden_folders(home: Path) -> tuple[tuple[Path, bool, str], ...]:
    """Folders that stay outside, each with whether that goes for everything in it, and why."""
    state = Path(os.environ.get("XDG_STATE_HOME") or home / ".local/state")
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    return (
        (Path("/"), False, "it is the whole machine"),
        (home, False, "it is the whole home folder, with keys and settings of other programs"),
        (home / ".ssh", True, "private keys stay outside; declare them as IdentityFile"),
        (state / "claude-bottle", True, "it holds the bottles' own records and sockets"),
        (runtime, True, "it holds sockets of programs outside"),
        (Path("/run"), False, "it holds sockets of programs outside"),
        (Path("/run/user"), True, "it holds sockets of programs outside"),
        (Path("/tmp"), False, "it holds sockets of programs outside"),  # noqa: S108 - named to be refused
        (Path("/var/tmp"), False, "it is shared with programs outside"),  # noqa: S108
        (Path("/proc"), True, "it shows programs outside"),
        (Path("/sys"), True, "it controls the machine"),
        (Path("/dev"), True, "it holds devices"),
    )


def check_source(source: Path, home: Path, keys: Iterable[Path] = ()) -> Refusal | None:
    """Why `source` may not be shown inside a bottle: what is wrong and a hint; None when it may.

    `keys` are private keys that have to stay outside. Links are followed: what counts is where they lead.
    """
    real = Path(os.path.realpath(source))
    try:
        mode = real.stat().st_mode
    except OSError as error:
        return f"{str(source)!r}: {error.strerror}", "name a file or folder that exists"
    if stat.S_ISSOCK(mode):
        return f"{str(source)!r} is a Unix socket, a way out of the bottle", "leave it out"
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        return f"{str(source)!r} is neither a file nor a folder", "leave it out"
    return _leads_out(source, real, home) or _shows_key(source, real, keys) or _holds_socket(source, real)


def _leads_out(source: Path, real: Path, home: Path) -> Refusal | None:
    for folder, whole, reason in forbidden_folders(home):
        place = Path(os.path.realpath(folder))
        if place.is_relative_to(real) or (whole and real.is_relative_to(place)):
            contains = "" if real == place else "contains " if place.is_relative_to(real) else "lies in "
            what = f"{str(source)!r} {contains}{folder}" if contains else f"{str(source)!r} cannot be mounted"
            return what, f"{reason}; name a smaller folder or a single file"
    return None


def _shows_key(source: Path, real: Path, keys: Iterable[Path]) -> Refusal | None:
    for key in keys:
        if Path(os.path.realpath(key)).is_relative_to(real):
            return f"{str(source)!r} would show the private key {str(key)!r} inside", "keep the key in another folder"
    return None


def _holds_socket(source: Path, real: Path) -> Refusal | None:
    if real.is_dir():
        for found in _sockets(real):
            return (
                f"{str(source)!r} contains the Unix socket {found!r}, a way out of the bottle",
                "name a smaller folder",
            )
    return None


def _sockets(folder: Path) -> Iterator[str]:
    """Paths of Unix sockets in the folder, breadth first within the limits above; links are not followed."""
    level, seen = [str(folder)], 0
    for _ in range(MAX_DEPTH):
        below: list[str] = []
        for place in level:
            for entry in _entries(place):
                seen += 1
                if seen > MAX_SCANNED:
                    return
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                elif not entry.is_file(follow_symlinks=False) and _is_socket(entry):
                    yield entry.path
        level = below


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            yield from found
    except OSError:
        return  # what the user cannot read, the bottle cannot either


def _is_socket(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)
    except OSError:
        return False
