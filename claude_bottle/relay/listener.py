"""Accept connections on one adopted listener and admit or refuse them."""

from __future__ import annotations

from _socket import SOCK_STREAM, socket
from select import EPOLLIN

from claude_bottle.relay.connection import Connection
from claude_bottle.relay.loop import guarded
from claude_bottle.relay.tuning import OUT_OF_FDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from claude_bottle.relay.config import Entry, Listening
    from claude_bottle.relay.gate import Gate

_SHARE = 64
"""accepted per event: one write to the audit log allows them all"""
_REST_S = 0.1
"""how long a listener rests when descriptors have run out; level trigger would spin meanwhile"""


class Listener:
    """One listening TCP socket of one entry."""

    def __init__(self, gate: Gate, listening: Listening, entry: Entry, sock: socket) -> None:
        self._gate = gate
        self._listening = listening
        self._entry = entry
        self._sock = sock
        self._family = sock.family
        gate.loop.watch(sock.fileno(), self, EPOLLIN)

    def on_event(self, mask: int) -> None:
        """Accept who waits; the connections that are allowed share one write to the audit log."""
        arrived = []
        for sock in self._accepted():
            reason, rule = self._gate.objection(self._entry)
            connection = Connection(self._gate, self._listening, self._entry, sock)
            if reason:
                guarded(connection.on_crash, connection.refuse, reason, rule)
            else:
                arrived.append(connection)
        if not arrived:
            return
        written = self._gate.journal.must(*[connection.record() for connection in arrived])
        for connection in arrived:
            if written:
                guarded(connection.on_crash, connection.start)
            else:
                guarded(connection.on_crash, connection.refuse, self._gate.journal.problem, "audit")

    def _accepted(self) -> list[socket]:
        accepted: list[socket] = []
        while len(accepted) < _SHARE:
            try:
                fd, _ = self._sock._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in OUT_OF_FDS:
                    self._rest()
                    break
                continue  # that client has gone again
            sock = socket(self._family, SOCK_STREAM, 0, fd)
            sock.setblocking(False)
            accepted.append(sock)
        return accepted

    def _rest(self) -> None:
        self._gate.loop.unwatch(self._sock.fileno())
        self._gate.loop.arm(self, _REST_S)

    def on_timeout(self) -> None:
        """Try again."""
        self._gate.loop.watch(self._sock.fileno(), self, EPOLLIN)

    def on_crash(self) -> None:
        """Go on: the next connection may fare better."""
