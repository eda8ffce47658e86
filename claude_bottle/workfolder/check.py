"""Which folders may be a work folder: not the ones that open the sandbox by being writable, or that hold secrets."""

# paths are compared as text, and are hostile: nothing may be resolved or followed in passing
# ruff: noqa: PTH112, PTH120
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from claude_bottle.errors import UsageError
from claude_bottle.workfolder.files import is_inside, show

SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/snap", "/sys",
    "/usr", "/var",
)  # fmt: skip
"""folders of the system; neither they nor anything in them"""

SYSTEM_EXCEPT = ("/run/media", "/usr/local/src", "/usr/src", "/var/tmp", "/var/www")  # noqa: S108 - names only
"""folders in SYSTEM whose contents are users' own: removable disks, sources, web sites"""

SHARED = ("/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var/tmp")  # noqa: S108 - names only
"""folders that hold other people's folders and sockets; not they themselves, but what is in them"""

SECRETS = (
    ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".password-store", ".pki", ".mozilla", ".thunderbird",
    ".config/gcloud", ".config/gh", ".config/git", ".config/op", ".config/rclone", ".config/containers",
    ".config/google-chrome", ".config/chromium", ".config/BraveSoftware", ".config/systemd", ".config/autostart",
    ".config/fish", ".local/share/keyrings", ".local/share/containers", ".local/bin", ".cargo/bin",
    ".claude", ".codex", ".gemini",
)  # fmt: skip
"""folders of the home folder that hold credentials, or programs and start files the host runs; neither they nor
anything in or around them"""


_PYTHON_OF_THE_SYSTEM = ("/", "/usr", "/usr/local")
"""prefixes that hold much besides a Python"""


def check_workdir(workdir: Path, home: Path, state_dirs: Sequence[Path]) -> None:
    """Refuse a work folder that is missing, not writable, or would open the sandbox.

    Args:
        workdir: the folder as the user named it; symlinks are resolved before anything is judged.
        home: the user's home folder.
        state_dirs: the product's own folders (state, runtime), which hold audit logs, sockets and kept texts.

    Raises:
        UsageError: with the folder, the reason and a hint.
    """
    try:
        folder = os.path.realpath(workdir, strict=True)
    except OSError as error:
        raise _error(workdir, error.strerror or "cannot be resolved", "name an existing folder") from error
    if not os.path.isdir(folder):
        raise _error(workdir, "not a folder", "name the folder that holds the file")
    why = refusal(folder, os.path.realpath(home), [os.path.realpath(state) for state in state_dirs])
    if why is not None:
        raise _error(workdir, why, "use the folder of one project; --workdir names it")
    if any(is_inside(folder, own) for own in own_folders() if own not in _PYTHON_OF_THE_SYSTEM):
        raise _error(workdir, "claude-bottle itself runs from here", "install claude-bottle elsewhere")
    if _is_inside_git_folder(folder):
        raise _error(workdir, "lies inside a .git folder", "use the folder that holds .git")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _error(workdir, "not writable by you", "choose a folder of your own, or change its permissions")


def own_folders() -> tuple[str, ...]:
    """Folders whose code runs outside the bottle as claude-bottle: the package, its environment, its interpreter."""
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    return tuple(dict.fromkeys((package, os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix))))


def refusal(folder: str, home: str, state_dirs: Sequence[str] = ()) -> str | None:
    """Why a folder must not be writable inside a bottle; None when nothing speaks against it.

    All paths absolute with symlinks resolved. Pure: reads nothing.
    """
    if folder == "/":
        return "the root folder holds everything"
    if is_inside(home, folder):
        return "holds your whole home folder" if folder == home else "holds your home folder"
    for secret in SECRETS:
        path = f"{home.rstrip('/')}/{secret}"
        if is_inside(folder, path) or is_inside(path, folder):
            return f"holds what is in ~/{secret}" if is_inside(path, folder) else f"belongs to ~/{secret}"
    for state in state_dirs:
        if is_inside(folder, state) or is_inside(state, folder):
            return f"claude-bottle keeps its own state in {show(state)}"
    if folder in SHARED or os.path.dirname(folder) == "/home":
        return "holds other people's or programs' folders"
    if _is_system(folder) and (home == "/" or not is_inside(folder, home)):
        return "belongs to the system"
    return None


def _is_system(folder: str) -> bool:
    if any(folder != own and is_inside(folder, own) for own in SYSTEM_EXCEPT):
        return False
    return any(is_inside(folder, system) for system in SYSTEM)


def _is_inside_git_folder(folder: str) -> bool:
    """Whether the folder is part of a repository's own data; a checkout that happens to lie there is not."""
    return ".git" in folder.split("/") and not os.path.lexists(f"{folder}/.git")


def _error(workdir: Path, what: str, hint: str) -> UsageError:
    return UsageError(f"{what}", where=f"work folder {show(os.fspath(workdir))}", hint=hint)
