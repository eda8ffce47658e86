"""Pipes come and go; without one, bytes are copied."""

import fcntl
import os
import resource
import threading
from collections.abc import Iterator

import pytest

from claude_bottle.relay.pipes import PIPE_BYTES, SMALLEST_BYTES, PipePool

from .conftest import StartGate
from .harness import entry, listening, receive


@pytest.fixture
def pool() -> Iterator[PipePool]:
    pool = PipePool(2)
    yield pool
    pool.trim(0)


def test_pool_is_limited_and_used_again(pool: PipePool) -> None:
    first, second = pool.take(), pool.take()
    assert first is not None
    assert second is not None
    assert pool.take() is None
    assert SMALLEST_BYTES <= first.size == fcntl.fcntl(first.sink, fcntl.F_GETPIPE_SZ) <= PIPE_BYTES
    pool.give(first)
    assert pool.take() is first
    pool.give(first)
    pool.give(second)


def test_pipe_that_is_not_empty_is_not_used_again(pool: PipePool) -> None:
    pipe = pool.take()
    assert pipe is not None
    pipe.filled = os.write(pipe.sink, b"left over")
    pool.give(pipe)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe.sink)
    fresh = pool.take()
    assert fresh is not None
    assert fresh is not pipe
    pool.give(fresh)


def test_bulk_without_pipes_is_copied(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    at_rest = gate.fds()
    resource.prlimit(gate.process.pid, resource.RLIMIT_NOFILE, (gate.first_free_fd() + 3,) * 2)
    client, server = gate.pair(upstream)
    blob = os.urandom(5_000_000)
    sender = threading.Thread(target=server.sendall, args=(blob,))
    sender.start()
    assert receive(client, len(blob)) == blob
    sender.join()
    assert gate.fds() == at_rest + 2


def test_bulk_leaves_pipes_behind_and_they_are_empty(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    at_rest = gate.fds()
    client, server = gate.pair(upstream)
    sender = threading.Thread(target=server.sendall, args=(bytes(50_000_000),))
    sender.start()
    assert len(receive(client, 50_000_000)) == 50_000_000
    sender.join()
    assert gate.fds() == at_rest + 2 + 2  # two sockets and the one pipe that was needed
