"""What goes wrong between a real bottle and its upstreams, and what the program inside sees of it."""

import contextlib
import datetime
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.bottle import CLI, World
from tests.support.clients import Clients, Upstream, lead_to
from tests.support.sshd import SSHServer, descendants, free_port
from tests.support.surroundings import with_hosts, with_silent_names
from tests.unit.relay.harness import HELLO, ends_with_reset, receive, receive_all, reset, wait_until

TIMED_SSH = 'began=${EPOCHREALTIME/./}; ssh -T forge true; echo "status $? after $((${EPOCHREALTIME/./} - began)) us"'


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def clients(world: World, upstream: Upstream) -> Iterator[Clients]:
    """A bottle whose only entry leads to `upstream`."""
    lead_to(world, upstream.port)
    with Clients(world) as clients:
        yield clients


def records(world: World, event: str) -> list[Mapping[str, Any]]:
    return [record for record in world.audit() if record["event"] == event]


def wait_record(world: World, event: str) -> Mapping[str, Any]:
    """The first record of that kind, which is written at the end of what it tells of."""
    wait_until(lambda: records(world, event), event)
    return records(world, event)[0]


def the(found: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    assert len(found) == 1
    return found[0]


def seconds_taken(output: str) -> float:
    """How long the ssh of `TIMED_SSH` took; it must have failed as OpenSSH fails."""
    found = re.search(r"status 255 after (\d+) us", output)
    assert found is not None, output
    return int(found[1]) / 1e6


# The upstream cannot be reached.


def test_a_refusing_upstream_is_named_with_the_reason(world: World) -> None:
    lead_to(world, free_port())
    done = world.run("bash", "-c", TIMED_SSH)
    target = f"forge (127.0.0.1:{world.entries[0]['Port']})"
    assert f"claude-bottle: {target}: connection refused" in done.stderr
    assert seconds_taken(done.stdout) < 6  # no time-out was waited for
    refusal = the(records(world, "refuse"))
    assert {name: refusal[name] for name in ("bottle", "entry", "host", "port", "verdict", "rule", "reason")} == {
        "bottle": "dev",
        "entry": "forge",
        "host": "127.0.0.1",
        "port": world.entries[0]["Port"],
        "verdict": "refuse",
        "rule": "bottles.dev.ssh[0]",
        "reason": "connection refused",
    }
    assert refusal["conn"] == the(records(world, "connect"))["conn"]


def test_git_shows_the_reason(world: World) -> None:
    lead_to(world, free_port())
    done = world.run("git", "ls-remote", "forge:some/repository")
    assert done.returncode == 128
    assert "claude-bottle: forge" in done.stderr
    assert "connection refused" in done.stderr


def test_an_upstream_that_comes_back_is_reached_without_a_new_start(world: World, server: SSHServer) -> None:
    world.declare(server)
    port = server.port
    server.stop()
    script = "ssh -nT forge true; echo status $?; read -r _; ssh -nT forge echo through"
    running = world.start("bash", "-c", script, stdin=subprocess.PIPE)
    wait_until(lambda: records(world, "refuse"), "the refusal")
    again = SSHServer(server.folder, authorized=[world.key.public], host_keys=server.host_keys, port=port)
    with again:
        out, err = running.communicate("\n", timeout=30)
    assert out == "status 255\nthrough\n", err


def test_a_silent_upstream_is_given_up_after_the_connect_timeout(world: World) -> None:
    with Upstream(backlog=0) as upstream, socket.socket() as first:
        first.connect(("127.0.0.1", upstream.port))  # fills the queue: handshakes of others get no answer
        lead_to(world, upstream.port, connect_timeout_s=0.5)
        done = world.run("bash", "-c", TIMED_SSH)
    assert "no answer within 0.5 s" in done.stderr
    assert 0.5 <= seconds_taken(done.stdout) < 6  # less than without the setting
    assert the(records(world, "refuse"))["reason"] == "no answer within 0.5 s"


# Names.


def run_with_hosts(world: World, hosts: str, *command: str) -> "tuple[int, str, str]":
    """Run in bottle `dev` on a machine that knows these names and no others."""
    words = (*CLI, "run", "--manifest", str(world.write()), "--", *command)
    done = world.outside(*with_hosts(world.root, hosts, *words))
    return done.returncode, done.stdout, done.stderr


def test_a_name_that_does_not_resolve_is_named(world: World) -> None:
    lead_to(world, 22, Hostname="no-such-host.invalid")
    status, _, said = run_with_hosts(world, "", "ssh", "-T", "forge", "true")
    assert status == 255
    assert "claude-bottle: forge (no-such-host.invalid:22): name does not resolve" in said
    refusal = the(records(world, "refuse"))
    assert (refusal["reason"], refusal["rule"]) == ("name does not resolve", "bottles.dev.ssh[0]")
    assert "address" not in refusal


def test_this_machines_own_resolver_fails_with_a_reason_too(world: World) -> None:
    lead_to(world, 22, Hostname="no-such-host.invalid", connect_timeout_s=2)
    done = world.run("ssh", "-T", "forge", "true")
    assert done.returncode == 255
    assert re.search(r"claude-bottle: forge \(no-such-host\.invalid:22\): name .*[a-z]", done.stderr)


def test_a_silent_name_server_keeps_no_other_host_waiting(world: World) -> None:
    lead_to(world, 22, Host="named", Hostname="git.example.com", connect_timeout_s=1.5)
    lead_to(world, 9, Host="forge")
    script = f"ssh -nT named true & {TIMED_SSH}; wait $!; echo named $?"
    words = (*CLI, "run", "--manifest", str(world.write()), "--", "bash", "-c", script)
    done = world.outside(*with_silent_names(world.root, *words))
    assert seconds_taken(done.stdout) < 1.5, "it did not wait for the other's name"
    assert "claude-bottle: forge (127.0.0.1:9): connection refused" in done.stderr
    assert "claude-bottle: named (git.example.com:22): name lookup took longer than 1.5 s" in done.stderr
    assert done.stdout.endswith("named 255\n")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "0.0.0.0"])
def test_a_name_that_leads_home_is_refused(world: World, upstream: Upstream, address: str) -> None:
    lead_to(world, upstream.port, Hostname="home.example")
    status, _, said = run_with_hosts(world, f"{address} home.example\n", "ssh", "-T", "forge", "true")
    assert status == 255
    assert re.search(rf"claude-bottle: forge \(home\.example:\d+\): {re.escape(address)} is an? .* address", said)
    refusal = the(records(world, "refuse"))
    assert refusal["rule"].startswith("address guard: ")
    assert refusal["address"] == address
    assert not select.select([upstream.listener], [], [], 0)[0]


def test_a_name_that_leads_home_works_when_that_is_allowed(world: World, server: SSHServer) -> None:
    world.declare(server, Hostname="home.example")
    world.bottle["allow_addresses"] = ["127.0.0.0/8"]
    assert run_with_hosts(world, "127.0.0.1 home.example\n", "ssh", "forge", "echo through")[:2] == (0, "through\n")
    assert the(records(world, "connected"))["address"] == "127.0.0.1"


def test_the_guard_looks_at_every_address_of_a_name(world: World, server: SSHServer) -> None:
    world.declare(server, Hostname="home.example")
    world.bottle["allow_addresses"] = ["127.0.0.1"]
    hosts = "127.0.0.2 home.example\n127.0.0.1 home.example\n"
    assert run_with_hosts(world, hosts, "ssh", "forge", "echo through")[:2] == (0, "through\n")
    assert the(records(world, "connected"))["address"] == "127.0.0.1"


def test_a_dead_address_of_a_name_is_passed_over(world: World, server: SSHServer) -> None:
    world.declare(server, Hostname="home.example")
    world.bottle["allow_addresses"] = ["127.0.0.0/8"]
    hosts = "127.0.0.2 home.example\n127.0.0.1 home.example\n"
    assert run_with_hosts(world, hosts, "ssh", "forge", "echo through")[:2] == (0, "through\n")


# The connection breaks, or ends on one side.


def test_a_reset_by_the_upstream_is_a_reset_inside(world: World, upstream: Upstream, clients: Clients) -> None:
    client = clients.connect(hello=HELLO)
    server = upstream.accept()
    server.sendall(b"half of the ans")
    assert receive(client, 15) == b"half of the ans"
    reset(server)
    assert ends_with_reset(client)
    assert wait_record(world, "close")["reason"] == "reset by upstream"


def test_a_reset_inside_is_a_reset_for_the_upstream(world: World, upstream: Upstream, clients: Clients) -> None:
    client = clients.connect(hello=HELLO)
    server = upstream.accept()
    assert receive(server, len(HELLO)) == HELLO
    reset(client)
    assert ends_with_reset(server)
    assert wait_record(world, "close")["reason"] == "reset by bottle"


def test_a_program_that_has_said_all_still_hears(world: World, upstream: Upstream, clients: Clients) -> None:
    client = clients.connect(hello=HELLO)
    client.sendall(b"request")
    client.shutdown(socket.SHUT_WR)
    server = upstream.accept()
    assert receive_all(server) == HELLO + b"request"
    server.sendall(b"a" * 1_000_000)
    server.close()
    assert receive_all(client) == b"a" * 1_000_000
    close = wait_record(world, "close")
    assert (close["sent_bytes"], close["received_bytes"], close["reason"]) == (len(HELLO) + 7, 1_000_000, "eof")


def test_an_upstream_that_has_said_all_still_hears(world: World, upstream: Upstream, clients: Clients) -> None:
    client = clients.connect(hello=HELLO)
    server = upstream.accept()
    server.sendall(b"all I have")
    server.shutdown(socket.SHUT_WR)
    assert receive_all(client) == b"all I have"
    client.sendall(b"b" * 1_000_000)
    client.close()
    assert receive_all(server) == HELLO + b"b" * 1_000_000
    assert wait_record(world, "close")["reason"] == "eof"


def test_an_upstream_killed_in_the_middle_ends_the_clients_wait(world: World, forge: SSHServer) -> None:
    running = world.start("bash", "-c", "ssh -T forge 'echo begun; exec sleep 60' > out; echo status $?")
    wait_until(lambda: (world.work / "out").exists() and (world.work / "out").read_text(), "the session")
    for pid in descendants(forge.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    out, _ = running.communicate(timeout=30)
    assert out == "status 255\n"
    assert wait_record(world, "close")["reason"] in ("eof", "reset by upstream")


# A client that does not speak SSH.

TLS_CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(200)


@pytest.mark.parametrize(
    "words",
    [b"GET / HTTP/1.1\r\nHost: forge\r\n\r\n", TLS_CLIENT_HELLO, b"SSH-1.5-old\r\n", b"\n", b"SSH-2.1-x\r\n", bytes(9)],
    ids=["http", "tls", "ssh1", "newline", "version", "zeros"],
)
def test_nothing_but_ssh_reaches_the_upstream(world: World, upstream: Upstream, clients: Clients, words: bytes) -> None:
    client = clients.connect(hello=words)
    assert receive_all_or_reset(client) == b""
    assert receive_all_or_reset(upstream.accept()) == b""
    close = wait_record(world, "close")
    assert (close["reason"], close["sent_bytes"]) == ("not ssh", 0)


def receive_all_or_reset(sock: socket.socket) -> bytes:
    """Everything up to the end, of whichever kind."""
    received = bytearray()
    ends_with_reset(sock, received)
    return bytes(received)


def test_less_than_an_introduction_is_not_forwarded(world: World, upstream: Upstream, clients: Clients) -> None:
    client = clients.connect(hello=HELLO[:7])
    server = upstream.accept()
    client.shutdown(socket.SHUT_WR)
    assert receive_all_or_reset(server) == b""
    assert wait_record(world, "close")["reason"] == "not ssh"


def test_a_web_client_gets_nothing(world: World, server: SSHServer) -> None:
    world.declare(server)
    script = "exec 3<>/dev/tcp/127.0.0.1/30000; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3 | wc -c"
    assert world.sh(script).stdout == "0\n"
    assert wait_record(world, "close")["reason"] == "not ssh"


# Time.


def test_records_carry_the_time_in_utc(world: World) -> None:
    lead_to(world, free_port())
    before = time.time()
    world.run("ssh", "-T", "forge", "true")
    times = [datetime.datetime.fromisoformat(record["time"]).timestamp() for record in world.audit()]
    assert before - 0.01 <= times[0] <= times[-1] <= time.time()
    assert times == sorted(times)
