"""One pass over one manifest: where its paths start, and every mistake met on the way.

Readers report and go on, so that a person sees all mistakes at once; `errors` puts them in the order of the file.
"""

import re
from pathlib import Path
from typing import Any

from claude_bottle.errors import UsageError

KeyPath = tuple[str | int, ...]
"""keys and list positions from the top of the file"""

MAX_SHOWN = 100
"""mistakes shown at once; a person corrects these first"""

BAD: Any = object()
"""what a reader returns in place of a value that it has reported"""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
_TYPE_NAMES = {
    bool: "true or false",
    str: "text",
    int: "a whole number",
    float: "a number",
    list: "a list",
    type(None): "null",
}


class Reading:
    """The mistakes of one manifest and the folders its paths are relative to."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home
        self._found: list[tuple[KeyPath, str, str]] = []
        self._bad: set[KeyPath] = set()

    def report(self, path: KeyPath, what: str, hint: str) -> Any:
        """Note a mistake; returns BAD, so that a reader can return the call."""
        self._found.append((path, printable(what), printable(hint)))
        self.mark(path)
        return BAD

    def mark(self, path: KeyPath) -> None:
        """Make `is_bad` true for `path` and all above it without a mistake of its own."""
        self._bad.update(path[:length] for length in range(len(path) + 1))

    def is_bad(self, *paths: KeyPath) -> bool:
        """Whether a mistake is known at or below one of `paths`; what follows from it is not worth a second line."""
        return any(path in self._bad for path in paths)

    def errors(self, file: str, data: object) -> tuple[UsageError, ...]:
        """The mistakes in the order in which their keys stand in `data`; past `MAX_SHOWN` only their number."""
        places = _Places(data)
        ordered = sorted(self._found, key=lambda found: places.of(found[0]))
        shown = [
            UsageError(what, where=f"{file}: {show_path(path)}", hint=hint) for path, what, hint in ordered[:MAX_SHOWN]
        ]
        if len(ordered) > MAX_SHOWN:
            shown.append(
                UsageError(f"{len(ordered) - MAX_SHOWN} more mistakes", where=file, hint="correct these first")
            )
        return tuple(shown)


class _Places:
    """Where keys stand in parsed data; the order of each table is worked out once."""

    def __init__(self, data: object) -> None:
        self._data = data
        self._orders: dict[int, dict[str, int]] = {}

    def of(self, path: KeyPath) -> tuple[int, ...]:
        """Sort key of `path`; what is missing comes after everything in its table."""
        position, here = [], self._data
        for step in path:
            if isinstance(here, dict):
                order = self._orders.get(id(here)) or self._order(here)
                position.append(order.get(str(step), len(here)))
                here = here.get(step)
            else:
                position.append(step if isinstance(step, int) else 0)
                here = here[step] if isinstance(here, list) and isinstance(step, int) and step < len(here) else None
        return tuple(position)

    def _order(self, table: dict[str, object]) -> dict[str, int]:
        self._orders[id(table)] = {key: place for place, key in enumerate(table)}
        return self._orders[id(table)]


def show_path(path: KeyPath) -> str:
    """`bottles.dev.ssh[1].Port`; keys that TOML would quote are quoted, control characters escaped."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _BARE_KEY.fullmatch(step) else show(step))
    return text or "(top level)"


def printable(text: str) -> str:
    """`text` on one line with control characters escaped: a manifest must not draw on the terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def show(value: object) -> str:
    """A value as it may stand in a message: short, on one line, escaped."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value if len(value) <= 80 else value[:77] + "...")
    # Python refuses to print whole numbers of more than 4300 digits.
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 128 else f"a whole number of {value.bit_length()} bits"
    return repr(value) if isinstance(value, float) else type_name(value)


def type_name(value: object) -> str:
    """The manifest's word for a value's type."""
    return "a table" if isinstance(value, dict) else _TYPE_NAMES.get(type(value), "a date or time")
