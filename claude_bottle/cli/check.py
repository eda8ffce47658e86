"""`claude-bottle check`: is the manifest right?"""

import argparse
import sys

from claude_bottle.cli import context

EXAMPLE = "claude-bottle check --manifest claude-bottle.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--manifest", metavar="FILE", help="default: the nearest claude-bottle.toml upward")


def call(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    manifest = context.read_manifest(arguments.manifest)
    hosts = sum(len(bottle.ssh) for bottle in manifest.bottles.values())
    sys.stdout.write(
        f"{manifest.path}: ok ({len(manifest.bottles)} bottles, {len(manifest.agents)} agents, {hosts} SSH hosts)\n"
    )
    return 0
