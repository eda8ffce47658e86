"""Clients inside a bottle, steered from outside: their connected sockets come out of it.

    with Clients(world) as clients:              # a real bottle, started by the real command line
        client = clients.connect(hello=HELLO)    # connected inside, to the gate's listener

A small program inside connects and passes the socket out over its standard input, a socket pair. So a test holds both
ends of a gated connection and can time every byte, half-close and reset, which no ordinary client lets it do.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from claude_bottle.ssh_gate import BASE_LISTEN_PORT
from tests.support.bottle import CLI, World

TIMEOUT_S = 30.0
BATCH = 200
"""sockets in one message"""

PYTHON = shutil.which("python3", path="/usr/bin:/bin") or "/usr/bin/python3"
"""an interpreter that a bottle sees"""

PROGRAM = f"""
import socket
channel = socket.socket(fileno=0)
channel.send(b"+")
while request := channel.recv(4096).decode():
    address, port, count = request.split()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for start in range(0, int(count), {BATCH}):
        made = [socket.socket(family) for _ in range(min({BATCH}, int(count) - start))]
        for sock in made:
            sock.connect((address, int(port)))
        socket.send_fds(channel, [b"+"], [sock.fileno() for sock in made])
        for sock in made:
            sock.close()
"""


class Clients:
    """A bottle whose program connects to the gate at the test's wish; a context manager."""

    def __init__(self, world: World, *, prefix: Sequence[str] = ()) -> None:
        """Start the bottle, its command line behind the words of `prefix`, and wait until its program runs."""
        self._world = world
        self._closing = contextlib.ExitStack()
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(TIMEOUT_S)
        self._closing.enter_context(self._ours)
        with theirs:
            self.command_line = start_behind(world, prefix, PYTHON, "-I", "-S", "-c", PROGRAM, stdin=theirs.fileno())
        self.status: int | None = None
        """the command line's exit status, once it has ended"""
        self.stderr = ""
        """what the command line said, once it has ended"""
        assert self._ours.recv(1) == b"+", self.close()

    def __enter__(self) -> "Clients":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def connect(self, *, port: int = BASE_LISTEN_PORT, address: str = "127.0.0.1", hello: bytes = b"") -> socket.socket:
        """Return a client connected inside, by default to the first entry, which has said `hello`."""
        client = next(self.connect_many(1, port=port, address=address))
        client.sendall(hello)
        return client

    def connect_many(
        self, count: int, *, port: int = BASE_LISTEN_PORT, address: str = "127.0.0.1"
    ) -> Iterator[socket.socket]:
        """Yield clients connected inside; all of them are open at once."""
        self._ours.sendall(f"{address} {port} {count}".encode())
        while count > 0:
            mark, fds, _, _ = socket.recv_fds(self._ours, 1, BATCH)
            assert mark == b"+", f"the bottle has ended: {self.close()}"
            for fd in fds:
                client = self._closing.enter_context(socket.socket(fileno=fd))
                client.settimeout(TIMEOUT_S)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                count -= 1
                yield client

    def pid(self, process: str) -> int:
        """Return the pid of one of the bottle's processes: supervisor, gate, keys, monitor or init."""
        return recorded_pid(self._world, process)

    @property
    def gate(self) -> "GateProcess":
        """The bottle's gate."""
        return GateProcess(self.pid("gate"))

    def close(self) -> str:
        """End the bottle by ending its program's input, and return what the command line said; idempotent."""
        if self.status is None:
            with contextlib.suppress(OSError):
                self._ours.shutdown(socket.SHUT_WR)
            try:
                _, self.stderr = self.command_line.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.command_line.kill()
                self.command_line.communicate()
                raise
            self.status = self.command_line.returncode
            self._closing.close()
        return self.stderr


class GateProcess:
    """What the kernel tells of a gate process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def memory(self, key: str = "VmRSS") -> int:
        """Return a figure of /proc/PID/status, bytes."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(text.partition(f"{key}:")[2].split()[0]) * 1024

    def fds(self) -> int:
        """Return how many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Upstream:
    """A listening socket on loopback that a test serves by hand; a context manager."""

    def __init__(self, backlog: int = 4096) -> None:
        self._closing = contextlib.ExitStack()
        self.listener = self._closing.enter_context(socket.create_server(("127.0.0.1", 0), backlog=backlog))
        self.listener.settimeout(TIMEOUT_S)

    @property
    def port(self) -> int:
        """Its TCP port."""
        return int(self.listener.getsockname()[1])

    def accept(self) -> socket.socket:
        """Return the next connection."""
        sock, _ = self.listener.accept()
        sock.settimeout(TIMEOUT_S)
        return self._closing.enter_context(sock)

    def __enter__(self) -> "Upstream":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.close()


def pour(data: bytes, source: socket.socket, sink: socket.socket) -> bytes:
    """Send `data` into one end of a connection and return what arrives at the other, up to its end or reset."""

    def send() -> None:
        with contextlib.suppress(OSError):
            source.sendall(data)

    sender = threading.Thread(target=send)
    sender.start()
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while more := sink.recv(1 << 18):
            received += more
    sender.join()
    return bytes(received)


def start_behind(
    world: World, prefix: Sequence[str], *command: str, stdin: int = subprocess.DEVNULL
) -> "subprocess.Popen[str]":
    """Start a command in bottle `dev`, the command line itself behind the words of `prefix`."""
    argv = [*prefix, *CLI, "run", "--manifest", str(world.write()), "--", *command]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, cwd=world.work, env=world.env, stdin=stdin, stdout=pipe, stderr=pipe, text=True)


def lead_to(world: World, port: int, **keys: Any) -> dict[str, Any]:
    """Declare an entry that leads to a port of loopback where no sshd has to be; it has no key."""
    entry = {
        "Host": "forge",
        "Hostname": "127.0.0.1",
        "Port": port,
        "KnownHostKey": [world.key.public],
        **keys,
    }
    world.entries.append(entry)
    return entry


def recorded_pid(world: World, process: str, bottle: str = "dev") -> int:
    """Return the pid of one of a running bottle's processes, from its record."""
    record: Mapping[str, Any] = json.loads((world.state / bottle / "state.json").read_text())
    return int(record["processes"][process][0])
