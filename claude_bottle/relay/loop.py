"""The event loop: level-triggered epoll, deadlines, wake-ups from threads and signals.

Rule 1: a socket is closed after the batch of events it was dropped in, so a stale event of the batch can never meet a
new socket that was given the same number.
Rule 2: an exception in one handler ends that handler's business, never the loop.
Rule 3: level trigger reports a hang-up even with an empty mask, so a handler that cannot act on one leaves the set.
"""

from __future__ import annotations

import os
import sys
from select import epoll
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Protocol

    class Handler(Protocol):
        """Whatever waits for a descriptor."""

        def on_event(self, mask: int) -> None:
            """The descriptor is ready for what `mask` says."""

        def on_crash(self) -> None:
            """`on_event` or `on_timeout` raised: give everything up."""

    class Timed(Protocol):
        """Whatever has a deadline."""

        def on_timeout(self) -> None:
            """The deadline has passed and is forgotten."""

        def on_crash(self) -> None:
            """As in `Handler`."""


_NEVER = float("inf")
_BATCH = 256
_SWEEP_S = 0.02
"""Deadlines are looked at this often at most, so ten thousand of them cost nothing."""


class Loop:
    """One epoll set and the handlers of its descriptors."""

    def __init__(self) -> None:
        self.now = monotonic()
        """time of the present batch, seconds"""
        self.after_batch: list[Callable[[], None]] = []
        """called after each batch and before sockets are closed"""
        self._epoll = epoll()
        self._handlers: dict[int, Handler] = {}
        self._deadlines: dict[Timed, float] = {}
        self._next_sweep = _NEVER
        self._earliest_sweep = 0.0
        self._dropped: list[socket] = []
        self._stopping = False
        self._called: list[Callable[[], None]] = []
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.watch(self._wake_fd, _Waker(self._wake_fd, self._called), 1)

    def watch(self, fd: int, handler: Handler, mask: int) -> None:
        """Begin to tell `handler` of `fd`."""
        self._handlers[fd] = handler
        self._epoll.register(fd, mask)

    def rewatch(self, fd: int, mask: int) -> None:
        """Change what is watched for."""
        self._epoll.modify(fd, mask)

    def take_over(self, fd: int, handler: Handler, mask: int) -> None:
        """Give a descriptor, watched or not, to another handler."""
        change = self._epoll.modify if fd in self._handlers else self._epoll.register
        self._handlers[fd] = handler
        change(fd, mask)

    def unwatch(self, fd: int) -> None:
        """Stop telling; the descriptor must be watched."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def drop(self, sock: socket) -> None:
        """Forget a socket, watched or not, now and close it after the batch."""
        self._handlers.pop(sock.fileno(), None)
        self._dropped.append(sock)

    def arm(self, timed: Timed, seconds: float) -> None:
        """Call `timed.on_timeout` in `seconds`; an earlier deadline of it is forgotten."""
        deadline = monotonic() + seconds
        self._deadlines[timed] = deadline
        if deadline < self._next_sweep:
            self._next_sweep = max(deadline, self._earliest_sweep)

    def disarm(self, timed: Timed) -> None:
        """Forget the deadline of `timed`, if it has one."""
        self._deadlines.pop(timed, None)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Have `function` called by the loop. For threads and signal handlers too."""
        self._called.append(function)
        os.eventfd_write(self._wake_fd, 1)

    def handlers(self) -> list[Handler]:
        """Everything that is watched for now."""
        return list(self._handlers.values())

    def stop(self) -> None:
        """Return from `run` after this batch."""
        self._stopping = True

    def run(self) -> None:
        """Serve until `stop`."""
        poll, handlers = self._epoll.poll, self._handlers
        while not self._stopping:
            # -1 is for ever. The time of the last batch may be a little old; nobody's deadline is that sharp.
            patience_s = -1.0 if self._next_sweep == _NEVER else max(self._next_sweep - self.now, 0.0)
            ready = poll(patience_s, _BATCH)
            self.now = monotonic()
            for fd, mask in ready:
                handler = handlers.get(fd)
                if handler is not None:
                    try:
                        handler.on_event(mask)
                    except Exception:
                        _report(handler.on_crash)
            if self.now >= self._next_sweep:
                self._sweep()
            self._end_batch()

    def _sweep(self) -> None:
        """Tell everyone whose deadline has passed."""
        for timed in [timed for timed, deadline in self._deadlines.items() if deadline <= self.now]:
            # An earlier one of these may have put this one off or forgotten it.
            if self._deadlines.get(timed, self.now + 1) <= self.now:
                del self._deadlines[timed]
                guarded(timed.on_crash, timed.on_timeout)
        self._earliest_sweep = self.now + _SWEEP_S
        self._next_sweep = max(min(self._deadlines.values(), default=_NEVER), self._earliest_sweep)

    def _end_batch(self) -> None:
        for function in self.after_batch:
            guarded(_nothing, function)
        if self._dropped:
            for sock in self._dropped:
                sock.close()
            self._dropped.clear()


class _Waker:
    """Runs what other threads and signal handlers asked for."""

    def __init__(self, fd: int, called: list[Callable[[], None]]) -> None:
        self._fd = fd
        self._called = called

    def on_event(self, mask: int) -> None:
        os.eventfd_read(self._fd)
        while self._called:
            self._called.pop(0)()

    def on_crash(self) -> None:
        """Nothing is held here."""


def _nothing() -> None:
    """There is nothing to clean up."""


def guarded(on_crash: Callable[[], None], function: Callable[..., None], *arguments: object) -> None:
    """Call `function`; if it raises, report that and call `on_crash`."""
    try:
        function(*arguments)
    except Exception:
        _report(on_crash)


def _report(on_crash: Callable[[], None]) -> None:
    """Write the present exception to standard error and let its owner clean up."""
    sys.excepthook(*sys.exc_info())
    try:
        on_crash()
    except Exception:
        sys.excepthook(*sys.exc_info())
