"""Limits hold to the byte and to the second, and say so."""

import contextlib
import resource
import select
import socket
import threading
import time

import pytest

from claude_bottle.relay.limits import Budget, connection_cap

from .conftest import StartGate
from .harness import HELLO, accept, entry, listening, receive, receive_all, wait_until
from .test_refusal import refusal

BULK = 3_000_001


def test_budget() -> None:
    assert not Budget(None).spent
    assert not Budget(1).spent
    assert Budget(0).spent


def test_cap_leaves_room() -> None:
    assert connection_cap(20_000, 400) > 9_500
    assert connection_cap(20, 400) == 1


@pytest.mark.parametrize("limit", [len(HELLO), len(HELLO) + 1, 1000, BULK])
def test_upload_limit_is_exact(start_gate: StartGate, limit: int) -> None:
    """In small reads and in spliced bulk."""
    upstream = listening()
    gate = start_gate(entry(upstream, upload_limit_bytes=limit))
    client = gate.connect(hello=HELLO)
    server = accept(upstream)

    def send() -> None:
        with contextlib.suppress(OSError):  # it is cut; that is the point
            client.sendall(bytes(limit + 500_000))

    sender = threading.Thread(target=send)
    sender.start()
    assert len(receive_all(server)) == limit
    server.close()
    sender.join()
    close = gate.wait_record("close")
    assert (close["sent_bytes"], close["reason"]) == (limit, "upload limit")
    assert "the upload limit is used up" in refusal(gate)
    assert gate.wait_record("refuse")["rule"] == "bottles.t.ssh[0].upload_limit_bytes"


@pytest.mark.parametrize("limit", [1, 1000, BULK])
def test_download_limit_is_exact(start_gate: StartGate, limit: int) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream, download_limit_bytes=limit))
    client, server = gate.pair(upstream)

    def send() -> None:
        with contextlib.suppress(OSError):
            server.sendall(bytes(limit + 500_000))

    sender = threading.Thread(target=send)
    sender.start()
    assert len(receive_all(client)) == limit
    client.close()
    sender.join()
    close = gate.wait_record("close")
    assert (close["received_bytes"], close["reason"]) == (limit, "download limit")
    assert "the download limit is used up" in refusal(gate)


@pytest.mark.parametrize("size", [2000, BULK])
def test_what_fits_exactly_is_not_cut(start_gate: StartGate, size: int) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream, download_limit_bytes=size))
    client, server = gate.pair(upstream)

    def send() -> None:
        server.sendall(bytes(size))
        server.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    assert len(receive_all(client)) == size
    sender.join()
    client.close()
    assert gate.wait_record("close")["reason"] == "eof"


def test_limit_counts_over_all_connections(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream, download_limit_bytes=100))
    pairs = [gate.pair(upstream) for _ in range(3)]
    for client, server in pairs[:2]:
        server.sendall(bytes(40))
        assert len(receive(client, 40)) == 40
    client, server = pairs[2]
    server.sendall(bytes(40))
    assert len(receive_all(client)) == 20


def test_limits_of_entries_are_their_own(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream, download_limit_bytes=1, max_connections=1), entry(upstream, alias="other"))
    gate.pair(upstream, 0)
    client, server = gate.pair(upstream, 1)
    server.sendall(bytes(100))
    assert len(receive(client, 100)) == 100


def test_idle_connection_is_closed(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream, idle_timeout_s=0.3))
    begun = time.monotonic()
    client, server = gate.pair(upstream)
    for _ in range(4):
        client.sendall(b"x")
        assert receive(server, 1) == b"x"
    assert receive_all(client) == b""
    assert receive_all(server) == b""
    assert time.monotonic() - begun >= 0.3
    assert gate.wait_record("close")["reason"] == "idle timeout"


def test_traffic_in_one_direction_keeps_it_open(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream, idle_timeout_s=0.4))
    client, server = gate.pair(upstream)
    client.settimeout(0.15)
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        server.sendall(b"y")
        assert client.recv(10) == b"y"
        with pytest.raises(TimeoutError):
            client.recv(1)
    assert not gate.records("close")


def test_connect_timeout_covers_the_handshake_only(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream, connect_timeout_s=0.1))
    client, server = gate.pair(upstream)
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.recv(1)
    server.sendall(b"late")
    assert receive(client, 4) == b"late"


def test_gate_without_descriptors_rests_and_recovers(start_gate: StartGate) -> None:
    """Clients that wait while nothing can be accepted must not make it spin."""
    upstream = listening()
    gate = start_gate(entry(upstream), limits=[(resource.RLIMIT_NOFILE, 30)])
    at_rest = gate.fds()
    clients = [gate.connect() for _ in range(60)]
    wait_until(lambda: gate.fds() >= 30, "descriptors to run out")
    used = gate.cpu_s()
    select.select([], [], [], 0.3)
    assert gate.cpu_s() - used < 0.15
    for client in clients:
        client.close()
    wait_until(lambda: gate.fds() == at_rest, "the clients to be gone")

    def served() -> bool:
        """Whether a new client is; those in the queue that are gone already take the only place for a moment."""
        client = gate.connect(hello=HELLO)
        while client not in select.select([client, upstream], [], [])[0]:
            if receive(accept(upstream), len(HELLO)) == HELLO:
                return True
        return False

    wait_until(served, "a client to be served")
