"""`claude-bottle init`: a starter manifest from what the current repository already uses."""

import argparse
import sys
from pathlib import Path

EXAMPLE = "cd my-project && claude-bottle init"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("folder", nargs="?", default=".", metavar="DIR", help="default: the current folder")


def call(arguments: argparse.Namespace) -> int:
    """Run the verb; an existing manifest is never overwritten."""
    from claude_bottle.backend.local.discover import write_starter

    path = write_starter(Path(arguments.folder).resolve())
    sys.stdout.write(f"wrote {path}; look at it, then: claude-bottle check\n")
    return 0
