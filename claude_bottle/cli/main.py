"""The command `claude-bottle`: find the verb, parse, call it, turn errors into text and an exit status."""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from claude_bottle.errors import BottleError

VERBS = {
    "run": "run an agent, or any command, in a bottle",
    "init": "write a starter manifest from this repository's SSH remotes",
    "check": "check the manifest and report every mistake",
    "plan": "show everything a run would do; touch nothing",
    "ps": "list bottles that run, and what crashes left",
    "exec": "run one more command in a running bottle",
    "logs": "show a bottle's audit log",
    "stop": "end bottles and sweep what crashes left",
    "restore": "put back what an agent changed in files that the host executes",
    "demo": "show the whole thing on two throwaway SSH servers",
    "completion": "print a completion script for your shell",
}

EPILOG = """\
exit status: the program's own (128+n for signal n), or
  1 another error   2 bad input   3 the machine cannot run the bottle   4 a key cannot be used
  126 / 127 the program inside cannot be executed / does not exist

example:
  claude-bottle init && claude-bottle run -- git fetch
"""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps line breaks, and asks for the terminal's width itself: argparse loads a big module for that, always."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns)
        except (OSError, ValueError):
            columns = 0
        super().__init__(prog, width=(columns or 80) - 2)


class VerbParser(argparse.ArgumentParser):
    """A parser whose usage ends with what comes behind `--`; worked out when shown, which a start can not afford."""

    behind = ""
    """words that stand behind the arguments in the usage"""

    def format_usage(self) -> str:
        """See `argparse`."""
        self._complete()
        return super().format_usage()

    def format_help(self) -> str:
        """See `argparse`."""
        self._complete()
        return super().format_help()

    def _complete(self) -> None:
        if self.behind and self.usage is None:
            self.usage = f"{super().format_usage().removeprefix('usage: ').rstrip()} {self.behind}"


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; with `only`, just that verb's arguments are loaded, which is what a start can afford."""
    from claude_bottle import __version__

    parser = argparse.ArgumentParser(
        prog="claude-bottle",
        description="Run a coding agent in a sealed bottle that reaches exactly the hosts its manifest names.",
        epilog=EPILOG,
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action="version", version=f"claude-bottle {__version__}")
    # with `prog`, argparse need not format the usage to know it
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, prog=parser.prog, parser_class=VerbParser)
    for name, summary in VERBS.items():
        if only is not None and name != only:
            continue
        module = import_module(f"claude_bottle.cli.{name}")
        sub = verbs.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=Formatter,
        )
        module.add_arguments(sub)
        sub.behind = getattr(module, "PROGRAM", "")
        sub.set_defaults(call=module.call)
    return parser


def open_missing_streams() -> None:
    """Put /dev/null where our caller closed a standard stream.

    Else the next file we open takes its number, and would be a standard stream of the program inside.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for the whole run
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    gc.disable()  # a run makes little garbage, and looking for it while modules load is a twentieth of a start
    open_missing_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    verb = words[0] if words and words[0] in VERBS else None
    # argparse would give the first word behind `--` to an optional positional before it
    end = words.index("--") if "--" in words else len(words)
    arguments = build_parser(verb).parse_args(words[:end])
    arguments.program = words[end + 1 :]
    try:
        status: int = arguments.call(arguments)
        sys.stdout.flush()
    except BottleError as error:
        from claude_bottle.cli.context import print_error

        print_error(error)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except KeyboardInterrupt:
        return 128 + 2
    return status


if __name__ == "__main__":
    raise SystemExit(main())
