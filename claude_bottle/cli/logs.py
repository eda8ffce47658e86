"""`claude-bottle logs`: what a bottle did on the network, as a person or a program reads it."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from claude_bottle.cli import context
from claude_bottle.workfolder.files import show

if TYPE_CHECKING:
    from claude_bottle.backend.state import BottleFolder

EXAMPLE = "claude-bottle logs fixer -f\n  claude-bottle logs fixer --json | jq 'select(.verdict == \"refuse\")'"

POLL_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("name", metavar="NAME", help="name of the bottle; it may have ended")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the bottle ends")
    parser.add_argument("--json", action="store_true", help="print the records as they are, one JSON object a line")
    parser.add_argument(
        "--output", action="store_true", help="what a detached program printed, instead of the audit log"
    )


def call(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    folder = context.state_store().folder(arguments.name)
    plain = arguments.json or arguments.output
    for line in lines(folder, folder.output_log if arguments.output else folder.audit, arguments.follow):
        sys.stdout.write(line if plain else render(line))
        if arguments.follow:
            sys.stdout.flush()
    return 0


def lines(folder: "BottleFolder", path: Path, follow: bool) -> Iterator[str]:
    """Yield the lines of a log, with `follow` as they come for as long as the bottle runs.

    A regular file cannot be waited on with poll(2), so following looks again every 0.2 s.
    """
    try:
        with path.open("rb") as log:
            while True:
                running = follow and folder.is_running()  # asked before reading, so that the last lines are not missed
                yield from whole_lines(log)
                if not running:
                    yield log.read().decode(errors="replace")
                    return
                time.sleep(POLL_S)
    except FileNotFoundError:
        return


def whole_lines(log: BinaryIO) -> Iterator[str]:
    """Yield the complete lines from here on; the position stays before one that is still being written."""
    while (line := log.readline()).endswith(b"\n"):
        yield line.decode(errors="replace")
    log.seek(-len(line), 1)


def render(line: str) -> str:
    """Return one record as a line for people; what is not a record stays as it is."""
    try:
        record = json.loads(line)
        return show(f"{record['time'][11:23]}  {record['event']:<12} {summary(record)}") + "\n"
    except (ValueError, KeyError, TypeError):
        return line and json.dumps(line.rstrip("\n")) + "\n"


def summary(record: Mapping[str, Any]) -> str:
    """Return what a record says beyond its time and event."""
    target = f"{record.get('entry')} ({record.get('host')}:{record.get('port')})"
    match record["event"]:
        case "launch":
            return f"{json.dumps(record['command'])} in {record['workdir']}"
        case "stop":
            return f"status {record['status']} after {record['duration_s']:g} s"
        case "connect":
            return f"#{record['conn']} {target} allowed by {record['rule']}"
        case "connected":
            return f"#{record['conn']} {record['address']}"
        case "refuse":
            return f"#{record['conn']} {target} REFUSED: {record['reason']}"
        case "close":
            return (
                f"#{record['conn']} {record['entry']}: {record['sent_bytes']} bytes out, "
                f"{record['received_bytes']} in, {record['duration_s']:g} s, {record['reason']}"
            )
        case _:
            rest = {key: value for key, value in record.items() if key not in ("time", "bottle", "event")}
            return " ".join(f"{key}={json.dumps(value)}" for key, value in rest.items())
