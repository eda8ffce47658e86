"""What git needs outside the work folder: the repository of a linked worktree, the git folder of a submodule.

A `.git` *file* only says where to look, and an agent in an earlier bottle may have written it. So nothing is believed
that is not said from both ends: the git folder must name this work folder back, in a file the agent could only have
written where it could already write.
"""

# paths are compared as text after one explicit realpath
# ruff: noqa: PTH112, PTH113, PTH114, PTH118, PTH120
import os
from typing import NamedTuple

from claude_bottle.workfolder.check import refusal
from claude_bottle.workfolder.files import is_inside, read_line, read_regular, show
from claude_bottle.workfolder.gitconfig import CONFIG_LIMIT_BYTES, read_config


class Outside(NamedTuple):
    """The git folder outside the work folder that git must be able to write."""

    path: str
    """folder to bind writable; empty when there is none, or none that can be trusted"""
    notice: str
    """why git will not work inside; empty when it will"""


def outside_repository(workdir: str, home: str) -> Outside:
    """Follow the work folder's own `.git`, if it is a file, and check that what it names belongs to this folder.

    Both absolute with symlinks resolved. Source: gitrepository-layout(5), git-worktree(1), git-submodule(1).
    """
    target = git_file_target(f"{workdir}/.git")
    if target is None:
        return Outside("", _notice_without_git_file(workdir))
    if is_inside(target, workdir):
        return Outside("", "")
    folder = _worktree_repository(workdir, target) or _submodule_repository(workdir, target)
    why = "it does not name this folder back" if folder is None else refusal(folder, home)
    if folder is None or why is not None:
        return Outside("", f"git does not work inside: .git points to {show(target)}, which is not bound because {why}")
    return Outside(folder, "")


def git_file_target(path: str) -> str | None:
    """Where a `.git` file points, with symlinks resolved; None when it is no such file."""
    line = read_line(path)
    if line is None or not line.startswith("gitdir: "):
        return None
    return os.path.realpath(os.path.join(os.path.dirname(path), line.removeprefix("gitdir: ")))


def _worktree_repository(workdir: str, git_dir: str) -> str | None:
    """Give the common folder of a linked worktree: `COMMON/worktrees/ID` and the work folder name each other."""
    common, back = read_line(f"{git_dir}/commondir"), read_line(f"{git_dir}/gitdir")
    if common is None or back is None:
        return None
    repository = os.path.realpath(os.path.join(git_dir, common))
    if os.path.dirname(git_dir) != f"{repository}/worktrees":
        return None
    if os.path.realpath(os.path.join(git_dir, back)) != f"{workdir}/.git":
        return None
    return repository if _is_repository(repository) else None


def _submodule_repository(workdir: str, git_dir: str) -> str | None:
    """Give the git folder of a submodule: below `modules`, and its core.worktree is the work folder."""
    if "modules" not in git_dir.split("/") or not _is_repository(git_dir):
        return None
    text = read_regular(f"{git_dir}/config", CONFIG_LIMIT_BYTES)
    if text is None:
        return None
    worktrees = [value for key, value in read_config(text, (workdir,)) or () if key == "core.worktree" and value]
    if not worktrees or os.path.realpath(os.path.join(git_dir, worktrees[-1])) != workdir:
        return None
    return git_dir


def _is_repository(folder: str) -> bool:
    """Whether a folder has HEAD, objects and refs of its own, none of them a symlink."""
    parts = [f"{folder}/{name}" for name in ("HEAD", "objects", "refs")]
    if any(os.path.islink(part) for part in parts):
        return False
    return os.path.isfile(parts[0]) and os.path.isdir(parts[1]) and os.path.isdir(parts[2])


def _notice_without_git_file(workdir: str) -> str:
    """Say so when the work folder is only a part of a checkout: git finds no repository inside then."""
    if os.path.lexists(f"{workdir}/.git"):
        return ""
    parent = os.path.dirname(workdir)
    while parent != "/":
        if os.path.lexists(f"{parent}/.git"):
            return f"git does not work inside: the repository is {show(parent)}; use --workdir to take the whole of it"
        parent = os.path.dirname(parent)
    return ""
