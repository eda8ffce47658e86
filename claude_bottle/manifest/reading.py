"""One pass over one manifest: where its paths start, and every mistake met on the way.

Readers report and go on, so that a person sees all mistakes at once; `errors` puts them in the order of the file.
"""

import re
from pathlib import Path
from typing import Any

from claude_bottle.errors import UsageError

KeyPath = tuple[str | int, ...]
"""keys and list positions from the top of the file"""

BAD: Any = object()
"""what a reader returns in place of a value that it has reported"""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_TYPE_NAMES = {bool: "true or false", str: "text", int: "a whole number", float: "a number", list: "a list"}


class Reading:
    """The mistakes of one manifest and the folders its paths are relative to."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home
        self._found: list[tuple[KeyPath, str, str]] = []
        self._bad: set[KeyPath] = set()

    def report(self, path: KeyPath, what: str, hint: str) -> Any:
        """Note a mistake; returns BAD, so that a reader can return the call."""
        self._found.append((path, what, hint))
        self.mark(path)
        return BAD

    def mark(self, path: KeyPath) -> None:
        """Make `is_bad` true for `path` and all above it without a mistake of its own."""
        self._bad.update(path[:length] for length in range(len(path) + 1))

    def is_bad(self, *paths: KeyPath) -> bool:
        """Whether a mistake is known at or below one of `paths`; what follows from it is not worth a second line."""
        return any(path in self._bad for path in paths)

    def errors(self, file: str, data: object) -> tuple[UsageError, ...]:
        """All mistakes in the order in which their keys stand in `data`."""
        ordered = sorted(self._found, key=lambda found: _position(data, found[0]))
        return tuple(UsageError(what, where=f"{file}: {show_path(path)}", hint=hint) for path, what, hint in ordered)


def _position(data: object, path: KeyPath) -> tuple[int, ...]:
    """Place of `path` in the file; what is missing comes after everything in its table."""
    position = []
    for step in path:
        if isinstance(data, dict):
            place = list(data).index(step) if step in data else len(data)
            data = data.get(step)
        else:
            place = step if isinstance(step, int) else 0
            data = data[place] if isinstance(data, list) and place < len(data) else None
        position.append(place)
    return tuple(position)


def show_path(path: KeyPath) -> str:
    """`bottles.dev.ssh[1].Port`; keys that TOML would quote are quoted, control characters escaped."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _BARE_KEY.fullmatch(step) else repr(step))
    return text or "(top level)"


def show(value: object) -> str:
    """A value as it may stand in a message: short, on one line, escaped."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value) if len(value) <= 80 else f"{value[:77]!r}..."
    # Python refuses to print whole numbers of more than 4300 digits.
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 128 else f"a whole number of {value.bit_length()} bits"
    return repr(value) if isinstance(value, float) else type_name(value)


def type_name(value: object) -> str:
    """The manifest's word for a value's type."""
    return "a table" if isinstance(value, dict) else _TYPE_NAMES.get(type(value), "a date or time")
