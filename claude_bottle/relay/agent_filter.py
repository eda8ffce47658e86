"""The filter between the bottle and its ssh-agent: list, bind a session, sign; nothing else reaches the agent.

The agent's keys are destination-constrained, so the agent itself signs only for the declared hosts. The filter keeps
everything else away from it (adding, removing, locking, other extensions), writes every signature to the audit log
before it is asked for, and refuses by itself what the agent would refuse: a signature on a connection that is not
bound to a session, or bound to a host the key is not for. For clients that do not bind (only OpenSSH's does), the
filter binds with what the gate has seen of their handshakes; see `handshake`.

Rule 1: one request at a time per connection, answered in order; the agent has a connection per client because it
remembers the bound session per connection.
Rule 2: a session counts as bound only when the agent has said so.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_STREAM, socket
from binascii import b2a_base64
from select import EPOLLIN

from claude_bottle.audit import render
from claude_bottle.relay.agent_messages import (
    EXTENSION,
    FAILURE_REPLY,
    LIST,
    SIGN,
    SIGNED,
    SUCCESS,
    MessageError,
    bound_host,
    certificate_authority,
    framed,
    request_name,
    session_bind,
    session_of,
    signing_request,
)
from claude_bottle.relay.agent_stream import Stream, connect_unix
from claude_bottle.relay.tuning import OUT_OF_FDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_bottle.relay.config import AgentConfig
    from claude_bottle.relay.gate import Gate, Proof

_MOST_CLIENTS = 64
_REST_S = 0.1


class AgentListener:
    """The agent socket inside the bottle."""

    def __init__(self, gate: Gate, config: AgentConfig, sock: socket) -> None:
        self._gate = gate
        self._config = config
        self._sock = sock
        self._requests = 0
        self.clients = 0
        sock.setblocking(False)
        gate.loop.watch(sock.fileno(), self, EPOLLIN)

    def on_event(self, mask: int) -> None:
        """Accept one client."""
        try:
            fd, _ = self._sock._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in OUT_OF_FDS:
                self._gate.loop.unwatch(self._sock.fileno())
                self._gate.loop.arm(self, _REST_S)
            return
        client = socket(AF_UNIX, SOCK_STREAM, 0, fd)
        if self.clients >= _MOST_CLIENTS:
            client.close()
            return
        client.setblocking(False)
        self.clients += 1
        AgentClient(self, self._gate, self._config, client)

    def on_timeout(self) -> None:
        """Accept again."""
        self._gate.loop.watch(self._sock.fileno(), self, EPOLLIN)

    def on_crash(self) -> None:
        """Go on."""

    def next_request(self) -> int:
        """Number the signature requests of this run."""
        self._requests += 1
        return self._requests


class AgentClient:
    """One client of the agent, with its own connection to the real one."""

    def __init__(self, listener: AgentListener, gate: Gate, config: AgentConfig, sock: socket) -> None:
        self._listener = listener
        self._gate = gate
        self._config = config
        self._client = Stream(gate.loop, sock, self._advance, self.close)
        self._agent: Stream | None = None
        self._awaited: Callable[[bytes], None] | None = None
        """what to do with the agent's reply; None when no request is with the agent"""
        self._bound: tuple[str, ...] | None = None
        """aliases of the host this connection is bound to; None before it is bound"""
        self._binds = False
        """whether the client binds by itself"""

    def close(self) -> None:
        """End both connections."""
        if self._listener is None:
            return
        self._listener.clients -= 1
        self._client.close()
        if self._agent is not None:
            self._agent.close()
        del self._client, self._awaited
        self._listener = self._agent = None  # type: ignore[assignment]

    def _advance(self) -> None:
        """Take up requests until one has to wait for the agent or the client for its reply."""
        while self._listener is not None and self._awaited is None and not self._client.unsent:
            message = self._client.next_message()
            if message is None:
                break
            self._take(message)
        if self._listener is not None:
            self._client.listen(self._awaited is None and not self._client.unsent)

    def _take(self, message: bytes) -> None:
        try:
            if message[0] == LIST and len(message) == 1:
                self._forward(message, self._answered)
            elif message[0] == SIGN:
                self._sign(message)
            elif message[0] == EXTENSION:
                self._bind(message)
            else:
                self._refuse(message, "only listing and signing are allowed from inside a bottle")
        except MessageError as error:
            self._refuse(message, str(error))

    def _bind(self, message: bytes) -> None:
        """A session-bind tells the agent which host key the session has that will ask for a signature."""
        key, forwarding = bound_host(message)
        if forwarding:
            return self._refuse(message, "the agent is not forwarded further")
        self._binds = True
        return self._forward(message, lambda reply: self._when_bound(reply, key, self._answered))

    def _when_bound(self, reply: bytes, host_key: bytes, then: Callable[[bytes], None]) -> None:
        """Remember what the agent has agreed to."""
        if reply[0] == SUCCESS:
            hosts = self._config.hosts
            aliases = hosts.get(_base64(host_key)) or hosts.get(_base64(certificate_authority(host_key))) or ()
            self._bound = tuple(aliases)
        then(reply)

    def _sign(self, message: bytes) -> None:
        """Bind in the client's place where it does not, then ask for the signature."""
        key, data = signing_request(message)
        if self._binds:
            return self._ask(message, key)
        session = session_of(data)
        aliases = self._config.keys.get(_base64(key), ())
        proofs = [proof for proof in self._gate.proofs if proof.alias in aliases]
        if self._bound is not None:  # for an earlier session; the agent binds a connection once
            self._bound = None
            if self._agent is not None:
                self._agent.close()
                self._agent = None
        return self._vouch(message, key, session, proofs)

    def _vouch(self, message: bytes, key: bytes, session: bytes, proofs: list[Proof]) -> None:
        """Offer the agent the handshakes seen, the latest first, until it finds the session's."""
        if self._bound is not None or not proofs:
            return self._ask(message, key)
        proof = proofs.pop()
        bind = session_bind(proof.host_key, session, proof.signature)
        then = lambda reply: self._vouch(message, key, session, proofs)  # noqa: E731
        return self._forward(bind, lambda reply: self._when_bound(reply, proof.host_key, then))

    def _ask(self, message: bytes, key: bytes) -> None:
        """Forward a signature request when it is in the audit log."""
        number = self._listener.next_request()
        entry, objection = self._entry_of(key)
        fields: dict[str, object] = {"request": number, "entry": entry, "key": fingerprint(key)}
        if objection:
            self._gate.journal.later(render("sign", {**fields, "verdict": "refuse", "reason": objection}))
            return self._client.send(FAILURE_REPLY)
        if not self._gate.journal.must(render("sign", {**fields, "verdict": "ask"})):
            return self._client.send(FAILURE_REPLY)

        def answered(reply: bytes) -> None:
            verdict = "signed" if reply[0] == SIGNED else "refused"
            self._gate.journal.later(render("signed", {"request": number, "verdict": verdict}))
            self._answered(reply)

        return self._forward(message, answered)

    def _entry_of(self, key: bytes) -> tuple[str | None, str]:
        """The alias a signature is for, or why there is none."""
        declared = self._config.keys.get(_base64(key))
        if declared is None:
            return None, "the key is not declared"
        if self._bound is None:
            return None, "the connection is not bound to a session"
        for alias in self._bound:
            if alias in declared:
                return alias, ""
        if self._bound:
            return self._bound[0], f"the key is not for {self._bound[0]}"
        return None, "the session's host key is not a declared one"

    def _refuse(self, message: bytes, reason: str) -> None:
        """Answer in the agent's place."""
        fields = {"request_type": request_name(message), "verdict": "refuse", "reason": reason}
        self._gate.journal.later(render("agent-refuse", fields))
        self._client.send(FAILURE_REPLY)

    def _forward(self, message: bytes, answered: Callable[[bytes], None]) -> None:
        if self._agent is None:
            try:
                sock = connect_unix(self._config.socket)
            except OSError as error:
                return self._refuse(message, f"the agent cannot be reached: {os.strerror(error.errno or 0).lower()}")
            self._agent = Stream(self._gate.loop, sock, self._replied, self.close)
        self._awaited = answered
        self._agent.send(framed(message))
        return None

    def _replied(self) -> None:
        """The agent says something: the reply to the one request it has."""
        reply = self._agent.next_message() if self._agent is not None else None
        if reply is None:
            return
        answered, self._awaited = self._awaited, None
        if answered is None:
            self.close()
            return
        answered(reply)
        self._advance()

    def _answered(self, reply: bytes) -> None:
        self._client.send(framed(reply))


def fingerprint(key: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    from hashlib import sha256  # only gates that sign need it

    return "SHA256:" + _base64(sha256(key).digest()).rstrip("=")


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")
