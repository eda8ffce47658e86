"""The real command line, in which one process dies by SIGKILL at one step of the start.

    python -m tests.support.killer VICTIM STEP WHEN -- run ...

VICTIM is `cli`, `gate`, `keys` or `bwrap`; STEP a method of Launch; WHEN is `before` or `after`. A victim that does not
exist yet at that moment is not killed, and the start goes on: the test then sees a bottle that works.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from claude_bottle.backend.local import launch
from claude_bottle.cli.main import main

STEPS = (
    "_take_folders",
    "_start_gate",
    "_start_keys",
    "_open_terminal",
    "_start_sandbox",
    "_limit",
    "_hand_over",
    "_audit",
    "_check",
    "_release",
    "_stay",
)
"""the steps of a start in their order; `_stay` is where the program runs"""

victims: dict[str, int] = {"cli": os.getpid()}


def note(name: str, step: str, pid_of: Callable[[Any], int]) -> None:
    """Remember the pid that a step of Launch starts."""
    original = getattr(launch.Launch, step)

    def wrapped(self: Any, *arguments: Any) -> Any:
        made = original(self, *arguments)
        if made is not None:
            victims[name] = pid_of(made)
        return made

    setattr(launch.Launch, step, wrapped)


def arm(victim: str, step: str, when: str) -> None:
    """Kill the victim when the step begins or has ended."""
    original = getattr(launch.Launch, step)

    def wrapped(self: Any, *arguments: Any, **keywords: Any) -> Any:
        if when == "before":
            strike(victim)
        made = original(self, *arguments, **keywords)
        if when == "after":
            strike(victim)
        return made

    setattr(launch.Launch, step, wrapped)


def strike(victim: str) -> None:
    """Kill the victim if it exists by now."""
    with suppress(KeyError, ProcessLookupError):
        os.kill(victims[victim], signal.SIGKILL)


if __name__ == "__main__":
    who, where, moment = sys.argv[1:4]
    note("gate", "_start_gate", lambda gate: int(gate.process.pid))
    note("keys", "_start_keys", lambda keys: int(keys.pid))
    note("bwrap", "_start_sandbox", lambda made: int(made.monitor.pid))
    arm(who, where, moment)
    raise SystemExit(main(sys.argv[5:]))
