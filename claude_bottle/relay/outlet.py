"""The sending half of a socket in the loop: what it could not take yet waits here, as bytes or in a pipe.

At most one chunk or one pipe waits, because nothing more is read for a socket that has something waiting.
"""

from __future__ import annotations

import os
from select import EPOLLIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from claude_bottle.relay.gate import Gate
    from claude_bottle.relay.pipes import Pipe

SPLICE_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
"""Not SPLICE_F_MORE: it would hold back the tail of a transfer."""

_UNWATCHED = -1


class Outlet:
    """A non-blocking socket, what is watched for on it, and what waits to be sent on it."""

    __slots__ = ("fd", "gate", "held", "interest", "pipe", "sock", "waiting")

    def __init__(self, gate: Gate, sock: socket) -> None:
        self.gate = gate
        self.sock = sock
        self.fd = sock.fileno()
        self.interest = EPOLLIN
        """events watched for; `_UNWATCHED` when out of the loop"""
        self.waiting = 0
        """how many bytes wait"""
        self.held = b""
        """those that were copied"""
        self.pipe: Pipe | None = None
        """those that were spliced"""
        gate.loop.watch(self.fd, self, EPOLLIN)

    def on_event(self, mask: int) -> None:
        """The socket is ready."""
        raise NotImplementedError

    def on_crash(self) -> None:
        """`on_event` raised."""
        raise NotImplementedError

    def send(self, data: bytes) -> bool:
        """Send `data` and keep what the socket does not take; whether it took all. Nothing may wait already.

        Raises:
            OSError: the socket is broken; nothing was sent or kept.
        """
        try:
            sent = os.write(self.fd, data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return True
        self.held = data[sent:]
        self.waiting = len(self.held)
        return False

    def send_held(self) -> bool:
        """Send what was copied and waits; whether nothing does any more."""
        data, self.held, self.waiting = self.held, b"", 0
        return self.send(data)

    def pour(self, pipe: Pipe) -> bool:
        """Send what is in `pipe` and keep the pipe until it is empty; whether it is.

        Raises:
            OSError: the socket is broken.
        """
        self.pipe = pipe
        self.waiting = pipe.filled
        try:
            while self.waiting:
                self.waiting -= os.splice(pipe.source, self.fd, self.waiting, flags=SPLICE_FLAGS)
        except BlockingIOError:
            return False
        finally:
            pipe.filled = self.waiting
        self.pipe = None
        self.gate.pipes.give(pipe)
        return True

    def discard(self) -> int:
        """Throw away what waits; how many bytes that was."""
        lost, self.waiting, self.held = self.waiting, 0, b""
        if self.pipe is not None:
            self.gate.pipes.give(self.pipe)
            self.pipe = None
        return lost

    def watch_for(self, want: int) -> None:
        """Change what is watched for; a socket out of the loop comes back for something only."""
        if want == self.interest:
            return
        if self.interest != _UNWATCHED:
            self.gate.loop.rewatch(self.fd, want)
        elif want:
            self.gate.loop.watch(self.fd, self, want)
        else:
            return
        self.interest = want

    def unwatch(self) -> None:
        """Leave the loop: a hang-up is reported for as long as the socket is watched."""
        if self.interest != _UNWATCHED:
            self.gate.loop.unwatch(self.fd)
            self.interest = _UNWATCHED
