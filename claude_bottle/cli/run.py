"""`claude-bottle run`: an agent in a bottle."""

import argparse
from pathlib import Path

from claude_bottle.cli import context

EXAMPLE = "claude-bottle run fixer\n  claude-bottle run --bottle dev -- git clone forge:acme/app"
PROGRAM = "[-- CMD ...]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_choice(parser)
    parser.add_argument("--detach", action="store_true", help="print the bottle's name and return once it runs")


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Declare what chooses a bottle and a command; `plan` takes the same."""
    parser.add_argument("agent", nargs="?", metavar="AGENT", help="agent of the manifest (default: its only one)")
    parser.add_argument("--bottle", metavar="NAME", help="bottle for a command of your own (default: the only one)")
    parser.add_argument("--manifest", metavar="FILE", help="default: the nearest claude-bottle.toml upward")
    parser.add_argument("--workdir", metavar="DIR", help="folder the agent may write to (default: the current one)")


def call(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    if arguments.detach:
        from claude_bottle.cli.detach import run_detached

        return run_detached(lambda started: start(arguments, detached=True, started=started))
    return start(arguments, detached=False, started=lambda slug: None)


def start(arguments: argparse.Namespace, *, detached: bool, started: "context.Started") -> int:
    """Plan and run a bottle; return the program's exit status."""
    from claude_bottle.backend.base import RunOptions
    from claude_bottle.backend.workfolder import refuse_planted
    from claude_bottle.cli.progress import Progress
    from claude_bottle.plan import choose, plan_bottle

    manifest = context.read_manifest(arguments.manifest)
    refuse_planted(manifest.path, context.state_store())
    agent, bottle = choose(manifest, arguments.agent, arguments.bottle, bool(arguments.program))
    workdir = checked_workdir(arguments)
    folder = context.state_store().claim(agent or bottle)
    try:
        plan = plan_bottle(
            manifest,
            agent=agent,
            bottle=bottle,
            command=arguments.program,
            workdir=workdir,
            caller=context.caller(),
            slug=folder.slug,
        )
        options = RunOptions(
            detached=detached, say=context.say, step=Progress().step, started=lambda: started(folder.slug)
        )
        return context.backend().run(plan, folder, options)
    finally:
        folder.unlock()


def checked_workdir(arguments: argparse.Namespace) -> Path:
    """Return the work folder with its symlinks resolved.

    Raises:
        UsageError: it would open the sandbox, or is no folder of the caller's.
    """
    from claude_bottle.workfolder.check import check_workdir

    workdir = Path(arguments.workdir or ".")
    store = context.state_store()
    check_workdir(workdir, context.home(), [store.root, store.runtime])
    return workdir.resolve()
