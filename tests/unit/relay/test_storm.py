"""Many connections that behave badly in every way at once: the gate forgets none and keeps none."""

import contextlib
import random
import select
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from .conftest import StartGate
from .harness import HELLO, Gate, closed_port, entry, kept, listening, reset, wait_until


def misbehave(sock: socket.socket, chance: random.Random, hello: bytes) -> None:
    """Say and do something random, then leave in a random way."""
    sock.settimeout(2)
    try:
        for _ in range(chance.randint(0, 4)):
            act = chance.randrange(5)
            if act == 0:
                sock.sendall(hello)
            elif act == 1:
                sock.sendall(chance.randbytes(chance.choice([1, 7, 8, 5_000, 300_000])))
            elif act == 2:
                if select.select([sock], [], [], 0)[0]:
                    sock.recv(chance.choice([1, 1_000, 1 << 20]))
            elif act == 3:
                sock.shutdown(chance.choice([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR]))
            else:
                select.select([], [], [], chance.random() * 0.01)
    except OSError:
        pass
    if chance.random() < 0.4:
        reset(sock)
    else:
        sock.close()


def storm(gate: Gate, upstream: socket.socket, count: int) -> None:
    """`count` clients of two entries, and an upstream that is no better."""
    stop = threading.Event()

    def serve(seed: int) -> None:
        chance = random.Random(seed)
        upstream.settimeout(0.1)
        while not stop.is_set():
            try:
                sock, _ = upstream.accept()
            except TimeoutError:
                continue
            misbehave(kept(sock), chance, b"SSH-2.0-server\r\n")

    def visit(seed: int) -> None:
        chance = random.Random(seed)
        # An upstream that resets at once may be quicker than the client's own connect.
        with contextlib.suppress(ConnectionError):
            misbehave(gate.connect(chance.randrange(2)), chance, HELLO)

    with ThreadPoolExecutor(12) as pool:
        servers = [pool.submit(serve, -seed) for seed in range(1, 5)]
        clients = [pool.submit(visit, seed) for seed in range(count)]
        try:
            for done in clients:
                done.result()
        finally:
            stop.set()
        for done in servers:
            done.result()


def check(start_gate: StartGate, count: int) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream, max_connections=1000), entry(closed_port(), alias="closed"))
    at_rest = gate.fds()
    storm(gate, upstream, count)
    upstream.close()

    def ended() -> Counter[int]:
        return Counter(record["conn"] for record in gate.records() if record["event"] in ("close", "refuse"))

    wait_until(lambda: len(ended()) == count, "an end of each connection")
    assert set(ended().values()) == {1}
    assert [record["conn"] for record in gate.records("connect")] == list(range(1, count + 1))
    assert "internal error" not in {record.get("reason") for record in gate.records()}
    wait_until(lambda: gate.fds() <= at_rest + 128, "sockets to be closed")


def test_storm(start_gate: StartGate) -> None:
    check(start_gate, 300)


@pytest.mark.heavy
def test_long_storm(start_gate: StartGate) -> None:
    check(start_gate, 5000)
