"""One walk through the work folder that finds everything protection and snapshot need to know.

Breadth first, so that what lies near the top is seen even when a huge tree is cut short. Symlinks are recorded by name
where the name matters and never followed. About 0.6 us per file and 10 us per folder.
"""

import os
import stat
import time
from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

LIMIT_ENTRIES = 500_000
"""files and folders looked at before the walk is cut short; about half a second"""

LIMIT_S = 10.0
"""seconds before the walk is cut short, for slow network file systems"""

GIT_UNSEARCHED = frozenset({"objects", "refs", "logs", "lfs", "annex"})
"""folders of a git folder that hold data only, and a lot of it: searched for privileged files only"""


class Rule(NamedTuple):
    """Why a file counts."""

    why: str
    """who on the host obeys it, and when; half a sentence"""
    is_config: bool = False
    """whether it is git configuration, compared key by key"""


class Rules(NamedTuple):
    """What to look for, from the data file; see `watched`."""

    names: Mapping[str, Rule] = {}
    """file name, anywhere"""
    suffixes: Mapping[str, Rule] = {}
    """end of a file name, anywhere"""
    folders: Mapping[str, tuple[tuple[str, Rule], ...]] = {}
    """folder name, anywhere -> paths below it; a last part `*` is all files in a folder, `**` all below it"""
    git: tuple[tuple[str, Rule], ...] = ()
    """paths below a git folder, spelled as in `folders`"""
    quiet: frozenset[str] = frozenset()
    """names of folders in which only git folders count, such as node_modules"""


NO_RULES = Rules()
"""finds git folders and sockets only"""


class Survey(NamedTuple):
    """What one walk found; all paths are absolute text as `os.fsdecode` gives it."""

    watched: dict[str, Rule]
    """files the host obeys, and symlinks in place of one or of a folder above it"""
    git_dirs: list[str]
    """git folders: every `.git` folder, submodules' and worktrees', bare repositories"""
    git_links: list[str]
    """`.git` files and symlinks"""
    sockets: list[str]
    """Unix sockets, live or stale"""
    privileged: list[str]
    """files that became set-user-ID or set-group-ID since the time asked for"""
    unreadable: list[str]
    """folders that cannot be listed"""
    cut: list[str]
    """why the walk ended early; empty when it saw everything"""


def survey(
    root: str,
    rules: Rules = NO_RULES,
    *,
    privileged_since_ns: int | None = None,
    limit_entries: int = LIMIT_ENTRIES,
    limit_s: float = LIMIT_S,
) -> Survey:
    """Walk `root`, an absolute path with symlinks resolved.

    `privileged_since_ns` also asks for files with the set-user-ID or set-group-ID bit whose inode changed at or after
    that time (CLOCK_REALTIME). The inode change time is the one time stamp that a file's owner cannot set. It costs
    one more system call per file.
    """
    walk = _Walk(rules, privileged_since_ns, limit_entries)
    deadline = time.monotonic() + limit_s
    queue = walk.queue
    queue.append((root, True))
    for folder, loud in queue:  # grows while it is read
        walk.scan(folder, loud)
        if walk.left <= 0:
            walk.found.cut.append(f"more than {limit_entries:,} files and folders")
            break
        if time.monotonic() > deadline:
            walk.found.cut.append(f"not done within {limit_s:g} s")
            break
    return walk.found


class _Walk:
    """The state of one walk."""

    def __init__(self, rules: Rules, privileged_since_ns: int | None, limit_entries: int) -> None:
        self.rules = rules
        self.names = rules.names.keys() | {".git", "HEAD"}
        self.suffixes = tuple(rules.suffixes)
        self.since_ns = privileged_since_ns
        self.left = limit_entries
        self.found = Survey({}, [], [], [], [], [], [])
        self.queue: list[tuple[str, bool]] = []

    def scan(self, folder: str, loud: bool) -> None:
        """List one folder, record what it holds and put its folders in the queue."""
        names, suffixes = (self.names, self.suffixes) if loud else (_QUIET_NAMES, ())
        heads = self.rules.folders if loud else {}
        folders: list[tuple[str, str]] = []
        hits: list[os.DirEntry[str]] = []
        count = 0
        try:
            with os.scandir(folder) as entries:
                for entry in islice(entries, self.left):
                    count += 1
                    name = entry.name
                    if entry.is_dir(follow_symlinks=False):
                        folders.append((name, entry.path))
                        continue
                    if name in names or name in heads or (suffixes and name.endswith(suffixes)):
                        hits.append(entry)
                    if not entry.is_file(follow_symlinks=False):
                        self._special(entry)
                    elif self.since_ns is not None:
                        self._privileged(entry)
        except OSError:
            self.found.unreadable.append(folder)
        self.left -= count
        is_git = self._record(folder, {entry.name: entry for entry in hits}, {name for name, _ in folders})
        self._descend(folders, loud, is_git, folder.endswith("/.git"))

    def _record(self, folder: str, hits: dict[str, os.DirEntry[str]], folders: set[str]) -> bool:
        """Record the entries whose name counts; True when the folder is a git folder."""
        for name, entry in hits.items():
            if name == ".git":
                self.found.git_links.append(entry.path)
            rule = self._rule(entry)
            if rule is not None:
                self.found.watched.setdefault(entry.path, rule)
        is_git = folder.endswith("/.git") or ("HEAD" in hits and _looks_like_git(folder, folders))
        if is_git:
            self.found.git_dirs.append(folder)
            for rest, rule in self.rules.git:
                self._look_up(folder, rest, rule)
        return is_git

    def _rule(self, entry: os.DirEntry[str]) -> Rule | None:
        name = entry.name
        if name in self.rules.names:
            return self.rules.names[name]
        if name in self.rules.folders:
            return self.rules.folders[name][0][1] if entry.is_symlink() else None
        return next((rule for suffix, rule in self.rules.suffixes.items() if name.endswith(suffix)), None)

    def _descend(self, folders: list[tuple[str, str]], loud: bool, is_git: bool, is_dot_git: bool) -> None:
        for name, path in folders:
            if is_git and name in GIT_UNSEARCHED and self.since_ns is None:
                continue
            if loud and name in self.rules.folders:
                for rest, rule in self.rules.folders[name]:
                    self._look_up(path, rest, rule)
            data = is_git and (is_dot_git or name in GIT_UNSEARCHED)
            self.queue.append((path, loud and not data and name not in self.rules.quiet))

    def _look_up(self, folder: str, rest: str, rule: Rule) -> None:
        """Record the path below a folder, or the first symlink on the way to it."""
        path = folder
        for part in rest.split("/"):
            if part in ("*", "**"):
                self._all_files(path, rule, deep=part == "**")
                return
            path = f"{path}/{part}"
            try:
                mode = os.lstat(path).st_mode
            except OSError:
                return
            if stat.S_ISLNK(mode):
                break
        if not stat.S_ISDIR(mode):
            self.found.watched.setdefault(path, rule)

    def _all_files(self, folder: str, rule: Rule, *, deep: bool) -> None:
        """Record every file and symlink in a folder, except git's sample hooks, which nothing runs."""
        stack = [folder]
        while stack and self.left > 0:
            try:
                with os.scandir(stack.pop()) as entries:
                    for entry in islice(entries, self.left):
                        self.left -= 1
                        if entry.is_dir(follow_symlinks=False):
                            stack += [entry.path] if deep else []
                        elif not entry.name.endswith(".sample"):
                            self.found.watched.setdefault(entry.path, rule)
            except OSError:  # the walk comes by here too and records it
                continue

    def _special(self, entry: os.DirEntry[str]) -> None:
        """Keep a Unix socket; the folder listing names the type without a system call for all but such entries."""
        if not entry.is_symlink() and stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
            self.found.sockets.append(entry.path)

    def _privileged(self, entry: os.DirEntry[str]) -> None:
        status = entry.stat(follow_symlinks=False)
        if status.st_mode & (stat.S_ISUID | stat.S_ISGID) and self.since_ns is not None:  # noqa: SIM102
            if status.st_ctime_ns >= self.since_ns:
                self.found.privileged.append(entry.path)


_QUIET_NAMES = frozenset({".git", "HEAD"})


def _looks_like_git(folder: str, folders: set[str]) -> bool:
    """Git's own test beside HEAD (setup.c, is_git_directory): objects and refs, here or where `commondir` points."""
    if {"objects", "refs"} <= folders or os.path.lexists(f"{folder}/commondir"):
        return True
    return all(os.path.lexists(f"{folder}/{name}") for name in ("objects", "refs"))
