"""A refused SSH client learns why; whoever does not speak SSH learns nothing."""

import contextlib
import os
import resource
import select
import socket
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.relay.refusal import IDENTIFICATION, SERVICE_NOT_AVAILABLE, disconnect

from .conftest import StartGate
from .harness import HELLO, Gate, accept, closed_port, entry, listening, receive_all, wait_until

SSH = ("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=/dev/null")


def parse(data: bytes) -> tuple[int, str]:
    """Reason code and text of a whole refusal, checked byte by byte against RFC 4253 section 6."""
    assert data.startswith(IDENTIFICATION)
    packet = data[len(IDENTIFICATION) :]
    length, padding = int.from_bytes(packet[:4], "big"), packet[4]
    assert len(packet) == 4 + length
    assert len(packet) % 8 == 0
    assert padding >= 4
    payload = packet[5 : len(packet) - padding]
    assert payload[0] == 1
    size = int.from_bytes(payload[5:9], "big")
    assert payload[9 + size :] == b"\0\0\0\x02en"
    return int.from_bytes(payload[1:5], "big"), payload[9 : 9 + size].decode("ascii")


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=1000), st.integers(0, 2**32 - 1))
def test_any_text_makes_a_whole_packet(text: str, code: int) -> None:
    assert len(IDENTIFICATION) <= 255
    found, words = parse(disconnect(text, code))
    assert found == code
    assert words.isprintable()
    assert len(words) == min(len(text), 390)


def refusal(gate: Gate, hello: bytes = HELLO) -> str:
    return parse(receive_all(gate.connect(hello=hello)))[1]


def test_refused_upstream_is_told_at_once(start_gate: StartGate) -> None:
    port = closed_port()
    gate = start_gate(entry(port))
    refusal(gate)
    begun = time.monotonic()
    text = refusal(gate)
    assert time.monotonic() - begun < 0.2  # 20 ms on a quiet machine
    assert text == f"claude-bottle: forge (127.0.0.1:{port}): connection refused"
    record = gate.wait_record("refuse", conn=2)
    assert record == {
        "time": record["time"],
        "bottle": "t",
        "event": "refuse",
        "conn": 2,
        "entry": "forge",
        "host": "127.0.0.1",
        "port": port,
        "listen": f"127.0.0.1:{gate.ports[0]}",
        "verdict": "refuse",
        "rule": "bottles.t.ssh[0]",
        "reason": "connection refused",
        "address": "127.0.0.1",
    }


def test_refusal_survives_a_client_that_talks_on(start_gate: StartGate) -> None:
    """Input that nobody reads would turn the close into a reset, and the reset would eat the text."""
    gate = start_gate(entry(closed_port()))
    client = gate.connect(hello=HELLO + bytes(200_000))
    assert parse(receive_all(client))[0] == SERVICE_NOT_AVAILABLE


def test_client_that_waits_for_the_server_gets_the_text_too(start_gate: StartGate) -> None:
    gate = start_gate(entry(closed_port()))
    assert "connection refused" in refusal(gate, hello=b"")


def test_client_that_is_not_ssh_gets_nothing(start_gate: StartGate) -> None:
    gate = start_gate(entry(closed_port()))
    with contextlib.suppress(ConnectionResetError):
        assert receive_all(gate.connect(hello=b"GET / HTTP/1.1\r\n\r\n")) == b""
    gate.wait_record("refuse")
    assert not gate.records("close")


def test_openssh_prints_the_reason(start_gate: StartGate) -> None:
    port = closed_port()
    gate = start_gate(entry(port))
    done = subprocess.run(
        [*SSH, "-p", str(gate.ports[0]), "127.0.0.1", "true"], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 255
    assert f"claude-bottle: forge (127.0.0.1:{port}): connection refused" in done.stderr


def test_git_shows_the_reason(start_gate: StartGate, tmp_path: Path) -> None:
    gate = start_gate(entry(closed_port()))
    environ = {**os.environ, "GIT_SSH_COMMAND": " ".join(SSH), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["git", "ls-remote", f"ssh://127.0.0.1:{gate.ports[0]}/repo.git"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env=environ,
    )
    assert done.returncode == 128
    assert "connection refused" in done.stderr


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b"])
def test_name_that_does_not_resolve(start_gate: StartGate, host: str) -> None:
    gate = start_gate(entry(22, host, connect_timeout_s=3))
    text = refusal(gate)
    assert text.startswith(f"claude-bottle: forge ({host}:22): name ")
    assert gate.wait_record("refuse")["reason"] == text.partition("): ")[2]


def test_silent_upstream_is_given_up_in_time(start_gate: StartGate) -> None:
    silent = listening(backlog=0)
    fill = [socket.socket() for _ in range(4)]
    for sock in fill:  # a full queue drops every further handshake
        sock.setblocking(False)
        sock.connect_ex(silent.getsockname())
    gate = start_gate(entry(silent, connect_timeout_s=0.3))
    begun = time.monotonic()
    assert "no answer within 0.3 s" in refusal(gate)
    assert 0.25 < time.monotonic() - begun < 3
    for sock in fill:
        sock.close()


@pytest.mark.parametrize("name", ["localhost", "127.1", "0x7f000001"])
def test_name_that_leads_to_loopback_is_refused(start_gate: StartGate, name: str) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream, name))
    assert "loopback address" in refusal(gate)
    assert not select.select([upstream], [], [], 0)[0]
    record = gate.wait_record("refuse")
    assert record["rule"] == "address guard: loopback"
    assert record["address"] in ("127.0.0.1", "::1")


def test_allowed_network_admits_it(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream, "localhost"), allow_addresses=["127.0.0.0/8"])
    gate.pair(upstream)
    assert gate.wait_record("connected")["address"] == "127.0.0.1"


def test_many_lookups_of_one_name(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream, "localhost"), allow_addresses=["127.0.0.0/8"])
    clients = [gate.connect(hello=HELLO) for _ in range(50)]
    servers = [accept(upstream) for _ in clients]
    assert len({server.getpeername() for server in servers}) == 50
    wait_until(lambda: len(gate.records("connected")) == 50, "all records")


def test_second_address_is_tried(start_gate: StartGate) -> None:
    """localhost is ::1 first here, where nobody listens, or only 127.0.0.1: either way it is reached."""
    upstream = listening()
    gate = start_gate(entry(upstream, "localhost"), allow_addresses=["127.0.0.0/8", "::1"])
    gate.pair(upstream)


def test_max_connections(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream, max_connections=2))
    first, _ = gate.pair(upstream), gate.pair(upstream)
    assert "2 connections are open already" in refusal(gate)
    assert gate.wait_record("refuse")["rule"] == "bottles.t.ssh[0].max_connections"
    for sock in first:
        sock.close()
    gate.wait_record("close")
    gate.pair(upstream)


def test_descriptors_run_out(start_gate: StartGate) -> None:
    """The cap that follows from the limit on open files is said; the gate goes on."""
    upstream = listening()
    gate = start_gate(entry(upstream), limits=[(resource.RLIMIT_NOFILE, 400)])
    pairs = []
    for _ in range(30):
        client = gate.connect(hello=HELLO)
        ready, _, _ = select.select([client, upstream], [], [], 10)
        if client in ready:
            assert "open already" in parse(receive_all(client))[1]
            break
        pairs.append((client, accept(upstream)))
    assert 1 < len(pairs) < 30
    assert gate.wait_record("refuse")["rule"] == "open files"
    for pair in pairs:
        for sock in pair:
            sock.close()
    wait_until(lambda: len(gate.records("close")) == len(pairs), "all close records")
    gate.pair(upstream)


def test_audit_log_that_cannot_be_written(start_gate: StartGate, tmp_path: Path) -> None:
    folder = tmp_path / "missing"
    upstream = listening()
    gate = start_gate(entry(upstream), audit=folder / "audit.jsonl")
    text = "audit log cannot be written: no such file or directory"
    assert text in refusal(gate)
    assert not select.select([upstream], [], [], 0)[0]
    folder.mkdir()
    gate.pair(upstream)
    # What could not be written then is there now, before what it allowed.
    assert [record["event"] for record in gate.records()][:2] == ["refuse", "connect"]
    assert gate.records("refuse")[0]["reason"] == text


def test_audit_log_that_fills_up(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream), limits=[(resource.RLIMIT_FSIZE, 4990)])
    for _ in range(100):
        client = gate.connect(hello=HELLO)
        if client in select.select([client, upstream], [], [], 10)[0]:
            assert "audit log cannot be written: no room for a whole record" in parse(receive_all(client))[1]
            break
        accept(upstream)
    assert gate.audit.stat().st_size <= 4990
    allowed = [record["conn"] for record in gate.records("connected")]
    assert set(allowed) <= {record["conn"] for record in gate.records("connect")}
