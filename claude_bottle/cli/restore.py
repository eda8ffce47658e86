"""`claude-bottle restore`: undo what an agent changed in files that the host executes."""

import argparse
import sys
from pathlib import Path

from claude_bottle.cli import context

EXAMPLE = "claude-bottle restore fixer\n  claude-bottle restore fixer .git/config"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("name", metavar="NAME", help="name of the bottle that changed them")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files, as the report named them (default: all)")
    parser.add_argument("--list", action="store_true", help="only show what could be put back")


def call(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    from claude_bottle.workfolder.restore import pending, render_changes, restore

    folder = context.state_store().folder(arguments.name)
    if arguments.list:
        sys.stdout.write(render_changes(pending(folder.kept), arguments.name) + "\n")
        return 0
    for path in restore(folder.kept, [Path(path) for path in arguments.paths]):
        sys.stdout.write(f"put back: {path}\n")
    return 0
