"""`claude-bottle completion`: words for the shell to complete."""

import argparse
import sys

EXAMPLE = 'eval "$(claude-bottle completion bash)"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="shell to print the script for")


def call(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    import shtab

    from claude_bottle.cli.main import build_parser

    sys.stdout.write(shtab.complete(build_parser(), shell=arguments.shell) + "\n")
    return 0
