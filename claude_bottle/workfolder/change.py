"""One change in what the host executes or obeys, and the report the user reads."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from claude_bottle.workfolder.entry import Entry
from claude_bottle.workfolder.files import show

MAX_LINES = 60
"""lines of a report; an agent can make any number of changes"""

GROUPED = 4
"""changes of one kind in one folder that share a line"""


class Change(NamedTuple):
    """What changed, why it matters, and what was there."""

    path: Path
    """absolute"""
    shown: str
    """path for the user: relative to the work folder where it lies inside, escaped"""
    what: str
    """`added`, `changed`, `removed`, `made executable`, or what could not be looked at"""
    why: str
    """who on the host obeys it, and when"""
    detail: str = ""
    """such as the configuration key and its value, escaped"""
    before: Entry | None = None
    """what was there; None when nothing was"""
    restorable: bool = True
    """whether the state before can be brought back: its text was kept, or there was nothing"""


def render_changes(changes: Sequence[Change], name: str = "NAME") -> str:
    """Render the report for a terminal; the empty text when nothing changed. Ends with the command that undoes it.

    Nothing in it can move the cursor or break a line: names and values come from the agent.
    """
    if not changes:
        return ""
    lines = _lines(changes)
    if len(lines) > MAX_LINES:
        lines[MAX_LINES:] = [f"  ... and {len(lines) - MAX_LINES} more lines"]
    heading = "the bottle changed what your own tools run or obey in the work folder:"
    ending = [f"put back what was there: claude-bottle restore {name}"] if any(c.restorable for c in changes) else []
    return "\n".join([heading, *lines, *ending]) + "\n"


def _lines(changes: Sequence[Change]) -> list[str]:
    lines: list[str] = []
    for (folder, what, why, detail), group in groupby(changes, key=_kind):
        members = list(group)
        if len(members) < GROUPED or detail:
            lines += [describe(change) for change in members]
        else:
            names = ", ".join(change.shown.rpartition("/")[2] for change in members[:3])
            lines.append(f"  {folder or '.'}/: {len(members)} files {what}, such as {names} - {why}")
    return lines


def _kind(change: Change) -> tuple[str, str, str, str]:
    return change.shown.rpartition("/")[0], change.what, change.why, change.detail


def describe(change: Change) -> str:
    """One change as a line of the report."""
    detail = f": {change.detail}" if change.detail else ""
    return f"  {change.shown}{detail} ({change.what}) - {change.why}"


def show_value(value: str | None, limit: int = 100) -> str:
    """A configuration value in quotes, escaped and shortened; a key without a value is `true` to git."""
    if value is None:
        return "true"
    text = show(value)
    return f'"{text}"' if len(text) <= limit else f'"{text[:limit]}..."'
