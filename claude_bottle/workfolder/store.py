"""A snapshot on disk, so that what a bottle changed is still found when the command that started it was killed.

Written once the bottle runs, where it costs no start-up time; read by the sweep that cleans up after a crash. The texts
may hold secrets: the file is 0600 and belongs in the state folder.
"""

import os
from pathlib import Path
from typing import Any

from claude_bottle.errors import BottleError
from claude_bottle.workfolder.entry import Entry
from claude_bottle.workfolder.snapshot import Look, Snapshot
from claude_bottle.workfolder.walk import Rule


def save_snapshot(snapshot: Snapshot, file: Path) -> None:
    """Write a snapshot, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    import json

    look = snapshot.look._asdict() | {
        "entries": {path: _entry_to_json(entry) for path, entry in snapshot.look.entries.items()}
    }
    text = json.dumps(snapshot._asdict() | {"look": look})
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as stream:
        stream.write(text)
    temporary.replace(file)


def load_snapshot(file: Path) -> Snapshot:
    """Read a snapshot back.

    Raises:
        BottleError: the file is missing or damaged.
    """
    import json

    try:
        data = json.loads(file.read_text(encoding="ascii"))
        look = data["look"]
        entries = {path: _entry_from_json(entry) for path, entry in look["entries"].items()}
        rules = _rules(look["rules"])
        lists = [tuple(look[name]) for name in ("git_dirs", "unreadable", "privileged", "cut")]
        whole = Look(entries, rules, *lists)
        return Snapshot(tuple(data["roots"]), _rules(data["named"]), tuple(data["folders"]), data["started_ns"], whole)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BottleError("not a snapshot of a work folder", where=str(file)) from error


def _rules(data: dict[str, Any]) -> dict[str, Rule]:
    return {path: Rule(str(why), bool(is_config)) for path, (why, is_config) in data.items()}


def _entry_to_json(entry: Entry) -> list[Any]:
    from binascii import b2a_base64

    return [entry.kind, entry.mode, None if entry.text is None else b2a_base64(entry.text).decode("ascii"), entry.mark]


def _entry_from_json(data: list[Any]) -> Entry:
    from binascii import a2b_base64

    kind, mode, text, mark = data
    return Entry(kind, int(mode), None if text is None else a2b_base64(text), str(mark))
