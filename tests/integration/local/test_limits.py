"""Limits of a bottle hold: on its connections, and on the memory, processes and disk of what runs in it."""

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bottle import World
from tests.support.clients import PYTHON, Clients, Upstream, lead_to, pour
from tests.support.sshd import SSHServer
from tests.support.traces import wait_until_gone
from tests.unit.relay.harness import HELLO, receive, receive_all, wait_until

MIB = 1 << 20
AS_ROOT = os.getuid() == 0
WEAKER = "hold for each process, not for all together (no writable control group)"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def reasons(world: World, event: str) -> list[str]:
    return [record["reason"] for record in world.audit() if record["event"] == event]


def wait_reason(world: World, event: str) -> str:
    wait_until(lambda: reasons(world, event), event)
    return reasons(world, event)[0]


# Connections.


def test_an_idle_connection_is_cut(world: World, upstream: Upstream) -> None:
    lead_to(world, upstream.port, idle_timeout_s=0.4)
    with Clients(world) as clients:
        client = clients.connect(hello=HELLO)
        server = upstream.accept()
        assert receive(server, len(HELLO)) == HELLO
        server.sendall(b"last words")
        began = time.monotonic()
        assert receive_all(client) == b"last words"
        assert time.monotonic() - began >= 0.35
        assert receive_all(server) == b""
        assert wait_reason(world, "close") == "idle timeout"


def test_a_busy_connection_is_not_idle(world: World, upstream: Upstream) -> None:
    lead_to(world, upstream.port, idle_timeout_s=0.4)
    with Clients(world) as clients:
        client = clients.connect(hello=HELLO)
        server = upstream.accept()
        assert receive(server, len(HELLO)) == HELLO
        server.settimeout(0.1)
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            client.sendall(b".")
            assert receive(server, 1) == b"."
            with pytest.raises(TimeoutError):
                server.recv(1)  # the pause between two signs of life
        assert reasons(world, "close") == []


def test_one_connection_too_many_is_refused_with_the_reason(world: World, server: SSHServer) -> None:
    world.declare(server, max_connections=2)
    script = """
        for _ in 1 2; do ssh -nT forge 'echo open; exec sleep 60' >> open & done
        until [ "$(wc -l < open)" = 2 ]; do :; done
        ssh -nT forge true; echo status $?
        kill %1; wait %1 2> /dev/null
        until ssh -nT forge echo again 2> /dev/null; do :; done
        kill %2
    """
    (world.work / "open").touch()
    done = world.sh(script)
    assert done.stdout == "status 255\nagain\n"
    assert "claude-bottle: forge" in done.stderr
    assert "2 connections are open already" in done.stderr
    first = next(record for record in world.audit() if record["event"] == "refuse")
    assert first["rule"] == "bottles.dev.ssh[0].max_connections"


@pytest.mark.parametrize("limit", [1, len(HELLO), 100_000, 3 * MIB + 1])
def test_not_a_byte_more_than_the_upload_limit(world: World, upstream: Upstream, limit: int) -> None:
    lead_to(world, upstream.port, upload_limit_bytes=limit)
    with Clients(world) as clients:
        arrived = pour(HELLO + bytes(limit), clients.connect(), upstream.accept())
        introduced = limit >= len("SSH-2.0-")
        assert arrived == ((HELLO + bytes(limit))[:limit] if introduced else b"")
        assert wait_reason(world, "close") == "upload limit"
        again = clients.connect(hello=HELLO)
        assert b"the upload limit is used up" in receive_all(again)
    close = next(record for record in world.audit() if record["event"] == "close")
    assert close["sent_bytes"] == (limit if introduced else 0)


@pytest.mark.parametrize("limit", [1, 100_000, 3 * MIB + 1])
def test_not_a_byte_more_than_the_download_limit(world: World, upstream: Upstream, limit: int) -> None:
    lead_to(world, upstream.port, download_limit_bytes=limit)
    with Clients(world) as clients:
        client = clients.connect(hello=HELLO)
        server = upstream.accept()
        assert receive(server, len(HELLO)) == HELLO
        assert pour(bytes(limit + MIB), server, client) == bytes(limit)
        assert wait_reason(world, "close") == "download limit"
    close = next(record for record in world.audit() if record["event"] == "close")
    assert close["received_bytes"] == limit


def test_a_limit_counts_over_all_connections_of_a_run(world: World, server: SSHServer) -> None:
    world.declare(server, download_limit_bytes=400_000)
    script = "for _ in 1 2 3; do ssh -nT forge head -c 150000 /dev/zero | wc -c; echo ${PIPESTATUS[0]}; done"
    done = world.sh(script)
    sizes = [int(word) for word in done.stdout.split()]
    assert sizes[:4] == [150_000, 0, 150_000, 0]
    assert sizes[4] < 150_000
    assert sizes[5] == 255
    refused = world.sh("ssh -nT forge echo anew")
    assert refused.stdout == "anew\n", "a new run has a new budget"
    received = [record["received_bytes"] for record in world.audit() if record["event"] == "close"]
    assert sum(received[:3]) == 400_000


def test_a_gate_out_of_descriptors_refuses_with_the_reason_and_lives(world: World, upstream: Upstream) -> None:
    """Where the host allows few open files, connections that would not fit are refused before it comes to that."""
    lead_to(world, upstream.port)
    with Clients(world, prefix=("prlimit", "--nofile=700:700")) as clients:
        held = list(clients.connect_many(250))
        last = clients.connect(hello=HELLO)
        said = receive_all(last)
        found = re.search(rb"the gate has (\d+) connections open already", said)
        assert found is not None
        assert 0 < int(found[1]) < 250
        for client in held:
            client.close()
        answers = []

        def admitted() -> bool:
            client = clients.connect(hello=HELLO)
            answers.append(client)
            return not said_refused(client)

        wait_until(admitted, "room")
        assert os.path.exists(f"/proc/{clients.gate.pid}")


def said_refused(client: socket.socket) -> bool:
    """Whether the gate says at once why it refuses; an admitted client hears nothing."""
    client.settimeout(0.1)
    try:
        return b"connections open already" in client.recv(4096)
    except TimeoutError:
        return False


# Memory, processes, disk.

HOG = "block = bytearray({size})\nprint('held')"

TOGETHER = """
import os, select
blocks = []
alive, life = os.pipe()
for _ in range(6):
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        os.close(life)
        block = bytearray(30 << 20)
        os.write(write, b"+")
        os.read(alive, 1)  # until its parent has ended
        os._exit(0)
    os.close(write)
    blocks.append(read)
for read in blocks:
    os.read(read, 1)
ends = select.poll()  # one that was killed for the others' sake may have reported before
for read in blocks:
    ends.register(read, 0)
print(6 - len(ends.poll(1000)))
"""

BOMB = """
import os
born = 0
alive, life = os.pipe()
try:
    for _ in range(3000):
        if os.fork() == 0:
            os.close(life)
            os.read(alive, 1)  # until its parent has ended
            os._exit(0)
        born += 1
except OSError as error:
    print(error.strerror)
print(born)
"""


def test_a_program_that_takes_too_much_memory_ends(world: World) -> None:
    world.bottle["resources"] = {"memory": "64MiB"}
    assert world.run(PYTHON, "-c", HOG.format(size=20 * MIB)).stdout == "held\n"
    done = world.run(PYTHON, "-c", HOG.format(size=200 * MIB))
    assert done.stdout == ""
    assert done.returncode == 137 or (done.returncode == 1 and "MemoryError" in done.stderr)


def test_what_is_weaker_without_a_control_group_is_said(world: World) -> None:
    world.bottle["resources"] = {"memory": "128MiB", "pids": 100}
    done = world.run(PYTHON, "-c", TOGETHER)
    if WEAKER in done.stderr:
        assert done.stdout == "6\n"  # each is below the limit
        assert done.stderr.startswith("claude-bottle: memory: 134217728 bytes hold")
    else:
        assert done.stderr == ""
        assert done.stdout != "6\n"


@pytest.mark.skipif(not AS_ROOT, reason="control groups are root's here; run as root: make test")
def test_root_gets_control_groups(world: World) -> None:
    world.bottle["resources"] = {"memory": "128MiB", "pids": 100}
    assert WEAKER not in world.run("true").stderr


def test_a_fork_bomb_is_bounded(world: World) -> None:
    world.bottle["resources"] = {"pids": 50}
    done = world.run(PYTHON, "-c", BOMB)
    reason, born = done.stdout.splitlines()
    assert reason == "Resource temporarily unavailable"
    assert 30 < int(born) < 50
    assert "pids" not in done.stderr


def test_threads_count_as_processes(world: World) -> None:
    world.bottle["resources"] = {"pids": 50}
    many = "import threading\nfor _ in range(200): threading.Thread(target=threading.Event().wait, daemon=True).start()"
    done = world.run(PYTHON, "-c", many)
    assert done.returncode == 1
    assert "can't start new thread" in done.stderr


def test_a_second_program_is_under_the_same_limits(world: World) -> None:
    world.bottle["resources"] = {"memory": "64MiB", "pids": 50}
    with Clients(world):
        done = world.cli("exec", "dev", "--", PYTHON, "-c", HOG.format(size=200 * MIB))
        assert done.stdout == ""
        assert done.returncode == 137 or "MemoryError" in done.stderr
        reason, born = world.cli("exec", "dev", "--", PYTHON, "-c", BOMB).stdout.splitlines()
        assert reason == "Resource temporarily unavailable"
        assert int(born) < 50


def test_a_bottle_full_of_processes_can_still_be_stopped(world: World) -> None:
    world.bottle["resources"] = {"pids": 50}
    running = world.start(PYTHON, "-u", "-c", f"{BOMB}\nos.read(alive, 1)")
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "Resource temporarily unavailable\n"
        refused = world.cli("exec", "dev", "--", "true")
        assert refused.returncode == 3
        assert "the bottle cannot be entered: Resource temporarily unavailable" in refused.stderr
        assert world.cli("stop", "dev").returncode == 0
        assert wait_until_gone(world) == []
    finally:
        running.kill()
        running.communicate()


FOLDERS_IN_MEMORY = ("/tmp", "/var/tmp", "/dev/shm", "$HOME", "$XDG_RUNTIME_DIR")


@pytest.mark.parametrize("folder", FOLDERS_IN_MEMORY)
def test_folders_in_memory_end_with_the_memory(world: World, folder: str) -> None:
    world.bottle["resources"] = {"memory": "64MiB"}
    done = world.sh(f'dd if=/dev/zero of="{folder}/big" bs=1M count=200 status=none; stat -c %s "{folder}/big"')
    assert "No space left on device" in done.stderr
    assert int(done.stdout) <= 64 * MIB


def test_what_is_written_to_temporary_folders_does_not_touch_the_host(world: World) -> None:
    name = f"claude-bottle-test-{os.getpid()}-{time.time_ns()}"
    folders = ("/tmp", "/var/tmp", "/dev/shm", "$HOME")
    script = f'for folder in {" ".join(folders)}; do echo inside > "$folder/{name}" && cat "$folder/{name}"; done'
    assert world.sh(script).stdout == "inside\n" * len(folders)
    assert [path for path in ("/tmp", "/var/tmp", "/dev/shm", world.home) if Path(path, name).exists()] == []


def test_the_rest_of_the_file_system_is_read_only(world: World) -> None:
    script = 'for folder in / /usr /etc /usr/bin /opt /run /var; do touch "$folder/made" 2> /dev/null && echo "$folder"'
    assert world.sh(f"{script}; done").stdout == ""
