"""`claude-bottle ps`: which bottles run, and what crashes left."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from claude_bottle.cli import context
from claude_bottle.workfolder.files import show

if TYPE_CHECKING:
    from claude_bottle.backend.state import BottleFolder

EXAMPLE = "claude-bottle ps --json"

COLUMNS = ("name", "status", "agent", "started", "hosts", "workdir")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def call(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    rows = [row for folder in context.state_store().folders() if (row := describe(folder))]
    if arguments.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        sys.stdout.write(render(rows))
    return 0


def describe(folder: "BottleFolder") -> dict[str, Any] | None:
    """Return one bottle's row; None for one that has ended in good order."""
    record = folder.read_record()
    running = folder.is_running()
    if record is None and not running:
        return None
    facts = record or {}
    return {
        "name": folder.slug,
        "status": ("running" if "init" in facts.get("processes", {}) else "starting") if running else "crashed",
        "agent": facts.get("agent"),
        "bottle": facts.get("bottle"),
        "started": facts.get("started"),
        "hosts": facts.get("hosts", []),
        "workdir": facts.get("workdir"),
        "command": facts.get("command", []),
        "pid": facts.get("processes", {}).get("supervisor", [None])[0],
    }


def render(rows: list[dict[str, Any]]) -> str:
    """Return the table; a crashed bottle names its cure."""
    cells = [[name.upper() for name in COLUMNS], *([_cell(row[name]) for name in COLUMNS] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(COLUMNS))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    if any(row["status"] == "crashed" for row in rows):
        lines.append("\ncrashed bottles are swept by: claude-bottle stop --all")
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else show(str(value or "-"))
