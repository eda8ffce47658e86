"""What of the host may be shown inside a bottle: never what would lead out of it again.

A bind mount carries Unix sockets, devices and keys with it; the network seal does not stop them. Sockets deeper in a
mounted folder are the backend's to cover (`workfolder.protect.masked_sockets`): they come and go.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

Refusal = tuple[str, str]
"""what is wrong and a hint"""

STARTED_IN_HOME = (
    *(".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".profile", ".bash_aliases"),
    *(".zshrc", ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".config/fish"),
    *(".gitconfig", ".config/git", ".config/systemd", ".config/autostart", ".local/bin", ".cargo/bin", "bin"),
)
"""paths in the home folder whose content the host runs"""
STARTED = ("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr", "/var/spool")
"""folders of the system whose content the host runs"""


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


def check_source(source: Path, home: Path, keys: Iterable[Path] = (), *, writable: bool = False) -> Refusal | None:
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
    refused = _leads_out(source, real, home) or _shows_key(source, real, keys)
    return refused or (_is_started(source, real, home) if writable else None)


def _leads_out(source: Path, real: Path, home: Path) -> Refusal | None:
    refused = None
    for folder, whole, reason in forbidden_folders(home):
        place = Path(os.path.realpath(folder))
        hint = f"{reason}; name a smaller folder or a single file"
        if real == place:
            return f"{str(source)!r} cannot be mounted", hint
        if place.is_relative_to(real):
            refused = refused or (f"{str(source)!r} contains {folder}", hint)
        elif whole and real.is_relative_to(place):
            refused = refused or (f"{str(source)!r} lies in {folder}", hint)
    return refused


def _shows_key(source: Path, real: Path, keys: Iterable[Path]) -> Refusal | None:
    for key in keys:
        if Path(os.path.realpath(key)).is_relative_to(real):
            return f"{str(source)!r} would show the private key {str(key)!r} inside", "keep the key in another folder"
    return None


def _is_started(source: Path, real: Path, home: Path) -> Refusal | None:
    """What the agent writes there, the host runs later."""
    for name in (*(home / each for each in STARTED_IN_HOME), *(Path(each) for each in STARTED)):
        place = Path(os.path.realpath(name))
        if real.is_relative_to(place) or place.is_relative_to(real):
            return f"{str(source)!r} cannot be writable: programs outside run what is in {name}", "leave writable out"
    return None
