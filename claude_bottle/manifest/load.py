"""From a file to a checked manifest: find, read, parse, walk, resolve.

Every stage reports and goes on where it can, so that one run shows every mistake.
"""

import os
from pathlib import Path
from typing import Any

from claude_bottle.errors import ManifestError, UsageError
from claude_bottle.manifest.files import NotAFileError, read_regular
from claude_bottle.manifest.model import Manifest
from claude_bottle.manifest.reading import BAD, KeyPath, Reading
from claude_bottle.manifest.resolve import resolve_manifest
from claude_bottle.manifest.rules import check_rules
from claude_bottle.manifest.tables import read_table

FILE_NAMES = ("claude-bottle.toml", "claude-bottle.json")
"""names a manifest is found by"""
MAX_FILE_BYTES = 1 << 20
"""a manifest is written by hand; what is larger is something else"""
MAX_DOTS = 64
"""dots in one line of TOML that is no comment; tomllib's memory grows with the square of a dotted key's parts"""
MAX_LEVELS = 8
"""bottles, a bottle, its list, an entry, a list in it: keys below that are unknown anyway"""


def find_manifest(start: Path) -> Path | None:
    """The manifest of `start` or of the nearest folder above it; None when there is none.

    Raises:
        ManifestError: two manifests in one folder, or the manifest belongs to another user.
    """
    folder = start.absolute()
    for candidate in (folder, *folder.parents):
        found = [candidate / name for name in FILE_NAMES if os.path.lexists(candidate / name)]
        if len(found) > 1:
            hint = "keep one, or name one with --manifest"
            raise _refusal(str(candidate), f"{found[0].name} and {found[1].name} are both here", hint)
        if found:
            _check_owner(found[0])
            return found[0]
    return None


def _check_owner(path: Path) -> None:
    """A manifest above the current folder decides what is mounted: nobody else may plant one, say in /tmp."""
    try:
        owner = path.stat().st_uid
    except OSError:
        return  # load_manifest says why
    if owner not in (0, os.geteuid()):
        raise _refusal(
            str(path), f"the manifest belongs to user id {owner}", f"to use it anyway, add --manifest {path}"
        )


def load_manifest(path: Path, *, home: Path | None = None) -> Manifest:
    """Read, check and resolve a manifest.

    Relative paths in it start at its folder; `home` (default: the user's) is what `~` means and where known_hosts is.

    Raises:
        ManifestError: every mistake found, in file order.
    """
    file = shown_file(path)
    data = parse(file, read_text(file, path), is_json=path.suffix == ".json")
    reading = Reading(path.absolute().parent, home or user_home())
    report_repeats(data, (), reading)
    manifest: Manifest = read_manifest(data, path.absolute(), reading)
    if manifest is not BAD:
        check_rules(manifest, reading)
        manifest = resolve_manifest(manifest, reading)
    errors = reading.errors(file, data)
    if errors:
        raise ManifestError(errors)
    return manifest


def read_manifest(data: dict[str, Any], path: Path, reading: Reading) -> Any:
    """The manifest in parsed data, or as much of it as could be read; mistakes go to `reading`."""
    # Editors find the schema by this key; it says nothing else.
    declared = {key: value for key, value in data.items() if key != "$schema"}
    values = read_table(Manifest, declared, (), reading)
    return BAD if values is BAD else Manifest(path=path, **values)


def user_home() -> Path:
    """The user's home folder.

    Raises:
        UsageError: there is none.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise UsageError("the user has no home folder", where="HOME", hint="set HOME to a folder") from None


def shown_file(path: Path) -> str:
    """How messages name the file: from the current folder where it lies there."""
    absolute = path.absolute()
    folder = Path.cwd()
    text = str(absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute)
    return text if text.isprintable() else repr(text)


def read_text(file: str, path: Path) -> str:
    """The file's text.

    Raises:
        ManifestError: missing, not a file, too large, not readable or not UTF-8.
    """
    try:
        _, content = read_regular(path, MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise _refusal(file, "no such file", "claude-bottle init writes a starter manifest") from None
    except NotAFileError:
        raise _refusal(file, "is not a file", f"name the file itself, such as {FILE_NAMES[0]} in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise _refusal(file, f"cannot be read: {reason}", "check the path and its mode") from None
    if len(content) > MAX_FILE_BYTES:
        raise _refusal(
            file, f"is larger than {MAX_FILE_BYTES} bytes", "a manifest is far smaller; is this the right file?"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(f"{file}:{line}", "is not UTF-8 text", "save the file as UTF-8") from None


def parse(file: str, text: str, *, is_json: bool) -> dict[str, Any]:
    """The top table of the text.

    Raises:
        ManifestError: not TOML or JSON, with line and column.
    """
    try:
        return _parse_json(file, text) if is_json else _parse_toml(file, text)
    except RecursionError:
        raise _refusal(file, "is nested too deeply", "a manifest needs four levels") from None


def _parse_toml(file: str, text: str) -> dict[str, Any]:
    import re
    import tomllib

    for number, row in enumerate(text.split("\n"), 1):
        if row.count(".") > MAX_DOTS and not row.lstrip(" \t").startswith("#"):
            raise _refusal(f"{file}:{number}", f"more than {MAX_DOTS} dots in one line", "a key has at most five parts")
    try:
        return tomllib.loads(text)
    except ValueError as error:
        message = str(error)
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    line, column = (place[1], place[2]) if place and place[1] else _end(text)
    what = message[: place.start()] if place else message
    raise _refusal(f"{file}:{line}:{column}", _lower(what), "see https://toml.io for the syntax")


def _parse_json(file: str, text: str) -> dict[str, Any]:
    import json

    try:
        data = json.loads(text, object_pairs_hook=_pairs)
    except json.JSONDecodeError as error:
        where = f"{file}:{error.lineno}:{error.colno}"
        raise _refusal(
            where, _lower(error.msg), "see https://www.json.org for the syntax; it has no comments"
        ) from None
    except ValueError as error:
        raise _refusal(file, _lower(str(error)), "use a smaller number") from None
    if not isinstance(data, dict):
        raise _refusal(file, "the top level is not an object", 'begin it with {"bottles": {...}}')
    return data


class Repeated(dict[str, Any]):
    """A JSON object that remembers which keys stand twice; a plain dict would silently keep the last."""

    keys_twice: tuple[str, ...] = ()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table, twice = Repeated(), []
    for key, value in pairs:
        if key in table:
            twice.append(key)
        table[key] = value
    table.keys_twice = tuple(dict.fromkeys(twice))
    return table


def report_repeats(data: object, path: KeyPath, reading: Reading) -> None:
    """Report every key that a JSON file writes twice, as deep as a manifest goes."""
    if isinstance(data, Repeated):
        for key in data.keys_twice:
            reading.report((*path, key), "the key is written twice", "keep one of the two")
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for step, value in items if len(path) < MAX_LEVELS else ():
        report_repeats(value, (*path, step), reading)


def _end(text: str) -> tuple[int, int]:
    lines = text.split("\n")
    return len(lines), len(lines[-1]) + 1


def _lower(message: str) -> str:
    message = message.rstrip(".")
    return message[:1].lower() + message[1:]


def _refusal(where: str, what: str, hint: str) -> ManifestError:
    return ManifestError((UsageError(what, where=where, hint=hint),))
