"""Kinds of single values: how each is read, checked and described to an editor.

A kind is declared once, on its field in `model`; the walker and the JSON Schema both ask it.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from claude_bottle.manifest.reading import KeyPath, Reading, show, type_name

Check = Callable[[str], tuple[str, str] | None]
"""what is wrong with a text and a hint, or None"""
Reader = Callable[[object, KeyPath, Reading], Any]
"""the model's form of a value, or BAD after a report"""

MAX_BYTES = 2**63 - 1
"""largest byte count: what the kernel's own counters hold"""
MAX_SECONDS = 365 * 24 * 3600
"""longest time limit: one year"""

_UNITS = {"B": 0, "KIB": 10, "MIB": 20, "GIB": 30, "TIB": 40}
_SIZE = re.compile(r"([0-9]{1,19}) ?(B|[KMGT]iB)", re.IGNORECASE | re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Kind:
    """One kind of value: its reader, and a JSON Schema that takes what the reader takes, perhaps more, never less."""

    __slots__ = ("read", "schema")

    def __init__(self, read: Reader, schema: dict[str, Any]) -> None:
        self.read = read
        self.schema = schema


def text(check: Check, *, example: str, pattern: str = "", canonical: Callable[[str], str] = str) -> Kind:
    """Text that `check` accepts; `canonical` gives the one form that is checked and stored."""

    def read(value: object, path: KeyPath, reading: Reading) -> Any:
        if not isinstance(value, str):
            return reading.report(path, f"{show(value)} is not text", f'write it in quotes, such as "{example}"')
        stored = canonical(value)
        wrong = check(stored)
        return reading.report(path, *wrong) if wrong else stored

    return Kind(read, {"type": "string"} | ({"pattern": pattern} if pattern else {}))


def whole(low: int, high: int, noun: str) -> Kind:
    """Whole number from `low` to `high`; `noun` names it in messages."""

    def read(value: object, path: KeyPath, reading: Reading) -> Any:
        hint = f"use a whole number from {low} to {high}"
        # bool is a subclass of int.
        if isinstance(value, bool) or not isinstance(value, int):
            if isinstance(value, str) and value.isdecimal():
                hint = "write it without quotes"
            return reading.report(path, f"{show(value)} is not a whole number", hint)
        return value if low <= value <= high else reading.report(path, f"{show(value)} is not {noun}", hint)

    return Kind(read, {"type": "integer", "minimum": low, "maximum": high})


def seconds() -> Kind:
    """Time limit in seconds, more than zero, finite."""

    def read(value: object, path: KeyPath, reading: Reading) -> Any:
        hint = f"use a number of seconds above 0 and up to {MAX_SECONDS}, or leave the key out for no limit"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return reading.report(path, f"{show(value)} is not a number", hint)
        # The comparison also fails for NaN.
        if not 0 < value <= MAX_SECONDS:
            return reading.report(path, f"{show(value)} is not a time limit", hint)
        return float(value)

    return Kind(read, {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS})


def size(low: int) -> Kind:
    """Bytes, as a whole number or as text with a binary unit such as `2GiB`."""

    def read(value: object, path: KeyPath, reading: Reading) -> Any:
        number = value
        if isinstance(value, str):
            match = _SIZE.fullmatch(value)
            number = int(match[1]) << _UNITS[match[2].upper()] if match else None
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= MAX_BYTES:
            hint = f'write it as "512MiB" or "2GiB", or as a whole number of bytes; at least {low}'
            return reading.report(path, f"{show(value)} is not a size", hint)
        return number

    text_form = {"type": "string", "pattern": "^[0-9]{1,19} ?([Bb]|[KkMmGgTt][Ii][Bb])$"}
    return Kind(read, {"oneOf": [{"type": "integer", "minimum": low, "maximum": MAX_BYTES}, text_form]})


def flag() -> Kind:
    """True or false."""

    def read(value: object, path: KeyPath, reading: Reading) -> Any:
        if isinstance(value, bool):
            return value
        return reading.report(path, f"{show(value)} is not true or false", "write true or false, without quotes")

    return Kind(read, {"type": "boolean"})


def host_file() -> Kind:
    """Path on the host; relative ones start at the manifest's folder, `~` is the user's home."""

    def read(value: object, path: KeyPath, reading: Reading) -> Any:
        name = _path_text(value, path, reading)
        return reading.folder / _expand_home(name, reading.home) if isinstance(name, str) else name

    return Kind(read, {"type": "string", "pattern": "^(?!~[^/])[^\\u0000-\\u001f\\u007f]+$"})


def bottle_file() -> Kind:
    """Path inside the bottle: absolute, or from `~`, which is the same path inside as outside; no `..`."""

    def read(value: object, path: KeyPath, reading: Reading) -> Any:
        name = _path_text(value, path, reading)
        if not isinstance(name, str):
            return name
        target = Path(_expand_home(name, reading.home))
        if not target.is_absolute():
            return reading.report(path, f"{show(name)} is not an absolute path", 'begin it with "/" or "~/"')
        if ".." in target.parts:
            return reading.report(path, f"{show(name)} contains '..'", f'write "{os.path.normpath(target)}"')
        # "//x" and "/x" are one place, but pathlib keeps the two slashes.
        return Path("/" + str(target).lstrip("/"))

    return Kind(read, {"type": "string", "pattern": "^(/|~$|~/)[^\\u0000-\\u001f\\u007f]*$"})


def _path_text(value: object, path: KeyPath, reading: Reading) -> Any:
    if not isinstance(value, str):
        return reading.report(path, f"{type_name(value)} is not a path", 'write it in quotes, such as "~/folder"')
    if not value:
        return reading.report(path, "the path is empty", "write a path, or leave the key out")
    if _CONTROL.search(value):
        return reading.report(path, f"{show(value)} contains a control character", "leave it out")
    if value.startswith("~") and value[1:2] not in ("", "/"):
        return reading.report(path, f"{show(value)} means another user's home", 'write "~/..." or the whole path')
    return value


def _expand_home(name: str, home: Path) -> str:
    return str(home / name[1:].lstrip("/")) if name.startswith("~") else name
