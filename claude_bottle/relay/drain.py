"""The end of a socket that still has something to deliver.

Closing a socket with unread input, or with SO_LINGER 0, throws away what is still in its send queue. So the last
words go out, input is read and thrown away, and the socket is closed when the peer has everything or time is up.
"""

from __future__ import annotations

import os
from _socket import SHUT_WR
from select import EPOLLIN

from claude_bottle.relay.tuning import close_with_reset, unsent_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from claude_bottle.relay.loop import Loop

_PATIENCE_S = 2.0
_LOOK_S = 0.05
_MOST_BYTES = 1 << 20
"""input thrown away before the socket is closed all the same"""


def part(loop: Loop, sock: socket, *, reset: bool) -> None:
    """Close `sock` (watched or not) without losing what was written to it; `reset`: as a failure, not as an end."""
    if reset and not unsent_bytes(sock):
        close_with_reset(sock)
        loop.drop(sock)
        return
    Drain(loop, sock, reset)


class Drain:
    """One socket on its way out."""

    __slots__ = ("_bytes", "_deadline", "_loop", "_reset", "_sock")

    def __init__(self, loop: Loop, sock: socket, reset: bool) -> None:
        self._loop = loop
        self._sock = sock
        self._reset = reset
        self._bytes = 0
        self._deadline = loop.now + _PATIENCE_S
        try:
            if not reset:
                sock.shutdown(SHUT_WR)
        except OSError:
            loop.drop(sock)
            return
        loop.take_over(sock.fileno(), self, EPOLLIN)
        loop.arm(self, _LOOK_S if reset else _PATIENCE_S)

    def on_event(self, mask: int) -> None:
        """Throw input away; at its end the peer has read everything or never will."""
        try:
            size = len(os.read(self._sock.fileno(), 65536))
        except BlockingIOError:
            return
        except OSError:
            size = 0
        self._bytes += size
        if self._bytes > _MOST_BYTES or (not size and not self._reset):
            self._close()
        elif not size:
            # End of input only: what was written may still be on its way.
            self._loop.unwatch(self._sock.fileno())

    def on_timeout(self) -> None:
        """Look whether everything has arrived."""
        if self._reset and self._loop.now < self._deadline and unsent_bytes(self._sock):
            self._loop.arm(self, _LOOK_S)
            return
        if self._reset and not unsent_bytes(self._sock):
            close_with_reset(self._sock)
        self._close()

    def on_crash(self) -> None:
        """Close at once."""
        self._close()

    def _close(self) -> None:
        self._loop.disarm(self)
        self._loop.drop(self._sock)
