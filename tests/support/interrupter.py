"""The real command line, which gets a signal at one step of its start.

    python -m tests.support.interrupter SIGNAL STEP -- run ...

SIGNAL is a name such as `SIGTERM`; STEP one of `tests.support.killer.STEPS`. The signal comes when the step begins.
"""

import signal
import sys
from typing import Any

from claude_bottle.backend.local.launch import Launch
from claude_bottle.cli.main import main


def arm(number: int, step: str) -> None:
    """Send ourselves a signal when the step begins."""
    original = getattr(Launch, step)

    def wrapped(self: Any, *arguments: Any, **keywords: Any) -> Any:
        setattr(Launch, step, original)  # once: some steps come twice
        signal.raise_signal(number)
        return original(self, *arguments, **keywords)

    setattr(Launch, step, wrapped)


if __name__ == "__main__":
    arm(signal.Signals[sys.argv[1]], sys.argv[2])
    raise SystemExit(main(sys.argv[4:]))
