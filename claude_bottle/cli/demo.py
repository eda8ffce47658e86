"""`claude-bottle demo`: the whole thing on two throwaway SSH servers."""

import argparse

EXAMPLE = "claude-bottle demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--keep", action="store_true", help="leave the demo's folder for a look")


def call(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    from claude_bottle.demo import run_demo

    return run_demo(keep=arguments.keep)
