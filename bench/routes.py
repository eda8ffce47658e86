"""The ways from a client to a server: none in between, our gate, and what others would put there."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.load import LoadError
from claude_bottle.backend.local.gate import Gate
from claude_bottle.backend.local.handover import listen, send_listeners

START_TIMEOUT_S = 10.0
END_TIMEOUT_S = 10.0
HAPROXY_CONNECTIONS = 9600
"""enough for 9,500 idle ones with 20,000 open files"""
HAPROXY_PIPES = 64
"""as many as the relay has; by itself it would want a pipe for every fourth connection"""


@dataclass(frozen=True)
class Route:
    """One way that is ready."""

    port: int
    """TCP port on 127.0.0.1 that clients connect to"""
    pid: int | None
    """the process in between, with its children; None when there is none"""


@contextmanager
def direct(upstream: int, folder: Path) -> Iterator[Route]:
    """Nothing in between."""
    yield Route(upstream, None)


@contextmanager
def relay(upstream: int, folder: Path) -> Iterator[Route]:
    """Our gate process, by the protocol and the code that the backend starts it with; audit log on."""
    listener = listen("127.0.0.1", 0)
    port = int(listener.getsockname()[1])
    entry = {"alias": "bench", "host": "127.0.0.1", "port": upstream, "rule": "bottles.bench.ssh[0]"}
    gate = Gate(folder / "gate.log")
    try:
        gate.configure(
            {
                "bottle": "bench",
                "audit": str(folder / f"audit-{port}.jsonl"),
                "allow_addresses": [],
                "entries": [entry],
                "listeners": [{"kind": "ssh", "entry": 0, "address": "127.0.0.1", "port": port}],
                "agent": None,
            }
        )
        send_listeners(gate.control, [listener])
        listener.close()
        gate.wait_ready()
        yield Route(port, gate.process.pid)
    finally:
        gate.stop()


@contextmanager
def socat(upstream: int, folder: Path) -> Iterator[Route]:
    """One socat as in the usual sidecar script: a process per connection."""
    port = free_port()
    argv = ("socat", f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork", f"TCP:127.0.0.1:{upstream}")
    with started(argv, port) as pid:
        yield Route(port, pid)


@contextmanager
def haproxy(upstream: int, folder: Path, options: Sequence[str] = ()) -> Iterator[Route]:
    """HAProxy as a TCP proxy with one thread."""
    port = free_port()
    config = folder / f"haproxy-{port}.cfg"
    config.write_text(
        "\n".join(
            (
                f"global\n  maxconn {HAPROXY_CONNECTIONS}\n  maxpipes {HAPROXY_PIPES}\n  nbthread 1",
                "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 10m\n  timeout server 10m",
                *(f"  option {option}" for option in options),
                f"listen bench\n  bind 127.0.0.1:{port}\n  server upstream 127.0.0.1:{upstream}",
                "",
            )
        )
    )
    program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin") or "haproxy"
    with started((program, "-db", "-q", "-f", str(config)), port) as pid:
        yield Route(port, pid)


@contextmanager
def haproxy_splice(upstream: int, folder: Path) -> Iterator[Route]:
    """HAProxy made to splice always; its `splice-auto` seldom does."""
    with haproxy(upstream, folder, ("splice-request", "splice-response")) as route:
        yield route


OURS = "relay"
ROUTES = {
    OURS: relay,
    "direct": direct,
    "socat": socat,
    "haproxy": haproxy,
    "haproxy splice": haproxy_splice,
}


@contextmanager
def open_routes(names: Sequence[str], upstream_of: Callable[[str], int], folder: Path) -> Iterator[Mapping[str, Route]]:
    """Start all of `names` side by side; `upstream_of` tells the server port behind each."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(ROUTES[name](upstream_of(name), folder)) for name in names}


@contextmanager
def started(argv: Sequence[str], port: int) -> Iterator[int]:
    """Run a program that listens on `port`, in a session of its own so that its children end with it."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until_listening(process, port)
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(END_TIMEOUT_S)


def wait_until_listening(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Return once somebody listens on `port`.

    Raises:
        LoadError: the process ended instead, or took too long.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.005)
    raise LoadError(f"{process.args!r} does not listen on port {port}")


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
