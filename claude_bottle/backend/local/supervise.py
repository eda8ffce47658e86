"""Stay with a running program: pass signals and the terminal on, notice when it or the gate ends."""

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from claude_bottle.backend.local.input import InputFile
from claude_bottle.backend.local.process import Child, kill
from claude_bottle.backend.local.terminal import SignalPipe, Terminal

STOP_GRACE_S = 5.0
"""seconds between the wish that the program ends and its end by force"""

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""signals to us after which the program has the grace time to end"""


class Supervisor:
    """Watches one program inside a bottle until it has ended."""

    def __init__(
        self,
        child: Child,
        *,
        program: Callable[[], int | None],
        signals: SignalPipe,
        terminal: Terminal | None,
    ) -> None:
        """Watch `child`, whose end is the end of everything; `program` tells the pid of the program behind it."""
        self._child = child
        self._program = program
        self._signals = signals
        self._terminal = terminal
        self._deadline: float | None = None
        self._input: InputFile | None = None
        self._others: dict[int, Callable[[], None]] = {}

    def also_feed(self, file: InputFile) -> None:
        """Hand a file on to the program as its standard input."""
        self._input = file

    def also_watch(self, other: Child, on_end: Callable[[], None]) -> None:
        """Call `on_end` once if another child of ours ends first."""
        self._others[other.fileno()] = on_end

    def wait(self) -> int:
        """Return the exit status of the child: its own, or 128+n for signal n."""
        while self._child.fileno() not in (ready := self._poll()):
            self._dispatch(ready)
        if self._terminal is not None:
            self._terminal.drain()
        status = self._child.wait()
        return 1 if status is None else status

    def _poll(self) -> Mapping[int, int]:
        poll = select.poll()
        for fd in (self._child.fileno(), self._signals.read_fd, *self._others):
            poll.register(fd, select.POLLIN)
        for stream in (self._terminal, self._input):
            for fd, events in stream.interest().items() if stream is not None else ():
                poll.register(fd, events)
        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic()) * 1000
        ready = dict(poll.poll(left))
        if not ready and self._deadline is not None:
            self._deadline = None
            self._child.signal(signal.SIGKILL)
        return ready

    def _dispatch(self, ready: Mapping[int, int]) -> None:
        if self._signals.read_fd in ready:
            for number in self._signals.take():
                self._on_signal(number)
        for stream in (self._terminal, self._input):
            if stream is not None:
                stream.handle(ready)
        for fd in [fd for fd in self._others if fd in ready]:
            self._others.pop(fd)()

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGWINCH:
            if self._terminal is not None:
                self._terminal.resize()
            return
        program = self._program()
        if program is not None:
            signal_group(program, number)
        if number in ENDING and self._deadline is None:
            self._deadline = time.monotonic() + STOP_GRACE_S


def signal_group(pid: int, number: int) -> None:
    """Signal a program and, where it leads a process group, all of it."""
    try:
        group = os.getpgid(pid)
    except ProcessLookupError:
        return
    if group == pid:
        with suppress(ProcessLookupError):
            os.killpg(pid, number)
    else:
        kill(pid, number)


def first_child(pid: int) -> int | None:
    """Return the oldest child of a process: behind bubblewrap's reaper that is the program."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    return None
