"""Where git takes hooks from, for each git folder found: its own `hooks`, and the folder core.hooksPath names."""

# paths are hostile text
# ruff: noqa: PTH118, PTH120
import os
from collections.abc import Callable, Iterable, Sequence

from claude_bottle.workfolder.files import read_line, read_regular, show
from claude_bottle.workfolder.gitconfig import CONFIG_LIMIT_BYTES, read_config

MAX_REPOSITORIES = 64
"""git folders whose hooks are protected; nearest the top first"""


def hooks_folders(
    git_dirs: Sequence[str], roots: Sequence[str], home: str, notice: Callable[[str], None]
) -> Iterable[str]:
    """Yield every hooks folder, absolute, existing or not; the caller leaves out what lies outside the roots.

    core.hooksPath is read from the repository's own files and from the user's and the system's; files that those
    include are not followed. Most starts read a few hundred bytes here and run no program.
    """
    everywhere = _user_setting(home, roots)
    for git_dir in git_dirs[:MAX_REPOSITORIES]:
        common = read_line(f"{git_dir}/commondir")
        if common is None:
            owner = git_dir
            yield f"{git_dir}/hooks"
        else:  # a linked worktree's git folder has no hooks of its own
            owner = os.path.join(git_dir, common)
        settings = everywhere | _settings(f"{owner}/config", roots) | _settings(f"{git_dir}/config.worktree", roots)
        if folder := settings.get("core.hookspath"):
            yield _hooks_path(checkout_of(git_dir, settings.get("core.worktree")), folder, home)
    if left := git_dirs[MAX_REPOSITORIES:]:
        notice(f"hooks of {len(left)} more repositories are not protected, such as {show(left[0])}")


def _user_setting(home: str, roots: Sequence[str]) -> dict[str, str | None]:
    settings: dict[str, str | None] = {}
    config_home = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    for path in ("/etc/gitconfig", f"{config_home}/git/config", f"{home}/.gitconfig"):
        settings.update({key: value for key, value in _settings(path, roots).items() if key == "core.hookspath"})
    return settings


def _settings(path: str, roots: Sequence[str]) -> dict[str, str | None]:
    """The keys of a config file that mentions hooksPath, last values; git is not worth running for others."""
    text = read_regular(os.path.realpath(path), CONFIG_LIMIT_BYTES)
    if text is None or b"hookspath" not in text.lower():
        return {}
    return dict(read_config(text, roots) or ())


def checkout_of(git_dir: str, worktree: str | None) -> str:
    """The folder in which git runs the hooks: the top of the checkout, or the bare repository itself."""
    if worktree:
        return os.path.join(git_dir, worktree)
    if git_dir.endswith("/.git"):
        return os.path.dirname(git_dir)
    back = read_line(f"{git_dir}/gitdir")
    return os.path.dirname(os.path.join(git_dir, back)) if back else git_dir


def _hooks_path(checkout: str, folder: str, home: str) -> str:
    """Resolve core.hooksPath by spelling; source: git-config(1), core.hooksPath."""
    if folder == "~" or folder.startswith("~/"):
        folder = home + folder[1:]
    path = os.path.normpath(os.path.join(checkout, folder))
    # husky points git at .husky/_, whose files run the scripts beside it.
    return os.path.dirname(path) if path.endswith("/.husky/_") else path
