"""The work folder before the bottle starts, and what changed in it once the bottle has ended.

Only what the host executes or obeys is looked at (`watched.json`, plus what git's configuration and PATH name), and it
is compared by content: the agent controls names, types, modes and most time stamps.
"""

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from claude_bottle.workfolder.entry import CONFIG_KEPT_BYTES, KEPT_BYTES, Entry, read_entry
from claude_bottle.workfolder.named import named_files, path_folders
from claude_bottle.workfolder.walk import Rule, Survey, survey
from claude_bottle.workfolder.watched import load_rules

if TYPE_CHECKING:
    from claude_bottle.workfolder.change import Change

MAX_FILES = 20_000
"""watched files whose content is looked at"""

MAX_KEPT_BYTES = 64 * 1024 * 1024
"""text kept in all; files beyond that are compared by hash and cannot be put back"""

LIMIT_AFTER_ENTRIES = 2_000_000
LIMIT_AFTER_S = 60.0
"""bounds of the walk after the bottle has ended; wider, because the agent may fill the folder to hide something"""


class Look(NamedTuple):
    """Everything watched at one moment."""

    entries: dict[str, Entry]
    """by absolute path"""
    rules: dict[str, Rule]
    """why each of them counts"""
    git_dirs: tuple[str, ...]
    """git folders"""
    unreadable: tuple[str, ...]
    """folders that cannot be listed"""
    privileged: tuple[str, ...]
    """files that became set-user-ID or set-group-ID since the bottle started"""
    cut: tuple[str, ...]
    """why the look is incomplete; empty when it is not"""


class Snapshot(NamedTuple):
    """The state to compare with."""

    roots: tuple[str, ...]
    """the work folder, then further folders the bottle can write"""
    named: dict[str, Rule]
    """files watched because configuration names them"""
    folders: tuple[str, ...]
    """folders all of whose files are watched because PATH names them"""
    started_ns: int
    """CLOCK_REALTIME when it was taken"""
    look: Look
    """what was there"""


def take(workdir: Path, extra: Sequence[Path] = (), *, found: Survey | None = None) -> Snapshot:
    """Look at the folder before the bottle starts; below 3 ms for a small repository, 2 us per file of a big one.

    Args:
        workdir: absolute, symlinks resolved.
        extra: other folders of the host that the bottle can write, such as the `writable` ones of `plan_protection`.
        found: a walk of the work folder with `load_rules()`, to save a second one.
    """
    started_ns = time.time_ns()
    roots = tuple(os.path.realpath(path) for path in (workdir, *extra))
    surveys = [survey(root, load_rules()) for root in roots[1:]]
    surveys.insert(0, survey(roots[0], load_rules()) if found is None else found)
    named = named_files([path for each in surveys for path in each.git_dirs], roots)
    folders = path_folders(roots)
    return Snapshot(roots, named, folders, started_ns, _look(surveys, named, folders))


def compare(snapshot: Snapshot) -> "tuple[Change, ...]":
    """Name every change in what the host executes or obeys, after the bottle has ended; see `compare.changes`."""
    from claude_bottle.workfolder.compare import changes  # not needed to start a bottle

    return changes(snapshot, look_again(snapshot))


def look_again(snapshot: Snapshot) -> Look:
    """Look at the same folders by the same rules."""
    surveys = [
        survey(
            root,
            load_rules(),
            privileged_since_ns=snapshot.started_ns - 1_000_000_000,  # the kernel's file clock lags up to 10 ms
            limit_entries=LIMIT_AFTER_ENTRIES,
            limit_s=LIMIT_AFTER_S,
        )
        for root in snapshot.roots
    ]
    return _look(surveys, snapshot.named, snapshot.folders)


def _look(surveys: Sequence[Survey], named: dict[str, Rule], folders: Iterable[str]) -> Look:
    rules: dict[str, Rule] = {}
    for each in surveys:
        rules.update(each.watched)
    for folder in folders:
        rules.update(_files_in(folder))
    rules.update(named)
    cut = [why for each in surveys for why in each.cut]
    if len(rules) > MAX_FILES:
        cut.append(f"more than {MAX_FILES:,} files that the host obeys")
        rules = dict(list(rules.items())[:MAX_FILES])
    return Look(
        _read(rules),
        rules,
        tuple(path for each in surveys for path in each.git_dirs),
        tuple(path for each in surveys for path in each.unreadable),
        tuple(path for each in surveys for path in each.privileged),
        tuple(cut),
    )


def _files_in(folder: str) -> dict[str, Rule]:
    try:
        with os.scandir(folder) as entries:
            return {
                entry.path: Rule("your PATH leads there")
                for entry in entries
                if not entry.is_dir(follow_symlinks=False)
            }
    except OSError:
        return {}


def _read(rules: dict[str, Rule]) -> dict[str, Entry]:
    left = MAX_KEPT_BYTES
    entries = {}
    for path, rule in rules.items():
        kept_bytes = CONFIG_KEPT_BYTES if rule.is_config else KEPT_BYTES
        entry = read_entry(path, kept_bytes=min(kept_bytes, max(left, 0)))
        if entry is not None:
            entries[path] = entry
            left -= len(entry.text or b"")
    return entries
