"""The gate process: take over listeners, say that it is ready, serve until the backend is gone.

Started by the backend with one end of a socket pair. That socket is the lifeline: at its end the gate ends, however
the backend ended. The backend sends the configuration (four bytes of length, then JSON), then the listening sockets,
which were made in the bottle's network namespace and stay there.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # `signal` would load enum, a fifth of the start
import os
import sys
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_WAITALL,
    SCM_RIGHTS,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from select import EPOLLIN

from claude_bottle.audit import quoted
from claude_bottle.relay.config import Config, ConfigError, parse_config
from claude_bottle.relay.gate import Gate
from claude_bottle.relay.limits import raise_fd_limit
from claude_bottle.relay.listener import Listener
from claude_bottle.relay.pump import Side
from claude_bottle.relay.tuning import tune_listener

_MOST_CONFIG_BYTES = 16 << 20
_MOST_FDS = 250
"""descriptors in one message; the kernel allows 253"""
_FD_BYTES = 4


class ControlError(Exception):
    """The backend said something else than expected, or went away."""


def main(control_fd: int) -> int:
    """Run the gate; the exit status."""
    _mind_signals()
    os.chdir("/")  # keep no folder of the caller's in use
    control = socket(AF_UNIX, SOCK_STREAM, 0, control_fd)
    try:
        config = _receive_config(control)
        raise_fd_limit()  # before the listeners come: the usual soft limit holds those of 300 entries
        listeners = _receive_listeners(control, len(config.listeners))
        gate = Gate(config)
        _adopt(gate, config, listeners)
    except (ControlError, ConfigError, OSError) as error:
        _say(control, f'{{"error": {quoted(str(error))}}}')
        return 1
    signal.signal(signal.SIGTERM, lambda *_: gate.loop.call_soon(gate.loop.stop))
    gate.loop.watch(control.fileno(), _Lifeline(gate, control), EPOLLIN)
    _say(control, '{"ready": true}')
    gate.loop.run()
    _close_all(gate)
    return 0


def _mind_signals() -> None:
    """Keys typed at the terminal are for the agent: Ctrl-C there must not close its door."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _receive_config(control: socket) -> Config:
    length = int.from_bytes(_receive(control, 4), "big")
    if length > _MOST_CONFIG_BYTES:
        raise ControlError(f"configuration of {length} bytes")
    return parse_config(_receive(control, length).decode("utf-8", "surrogateescape"))


def _receive(control: socket, size: int) -> bytes:
    """Exactly `size` bytes and not one more: what follows carries descriptors."""
    data = control.recv(size, MSG_WAITALL) if size else b""
    if len(data) != size:
        raise ControlError("the backend went away before the gate was configured")
    return data


def _receive_listeners(control: socket, count: int) -> list[socket]:
    """The listening sockets, in the configuration's order."""
    fds: list[int] = []
    while len(fds) < count:
        data, messages, flags, _ = control.recvmsg(1, CMSG_SPACE(_MOST_FDS * _FD_BYTES), MSG_CMSG_CLOEXEC)
        if data != b"L" or flags & MSG_CTRUNC:
            raise ControlError(f"{len(fds)} of {count} listeners came")
        for level, kind, payload in messages:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                fds += memoryview(payload).cast("i").tolist()
    if len(fds) > count:
        raise ControlError(f"{len(fds)} listeners came for {count}")
    return [socket(fileno=fd) for fd in fds]


def _adopt(gate: Gate, config: Config, listeners: list[socket]) -> None:
    for listening, sock in zip(config.listeners, listeners, strict=True):
        if listening.entry is not None:
            tune_listener(sock)
            Listener(gate, listening, listening.entry, sock)
        elif config.agent is not None:
            from claude_bottle.relay.agent_filter import AgentListener  # many bottles have no key

            AgentListener(gate, config.agent, sock)


class _Lifeline:
    """Ends the gate when the backend is gone."""

    def __init__(self, gate: Gate, control: socket) -> None:
        self._gate = gate
        self._control = control

    def on_event(self, mask: int) -> None:
        """Whatever the backend may still say, only its end counts."""
        try:
            said = self._control.recv(4096)
        except OSError:
            said = b""
        if not said:
            self._gate.loop.stop()

    def on_crash(self) -> None:
        """Without a lifeline there is no gate."""
        self._gate.loop.stop()


def _close_all(gate: Gate) -> None:
    """Write the records of what is open; the sockets end with the process."""
    for handler in gate.loop.handlers():
        if isinstance(handler, Side):
            handler.connection.close("gate stopped")
    gate.journal.close()


def _say(control: socket, line: str) -> None:
    try:
        control.sendall(line.encode("ascii") + b"\n")
    except OSError:
        print(f"claude-bottle gate: {line}", file=sys.stderr)
