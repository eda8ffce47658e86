"""An ssh port is for SSH: nothing else a client says reaches the upstream."""

import select
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.relay.pin import SSH_IDENTIFICATION, is_ssh

from .conftest import StartGate
from .harness import accept, entry, listening, receive, receive_all, wait_until

TLS = bytes.fromhex("16030100c8010000c40303") + bytes(32)


@pytest.mark.parametrize("head", [b"", b"S", b"SSH-2.0"])
def test_too_little_to_tell(head: bytes) -> None:
    assert is_ssh(head) is None


@pytest.mark.parametrize("head", [b"SSH-2.0-", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_ssh(head: bytes) -> None:
    assert is_ssh(head) is True


@pytest.mark.parametrize("head", [b"X", b"ssh-2.0-", b"SSH-1.99-x", b"SSH-1", b" SSH-2.0-", b"GET / HTTP/1.1", TLS])
def test_not_ssh(head: bytes) -> None:
    assert is_ssh(head) is False


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=20))
def test_only_the_identification_passes(head: bytes) -> None:
    assert (is_ssh(head) is True) == (head[:8] == SSH_IDENTIFICATION)


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=20), st.integers(0, 20))
def test_fragments_tell_the_same(head: bytes, size: int) -> None:
    """What a part of it decides, the whole does not undo."""
    if is_ssh(head[:size]) is not None:
        assert is_ssh(head) == is_ssh(head[:size])


def is_silent(sock: socket.socket) -> bool:
    return not select.select([sock], [], [], 0.05)[0]


def test_fragments_are_held_until_they_say_ssh(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    client = gate.connect()
    server = accept(upstream)
    for part in (b"S", b"SH-2", b".0"):
        client.sendall(part)
        assert is_silent(server)
    client.sendall(b"-x\r\nmore")
    assert receive(server, 15) == b"SSH-2.0-x\r\nmore"


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", TLS, b"SSH-1.99-old\r\n", b"SSH-2.1-x\r\n", b"\x00"])
def test_another_protocol_is_cut(start_gate: StartGate, said: bytes) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    client = gate.connect(hello=said)
    server = accept(upstream)
    assert receive_all(server) == b""
    assert client.recv(1) == b""
    close = gate.wait_record("close")
    assert (close["reason"], close["sent_bytes"]) == ("not ssh", 0)


def test_deviation_after_fragments_is_cut(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    client = gate.connect(hello=b"SSH-2")
    server = accept(upstream)
    assert is_silent(server)
    client.sendall(b"!")
    assert receive_all(server) == b""
    assert gate.wait_record("close")["reason"] == "not ssh"


def test_a_fragment_and_an_end(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    client = gate.connect(hello=b"SSH-")
    server = accept(upstream)
    client.shutdown(socket.SHUT_WR)
    assert receive_all(server) == b""
    assert gate.wait_record("close")["reason"] == "not ssh"


def test_a_port_scan_is_no_offence(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    gate.connect().close()
    assert receive_all(accept(upstream)) == b""
    close = gate.wait_record("close")
    assert (close["reason"], close["sent_bytes"], close["received_bytes"]) == ("eof", 0, 0)


def test_reset_before_a_word(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    client = gate.connect()
    server = accept(upstream)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    wait_until(lambda: select.select([server], [], [], 0)[0], "the upstream to learn of it")
    assert gate.wait_record("close")["reason"] == "reset by bottle"
