"""Kinds that hold others: lists, maps with free keys, and tables whose keys a model class declares."""

from dataclasses import MISSING, Field, fields
from typing import Any

from claude_bottle.manifest.kinds import Check, Kind
from claude_bottle.manifest.reading import BAD, KeyPath, Reading, show, type_name


def declared(kind: Kind, *, key: str = "", examples: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Metadata of a model field: how the manifest spells and types it. `key` is its spelling where that differs."""
    return {"kind": kind, "key": key, "examples": examples}


def declared_fields(model: type[Any]) -> dict[str, Field[Any]]:
    """The fields of a model class that stand in the manifest, by their key there."""
    return {field.metadata["key"] or field.name: field for field in fields(model) if "kind" in field.metadata}


def is_required(field: Field[Any]) -> bool:
    """Whether the manifest must have the key."""
    return field.default is MISSING and field.default_factory is MISSING


def list_of(item: Kind, *, form: str, least: int = 0, most: int = 0, why_most: str = "", unique: bool = False) -> Kind:
    """List of one kind; becomes a tuple, in which a bad item stands as BAD so that positions stay.

    `form` is the hint when something else stands there; `most` 0 is no limit.
    """

    def read(value: object, path: KeyPath, reading: Reading) -> Any:
        if not isinstance(value, list):
            return reading.report(path, f"{show(value)} is not a list", form)
        if len(value) < least:
            return reading.report(path, "the list is empty", form)
        if most and len(value) > most:
            return reading.report(path, f"{len(value)} entries, but {most} fit", why_most)
        items = tuple(item.read(each, (*path, place), reading) for place, each in enumerate(value))
        if unique:
            _report_repeats(items, path, reading)
        return items

    limits = {"minItems": least, "maxItems": most, "uniqueItems": unique}
    return Kind(read, {"type": "array", "items": item.schema} | {key: limit for key, limit in limits.items() if limit})


def _report_repeats(items: tuple[Any, ...], path: KeyPath, reading: Reading) -> None:
    first: dict[Any, int] = {}
    for place, item in enumerate(items):
        if item is not BAD and first.setdefault(item, place) != place:
            hint = f"leave one out; the first is number {first[item]}, counted from 0"
            reading.report((*path, place), f"{show(item)} is listed twice", hint)


def map_of(check: Check, item: Kind, *, pattern: str, form: str, least: int = 0) -> Kind:
    """Table with free keys that pass a check; becomes a dict without the bad items."""

    def read(value: object, path: KeyPath, reading: Reading) -> Any:
        if not isinstance(value, dict):
            return reading.report(path, f"{show(value)} is not a table", form)
        if len(value) < least:
            return reading.report(path, "the table is empty", form)
        items = {}
        for key, each in value.items():
            wrong = check(key)
            if wrong:
                reading.report((*path, key), *wrong)
            items[key] = item.read(each, (*path, key), reading)
        return {key: each for key, each in items.items() if each is not BAD}

    keys = {"patternProperties": {f"^{pattern}$": item.schema}, "additionalProperties": False}
    return Kind(read, {"type": "object", **keys} | ({"minProperties": least} if least else {}))


def table(model: type[Any]) -> Kind:
    """Table whose keys are the declared fields of a model class; becomes an instance of it."""

    def read(value: object, path: KeyPath, reading: Reading) -> Any:
        values = read_table(model, value, path, reading)
        return BAD if values is BAD else model(**values)

    return Kind(read, {"$ref": f"#/$defs/{model.__name__}"})


def read_table(model: type[Any], value: object, path: KeyPath, reading: Reading) -> Any:
    """Constructor arguments of `model`: bad optional ones left out, BAD in place of required ones; BAD for no table."""
    known = declared_fields(model)
    if not isinstance(value, dict):
        form = "write a table with the keys " + ", ".join(known)
        return reading.report(path, f"{type_name(value)} stands where a table is meant", form)
    values: dict[str, Any] = {}
    for key, each in value.items():
        if key in known:
            values[known[key].name] = known[key].metadata["kind"].read(each, (*path, key), reading)
        else:
            near = _report_unknown(key, list(known), path, reading)
            # The key that was meant counts as bad too: what follows from its absence is the same mistake.
            if near and near not in value:
                reading.mark((*path, near))
    required = {key: field for key, field in known.items() if is_required(field)}
    for key, field in required.items():
        if key not in value and not reading.is_bad((*path, key)):
            reading.report((*path, key), "the key is missing", _missing_hint(key, field))
    good = {name: each for name, each in values.items() if each is not BAD}
    return {field.name: BAD for field in required.values()} | good


def _report_unknown(key: str, known: list[str], path: KeyPath, reading: Reading) -> str:
    """Report a key that is not declared; returns the one that was probably meant."""
    near = nearest(key, known)
    hint = f'did you mean "{near}"?' if near else "known here: " + ", ".join(known)
    reading.report((*path, key), "unknown key", hint)
    return near


def _missing_hint(key: str, field: Field[Any]) -> str:
    import json

    examples = field.metadata["examples"]
    return f"add {key} = {json.dumps(examples[0])}" if examples else f"add a table [{key}.NAME]"


def nearest(word: str, known: list[str]) -> str:
    """The known word that `word` most likely means, or an empty text."""

    def plain(name: str) -> str:
        return name.lower().replace("_", "").replace("-", "")

    by_plain = {plain(candidate): candidate for candidate in known}
    if plain(word) in by_plain:
        return by_plain[plain(word)]
    # Imported here: 6 ms that a manifest without mistakes does not need.
    import difflib

    close = difflib.get_close_matches(plain(word[:100]), list(by_plain), n=1, cutoff=0.6)
    return by_plain[close[0]] if close else ""
