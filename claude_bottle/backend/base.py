"""What every backend can do; the command line knows nothing else of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claude_bottle.backend.state import BottleFolder
from claude_bottle.plan import BottlePlan

Say = Callable[[str], None]
"""prints one line for the person who runs the command; never reaches the agent's own output"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a bottle is run, beside what runs in it."""

    detached: bool = False
    """whether nobody's terminal is attached"""
    say: Say
    """notices: limits that are weaker than asked, the gate lost, files changed"""
    step: Say = lambda _: None
    """told what is being done, for somebody who waits; the empty text when nothing is"""
    started: Callable[[], None] = lambda: None
    """called once the program runs"""


class Backend(ABC):
    """One way to run a bottle."""

    name: str
    """spelled alike in code, command line and documentation"""

    @abstractmethod
    def run(self, plan: BottlePlan, folder: BottleFolder, options: RunOptions) -> int:
        """Start the planned bottle in its locked folder, stay until it ends, and return the program's exit status.

        Raises:
            BackendError: the machine cannot run it; everything that was started has ended.
        """

    @abstractmethod
    def describe(self, plan: BottlePlan) -> Mapping[str, Any]:
        """Return what `run` would do on this backend, as JSON-ready data; touches nothing."""

    @abstractmethod
    def exec(self, record: Mapping[str, Any], command: Sequence[str], workdir: str | None) -> int:
        """Run one more program in a running bottle and return its exit status."""

    @abstractmethod
    def stop(self, folder: BottleFolder, grace_s: float) -> None:
        """End a running bottle and remove what a crashed one left; a bottle that is gone is success."""
