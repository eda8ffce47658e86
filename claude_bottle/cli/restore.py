"""`claude-bottle restore`: undo what an agent changed in files that the host executes."""

import argparse
import sys
from pathlib import Path

from claude_bottle.cli import context

EXAMPLE = "claude-bottle restore fixer --list\n  claude-bottle restore fixer .git/config"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("name", metavar="NAME", help="name of the bottle that changed them")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files that it changed (default: all of them)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="only show what it changed")
    what.add_argument("--accept", action="store_true", help="keep the changes, and forget the old texts")


def call(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    from claude_bottle.workfolder.restore import forget, pending, restore

    kept = context.state_store().folder(arguments.name).kept
    paths = [Path(path).absolute() for path in arguments.paths] or None
    if arguments.list:
        sys.stdout.writelines(f"{line}\n" for item in pending(kept) for line in item.lines)
    elif arguments.accept:
        forget(kept, paths)
    else:
        sys.stdout.writelines(f"put back: {path}\n" for path in restore(kept, paths))
    return 0
