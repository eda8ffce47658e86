"""The end of a socket that still has something to deliver.

Closing a socket with unread input, or with SO_LINGER 0, throws away what is still in its send queue. So the last
words go out, input is read and thrown away, and the socket is closed when its reader has everything or stands still.
"""

from __future__ import annotations

import os
from _socket import SHUT_WR
from select import EPOLLERR, EPOLLHUP, EPOLLIN

from claude_bottle.relay.tuning import close_with_reset, unsent_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from claude_bottle.relay.gate import Gate

_LAST_WORDS_S = 2.0
"""time a reader has for last words"""
_STILL_S = 30.0
"""a reader that takes nothing for so long is given up; a reset tells it that something is missing"""
_LOOK_S = 0.05
_MOST_BYTES = 1 << 20
"""input thrown away before a socket is closed all the same"""


def part(gate: Gate, sock: socket, *, reset: bool) -> None:
    """Close `sock` (watched or not) without losing what was written to it; `reset`: as a failure, not as an end."""
    try:
        if not reset:
            sock.shutdown(SHUT_WR)
        elif not unsent_bytes(sock):
            close_with_reset(sock)
            gate.loop.drop(sock)
            return
    except OSError:
        gate.loop.drop(sock)
        return
    Drain(gate, sock, reset)


class Drain:
    """One socket on its way out."""

    __slots__ = ("_bytes", "_deadline", "_gate", "_reset", "_sock", "_unsent")

    def __init__(self, gate: Gate, sock: socket, reset: bool) -> None:
        self._gate = gate
        self._sock = sock
        self._reset = reset
        self._bytes = 0
        self._unsent = 0
        self._deadline = gate.loop.now + _STILL_S
        gate.open_drains += 1
        gate.loop.take_over(sock.fileno(), self, EPOLLIN)
        gate.loop.arm(self, _LOOK_S if reset else _LAST_WORDS_S)

    def on_event(self, mask: int) -> None:
        """Throw input away; after its end there is nobody left to wait for, unless bytes are on their way."""
        if mask & (EPOLLERR | EPOLLHUP):
            self._close()
            return
        try:
            size = len(os.read(self._sock.fileno(), 65536))
        except BlockingIOError:
            return
        except OSError:
            size = -1
        self._bytes += size
        if size < 0 or self._bytes > _MOST_BYTES or (not size and not self._reset):
            self._close()
        elif not size:
            self._gate.loop.rewatch(self._sock.fileno(), 0)

    def on_timeout(self) -> None:
        """Look whether everything has arrived, or nothing moves any more."""
        unsent = unsent_bytes(self._sock) if self._reset else 0
        if unsent and unsent != self._unsent:
            self._deadline = self._gate.loop.now + _STILL_S
        self._unsent = unsent
        if unsent and self._gate.loop.now < self._deadline:
            self._gate.loop.arm(self, _LOOK_S)
            return
        if self._reset:
            close_with_reset(self._sock)
        self._close()

    def on_crash(self) -> None:
        """Close at once."""
        self._close()

    def _close(self) -> None:
        self._gate.open_drains -= 1
        self._gate.loop.disarm(self)
        self._gate.loop.drop(self._sock)
