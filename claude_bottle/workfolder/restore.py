"""Old texts of what a bottle changed, kept in the state folder until they are put back or let go.

The kept texts may hold secrets (`.env`, `.npmrc`): the folder is 0700 and every file in it 0600. Nothing is written or
removed through a symlink: every folder on the way is opened by descriptor without following one.
"""

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from claude_bottle.errors import BottleError, UsageError
from claude_bottle.workfolder.change import Change, describe
from claude_bottle.workfolder.change import render_changes as render_changes
from claude_bottle.workfolder.entry import Entry

INDEX = "index.json"
"""name of the list of what is kept"""


class Pending(NamedTuple):
    """One path that a bottle changed and nobody has put back or accepted."""

    path: Path
    """absolute"""
    lines: tuple[str, ...]
    """what changed there, ready to print"""
    kept_at: float
    """when it was noticed, seconds since the epoch"""
    restorable: bool
    """whether it can be put back"""
    before: Entry | None
    """what stood there; its text is in the file `text_name`; None when nothing did"""
    text_name: str
    """file in the folder that holds the text; empty when there is none"""


def keep(changes: Sequence[Change], folder: Path) -> None:
    """Keep the old texts of the changes, beside what is kept already.

    A path that is kept already stays with the older text: the newer one may be what an earlier run planted.
    """
    if not changes:
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    items = {item.path: item for item in pending(folder)}
    for change in changes:
        lines = (describe(change),)
        old = items.get(change.path)
        if old is not None:
            items[change.path] = old._replace(lines=tuple(dict.fromkeys(old.lines + lines)))
            continue
        name = _keep_text(folder, change.before)
        items[change.path] = Pending(change.path, lines, time.time(), change.restorable, change.before, name)
    _write_index(folder, items.values())


def pending(folder: Path) -> tuple[Pending, ...]:
    """List what is kept, in the order it was noticed; empty when nothing is.

    Raises:
        BottleError: the list is damaged.
    """
    import json

    try:
        text = (folder / INDEX).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    try:
        return tuple(_from_json(item) for item in json.loads(text)["items"])
    except (ValueError, LookupError, TypeError) as error:
        hint = f"look at the texts there yourself, then remove {folder}"
        raise BottleError("not a list of kept texts", where=str(folder / INDEX), hint=hint) from error


def restore(folder: Path, paths: Iterable[Path] | None = None) -> tuple[Path, ...]:
    """Put back what stood at the paths (default: all that can be), and remove what was added there.

    What stands there now is saved in the folder `replaced` beside the kept texts first.

    Returns the paths that are as they were before.

    Raises:
        UsageError: a path that is not pending.
        BottleError: some path could not be put back; the others were, and only it stays pending.
    """
    from claude_bottle.workfolder.putback import put_back  # needed by one verb only

    items = _chosen(folder, paths)
    problems: list[str] = []
    done: list[Path] = []
    # What was added goes first: a symlink may stand where a folder is needed.
    for item in sorted(items, key=lambda item: item.before is not None):
        try:
            put_back(item.path, item.before, _kept_text(folder, item), folder / "replaced")
        except (OSError, BottleError) as error:
            problems.append(f"{item.lines[0].strip()}: {error}")
        else:
            done.append(item.path)
    forget(folder, done)
    if problems:
        hint = "put it right by hand, then accept it" if len(problems) == 1 else "put them right by hand"
        raise BottleError("; ".join(problems), where="restore", hint=hint)
    return tuple(done)


def forget(folder: Path, paths: Iterable[Path] | None = None) -> None:
    """Accept the changes at the paths (default: all): they are no longer pending and their old texts are removed.

    Raises:
        UsageError: a path that is not pending.
    """
    wanted = None if paths is None else set(paths)
    items = pending(folder)
    _check_known(items, wanted)
    left = [item for item in items if wanted is not None and item.path not in wanted]
    if len(left) == len(items):
        return
    _write_index(folder, left)
    for name in {item.text_name for item in items} - {item.text_name for item in left} - {""}:
        (folder / name).unlink(missing_ok=True)


def _chosen(folder: Path, paths: Iterable[Path] | None) -> tuple[Pending, ...]:
    items = pending(folder)
    if paths is None:
        return tuple(item for item in items if item.restorable)
    wanted = set(paths)
    _check_known(items, wanted)
    return tuple(item for item in items if item.path in wanted)


def _check_known(items: Sequence[Pending], wanted: set[Path] | None) -> None:
    unknown = sorted((wanted or set()) - {item.path for item in items})
    if unknown:
        hint = f"pending: {', '.join(str(item.path) for item in items[:5])}" if items else "nothing is pending"
        raise UsageError(f"{unknown[0]} is not among the changes that are kept", hint=hint)


def _keep_text(folder: Path, before: Entry | None) -> str:
    if before is None or before.text is None:
        return ""
    number = 1 + max((int(file.name) for file in folder.iterdir() if file.name.isdecimal()), default=0)
    descriptor = os.open(folder / f"{number:04}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(before.text)
    return f"{number:04}"


def _kept_text(folder: Path, item: Pending) -> bytes | None:
    return (folder / item.text_name).read_bytes() if item.text_name else None


def _write_index(folder: Path, items: Iterable[Pending]) -> None:
    import json

    text = json.dumps({"items": [_to_json(item) for item in items]}, indent=1)
    temporary = folder / f"{INDEX}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(folder / INDEX)


def _to_json(item: Pending) -> dict[str, Any]:
    before = None if item.before is None else {"kind": item.before.kind, "mode": item.before.mode}
    return {
        "path": os.fspath(item.path),
        "lines": item.lines,
        "kept_at": item.kept_at,
        "restorable": item.restorable,
        "before": before,
        "text": item.text_name,
    }


def _from_json(item: dict[str, Any]) -> Pending:
    before = item["before"]
    return Pending(
        Path(item["path"]),
        tuple(item["lines"]),
        float(item["kept_at"]),
        bool(item["restorable"]),
        None if before is None else Entry(before["kind"], int(before["mode"]), None),
        Path(item["text"]).name,
    )
