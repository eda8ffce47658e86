"""Say what is going on when it takes longer than a second; on a terminal only."""

import signal
import sys
from types import FrameType

from claude_bottle.cli import context

PATIENCE_S = 1.0
"""seconds a step may take in silence"""


class Progress:
    """Names the present step once it has taken too long for silence.

    A timer signal rather than a thread: a start forks, and threads do not survive that.
    """

    def __init__(self) -> None:
        self._text = ""
        self._shown = sys.stderr.isatty()
        if self._shown:
            signal.signal(signal.SIGALRM, self._show)

    def step(self, text: str) -> None:
        """Begin a step; the empty text ends the last one."""
        self._text = text
        if self._shown:
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_S if text else 0)

    def _show(self, number: int, frame: FrameType | None) -> None:
        context.say(f"{self._text} ...")
