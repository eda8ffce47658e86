"""`claude-bottle exec`: one more command in a running bottle."""

import argparse

from claude_bottle.cli import context
from claude_bottle.errors import UsageError

EXAMPLE = "claude-bottle exec fixer -- ssh -G forge"
PROGRAM = "-- CMD ..."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("name", metavar="NAME", help="name of the bottle, as ps shows it")
    parser.add_argument("--workdir", metavar="DIR", help="folder inside to start in (default: the work folder)")


def call(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    if not arguments.program:
        raise UsageError("no command to run", where="exec", hint=f"claude-bottle exec {arguments.name} -- COMMAND")
    folder = context.state_store().folder(arguments.name)
    record = folder.read_record()
    if record is None or not folder.is_running():
        raise UsageError(f"bottle {arguments.name} does not run", where="exec", hint="claude-bottle ps")
    return context.backend(record["backend"]).exec(record, arguments.program, arguments.workdir)
