"""One connection from the bottle: admitted, identified, dialled, forwarded, closed; or refused with a reason.

Dialling and the client's identification run side by side: some clients wait for the server's words before they say
anything. Nothing of the client's goes to the upstream before it has introduced itself as SSH.
"""

from __future__ import annotations

import os

from claude_bottle.relay.drain import part
from claude_bottle.relay.gate import MOST_REFUSALS
from claude_bottle.relay.handshake import Handshake
from claude_bottle.relay.pin import is_ssh
from claude_bottle.relay.pump import Side
from claude_bottle.relay.refusal import HOST_NOT_ALLOWED, SERVICE_NOT_AVAILABLE, TOO_MANY_CONNECTIONS, disconnect
from claude_bottle.relay.upstream import Dial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from claude_bottle.relay.config import Entry, Listening
    from claude_bottle.relay.gate import Gate

_IDENTIFY_S = 30.0
"""a client that has not introduced itself by then is cut; slow machines take seconds, people never"""
_IDENTIFY_BYTES = 4096
"""read at most while the upstream is not connected"""
_CUT_S = 5.0
"""time to deliver what was admitted before a limit cut the connection"""
_LAST_WORDS_S = 1.0
"""a refused client that says nothing for so long is taken for one that waits for the server's words"""


class Connection:
    """One accepted client and, later, its upstream."""

    __slots__ = (
        "_begun_at",
        "_dial",
        "_entry",
        "_first",
        "_number",
        "_records",
        "_refusal",
        "active_at",
        "client",
        "closed",
        "ending",
        "gate",
    )

    def __init__(self, gate: Gate, listening: Listening, entry: Entry, sock: socket) -> None:
        self.gate = gate
        self._records = listening.records
        self._entry = entry
        gate.last_number += 1
        self._number = gate.last_number
        self._begun_at = self.active_at = gate.loop.now
        self._first = b""
        """what the client has sent before it was identified or the upstream was connected"""
        self._refusal = b""
        self._dial: Dial | None = None
        self.closed = False
        self.ending = ""
        """why it is being cut, while what was admitted is delivered"""
        self.client = Side(self, sock, "bottle", self._entry.upload, identified=False)
        gate.open_connections += 1
        self._entry.open_connections += 1

    # Coming in

    def record(self) -> str:
        """The record that allows this connection; nothing is dialled before it is written."""
        return self._records.connect(self._number)

    def start(self) -> None:
        """Dial the upstream."""
        self._dial = Dial(self.gate, self._entry, self)
        self._dial.start()

    def identify(self) -> None:
        """The client says something for the first time."""
        client = self.client
        left = None if self._refusal else client.budget.left
        if left is not None and left <= 0:
            self.close("upload limit")
            return
        try:
            data = os.read(client.fd, _IDENTIFY_BYTES if left is None else min(_IDENTIFY_BYTES, left))
        except BlockingIOError:
            return
        except OSError:
            self.close("reset by bottle")
            return
        client.took(len(data))
        self._first += data
        verdict = is_ssh(self._first)
        if not data:
            self.close("not ssh" if self._first else "eof")
        elif verdict is False:
            self.close("not ssh")
        elif verdict:
            self._identified()

    def _identified(self) -> None:
        """The client speaks SSH: what it says may pass."""
        client = self.client
        client.identified = True
        if self._refusal:
            self._say_refusal()
        elif client.peer is None:
            client.refresh()
        else:
            self._open()

    def on_connected(self, sock: socket, address: str) -> None:
        """The upstream is there."""
        self._dial = None
        client = self.client
        upstream = Side(self, sock, "upstream", self._entry.download, identified=True)
        client.peer, upstream.peer = upstream, client
        if self.gate.signs:
            upstream.witness = Handshake()
        self.gate.journal.later(self._records.connected(self._number, address))
        if client.identified:
            self._open()
        else:
            self.gate.loop.arm(self, _IDENTIFY_S)

    def _open(self) -> None:
        """Both are there: forward what the client has said so far, then everything."""
        idle_timeout_s = self._entry.idle_timeout_s
        if idle_timeout_s is None:
            self.gate.loop.disarm(self)
        else:
            self.gate.loop.arm(self, idle_timeout_s)
        client, first = self.client, self._first
        self._first = b""
        if client.peer is not None:
            client.peer.write(first)
            client.refresh()

    def on_handshake(self, upstream: Side) -> None:
        """The upstream has said all it says in the clear."""
        witness, upstream.witness = upstream.witness, None
        if witness is not None and witness.host_key:
            self.gate.prove(self._entry.alias, witness.host_key, witness.signature)

    def on_timeout(self) -> None:
        """Refused and silent, not identified in time, or idle."""
        idle_timeout_s = self._entry.idle_timeout_s
        if self._refusal:
            self._say_refusal()
        elif self.ending:
            self.close(self.ending)
        elif not self.client.identified:
            self.close("not ssh")
        elif idle_timeout_s is not None:
            left = self.active_at + idle_timeout_s - self.gate.loop.now
            if left > 0:
                self.gate.loop.arm(self, left)
            else:
                self.close("idle timeout")

    # Refusing

    def on_unreachable(self, reason: str, rule: str, address: str) -> None:
        """The upstream cannot be reached, or may not."""
        self._dial = None
        code = HOST_NOT_ALLOWED if rule else SERVICE_NOT_AVAILABLE
        self.refuse(reason, rule or self._entry.rule, address, code)

    def refuse(self, reason: str, rule: str, address: str = "", code: int = TOO_MANY_CONNECTIONS) -> None:
        """Tell the audit log and, when it is an SSH client, the client."""
        self.gate.journal.later(self._records.refuse(self._number, rule, reason, address))
        self._leave()
        gate = self.gate
        if gate.open_refusals + gate.open_drains >= MOST_REFUSALS:
            gate.loop.drop(self._let_go())
            return
        gate.open_refusals += 1
        self._refusal = disconnect(f"claude-bottle: {self._entry.target}: {reason}", code)
        if self.client.identified:
            self._say_refusal()
        else:
            gate.loop.arm(self, _LAST_WORDS_S)

    def _say_refusal(self) -> None:
        """Last words to the client."""
        self.gate.open_refusals -= 1
        self.gate.loop.disarm(self)
        sock = self._let_go()
        try:
            sock.send(self._refusal)
        except OSError:
            self.gate.loop.drop(sock)
            return
        part(self.gate, sock, reset=False)

    def _let_go(self) -> socket:
        """End this connection without a word; the client's socket, for someone else to close."""
        self.closed = True
        sock = self.client.sock
        del self.client  # ends a reference cycle; nothing of a closed connection is called again
        return sock

    # Going out

    def cut(self, reason: str) -> None:
        """End both directions here; what was admitted is still delivered."""
        self.ending = reason
        self.gate.loop.arm(self, _CUT_S)
        for side in self._sides():
            side.ended = True
            side.refresh()
        for side in self._sides():
            side.settle()

    def finish_cut(self) -> None:
        """Close when nothing waits any more."""
        if not self.closed and not any(side.waiting for side in self._sides()):
            self.close(self.ending)

    def close(self, reason: str, reset: Side | None = None) -> None:
        """Forget both sockets; `reset` is the one that learns of it by a reset."""
        if self.closed:
            return
        if self._refusal:
            self.gate.open_refusals -= 1
        else:
            self._tell_close(reason)
            self._leave()
        self.closed = True
        self.gate.loop.disarm(self)
        for side in self._sides():
            side.discard()
            side.peer = None
            if self.ending or side is reset:
                part(self.gate, side.sock, reset=side is reset)
            else:
                self.gate.loop.drop(side.sock)
        del self.client

    def _sides(self) -> list[Side]:
        client = self.client
        return [client] if client.peer is None else [client, client.peer]

    def _tell_close(self, reason: str) -> None:
        client, upstream = self.client, self.client.peer
        sent = client.received - len(self._first) - (upstream.waiting if upstream else 0)
        received = upstream.received - client.waiting if upstream else 0
        duration_s = self.gate.loop.now - self._begun_at
        self.gate.journal.later(self._records.close(self._number, sent, received, duration_s, reason))

    def _leave(self) -> None:
        """Make room for others."""
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        self.gate.open_connections -= 1
        self._entry.open_connections -= 1

    def on_crash(self) -> None:
        """Something in it raised: end this connection and no other."""
        self.close("internal error")
