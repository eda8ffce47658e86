"""The filter in front of a real ssh-agent: list, bind, sign; nothing else."""

import contextlib
import os
import socket
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from claude_bottle.relay.agent_filter import fingerprint

from .conftest import StartGate
from .harness import TIMEOUT_S, Gate, entry, kept, receive, wait_until
from .test_agent_messages import string

FAILURE, SUCCESS, LIST, KEYS, SIGN, SIGNED, EXTENSION = 5, 6, 11, 12, 13, 14, 27
SESSION = b"session" * 4


class Keys:
    """An agent with one key for `forge`, and the host keys of forge, other and a stranger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("id", "forge", "other", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True)
        known = [f"{name} {self.line(name)}" for name in ("forge", "other")]
        (folder / "known_hosts").write_text("\n".join(known) + "\n")
        deep = folder / ("d" * 120)
        deep.mkdir()
        self.socket = deep / "agent.sock"
        # The path is longer than an address holds, so the agent is started where it is short.
        self.process = subprocess.Popen(["ssh-agent", "-D", "-a", "agent.sock"], cwd=deep, stdout=subprocess.DEVNULL)
        wait_until(self.listens, "the agent")
        add = ["ssh-add", "-q", "-H", str(folder / "known_hosts"), "-h", "forge", str(folder / "id")]
        subprocess.run(add, check=True, cwd=deep, env={**os.environ, "SSH_AUTH_SOCK": "agent.sock"})

    def listens(self) -> bool:
        """Whether the agent accepts connections; its socket file is there a moment before."""
        with socket.socket(socket.AF_UNIX) as sock, contextlib.chdir(self.socket.parent):
            return sock.connect_ex("agent.sock") == 0

    def line(self, name: str) -> str:
        return " ".join((self.folder / f"{name}.pub").read_text().split()[:2])

    def blob(self, name: str) -> bytes:
        return b64decode(self.line(name).split()[1])

    def config(self) -> dict[str, Any]:
        text = {name: b64encode(self.blob(name)).decode() for name in ("id", "forge", "other")}
        return {
            "socket": str(self.socket),
            "keys": {text["id"]: ["forge"]},
            "hosts": {text["forge"]: ["forge"], text["other"]: ["other"]},
        }

    def bind(self, host: str, forwarding: bool = False) -> bytes:
        """A session-bind request with a true signature of the host."""
        key = load_ssh_private_key((self.folder / host).read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        signature = string(b"ssh-ed25519") + string(key.sign(SESSION))
        fields = string(self.blob(host)) + string(SESSION) + string(signature) + bytes([forwarding])
        return bytes([EXTENSION]) + string(b"session-bind@openssh.com") + fields

    def sign(self, key: str = "id") -> bytes:
        """A signature request for a login in the bound session."""
        blob = self.blob(key)
        login = b"\x32" + string(b"git") + string(b"ssh-connection") + string(b"publickey") + b"\1"
        data = string(SESSION) + login + string(b"ssh-ed25519") + string(blob)
        return bytes([SIGN]) + string(blob) + string(data) + bytes(4)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    keys = Keys(tmp_path)
    yield keys
    keys.process.terminate()
    keys.process.wait(TIMEOUT_S)


@pytest.fixture
def gate(start_gate: StartGate, keys: Keys) -> Gate:
    return start_gate(entry(22), entry(22, alias="other"), agent=keys.config())


class Client:
    """A raw client of the agent socket."""

    def __init__(self, gate: Gate) -> None:
        self.sock = kept(socket.socket(socket.AF_UNIX))
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(gate.agent_path))

    def send(self, message: bytes) -> None:
        self.sock.sendall(string(message))

    def reply(self) -> bytes:
        return receive(self.sock, int.from_bytes(receive(self.sock, 4), "big"))

    def ask(self, message: bytes) -> int:
        """The type of the reply."""
        self.send(message)
        return self.reply()[0]


def ssh_add(gate: Gate, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "SSH_AUTH_SOCK": str(gate.agent_path), "SSH_ASKPASS_REQUIRE": "never"}
    return subprocess.run(
        ["ssh-add", *arguments], capture_output=True, text=True, env=environ, timeout=20, check=False, input=""
    )


def test_listing(gate: Gate, keys: Keys) -> None:
    assert ssh_add(gate, "-L").stdout.split()[:2] == keys.line("id").split()


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (["-D"], "remove all keys"),
        (["-d", "id.pub"], "remove key"),
        (["-q", "other"], "add key"),
        (["-q", "-t", "10", "other"], "add constrained key"),
        (["-e", "/usr/lib/x.so"], "remove smartcard key"),
    ],
    ids=lambda value: value[0],
)
def test_changing_the_agent_is_refused(gate: Gate, keys: Keys, arguments: list[str], refused: str) -> None:
    done = ssh_add(gate, *[keys.folder / a if (keys.folder / a).exists() else a for a in arguments])
    assert done.returncode != 0
    record = gate.wait_record("agent-refuse", request_type=refused)
    assert record["verdict"] == "refuse"
    assert ssh_add(gate, "-L").stdout.split()[:2] == keys.line("id").split()


@pytest.mark.parametrize("message", [b"\x16" + string(b"pass"), b"\x17" + string(b"pass"), b"\x01", b"\x0b\0", b"\xff"])
def test_locking_and_unknown_requests_are_refused(gate: Gate, keys: Keys, message: bytes) -> None:
    assert Client(gate).ask(message) == FAILURE
    gate.wait_record("agent-refuse")
    assert "id" in ssh_add(gate, "-L").stdout


@pytest.mark.parametrize("name", [b"query", b"restrict-destination-v00@openssh.com", b"", b"session-bind@openssh.co"])
def test_other_extensions_are_refused(gate: Gate, name: bytes) -> None:
    assert Client(gate).ask(bytes([EXTENSION]) + string(name)) == FAILURE
    assert gate.wait_record("agent-refuse")["verdict"] == "refuse"


def test_signing_for_the_declared_host(gate: Gate, keys: Keys) -> None:
    client = Client(gate)
    assert client.ask(keys.bind("forge")) == SUCCESS
    assert client.ask(keys.sign()) == SIGNED
    ask = gate.wait_record("sign")
    assert {k: ask[k] for k in ("request", "entry", "key", "verdict")} == {
        "request": 1,
        "entry": "forge",
        "key": fingerprint(keys.blob("id")),
        "verdict": "ask",
    }
    assert gate.wait_record("signed", request=1)["verdict"] == "signed"


def test_fingerprint_is_as_ssh_keygen_prints_it(keys: Keys) -> None:
    done = subprocess.run(
        ["ssh-keygen", "-l", "-f", keys.folder / "id.pub"], capture_output=True, text=True, check=True
    )
    assert fingerprint(keys.blob("id")) == done.stdout.split()[1]


@pytest.mark.parametrize(
    ("host", "key", "reason"),
    [
        (None, "id", "the connection is not bound to a session"),
        ("other", "id", "the key is not for other"),
        ("stranger", "id", "the session's host key is not a declared one"),
        ("forge", "other", "the key is not declared"),
    ],
)
def test_signing_for_others_is_refused(gate: Gate, keys: Keys, host: str | None, key: str, reason: str) -> None:
    client = Client(gate)
    if host is not None:
        assert client.ask(keys.bind(host)) == SUCCESS
    assert client.ask(keys.sign(key)) == FAILURE
    record = gate.wait_record("sign")
    assert (record["verdict"], record["reason"]) == ("refuse", reason)
    assert client.ask(bytes([LIST])) == KEYS


def test_agent_itself_refuses_what_the_filter_lets_through(gate: Gate, keys: Keys) -> None:
    """A signature over something that is no login in the bound session."""
    client = Client(gate)
    assert client.ask(keys.bind("forge")) == SUCCESS
    assert client.ask(bytes([SIGN]) + string(keys.blob("id")) + string(b"anything") + bytes(4)) == FAILURE
    assert gate.wait_record("sign")["verdict"] == "ask"
    assert gate.wait_record("signed")["verdict"] == "refused"


def test_false_binding_does_not_bind(gate: Gate, keys: Keys) -> None:
    client = Client(gate)
    bind = keys.bind("forge")
    assert client.ask(bind[:-2] + bytes([bind[-2] ^ 1, 0])) == FAILURE
    assert client.ask(keys.sign()) == FAILURE
    assert gate.wait_record("sign")["reason"] == "the connection is not bound to a session"


def test_forwarding_further_is_refused(gate: Gate, keys: Keys) -> None:
    client = Client(gate)
    assert client.ask(keys.bind("forge", forwarding=True)) == FAILURE
    assert gate.wait_record("agent-refuse")["reason"] == "the agent is not forwarded further"
    assert client.ask(keys.sign()) == FAILURE


def test_requests_in_one_piece_and_in_many_are_answered_in_order(gate: Gate, keys: Keys) -> None:
    client = Client(gate)
    requests = [bytes([LIST]), b"\x13", keys.bind("forge"), b"\xff", keys.sign(), b"\x16", bytes([LIST])]
    stream = b"".join(string(request) for request in requests)
    expected = [KEYS, FAILURE, SUCCESS, FAILURE, SIGNED, FAILURE, KEYS]
    client.sock.sendall(stream)
    assert [client.reply()[0] for _ in expected] == expected
    other = Client(gate)
    for position in range(0, len(stream), 7):
        other.sock.sendall(stream[position : position + 7])
    assert [other.reply()[0] for _ in expected] == expected


@pytest.mark.parametrize("start", [bytes(4), b"\xff\xff\xff\xff", (256 * 1024 + 1).to_bytes(4, "big")])
def test_what_is_not_the_protocol_ends_the_connection(gate: Gate, start: bytes) -> None:
    client = Client(gate)
    client.sock.sendall(start)
    assert client.sock.recv(1) == b""
    assert Client(gate).ask(bytes([LIST])) == KEYS


def test_long_request_is_taken(gate: Gate, keys: Keys) -> None:
    client = Client(gate)
    assert client.ask(keys.bind("forge")) == SUCCESS
    assert client.ask(bytes([SIGN]) + string(keys.blob("id")) + string(bytes(250_000)) + bytes(4)) == FAILURE


def test_connections_are_limited(gate: Gate) -> None:
    clients = [Client(gate) for _ in range(64)]
    assert clients[-1].ask(bytes([LIST])) == KEYS
    over = Client(gate)
    assert over.sock.recv(1) == b""
    before = gate.fds()
    for client in clients:
        client.sock.close()
    wait_until(lambda: gate.fds() < before - 60, "the connections to be closed")
    assert Client(gate).ask(bytes([LIST])) == KEYS


def test_client_that_does_not_read_is_held_back(gate: Gate) -> None:
    client = Client(gate)
    client.sock.settimeout(0.3)
    before = gate.memory()
    requests = string(bytes([LIST])) * 1_000_000
    with pytest.raises(TimeoutError):
        client.sock.sendall(requests)
    assert gate.memory() - before < 4 << 20
    assert Client(gate).ask(bytes([LIST])) == KEYS


def test_agent_that_is_gone(gate: Gate, keys: Keys) -> None:
    held = Client(gate)
    assert held.ask(bytes([LIST])) == KEYS
    keys.process.terminate()
    keys.process.wait(TIMEOUT_S)
    assert held.sock.recv(1) == b""
    assert Client(gate).ask(bytes([LIST])) == FAILURE
    assert gate.wait_record("agent-refuse")["reason"].startswith("the agent cannot be reached: ")


def test_nothing_is_signed_without_a_record(start_gate: StartGate, keys: Keys, tmp_path: Path) -> None:
    gate = start_gate(entry(22), agent=keys.config(), audit=tmp_path / "missing" / "audit.jsonl")
    client = Client(gate)
    assert client.ask(keys.bind("forge")) == SUCCESS
    assert client.ask(keys.sign()) == FAILURE
