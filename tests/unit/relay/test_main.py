"""The gate process: how it starts, what it minds, how it ends."""

import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import StartGate
from .harness import (
    HELLO,
    ROOT,
    TIMEOUT_S,
    accept,
    ends_with_reset,
    entry,
    kept,
    listening,
    port_of,
    read_line,
    receive_all,
    send_config,
    send_listeners,
    spawn,
    wait_until,
)


def config(tmp_path: Path, count: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "bottle": "t",
        "audit": str(tmp_path / "audit.jsonl"),
        "allow_addresses": [],
        "entries": [entry(22)],
        "listeners": [{"kind": "ssh", "entry": 0, "address": "127.0.0.1", "port": i} for i in range(count)],
        "agent": None,
        **fields,
    }


def answer_to(tmp_path: Path, speak: Callable[[socket.socket], None]) -> tuple[bytes, int]:
    """What the gate answers, and its status, when the backend speaks thus and then hangs up."""
    control, process = spawn(tmp_path / "err")
    speak(control)
    control.shutdown(socket.SHUT_WR)
    line = read_line(control)
    return line, process.wait(TIMEOUT_S)


def test_backend_that_says_nothing(tmp_path: Path) -> None:
    line, status = answer_to(tmp_path, lambda control: None)
    assert (line, status) == (b'{"error": "the backend went away before the gate was configured"}\n', 1)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b'{"bottle": 1}', b"\xff\xfe"],
    ids=["empty", "cut", "list", "null", "missing", "not utf-8"],
)
def test_configuration_that_is_none(tmp_path: Path, text: bytes) -> None:
    line, status = answer_to(tmp_path, lambda control: control.sendall(struct.pack(">I", len(text)) + text))
    assert line.startswith(b'{"error": ')
    assert status == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"listeners": [{"kind": "tls"}]},
        {"listeners": [{"kind": "agent"}]},
        {"listeners": [{"kind": "ssh", "entry": 7, "address": "", "port": 1}]},
        {"allow_addresses": ["10.0.0.0/33"]},
        {"entries": [{"alias": "a"}]},
    ],
)
def test_configuration_with_a_mistake(tmp_path: Path, fields: dict[str, Any]) -> None:
    line, status = answer_to(tmp_path, lambda control: send_config(control, config(tmp_path, **fields)))
    assert line.startswith(b'{"error": ')
    assert status == 1


def test_too_few_listeners(tmp_path: Path) -> None:
    def speak(control: socket.socket) -> None:
        send_config(control, config(tmp_path, 3))
        send_listeners(control, [listening()])

    assert answer_to(tmp_path, speak) == (b'{"error": "1 of 3 listeners came"}\n', 1)


def test_too_many_listeners(tmp_path: Path) -> None:
    def speak(control: socket.socket) -> None:
        send_config(control, config(tmp_path, 1))
        send_listeners(control, [listening(), listening()])

    assert answer_to(tmp_path, speak) == (b'{"error": "2 listeners came for 1"}\n', 1)


def test_more_listeners_than_one_message_carries(tmp_path: Path) -> None:
    upstream = listening()
    control, process = spawn(tmp_path / "err")
    listeners = [listening() for _ in range(600)]
    send_config(control, config(tmp_path, len(listeners), entries=[entry(upstream)]))
    send_listeners(control, listeners)
    assert read_line(control) == b'{"ready": true}\n'
    for index in (0, 249, 250, 599):
        client = kept(socket.create_connection(listeners[index].getsockname()))
        client.sendall(HELLO)
        assert accept(upstream).recv(100) == HELLO
    control.close()
    assert process.wait(TIMEOUT_S) == 0


def test_lifeline_ends_everything(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    client, server = gate.pair(upstream)
    gate.stop()
    assert receive_all(client) == b""
    assert receive_all(server) == b""
    assert gate.records("close")[0]["reason"] == "gate stopped"
    with pytest.raises(ConnectionRefusedError):
        gate.connect()


def test_sigterm_is_an_orderly_stop(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    gate.pair(upstream)
    gate.process.terminate()
    assert gate.process.wait(TIMEOUT_S) == 0
    assert gate.records("close")[0]["reason"] == "gate stopped"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_keys_at_the_terminal_are_not_for_the_gate(start_gate: StartGate, number: signal.Signals) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    gate.process.send_signal(number)
    gate.pair(upstream)


def test_killed_gate_resets_nothing_it_did_not_have(start_gate: StartGate) -> None:
    """What `kill -9` leaves: closed sockets on both sides and a log of whole lines."""
    upstream = listening()
    gate = start_gate(entry(upstream))
    client, server = gate.pair(upstream)
    gate.process.kill()
    gate.process.wait(TIMEOUT_S)
    gate.stopped = True
    assert not ends_with_reset(client)
    assert not ends_with_reset(server)
    assert [record["event"] for record in gate.records()] == ["connect", "connected"]


def test_record_is_written_before_the_upstream_hears_of_it(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    for number in range(1, 20):
        client = gate.connect()
        accept(upstream)
        assert gate.records("connect")[-1]["conn"] == number  # no waiting here
        client.close()


def test_words_of_the_backend_are_ignored(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    gate.control.sendall(b"hello?" * 1000)
    gate.pair(upstream)


def test_ipv6(start_gate: StartGate) -> None:
    try:
        upstream = kept(socket.create_server(("::1", 0), family=socket.AF_INET6))
    except OSError:
        pytest.skip("no IPv6 loopback here; `sysctl net.ipv6.conf.lo.disable_ipv6=0` gives it")
    gate = start_gate(entry(port_of(upstream), "::1"))
    gate.pair(upstream)
    assert gate.wait_record("connected")["address"] == "::1"


def test_start_loads_nothing_heavy() -> None:
    """Each of these would cost the start more than the gate itself."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import claude_bottle.relay.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, env={})
    heavy = {
        *("argparse", "asyncio", "collections", "ctypes", "dataclasses", "enum", "functools", "hashlib", "ipaddress"),
        *("json", "logging", "pathlib", "re", "signal", "socket", "ssl", "subprocess", "threading", "traceback"),
        *("typing", "selectors", "inspect", "contextlib"),
    }
    assert heavy & set(done.stdout.split()) == set()


def test_resting_gate_does_not_wake_up(start_gate: StartGate) -> None:
    upstream = listening()
    gate = start_gate(entry(upstream))
    gate.pair(upstream)

    def switches() -> int:
        text = Path(f"/proc/{gate.process.pid}/status").read_text()
        return int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)[0])

    before = wait_until(lambda: switches(), "the first switch")
    signal.sigtimedwait([], 0.3)
    assert switches() - before <= 2
