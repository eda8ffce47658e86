"""Many of everything: entries, connections, bytes for a reader that takes none, bottles."""

import contextlib
import os
import random
import re
import resource
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.bottle import CLI, World
from tests.support.clients import Clients, GateProcess, Upstream, lead_to, recorded_pid
from tests.support.sshd import SSHServer, descendants
from tests.support.traces import files_of, wait_until_gone
from tests.unit.relay.harness import HELLO, receive, wait_until

MIB = 1 << 20
MOST_ENTRIES = 2768
USUAL_FILES = ("prlimit", "--nofile=1024:")
"""a login session's soft limit on open files; the hard one stays"""


def declare_many(world: World, server: SSHServer, count: int) -> None:
    """Entries of which the first and the last lead to a real server with the world's key."""
    for index in range(count):
        entry = world.declare(server, Host=f"forge{index}")
        if index not in (0, count - 1):
            entry["Hostname"] = f"host{index}.example"
            del entry["IdentityFile"]


def assert_ends_work(world: World, count: int) -> None:
    script = f"ssh -nT forge0 echo first; ssh -nT forge{count - 1} echo last; getent hosts host{count // 2}.example"
    done = world.outside(*USUAL_FILES, *CLI, "run", "--manifest", str(world.write()), "--", "bash", "-c", script)
    assert done.returncode == 0, done.stderr
    first, last, middle = done.stdout.splitlines()
    assert (first, last) == ("first", "last")
    assert middle.split()[0].startswith("127.1.")


def test_three_hundred_entries(world: World, server: SSHServer) -> None:
    """Three listeners each are more than one message of descriptors, or the usual limit, can hold."""
    declare_many(world, server, 400)
    assert_ends_work(world, 400)


@pytest.mark.heavy
def test_as_many_entries_as_there_are_ports(world: World, server: SSHServer) -> None:
    declare_many(world, server, MOST_ENTRIES)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 4 * MOST_ENTRIES:
        pytest.skip("the hard limit on open files is too low; as root: prlimit --nofile=20000 make test")
    assert_ends_work(world, MOST_ENTRIES)
    began = time.monotonic()
    with Clients(world) as clients:
        assert time.monotonic() - began < 10
        gate = clients.gate
        assert 3 * MOST_ENTRIES - 10 < gate.fds() < 3 * MOST_ENTRIES + 50
        assert gate.memory() < 60 * MIB
        client = clients.connect(port=30000 + MOST_ENTRIES - 1, hello=HELLO)
        assert receive(client, 8) == b"SSH-2.0-"


def test_one_entry_more_than_there_are_ports_is_refused(world: World, server: SSHServer) -> None:
    declare_many(world, server, MOST_ENTRIES + 1)
    for verb in ("check", "plan", "run"):
        program = [] if verb == "check" else ["--", "true"]
        done = world.cli(verb, "--manifest", str(world.write()), *program)
        assert done.returncode == 2
        assert f"bottles.dev.ssh: {MOST_ENTRIES + 1} entries, but {MOST_ENTRIES} fit" in done.stderr
    assert not world.state.exists()


def test_too_few_open_files_for_the_listeners_is_an_error(world: World, server: SSHServer) -> None:
    declare_many(world, server, 200)
    words = (*CLI, "run", "--manifest", str(world.write()), "--", "true")
    done = world.outside("prlimit", "--nofile=256:256", *words)
    assert done.returncode == 3
    assert "Too many open files" in done.stderr
    assert "raise the limit on open files: ulimit -Hn" in done.stderr
    assert files_of(world) == set()
    assert wait_until_gone(world) == []


# Connections.


@pytest.mark.heavy
def test_two_thousand_connections_at_once(world: World) -> None:
    count = 2000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3 * count:
        pytest.skip("the hard limit on open files is too low; as root: prlimit --nofile=20000 make test")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with Upstream() as upstream:
            lead_to(world, upstream.port)
            with Clients(world) as clients:
                all_are_answered(clients, upstream, count)
                assert sum(record["event"] == "connect" for record in world.audit()) == count + 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def all_are_answered(clients: Clients, upstream: Upstream, count: int) -> None:
    """Open many connections, have a word each way on each while all are open, and close them."""
    gate = clients.gate
    one = clients.connect(hello=HELLO)
    upstream.accept().close()
    one.close()
    base = at_rest(gate)
    opened = list(clients.connect_many(count))
    for index, client in enumerate(opened):
        client.sendall(HELLO + index.to_bytes(4, "big"))
    servers = [upstream.accept() for _ in opened]
    for server in servers:
        greeting = receive(server, len(HELLO) + 4)
        assert greeting.startswith(HELLO)
        server.sendall(b"answer to " + greeting[-4:])
    for index, client in enumerate(opened):
        assert receive(client, 14) == b"answer to " + index.to_bytes(4, "big")
    assert gate.fds() >= base + 2 * count
    assert gate.memory() < 100 * MIB
    for sock in (*opened, *servers):
        sock.close()
    wait_until(lambda: gate.fds() <= base, "descriptors to be closed")
    after = clients.connect(hello=HELLO)
    assert receive(upstream.accept(), len(HELLO)) == HELLO
    after.close()


def at_rest(gate: GateProcess) -> int:
    """How many descriptors the gate holds when nothing happens any more."""
    seen = [gate.fds()]
    end = time.monotonic() + 20
    while len(seen) < 20 or len(set(seen[-20:])) > 1:
        assert time.monotonic() < end
        select.select([], [], [], 0.005)
        seen.append(gate.fds())
    return seen[-1]


@pytest.mark.heavy
@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_reader_that_stops_costs_no_memory(world: World, direction: str) -> None:
    """500 MB are on their way; the reader takes a little, stops, and later takes the rest."""
    total = 500 * 1000 * 1000
    with Upstream() as upstream:
        lead_to(world, upstream.port)
        with Clients(world) as clients:
            client = clients.connect(hello=HELLO)
            server = upstream.accept()
            assert receive(server, len(HELLO)) == HELLO
            source, sink = (server, client) if direction == "down" else (client, server)
            base = clients.gate.memory()
            with pouring(source, total) as sent:
                taken = len(receive(sink, 10 * MIB))
                wait_until(lambda: held_back(sent), "the sender to be held back")
                assert sent[0] < 100 * MIB
                assert clients.gate.memory() - base < 8 * MIB
                block = bytes(MIB)
                while taken < total:
                    piece = sink.recv(MIB)
                    assert piece == block[: len(piece)]
                    taken += len(piece)
            assert sent[0] == taken == total
            assert clients.gate.memory("VmHWM") - base < 10 * MIB


@contextlib.contextmanager
def pouring(source: socket.socket, total: int) -> Iterator[list[int]]:
    """Send zeros from a thread; yields a list whose only item is how many have been taken over by the kernel."""
    sent = [0]
    block = bytes(MIB)

    def pour() -> None:
        with contextlib.suppress(OSError):
            while sent[0] < total:
                sent[0] += source.send(block[: total - sent[0]])

    sender = threading.Thread(target=pour)
    sender.start()
    try:
        yield sent
    finally:
        if sent[0] < total:
            source.shutdown(socket.SHUT_RDWR)
        sender.join()


def held_back(sent: list[int]) -> bool:
    """Whether nothing has been sent for half a second."""
    before = sent[0]
    select.select([], [], [], 0.5)
    return sent[0] == before


@pytest.mark.heavy
def test_many_slow_readers_cost_little_memory(world: World) -> None:
    """What waits for each reader waits in the kernel."""
    with Upstream() as upstream:
        lead_to(world, upstream.port)
        with Clients(world) as clients:
            opened = [(clients.connect(hello=HELLO), upstream.accept()) for _ in range(100)]
            base = clients.gate.memory()
            block = random.Random(1).randbytes(MIB)
            for _, server in opened:
                server.setblocking(False)
                end = time.monotonic() + 20
                while select.select([], [server], [], 0.02)[1] and time.monotonic() < end:
                    server.send(block)
            assert clients.gate.memory() - base < 30 * MIB


# Bottles.


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_fifty_bottles_at_once(world: World, forge: SSHServer) -> None:
    count = 50
    world.run("true")
    words = [*CLI, "run", "--detach", "--manifest", str(world.write()), "--"]
    script = f"ssh -nT forge echo $CLAUDE_BOTTLE > {world.work}/$CLAUDE_BOTTLE; echo mine > /tmp/mine; exec sleep 600"
    starting = [
        subprocess.Popen([*words, "bash", "-c", script], cwd=world.work, env=world.env, stdout=subprocess.PIPE)
        for _ in range(count)
    ]
    names = {process.communicate(timeout=200)[0].decode().strip() for process in starting}
    assert names == {"dev", *(f"dev-{number}" for number in range(2, count + 1))}
    written = {name: world.work / name for name in names}
    wait_until(lambda: all(path.exists() and path.read_text() for path in written.values()), "every ssh", 60)
    assert {name: path.read_text() for name, path in written.items()} == {name: f"{name}\n" for name in names}
    assert world.cli("ps").stdout.count("running") == count

    share_nothing(world, names)
    for name in names:
        supervisor = recorded_pid(world, "supervisor", name)
        beside_the_program = len(descendants(supervisor))  # and the supervisor, without the program
        assert beside_the_program <= 6

    assert world.cli("stop", "--all", timeout=120).returncode == 0
    assert wait_until_gone(world) == []
    assert world.cli("ps", "--json").stdout == "[]\n"
    assert {path for path in files_of(world) if not re.search(r"/dev(-\d+)?/output\.log$", path)} == set()


def share_nothing(world: World, names: set[str]) -> None:
    """No two bottles are in one namespace, have one gate, one agent or one address of anything."""
    for kind in ("net", "pid", "mnt", "ipc", "uts", "user"):
        namespaces = {os.readlink(f"/proc/{recorded_pid(world, 'init', name)}/ns/{kind}") for name in names}
        assert len(namespaces) == len(names), kind
    for process in ("supervisor", "gate", "keys", "monitor", "init"):
        assert len({recorded_pid(world, process, name) for name in names}) == len(names), process
    sockets = [inode for name in names for inode in sockets_of(recorded_pid(world, "gate", name))]
    assert len(sockets) == len(set(sockets))


def sockets_of(pid: int) -> list[str]:
    """The sockets a process holds."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            link = os.readlink(f"/proc/{pid}/fd/{fd}")
            if link.startswith("socket:"):
                found.append(link)
    return found
