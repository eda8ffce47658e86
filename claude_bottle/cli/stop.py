"""`claude-bottle stop`: end bottles, and sweep what crashes left."""

import argparse

from claude_bottle.cli import context
from claude_bottle.cli.progress import Progress
from claude_bottle.errors import UsageError

EXAMPLE = "claude-bottle stop fixer\n  claude-bottle stop --all"
GRACE_S = 7.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="names of bottles, as ps shows them")
    parser.add_argument("--all", action="store_true", help="every bottle, crashed ones too")


def call(arguments: argparse.Namespace) -> int:
    """Run the verb; a bottle that has ended is success."""
    store = context.state_store()
    if bool(arguments.names) == arguments.all:
        raise UsageError("name bottles, or --all", where="stop", hint="claude-bottle ps lists them")
    folders = list(store.folders()) if arguments.all else [store.folder(name) for name in arguments.names]
    progress = Progress()
    for folder in folders:
        progress.step(f"ending {folder.slug}")
        context.backend().stop(folder, GRACE_S)
    progress.step("")
    return 0
