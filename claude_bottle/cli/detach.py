"""Go on in the background: a process of its own, in a session of its own, that tells us when the program runs."""

import os
import sys
from collections.abc import Callable

from claude_bottle.cli import context
from claude_bottle.errors import BottleError


def run_detached(start: Callable[["context.Started"], int]) -> int:
    """Run `start` in the background; return 0 once its program runs, or what it ended with before.

    A passphrase cannot be asked for any more, and what the program prints goes to the bottle's output log.
    """
    said_read, said_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(said_read)
        _run_in_background(start, said_write)
    os.close(said_write)
    with os.fdopen(said_read, encoding="utf-8") as said:
        name = said.read().strip()
    if name:
        sys.stdout.write(f"{name}\n")
        return 0
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _run_in_background(start: Callable[["context.Started"], int], said_write: int) -> None:
    """Never returns. Errors before the program runs still reach the caller's terminal."""
    status = 1
    try:
        os.setsid()
        status = start(lambda slug: _let_go(slug, said_write))
    except BottleError as error:
        context.print_error(error)
        status = error.exit_code
    finally:
        os._exit(status)


def _let_go(slug: str, said_write: int) -> None:
    """Tell the caller the name, and let go of its terminal."""
    os.write(said_write, f"{slug}\n".encode())
    os.close(said_write)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
