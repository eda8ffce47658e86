"""What changed between two looks at the work folder.

Git configuration is compared key by key and only keys that run programs or lead git astray are named: an agent sets
`branch.main.merge` all day. Other files count as a whole. What an agent does in the ordinary way is left out: a clone,
a submodule or a worktree it made, as long as their configuration and hooks are plain.
"""

# paths are text as the walk gives it
# ruff: noqa: PTH118, PTH120
import os
from collections.abc import Iterable
from pathlib import Path

from claude_bottle.workfolder.change import Change, show_value
from claude_bottle.workfolder.entry import CONFIG_KEPT_BYTES, Entry, read_entry
from claude_bottle.workfolder.files import is_inside, show
from claude_bottle.workfolder.gitconfig import read_config
from claude_bottle.workfolder.repository import git_file_target
from claude_bottle.workfolder.snapshot import Look, Snapshot
from claude_bottle.workfolder.watched import key_rule

MAX_PARSED = 1000
"""configuration files compared by key, 6 ms each; any further changed one is named as a whole"""

Settings = dict[str, list[str | None]]


def changes(snapshot: Snapshot, now: Look) -> tuple[Change, ...]:
    """Name every change, sorted by path; `not searched` and `not readable` stand for what may be hidden there."""
    comparison = _Comparison(snapshot, now)
    found = [change for path in comparison.paths() for change in comparison.at(path)]
    found += comparison.new_bare_repositories()
    found += comparison.privileged()
    found += comparison.unseen()
    return tuple(sorted(found, key=lambda change: (os.fsencode(change.path), change.detail)))


class _Comparison:
    """Both looks, and what was counted on the way."""

    def __init__(self, snapshot: Snapshot, now: Look) -> None:
        self.roots = snapshot.roots
        self.root = snapshot.roots[0]
        self.before = snapshot.look
        self.now = now
        self.old_git_dirs, self.git_dirs = frozenset(self.before.git_dirs), frozenset(now.git_dirs)
        self.entries = dict(now.entries)
        self.parses_left = MAX_PARSED
        if now.cut:  # what was not come across is not gone for that
            for path in self.before.entries.keys() - self.entries.keys():
                if (entry := read_entry(path)) is not None:
                    self.entries[path] = entry

    def paths(self) -> list[str]:
        return sorted(self.before.entries.keys() | self.entries.keys())

    def at(self, path: str) -> Iterable[Change]:
        """Changes at one path."""
        before, now = self.before.entries.get(path), self.entries.get(path)
        if before is not None and now is not None and (before.text is None) != (now.text is None):
            # One of the two met the bound on kept text: look at it the way it was looked at before.
            now = read_entry(path, kept_bytes=0 if before.text is None else CONFIG_KEPT_BYTES)
        if before == now:
            return ()
        rule = self.before.rules.get(path) or self.now.rules[path]
        if rule.is_config and _is_text(before) and _is_text(now) and self.parses_left > 0:
            self.parses_left -= 1
            return self._config_changes(path, before, now)
        if before is None and now is not None and self._is_ordinary(path, now):
            return ()
        what = _what(before, now)
        return (self._change(path, what, rule.why, _detail(path, before, now), before),) if what else ()

    def _config_changes(self, path: str, before: Entry | None, now: Entry | None) -> Iterable[Change]:
        old, new = _settings(before, self.roots), _settings(now, self.roots)
        if new is None:
            yield self._change(path, "changed", "git obeys it", "git cannot read it as configuration", before)
            return
        old = old or {}
        for key in sorted(old.keys() | new.keys()):
            yield from self._key_changes(path, key, old.get(key, []), new.get(key, []), before)

    def _key_changes(
        self, path: str, key: str, old: list[str | None], new: list[str | None], before: Entry | None
    ) -> Iterable[Change]:
        if old == new:
            return
        come = [value for value in new if value not in old] or (new if len(new) >= len(old) else [])
        if key == "core.worktree" and _is_submodule(os.path.dirname(path), come):
            return
        what = "removed" if not come else "changed" if old else "added"
        for value in come or [value for value in old if value not in new] or old:
            rule = key_rule(key, value, existed=bool(old))
            if rule is not None:
                yield self._change(path, what, rule.why, f"{show(key)} = {show_value(value)}", before)

    def _is_ordinary(self, path: str, now: Entry) -> bool:
        """Whether a new pointer is one that `git clone`, `submodule` and `worktree` make, to a git folder looked at."""
        folder, _, name = path.rpartition("/")
        if now.kind != "file" or now.text is None or b"\0" in now.text:
            return False
        line = os.fsdecode(now.text).rstrip("\r\n")
        if name == ".git" and line.startswith("gitdir: "):
            return os.path.realpath(os.path.join(folder, line.removeprefix("gitdir: "))) in self.git_dirs
        if name == "commondir" and folder not in self.old_git_dirs:
            common = os.path.realpath(os.path.join(folder, line))
            return os.path.dirname(folder) == f"{common}/worktrees" and common in self.git_dirs
        return False

    def new_bare_repositories(self) -> Iterable[Change]:
        """Git folders that appeared under another name than `.git` and are no submodule's or worktree's."""
        for path in self.now.git_dirs:
            if path in self.old_git_dirs or path.endswith("/.git") or self._belongs(path):
                continue
            why = "git obeys its configuration and hooks when run in that folder"
            yield self._change(path, "added", why, "bare repository", None)._replace(restorable=False)

    def _belongs(self, path: str) -> bool:
        """Whether a git folder lies in the `modules` or `worktrees` of another."""
        names = path.split("/")
        parts = [depth for depth, name in enumerate(names) if name in ("modules", "worktrees")]
        return any("/".join(names[:depth]) in self.git_dirs for depth in parts)

    def privileged(self) -> Iterable[Change]:
        for path in self.now.privileged:
            why = "whoever runs it acts as you; chmod ug-s takes that away"
            yield self._change(path, "made set-user-ID or set-group-ID", why, "", None)._replace(restorable=False)

    def unseen(self) -> Iterable[Change]:
        for path in self.now.unreadable:
            if path not in self.before.unreadable:
                why = "it cannot be listed, so nothing in it was looked at"
                yield self._change(path, "not readable", why, "", None)._replace(restorable=False)
        for cut in self.now.cut:
            why = "the rest was not looked at"
            yield self._change(self.root, "not searched to the end", why, cut, None)._replace(restorable=False)

    def _change(self, path: str, what: str, why: str, detail: str, before: Entry | None) -> Change:
        shown = os.path.relpath(path, self.root) if is_inside(path, self.root) else path
        if what == "added" and self.before.cut:
            what = "added, or not seen before"
        restorable = before is None or before.text is not None
        return Change(Path(path), show(shown), what, why, detail, before, restorable)


def _is_text(entry: Entry | None) -> bool:
    return entry is None or (entry.kind == "file" and entry.text is not None)


def _settings(entry: Entry | None, roots: tuple[str, ...]) -> Settings | None:
    settings: Settings = {}
    if entry is None or not entry.text:
        return settings
    pairs = read_config(entry.text, roots)
    if pairs is None:
        return None
    for key, value in pairs:
        settings.setdefault(key, []).append(value)
    return settings


def _what(before: Entry | None, now: Entry | None) -> str:
    if before is None or now is None:
        return "added" if before is None else "removed"
    if before._replace(mode=0) != now._replace(mode=0):
        return "changed"
    return "made executable" if now.mode & 0o111 & ~before.mode else ""


def _is_submodule(git_dir: str, worktrees: list[str | None]) -> bool:
    """Whether a checkout and its git folder name each other, as those of a submodule do."""
    return [os.path.realpath(git_dir)] == [
        git_file_target(os.path.realpath(os.path.join(git_dir, worktree or "")) + "/.git") for worktree in worktrees
    ]


def _detail(path: str, before: Entry | None, now: Entry | None) -> str:
    notes = []
    if now is not None and now.kind == "symlink":
        notes.append(f"symlink to {show_value(os.fsdecode(now.text or b''))}")
    elif now is not None and now.kind == "other":
        notes.append("not a readable file")
    elif now is not None and now.text is not None and path.endswith(("/.git", "/commondir")):
        notes.append(show_value(os.fsdecode(now.text).rstrip("\r\n")))
    if before is not None and before.kind == "file" and before.text is None:
        notes.append("the text before was too long to keep")
    return ", ".join(notes)
