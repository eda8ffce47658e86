"""The real gate process, started as the backend starts it, and the sockets around it.

Everything is on loopback; ports come from bind(0). A gate that wrote to standard error, did not end when its lifeline
was cut, or ended with another status than 0 fails its test.
"""

import json
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
CODE = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
    "from claude_bottle.relay.main import main; raise SystemExit(main(int(sys.argv[1])))"
)
TIMEOUT_S = 20.0
HELLO = b"SSH-2.0-test\r\n"
RESET = struct.pack("ii", 1, 0)


MADE: list[socket.socket] = []
"""sockets of the present test; its end closes them"""


def kept(sock: socket.socket) -> socket.socket:
    """`sock`, to be closed when the test ends."""
    MADE.append(sock)
    return sock


def listening(backlog: int = 4096) -> socket.socket:
    """A listening socket on a free loopback port."""
    return kept(socket.create_server(("127.0.0.1", 0), backlog=backlog))


def port_of(sock: socket.socket) -> int:
    """The local port of a socket."""
    port = sock.getsockname()[1]
    assert isinstance(port, int)
    return port


def closed_port() -> int:
    """A loopback port that refuses: bound, so that nobody else gets it, and not listening."""
    sock = kept(socket.socket())
    sock.bind(("127.0.0.1", 0))
    return port_of(sock)


def entry(upstream: int | socket.socket, host: str = "127.0.0.1", **fields: Any) -> dict[str, Any]:
    """A config entry that leads to a port or a listening socket."""
    port = upstream if isinstance(upstream, int) else port_of(upstream)
    return {"alias": "forge", "host": host, "port": port, "rule": "bottles.t.ssh[0]", **fields}


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
    """The first true value of `condition`; fails when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        select.select([], [], [], 0.002)
    return value


def accept(listener: socket.socket) -> socket.socket:
    """The next connection, with a timeout on everything."""
    listener.settimeout(TIMEOUT_S)
    sock, _ = listener.accept()
    sock.settimeout(TIMEOUT_S)
    return kept(sock)


def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes, or fewer when it ends before."""
    data = bytearray()
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return bytes(data)


def receive_all(sock: socket.socket) -> bytes:
    """Everything up to the end."""
    data = bytearray()
    while more := sock.recv(1 << 18):
        data += more
    return bytes(data)


def reset(sock: socket.socket) -> None:
    """Close with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def ends_with_reset(sock: socket.socket, received: bytearray | None = None) -> bool:
    """Whether reading on, into `received`, meets a reset; False for an ordinary end."""
    try:
        while more := sock.recv(1 << 18):
            if received is not None:
                received += more
    except ConnectionResetError:
        return True
    return False


class Gate:
    """A running gate."""

    def __init__(
        self,
        folder: Path,
        entries: Sequence[dict[str, Any]],
        *,
        agent: dict[str, Any] | None = None,
        allow_addresses: Sequence[str] = (),
        audit: Path | None = None,
        limits: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.audit = audit or folder / "audit.jsonl"
        self._errors = folder / "gate.err"
        self.listeners = [listening() for _ in entries]
        kinds = [
            {"kind": "ssh", "entry": i, "address": "127.0.0.1", "port": port_of(s)}
            for i, s in enumerate(self.listeners)
        ]
        self.agent_path = folder / "agent.sock"
        if agent:
            self.listeners.append(kept(socket.socket(socket.AF_UNIX)))
            self.listeners[-1].bind(str(self.agent_path))
            self.listeners[-1].listen(64)
            kinds.append({"kind": "agent"})
        config = {
            "bottle": "t",
            "audit": str(self.audit),
            "allow_addresses": list(allow_addresses),
            "entries": list(entries),
            "listeners": kinds,
            "agent": agent,
        }
        self.control, self.process = spawn(self._errors, limits)
        send_config(self.control, config)
        send_listeners(self.control, self.listeners)
        self.ports = [port_of(s) for s in self.listeners[: len(entries)]]
        for listener in self.listeners:
            listener.close()
        self.answer = json.loads(read_line(self.control))
        self.stopped = False

    def connect(self, index: int = 0, hello: bytes = b"") -> socket.socket:
        """A client of one entry, which sends `hello` at once."""
        sock = kept(socket.create_connection(("127.0.0.1", self.ports[index]), timeout=TIMEOUT_S))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hello:
            sock.sendall(hello)
        return sock

    def pair(self, upstream: socket.socket, index: int = 0) -> tuple[socket.socket, socket.socket]:
        """A client and the upstream's end of its connection, past the identification."""
        client = self.connect(index, HELLO)
        server = accept(upstream)
        assert receive(server, len(HELLO)) == HELLO
        return client, server

    def records(self, event: str | None = None) -> list[dict[str, Any]]:
        """The whole lines of the audit log so far."""
        lines = self.audit.read_text("ascii").split("\n")[:-1]
        found = [json.loads(line) for line in lines if line]
        return [record for record in found if event in (None, record["event"])]

    def wait_record(self, event: str, **fields: Any) -> dict[str, Any]:
        """The first such record, waited for."""

        def find() -> dict[str, Any] | None:
            matching = (r for r in self.records(event) if all(r.get(k) == v for k, v in fields.items()))
            return next(matching, None)

        record = wait_until(find, f"{event} {fields}")
        assert isinstance(record, dict)
        return record

    def memory(self, key: str = "VmRSS") -> int:
        """A figure of /proc/PID/status in bytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition(f"{key}:")[2].split()[0]) * 1024

    def cpu_s(self) -> float:
        """Processor time used so far, seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def fds(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def first_free_fd(self) -> int:
        """The number its next descriptor gets."""
        used = {int(name) for name in os.listdir(f"/proc/{self.process.pid}/fd")}
        return min(set(range(len(used) + 1)) - used)

    def stop(self) -> None:
        """Cut the lifeline and expect a silent, orderly end."""
        if not self.stopped:
            self.stopped = True
            self.control.close()
            status = self.process.wait(TIMEOUT_S)
            assert (status, self._errors.read_text()) == (0, "")

    def kill(self) -> None:
        """Make sure nothing stays."""
        self.control.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT_S)


def spawn(errors: Path, limits: Sequence[tuple[int, int]] = ()) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The control socket and the process, not yet configured; `limits` are (resource, value)."""
    ours, theirs = socket.socketpair()
    ours.settimeout(TIMEOUT_S)

    def prepare() -> None:
        for kind, value in limits:
            resource.setrlimit(kind, (value, value))

    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", CODE, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=(theirs.fileno(),),
            preexec_fn=prepare,
            env={},
        )
    theirs.close()
    return kept(ours), process


def send_config(control: socket.socket, config: dict[str, Any]) -> None:
    """The configuration as the backend frames it."""
    data = json.dumps(config).encode()
    control.sendall(struct.pack(">I", len(data)) + data)


def send_listeners(control: socket.socket, listeners: Sequence[socket.socket], batch: int = 250) -> None:
    """The listeners in messages of `batch`."""
    for start in range(0, len(listeners), batch):
        socket.send_fds(control, [b"L"], [s.fileno() for s in listeners[start : start + batch]])


def read_line(control: socket.socket) -> bytes:
    """One line from the gate; shorter when it went away."""
    line = b""
    while not line.endswith(b"\n") and (more := control.recv(4096)):
        line += more
    return line
