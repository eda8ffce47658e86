"""What goes in comes out, byte for byte, in both directions, however slow, in pieces or cut short it comes."""

import contextlib
import hashlib
import random
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from .conftest import StartGate
from .harness import HELLO, Gate, accept, ends_with_reset, entry, listening, receive, receive_all, reset, wait_until

MIB = 1 << 20


def test_both_directions_and_half_close(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    client, server = gate.pair(upstream)
    server.sendall(b"SSH-2.0-server\r\n")
    assert receive(client, 16) == b"SSH-2.0-server\r\n"
    client.sendall(b"request")
    client.shutdown(socket.SHUT_WR)
    assert receive_all(server) == b"request"
    server.sendall(b"answer after the end of the request")
    server.close()
    assert receive_all(client) == b"answer after the end of the request"
    client.close()
    close = gate.wait_record("close")
    assert (close["sent_bytes"], close["received_bytes"], close["reason"]) == (len(HELLO) + 7, 51, "eof")


def test_half_close_by_upstream(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    client, server = gate.pair(upstream)
    server.sendall(b"all I have")
    server.shutdown(socket.SHUT_WR)
    assert receive_all(client) == b"all I have"
    client.sendall(b"x" * 300_000)
    client.close()
    assert receive_all(server) == b"x" * 300_000
    assert gate.wait_record("close")["reason"] == "eof"


def test_server_may_speak_first(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    client = gate.connect()
    server = accept(upstream)
    server.sendall(b"SSH-2.0-first\r\n")
    assert receive(client, 15) == b"SSH-2.0-first\r\n"
    client.sendall(HELLO)
    assert receive(server, len(HELLO)) == HELLO


def test_upstream_that_hangs_up_before_the_client_speaks(start_gate: StartGate) -> None:
    """As sshd does above MaxStartups."""
    upstream = listening()
    gate = start_gate(entry(upstream))
    client = gate.connect()
    server = accept(upstream)
    server.sendall(b"Exceeded MaxStartups\r\n")
    server.close()
    assert receive_all(client) == b"Exceeded MaxStartups\r\n"
    client.close()
    assert gate.wait_record("close")["reason"] == "eof"


@pytest.mark.parametrize("size", [0, 100_000], ids=["silent", "with data before"])
def test_reset_by_upstream(start_gate: StartGate, size: int) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    client, server = gate.pair(upstream)
    server.sendall(b"z" * size)
    assert len(receive(client, size)) == size
    reset(server)
    assert ends_with_reset(client)
    assert gate.wait_record("close")["reason"] == "reset by upstream"


@pytest.mark.parametrize("size", [0, 100_000], ids=["silent", "with data before"])
def test_reset_by_bottle(start_gate: StartGate, size: int) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    client, server = gate.pair(upstream)
    client.sendall(b"z" * size)
    assert len(receive(server, size)) == size
    reset(client)
    assert ends_with_reset(server)
    assert gate.wait_record("close")["reason"] == "reset by bottle"


def test_reset_after_half_close(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    client, server = gate.pair(upstream)
    client.shutdown(socket.SHUT_WR)
    assert receive_all(server) == b""
    reset(client)
    poll = select.poll()
    poll.register(server, 0)
    assert poll.poll(5_000)[0][1] & select.POLLHUP
    with pytest.raises(BrokenPipeError):
        server.sendall(b"too late")
    assert gate.wait_record("close")["reason"] == "reset by bottle"


def test_reset_loses_nothing_that_was_sent_before(start_gate: StartGate) -> None:
    """A slow reader still gets every byte that reached the gate, then the reset."""
    upstream = listening()
    gate = start_gate(entry(upstream))
    client, server = gate.pair(upstream)
    server.setblocking(False)
    sent = 0
    while select.select([], [server], [], 0.2)[1]:
        sent += server.send(b"q" * 65536)
    server.setblocking(True)
    reset(server)
    received = bytearray()
    assert ends_with_reset(client, received)
    # The kernel drops what was still in the upstream's own send queue; all the gate had read must arrive.
    assert 0 < len(received) <= sent
    record = gate.wait_record("close")
    assert (record["received_bytes"], record["reason"]) == (len(received), "reset by upstream")


def test_slow_reader_holds_the_sender_back_in_bounded_memory(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    client, server = gate.pair(upstream)
    before = gate.memory()
    blob = random.Random(1).randbytes(MIB)
    digest = hashlib.sha256()
    total = 64 * MIB
    sender = threading.Thread(target=server.sendall, args=(blob * (total // MIB),))
    sender.start()
    wait_until(lambda: not select.select([], [server], [], 0.3)[1], "the sender to be held back")
    assert gate.memory() - before < 4 * MIB
    received = 0
    while received < total:
        piece = client.recv(MIB)
        digest.update(piece)
        received += len(piece)
    sender.join()
    assert digest.digest() == hashlib.sha256(blob * (total // MIB)).digest()
    assert gate.memory("VmHWM") - before < 6 * MIB


def test_a_busy_connection_does_not_starve_another(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    busy, flood = gate.pair(upstream)
    quiet, server = gate.pair(upstream)
    stop = threading.Event()
    blob = bytes(MIB)

    def pour() -> None:
        while not stop.is_set():
            flood.sendall(blob)
        flood.close()

    threads = [threading.Thread(target=pour), threading.Thread(target=lambda: receive_all(busy))]
    for thread in threads:
        thread.start()
    slowest = 0.0
    for _ in range(50):
        begun = time.monotonic()
        quiet.sendall(b"ping")
        assert receive(server, 4) == b"ping"
        slowest = max(slowest, time.monotonic() - begun)
    stop.set()
    for thread in threads:
        thread.join()
    assert slowest < 1.0


def test_idle_connections_cost_two_descriptors(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    at_rest = gate.fds()
    pairs = [gate.pair(upstream) for _ in range(20)]
    assert gate.fds() == at_rest + 40
    for sock in (sock for pair in pairs for sock in pair):
        sock.close()
    wait_until(lambda: gate.fds() == at_rest, "descriptors to be closed")


class Endpoint:
    """One end of a fuzzed connection: sends a plan of chunks and reads at its own pace."""

    def __init__(self, seed: int, sock: socket.socket) -> None:
        self.random = random.Random(seed)
        self.sock = sock
        self.payload = self.random.randbytes(self.random.choice([0, 1, 100, 5_000, 200_000, 3_000_000]))
        self.received = bytearray()

    def send(self) -> None:
        position = 0
        largest = self.random.choice([10, 1_000, 40_000, 300_000, 3_000_000])
        while position < len(self.payload):
            size = self.random.randint(1, largest)
            # Many tiny chunks say nothing more than some.
            if position > 200 * largest:
                size = len(self.payload)
            self.sock.sendall(self.payload[position : position + size])
            position += size
            self.pause()
        self.sock.shutdown(socket.SHUT_WR)

    def receive(self) -> None:
        most = self.random.choice([100, 10_000, 1 << 20])
        while more := self.sock.recv(most if len(self.received) < 500 * most else 1 << 20):
            self.received += more
            self.pause()

    def pause(self) -> None:
        if self.random.random() < 0.02:
            select.select([], [], [], self.random.random() * 0.01)


def exchange(gate: Gate, upstream: socket.socket, lock: threading.Lock, seed: int) -> None:
    """One connection, both directions at once, compared byte by byte."""
    with lock:
        client, server = gate.pair(upstream)
    ends = [Endpoint(2 * seed, client), Endpoint(2 * seed + 1, server)]
    threads = [threading.Thread(target=work) for end in ends for work in (end.send, end.receive)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert ends[0].received == ends[1].payload
    assert ends[1].received == ends[0].payload
    client.close()
    server.close()


def fuzz(start_gate: StartGate, count: int) -> None:
    upstream = listening()
    with ThreadPoolExecutor(8) as pool:
        gate = start_gate(entry(upstream))
        at_rest = gate.fds()
        lock = threading.Lock()
        for done in [pool.submit(exchange, gate, upstream, lock, seed) for seed in range(count)]:
            done.result()
        wait_until(lambda: len(gate.records("close")) == count, "all close records")
        assert {record["reason"] for record in gate.records("close")} == {"eof"}
        # Up to 64 pooled pipes may stay.
        wait_until(lambda: gate.fds() <= at_rest + 128, "sockets to be closed")


def test_random_exchanges(start_gate: StartGate) -> None:
    fuzz(start_gate, 24)


@pytest.mark.heavy
def test_many_random_exchanges(start_gate: StartGate) -> None:
    fuzz(start_gate, 400)


def break_off(gate: Gate, upstream: socket.socket, lock: threading.Lock, seed: int) -> None:
    """One end resets in the middle; the other got a prefix of what was sent, and learns of the reset."""
    chance = random.Random(seed)
    with lock:
        ends = gate.pair(upstream)
    breaker, other = ends if chance.random() < 0.5 else ends[::-1]
    payload = chance.randbytes(chance.choice([10, 50_000, 2_000_000]))
    got = bytearray()
    failed = threading.Event()

    def read() -> None:
        try:
            while more := other.recv(chance.choice([1_000, 100_000])):
                got.extend(more)
        except ConnectionResetError:
            failed.set()

    def write_back() -> None:
        try:
            other.sendall(bytes(chance.choice([0, 100_000])))
        except OSError:
            # The kernel reports a reset once, to whoever asks first.
            failed.set()

    threads = [threading.Thread(target=read), threading.Thread(target=write_back)]
    for thread in threads:
        thread.start()
    breaker.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        breaker.sendall(payload)
    reset(breaker)
    for thread in threads:
        thread.join(30)
    assert payload.startswith(got)
    assert failed.is_set()
    other.close()


def test_random_resets(start_gate: StartGate) -> None:
    upstream = listening()
    with ThreadPoolExecutor(8) as pool:
        gate = start_gate(entry(upstream))
        lock = threading.Lock()
        for done in [pool.submit(break_off, gate, upstream, lock, seed) for seed in range(60)]:
            done.result()
        wait_until(lambda: len(gate.records("close")) == 60, "all close records")
        assert {record["reason"] for record in gate.records("close")} <= {"reset by bottle", "reset by upstream"}


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 5000:
        pytest.skip("`ulimit -Hn` is below 5000")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.heavy
def test_two_thousand_at_once(start_gate: StartGate, many_files: None) -> None:
    count = 2000
    upstream = listening()
    gate = start_gate(entry(upstream))
    clients = [gate.connect(hello=HELLO + b"%d\n" % i) for i in range(count)]
    servers = [accept(upstream) for _ in range(count)]
    for server in servers:
        server.sendall(receive(server, len(HELLO) + 1))
    for client in clients:
        client.shutdown(socket.SHUT_WR)
    for server in servers:
        receive_all(server)
        server.close()
    for client in clients:
        assert receive_all(client).startswith(HELLO)
        client.close()
    wait_until(lambda: len(gate.records("close")) == count, "all close records")
