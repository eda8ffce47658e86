"""Reach an upstream: look the name up, guard every address, try each in order within one time limit."""

from __future__ import annotations

import errno
import os
from _socket import SO_ERROR, SOL_SOCKET
from select import EPOLLOUT

from claude_bottle.policy.addresses import decide
from claude_bottle.relay.tuning import upstream_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Protocol

    from claude_bottle.relay.config import Entry
    from claude_bottle.relay.gate import Gate
    from claude_bottle.relay.resolver import Address

    class Caller(Protocol):
        """Who wants to be connected; exactly one of the first two is called, once, unless the dial is cancelled."""

        def on_connected(self, sock: socket, address: str) -> None:
            """`sock` leads to `address`, is not blocking and belongs to the caller."""

        def on_unreachable(self, reason: str, rule: str, address: str) -> None:
            """No address could be reached; `rule` is the guard's when it refused, `address` the last one."""

        def on_crash(self) -> None:
            """Something in the dial raised."""


_NEXT_ADDRESS_S = 2.0
"""A silent address keeps the next one waiting this long: time for one lost handshake packet to be sent again."""

_WORDS = {errno.ETIMEDOUT: "no answer", errno.EHOSTUNREACH: "no route to host"}


class Dial:
    """One attempt to reach one entry's upstream."""

    __slots__ = ("_address", "_addresses", "_caller", "_deadline", "_entry", "_gate", "_problem", "_rule", "_sock")

    def __init__(self, gate: Gate, entry: Entry, caller: Caller) -> None:
        self._gate = gate
        self._entry = entry
        self._caller: Caller | None = caller
        self._addresses: list[Address] = []
        self._address = ""
        self._problem = ""
        self._rule = ""
        self._sock: socket | None = None
        self._deadline = 0.0

    def start(self) -> None:
        """Begin; the caller may be called before this returns."""
        entry = self._entry
        self._deadline = self._gate.loop.now + entry.connect_timeout_s
        if entry.literal:
            self._addresses = entry.literal[::-1]
            self._try_next()
        else:
            self._gate.loop.arm(self, entry.connect_timeout_s)
            self._gate.resolver.lookup(entry.host, entry.port, self)

    def cancel(self) -> None:
        """Give up without telling."""
        self._caller = None
        self._gate.loop.disarm(self)
        self._drop()

    def on_resolved(self, addresses: list[Address], problem: str) -> None:
        """The lookup has ended."""
        if self._caller is None:
            return
        self._problem = problem
        for address in reversed(addresses):
            decision = decide(address[1][0], False, self._gate.allowed)
            if decision.allow:
                self._addresses.append(address)
            else:
                self._problem, self._rule, self._address = decision.reason, decision.rule, address[1][0]
        self._try_next()

    def _try_next(self) -> None:
        """Dial the next address; tell when there is none."""
        while self._addresses:
            family, address = self._addresses.pop()
            self._address, self._rule = address[0], ""
            self._sock = None
            try:
                self._sock = upstream_socket(family)
                code = self._sock.connect_ex(address)
                if code == errno.EINPROGRESS:
                    # A second look saves a turn of the loop: on this machine the handshake is over by now.
                    code = self._sock.connect_ex(address)
            except OSError as error:
                code = error.errno or errno.EIO
            if code in (0, errno.EISCONN):
                return self._succeed()
            if code == errno.EALREADY and self._sock is not None:
                return self._await(self._sock)
            self._fail(code)
        self._give_up()

    def _await(self, sock: socket) -> None:
        left = self._deadline - self._gate.loop.now
        patience = min(_NEXT_ADDRESS_S, left / (len(self._addresses) + 1)) if self._addresses else left
        self._gate.loop.arm(self, patience)
        self._gate.loop.watch(sock.fileno(), self, EPOLLOUT)

    def on_event(self, mask: int) -> None:
        """The handshake has ended, one way or the other."""
        sock = self._sock
        if sock is None:
            return
        code = sock.getsockopt(SOL_SOCKET, SO_ERROR)
        if code:
            self._fail(code)
            self._try_next()
        else:
            self._gate.loop.unwatch(sock.fileno())
            self._succeed()

    def on_timeout(self) -> None:
        """The present address, or the name server, is silent."""
        if self._sock is None:
            self._problem = f"name lookup took longer than {self._entry.connect_timeout_s:g} s"
            self._give_up()
        else:
            self._fail(errno.ETIMEDOUT)
            self._try_next()

    def on_crash(self) -> None:
        """Pass it on."""
        if self._caller is not None:
            self._caller.on_crash()

    def _fail(self, code: int) -> None:
        self._problem = _WORDS.get(code) or os.strerror(code).lower()
        if code == errno.ETIMEDOUT:
            self._problem += f" within {self._entry.connect_timeout_s:g} s"
        self._drop()

    def _drop(self) -> None:
        if self._sock is not None:
            self._gate.loop.drop(self._sock)
            self._sock = None

    def _succeed(self) -> None:
        sock, self._sock = self._sock, None
        self._gate.loop.disarm(self)
        if self._caller is not None and sock is not None:
            self._caller.on_connected(sock, self._address)
            self._caller = None

    def _give_up(self) -> None:
        self._gate.loop.disarm(self)
        if self._caller is not None:
            self._caller.on_unreachable(self._problem, self._rule, self._address)
            self._caller = None
