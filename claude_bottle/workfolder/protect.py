"""What the backend mounts over the work folder, in order, so that the agent cannot write what the host's git runs.

A hooks folder bound read-only is not enough: `mv .git .old` and a new `.git` would stand in its place. A mount point
cannot be renamed or removed (EBUSY), but the folders above it can, so every folder from the work folder down to a
protected path is bound over itself. Price: rename(2) and link(2) between a bound folder and its surroundings give
EXDEV; that is noticed only around repositories nested in ordinary folders. Each mount costs bwrap 0.3 to 0.5 ms.

What this does not hold, and `snapshot` reports: a hooks folder configured anew (core.hooksPath), a new repository, a
replaced symlink. Nor does it hold against a second bottle that already runs in the same folder and swaps folders for
symlinks while this one starts.
"""

# paths are hostile text; one explicit realpath where a symlink is to be judged, none in passing
# ruff: noqa: PTH100, PTH110, PTH111, PTH112, PTH118, PTH120
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from claude_bottle.workfolder import sockets
from claude_bottle.workfolder.check import check_workdir as check_workdir
from claude_bottle.workfolder.check import own_folders
from claude_bottle.workfolder.files import is_inside, show
from claude_bottle.workfolder.hooks import hooks_folders
from claude_bottle.workfolder.repository import outside_repository
from claude_bottle.workfolder.walk import Survey, survey

Kind = Literal["writable", "pin", "read-only", "empty"]


class Protection(NamedTuple):
    """One mount; a folder always comes before what lies in it."""

    path: Path
    """absolute, symlinks resolved, the same outside and inside"""
    kind: Kind
    """`writable`: bind read-write, the path lies outside the work folder; `pin`: bind read-write over itself;
    `read-only`: bind read-only over itself; `empty`: cover with an empty read-only folder (tmpfs) when the path is a
    folder or does not exist yet, with /dev/null when it is anything else"""


def plan_protection(
    workdir: Path,
    manifest: Path | None,
    notice: Callable[[str], None] = lambda _: None,
    *,
    home: Path | None = None,
    found: Survey | None = None,
) -> tuple[Protection, ...]:
    """Plan the mounts that follow the work folder's own writable bind. Reads the folder, changes nothing.

    A hooks folder that does not exist is planned as `empty`: the backend's mount makes the folder on the host, as
    `git init` would have, and it stays behind empty.

    Args:
        workdir: absolute, symlinks resolved, accepted by `check_workdir`.
        manifest: the manifest in use; read-only inside when it lies in the work folder.
        notice: called with one line for everything that cannot be protected.
        home: the user's home folder, which no repository outside may contain; default: the user's.
        found: a walk of the work folder, to save a second one.
    """
    root = os.fspath(workdir)
    home_text = os.path.realpath(home or os.path.expanduser("~"))
    surveys = [survey(root) if found is None else found]
    mounts = _Mounts(root, notice)
    outside = outside_repository(root, home_text)
    if outside.notice:
        notice(outside.notice)
    if outside.path:
        mounts.open(outside.path)
        surveys.append(survey(outside.path))
        mounts.cover(f"{root}/.git", ".git file")  # git writes it when the worktree is made, and never again
    if manifest is not None:
        mounts.cover(os.path.abspath(manifest), "manifest")
    for folder in own_folders():
        if is_inside(folder, root):
            mounts.cover(folder, "claude-bottle's own folder")
            notice(
                f"{show(folder)} is read-only inside: claude-bottle itself runs from it; better install it elsewhere"
            )
    git_dirs = [path for each in surveys for path in each.git_dirs]
    for folder in hooks_folders(git_dirs, mounts.roots, home_text, notice):
        mounts.cover(folder, "hooks folder")
    for each, folder in zip(surveys, mounts.roots, strict=True):
        mounts.mask((*sockets.live(each.sockets), *(sockets.listed(folder) if each.cut else ())))
        for why in each.cut:
            notice(f"{show(folder)} was not searched to the end ({why}): hooks further down are not protected")
    return mounts.ordered()


def masked_sockets(source: Path, target: Path) -> tuple[Protection, ...]:
    """Plan covers for host sockets in a folder the manifest mounts at `target`; read-only mounts need them too."""
    root = os.path.realpath(source)
    live = sockets.live(survey(root).sockets)
    return tuple(Protection(target / os.path.relpath(path, root), "empty") for path in sorted(live))


class _Mounts:
    """Collects the paths to cover, then adds the pins between and sorts."""

    def __init__(self, workdir: str, notice: Callable[[str], None]) -> None:
        self.roots = [workdir]
        self.notice = notice
        self.kinds: dict[str, Kind] = {}
        self.masks: set[str] = set()

    def open(self, repository: str) -> None:
        """Bind a repository outside writable; where it contains the work folder, that is bound again over it."""
        workdir = self.roots[0]
        self.roots.append(repository)
        self.kinds[repository] = "writable"
        if is_inside(workdir, repository):
            self.kinds[workdir] = "pin"
            self.notice(f"the repository {show(repository)} contains the work folder: all of it is writable inside")

    def cover(self, path: str, what: str) -> None:
        """Make a path read-only, or what its symlink leads to; what lies outside is the host's and is not visible."""
        real = os.path.realpath(path)
        if self._root_of(path) and real != path:
            self.notice(f"{what} {show(path)} is reached through a symlink, which the agent can replace")
        if real in self.roots or any(is_inside(root, real) for root in self.roots):
            self.notice(f"{what} {show(path)} is or contains the work folder and cannot be read-only")
        elif self._root_of(real) and not self._cover_real(real):
            self.notice(f"{what} {show(path)} leads nowhere and cannot be covered")

    def _cover_real(self, path: str) -> bool:
        """Cover a path without symlinks; False for a symlink that leads to itself and for a path below a file."""
        if os.path.exists(path):
            self.kinds[path] = "read-only"
            return True
        # The first missing folder is covered: a mount cannot be pinned below what does not exist.
        while not os.path.lexists(os.path.dirname(path)):
            path = os.path.dirname(path)
        if os.path.lexists(path) or not os.path.isdir(os.path.dirname(path)):
            return False
        self.kinds.setdefault(path, "empty")
        return True

    def mask(self, paths: Iterable[str]) -> None:
        """Cover sockets. They need no pins: the cover moves with the folder, and a new file is a new socket."""
        self.masks.update(paths)

    def _root_of(self, path: str) -> str | None:
        return next((root for root in self.roots if path != root and is_inside(path, root)), None)

    def ordered(self) -> tuple[Protection, ...]:
        """All mounts, parents first; nothing below what is already read-only or covered, except sockets."""
        planned = dict(self.kinds)
        for path in (path for path, kind in self.kinds.items() if kind in ("read-only", "empty")):
            for folder in self._between(path):
                planned.setdefault(folder, "pin")
        shut = [path for path, kind in planned.items() if kind in ("read-only", "empty")]
        hidden = [path for path, kind in planned.items() if kind == "empty"]
        kept = {path: kind for path, kind in planned.items() if not _is_below(path, shut)}
        kept.update({path: "empty" for path in self.masks if not _is_below(path, hidden)})
        return tuple(Protection(Path(path), kept[path]) for path in sorted(kept, key=lambda path: path.split("/")))

    def _between(self, path: str) -> list[str]:
        """Folders between the innermost root and the path, both excluded."""
        root = max((root for root in self.roots if is_inside(path, root)), key=len)
        names = os.path.relpath(path, root).split("/")[:-1]
        return [os.path.join(root, *names[: depth + 1]) for depth in range(len(names))]


def _is_below(path: str, folders: list[str]) -> bool:
    return any(path != folder and is_inside(path, folder) for folder in folders)
