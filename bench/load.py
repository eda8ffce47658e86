"""The traffic generator `load.c`: build it, start it, read what it measured.

C because the gate has to be what limits the traffic: a client and a server in Python cost more per connection than the
gate between them.
"""

import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("load.c")
PATIENCE_S = 120.0
"""longest a generator may take; opening 9,500 connections through socat takes a tenth of it"""


class LoadError(Exception):
    """The generator failed; the text is its own message."""


@dataclass(frozen=True)
class Transfer:
    """What a bulk client received."""

    size_bytes: int
    """bytes over all streams, from before the first connection was opened"""
    duration_s: float
    """seconds in which they came"""


def build_load(folder: Path) -> "Load":
    """Compile the generator into `folder`, static where the C library allows it.

    Raises:
        LoadError: there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise LoadError("no C compiler; apt-get install gcc libc6-dev")
    program = folder / "load"
    for static in (["-static"], []):
        argv = [compiler, "-O2", *static, "-o", str(program), str(SOURCE)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        if done.returncode == 0:
            return Load(program)
    raise LoadError(f"{SOURCE.name} does not compile: {done.stderr.strip()}")


@dataclass(frozen=True)
class Load:
    """The built generator."""

    program: Path
    """path of the executable"""

    @contextmanager
    def serve(self, ports: int) -> Iterator[list[int]]:
        """Run the answering side on so many ports."""
        with self._running("serve", ports) as line:
            yield [int(word) for word in line.split()]

    @contextmanager
    def bulk(self, port: int, streams: int, duration_s: float) -> Iterator[Transfer]:
        """Receive for a while; the connections stay open, silent, until the context ends."""
        with self._running("bulk", port, streams, round(duration_s * 1000)) as line:
            size, nanoseconds = map(int, line.split())
            yield Transfer(size, nanoseconds / 1e9)

    @contextmanager
    def hold(self, port: int, connections: int) -> Iterator[None]:
        """Open idle connections and keep them until the context ends."""
        with self._running("hold", port, connections):
            yield

    def churn(self, port: int, clients: int, duration_s: float) -> float:
        """Return how many connections per second so many clients open, use once and close."""
        done, nanoseconds = map(int, self._output("churn", port, clients, round(duration_s * 1000)).split())
        return done / (nanoseconds / 1e9)

    def ping(self, port: int, times: int) -> list[float]:
        """Return the sorted times of 64 bytes there and back, in microseconds."""
        return sorted(int(line) / 1000 for line in self._output("ping", port, times).splitlines())

    def _output(self, *words: object) -> str:
        done = subprocess.run(
            self._argv(words), capture_output=True, stdin=subprocess.DEVNULL, text=True, timeout=PATIENCE_S, check=False
        )
        if done.returncode != 0:
            raise LoadError(f"load {words[0]}: {done.stderr.strip().splitlines()[:1]}")
        return done.stdout

    @contextmanager
    def _running(self, *words: object) -> Iterator[str]:
        """Run the generator for as long as the context lasts; yields the line it printed."""
        process = subprocess.Popen(self._argv(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            yield read_line(process, PATIENCE_S)
        finally:
            process.kill()
            process.communicate()

    def _argv(self, words: tuple[object, ...]) -> list[str]:
        return [str(self.program), *map(str, words)]


def read_line(process: "subprocess.Popen[bytes]", timeout_s: float) -> str:
    """Return the first line that a process prints.

    Raises:
        LoadError: it ended before, or took too long.
    """
    assert process.stdout is not None
    text = b""
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], timeout_s)
        part = os.read(process.stdout.fileno(), 1) if ready else b""
        if not part:
            raise LoadError(f"{process.args!r} " + ("ended early" if ready else f"took longer than {timeout_s:g} s"))
        text += part
    return text.decode()
