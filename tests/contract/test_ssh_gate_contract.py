"""The SSH gate's contract, one test per line of it; the rendered script runs in busybox ash with the real socat.

The listen ports are fixed, so each test that runs the script does so in network namespaces of its own (user namespaces
too, so that it works for root and for anybody else), where only loopback exists.
"""

import abc
import dataclasses
import inspect
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from claude_bottle import ssh_gate
from claude_bottle.errors import BottleError, PlanError
from claude_bottle.manifest.model import Bottle, SSHEntry
from claude_bottle.ssh_gate import (
    BASE_LISTEN_PORT,
    SSHGate,
    SSHGatePlan,
    SSHGateUpstream,
    ssh_gate_render_entrypoint,
    ssh_gate_upstreams_for_bottle,
)

THREE = Bottle(
    ssh=(
        SSHEntry(Host="forge", Hostname="git.example.com", Port=22),
        SSHEntry(Host="box", Hostname="192.0.2.7", Port=2222),
        SSHEntry(Host="six", Hostname="2001:db8::1", Port=22),
    )
)


class RecordingGate(SSHGate):
    """A gate without an engine: it keeps what was started."""

    def __init__(self) -> None:
        self.running: dict[str, SSHGatePlan] = {}

    def start(self, plan: SSHGatePlan) -> str:
        self.require_networks(plan)
        self.running[plan.slug] = plan
        return plan.slug

    def stop(self, target: str) -> None:
        self.running.pop(target, None)


class TestManifest:
    def test_bottle_ssh_is_an_ordered_sequence_of_host_hostname_port(self) -> None:
        assert [(entry.Host, entry.Hostname, entry.Port) for entry in THREE.ssh] == [
            ("forge", "git.example.com", 22),
            ("box", "192.0.2.7", 2222),
            ("six", "2001:db8::1", 22),
        ]

    def test_a_bottle_is_built_in_memory_from_any_sequence_of_any_objects(self) -> None:
        entries = [SimpleNamespace(Host="forge", Hostname="git.example.com", Port=22)]
        upstreams = ssh_gate_upstreams_for_bottle(SimpleNamespace(ssh=entries))  # type: ignore[arg-type]
        assert upstreams == (SSHGateUpstream(30000, "git.example.com", 22, "forge"),)


class TestNames:
    def test_the_first_listen_port_is_30000(self) -> None:
        assert BASE_LISTEN_PORT == 30000

    @pytest.mark.parametrize(
        ("kind", "fields"),
        [
            (
                SSHGateUpstream,
                [("listen_port", int), ("upstream_host", str), ("upstream_port", int), ("bottle_host_alias", str)],
            ),
            (
                SSHGatePlan,
                [
                    ("slug", str),
                    ("entrypoint_script", Path),
                    ("upstreams", tuple[SSHGateUpstream, ...]),
                    ("internal_network", str),
                    ("egress_network", str),
                ],
            ),
        ],
    )
    def test_dataclass_fields_in_order(self, kind: type, fields: list[tuple[str, object]]) -> None:
        assert [(field.name, field.type) for field in dataclasses.fields(kind)] == fields

    def test_both_dataclasses_are_frozen(self) -> None:
        upstream = SSHGateUpstream(30000, "git.example.com", 22, "forge")
        plan = SSHGatePlan("dev", Path("/stage/x.sh"), (upstream,))
        with pytest.raises(dataclasses.FrozenInstanceError):
            upstream.listen_port = 1  # type: ignore[misc]
        with pytest.raises(dataclasses.FrozenInstanceError):
            plan.slug = "other"  # type: ignore[misc]

    def test_networks_are_empty_by_default_and_filled_with_replace(self) -> None:
        plan = SSHGatePlan("dev", Path("/stage/x.sh"), ())
        assert (plan.internal_network, plan.egress_network) == ("", "")
        filled = dataclasses.replace(plan, internal_network="in", egress_network="out")
        assert (filled.internal_network, filled.egress_network) == ("in", "out")
        assert filled.slug == plan.slug


class TestUpstreams:
    def test_entry_i_listens_on_base_plus_i_in_manifest_order(self) -> None:
        assert ssh_gate_upstreams_for_bottle(THREE) == (
            SSHGateUpstream(30000, "git.example.com", 22, "forge"),
            SSHGateUpstream(30001, "192.0.2.7", 2222, "box"),
            SSHGateUpstream(30002, "2001:db8::1", 22, "six"),
        )

    def test_deterministic(self) -> None:
        assert ssh_gate_upstreams_for_bottle(THREE) == ssh_gate_upstreams_for_bottle(THREE)

    def test_reordering_the_manifest_reorders_the_ports(self) -> None:
        turned = Bottle(ssh=tuple(reversed(THREE.ssh)))
        upstreams = ssh_gate_upstreams_for_bottle(turned)
        assert [(each.bottle_host_alias, each.listen_port) for each in upstreams] == [
            ("six", 30000),
            ("box", 30001),
            ("forge", 30002),
        ]

    def test_appending_an_entry_moves_no_port(self) -> None:
        longer = Bottle(ssh=(*THREE.ssh, SSHEntry("new", "new.example.com")))
        assert ssh_gate_upstreams_for_bottle(longer)[:3] == ssh_gate_upstreams_for_bottle(THREE)

    def test_two_bottles_have_the_same_ports(self) -> None:
        other = Bottle(ssh=(SSHEntry("a", "a.example.com"),))
        assert ssh_gate_upstreams_for_bottle(other)[0].listen_port == BASE_LISTEN_PORT

    def test_no_entries_no_upstreams(self) -> None:
        assert ssh_gate_upstreams_for_bottle(Bottle()) == ()

    def test_a_port_past_32767_is_refused_and_says_how_many_entries_fit(self) -> None:
        entries = tuple(SSHEntry(f"h{number}", f"h{number}.example.com") for number in range(2769))
        assert ssh_gate_upstreams_for_bottle(Bottle(ssh=entries[:2768]))[-1].listen_port == 32767
        with pytest.raises(PlanError, match=r"2769 entries, but only 2768 fit"):
            ssh_gate_upstreams_for_bottle(Bottle(ssh=entries))

    @pytest.mark.parametrize(
        "hostname", ["a b", "$(id)", "`id`", "a;id", "a\nb", "-oProxyCommand=id", "::1%$(id)", "é"]
    )
    def test_what_is_no_host_name_or_ip_literal_is_refused_with_its_place(self, hostname: str) -> None:
        bottle = Bottle(ssh=(SSHEntry("good", "good.example.com"), SSHEntry("evil", hostname)))
        with pytest.raises(BottleError) as caught:
            ssh_gate_upstreams_for_bottle(bottle)
        assert caught.value.where == "ssh[1].Hostname"
        assert repr(hostname) in caught.value.what


class TestScript:
    def test_text(self) -> None:
        assert ssh_gate_render_entrypoint(ssh_gate_upstreams_for_bottle(THREE)) == (
            "#!/bin/sh\n"
            "set -eu\n"
            "socat TCP-LISTEN:30000,reuseaddr,fork TCP:git.example.com:22 &\n"
            "socat TCP-LISTEN:30001,reuseaddr,fork TCP:192.0.2.7:2222 &\n"
            "socat TCP-LISTEN:30002,reuseaddr,fork TCP6:[2001:db8::1]:22 &\n"
            "wait\n"
        )

    @pytest.mark.parametrize("shell", [("busybox", "ash"), ("dash",), ("sh",)])
    def test_is_posix_sh(self, shell: Sequence[str]) -> None:
        if shutil.which(shell[0]) is None:
            pytest.skip(f"apt install {shell[0]}")
        script = ssh_gate_render_entrypoint(ssh_gate_upstreams_for_bottle(THREE))
        checked = subprocess.run([*shell, "-n"], input=script, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")

    def test_without_upstreams_it_is_valid_and_ends_at_once(self) -> None:
        script = ssh_gate_render_entrypoint(())
        assert script == "#!/bin/sh\nset -eu\nwait\n"
        assert subprocess.run(["busybox", "ash", "-c", script], timeout=20, check=False).returncode == 0

    @pytest.mark.parametrize("hostname", ["127.0.0.1", "localhost", "::1"], ids=["ipv4", "name", "ipv6"])
    def test_busybox_ash_runs_it_and_it_forwards(self, tmp_path: Path, hostname: str) -> None:
        report = run_in_namespace(tmp_path, [(hostname, 4000)], "probe(30000)")
        assert report == ["echo of 4000: hello"]

    def test_every_upstream_has_its_own_port(self, tmp_path: Path) -> None:
        upstreams = [("127.0.0.1", 4000), ("::1", 4001), ("127.0.0.1", 4002)]
        report = run_in_namespace(tmp_path, upstreams, "probe(30000); probe(30001); probe(30002)")
        assert report == ["echo of 4000: hello", "echo of 4001: hello", "echo of 4002: hello"]

    def test_if_one_forwarder_dies_the_others_go_on(self, tmp_path: Path) -> None:
        steps = "kill_forwarder(30000); refused(30000); probe(30001); probe(30001); report(str(script_runs()))"
        report = run_in_namespace(tmp_path, [("127.0.0.1", 4000), ("127.0.0.1", 4001)], steps)
        assert report == ["30000 refused", "echo of 4001: hello", "echo of 4001: hello", "True"]

    def test_it_serves_many_connections_at_once(self, tmp_path: Path) -> None:
        report = run_in_namespace(tmp_path, [("127.0.0.1", 4000)], "together(30000, 4)")
        assert report == ["echo of 4000: hello"] * 4


class TestGate:
    def test_it_is_abstract_in_start_and_stop_only(self) -> None:
        assert issubclass(SSHGate, abc.ABC)
        assert SSHGate.__abstractmethods__ == {"start", "stop"}
        with pytest.raises(TypeError):
            SSHGate()  # type: ignore[abstract]

    @pytest.mark.parametrize(
        ("name", "parameters"),
        [
            ("prepare", ["self", "bottle", "slug", "stage_dir"]),
            ("start", ["self", "plan"]),
            ("stop", ["self", "target"]),
        ],
    )
    def test_signatures(self, name: str, parameters: list[str]) -> None:
        assert list(inspect.signature(getattr(SSHGate, name)).parameters) == parameters

    def test_prepare_writes_the_script_and_returns_a_plan_without_networks(self, tmp_path: Path) -> None:
        plan = RecordingGate().prepare(THREE, "dev", tmp_path)
        script = tmp_path / "ssh_gate_entrypoint.sh"
        assert plan == SSHGatePlan("dev", script, ssh_gate_upstreams_for_bottle(THREE), "", "")
        assert script.read_text() == ssh_gate_render_entrypoint(plan.upstreams)
        assert stat.S_IMODE(script.stat().st_mode) == 0o600

    def test_prepare_touches_no_engine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No program runs and no socket is opened, as far as the interpreter's own audit events tell."""
        seen: list[str] = []
        recording = [True]

        def hook(event: str, _arguments: object) -> None:
            if recording[0] and event.startswith(("subprocess.", "os.posix_spawn", "os.exec", "os.fork", "socket.")):
                seen.append(event)

        sys.addaudithook(hook)
        RecordingGate().prepare(THREE, "dev", tmp_path)
        recording[0] = False
        assert seen == []
        assert [path.name for path in tmp_path.iterdir()] == ["ssh_gate_entrypoint.sh"]

    def test_prepare_is_deterministic(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        first = RecordingGate().prepare(THREE, "dev", tmp_path / "a")
        second = RecordingGate().prepare(THREE, "dev", tmp_path / "b")
        assert first.upstreams == second.upstreams
        assert first.entrypoint_script.read_bytes() == second.entrypoint_script.read_bytes()

    @pytest.mark.parametrize(("internal", "egress"), [("", ""), ("in", ""), ("", "out")])
    def test_start_refuses_a_plan_in_which_a_network_is_empty(self, tmp_path: Path, internal: str, egress: str) -> None:
        gate = RecordingGate()
        plan = gate.prepare(THREE, "dev", tmp_path)
        with pytest.raises(PlanError, match="network is not set"):
            gate.start(dataclasses.replace(plan, internal_network=internal, egress_network=egress))
        assert gate.running == {}

    def test_start_returns_the_target_that_stop_takes_and_stop_is_idempotent(self, tmp_path: Path) -> None:
        gate = RecordingGate()
        plan = dataclasses.replace(gate.prepare(THREE, "dev", tmp_path), internal_network="in", egress_network="out")
        target = gate.start(plan)
        assert isinstance(target, str)
        assert gate.running == {target: plan}
        gate.stop(target)
        gate.stop(target)
        assert gate.running == {}

    @pytest.mark.parametrize("name", ["start", "stop"])
    def test_the_contract_is_in_the_docs(self, name: str) -> None:
        words = {"start": "target that `stop` takes", "stop": "a target that is gone is success"}
        assert words[name] in (getattr(SSHGate, name).__doc__ or "")


def test_the_room_imports_no_engine() -> None:
    source = inspect.getsource(ssh_gate)
    assert not re.search(r"import (subprocess|socket|docker)", source)


# The program that runs inside the namespaces: echo servers on the upstream ports, the script in busybox ash, the steps.
_INSIDE = r"""
import json, os, signal, socket, subprocess, sys, threading, time

plan = json.loads(sys.argv[1])
DEADLINE = time.monotonic() + 60

def report(line):
    print(line, flush=True)

def serve(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    def loop():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection, port), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()

def answer(connection, port):
    with connection:
        data = connection.recv(100)
        connection.sendall(f"echo of {port}: ".encode() + data)

def connect(port):
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        except ConnectionRefusedError:
            if time.monotonic() > DEADLINE:
                raise
            time.sleep(0.01)

def talk(connection):
    with connection:
        connection.sendall(b"hello")
        return b"".join(iter(lambda: connection.recv(100), b"")).decode()

def probe(port):
    report(talk(connect(port)))

def together(port, count):
    connections = [connect(port) for _ in range(count)]
    for connection in connections:
        report(talk(connection))

def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=20)
    except ConnectionRefusedError:
        report(f"{port} refused")

def kill_forwarder(port):
    connect(port).close()
    children = open(f"/proc/{script.pid}/task/{script.pid}/children").read().split()
    for pid in map(int, children):
        if f"TCP-LISTEN:{port}," in open(f"/proc/{pid}/cmdline").read():
            os.kill(pid, signal.SIGKILL)
            while os.path.exists(f"/proc/{pid}/exe") and time.monotonic() < DEADLINE:
                time.sleep(0.01)

def script_runs():
    return script.poll() is None

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
for host, port in plan["servers"]:
    serve(host, port)
script = subprocess.Popen(["busybox", "ash", plan["script"]], stdin=subprocess.DEVNULL, start_new_session=True)
try:
    exec(plan["steps"])
finally:
    os.killpg(script.pid, signal.SIGKILL)
"""


def run_in_namespace(tmp_path: Path, upstreams: Sequence[tuple[str, int]], steps: str) -> list[str]:
    """Run the script for `upstreams` (each an echo server) and then `steps`; return what the steps reported."""
    for program in ("busybox", "socat", "unshare", "ip"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            pytest.skip(f"apt install busybox socat util-linux iproute2 ({program} is missing)")
    entries = tuple(SSHEntry(f"e{index}", host, port) for index, (host, port) in enumerate(upstreams))
    plan = RecordingGate().prepare(Bottle(ssh=entries), "dev", tmp_path)
    servers = [("127.0.0.1" if host == "localhost" else host, port) for host, port in upstreams]
    job = json.dumps({"script": str(plan.entrypoint_script), "servers": servers, "steps": steps})
    argv = ["unshare", "-Urn", sys.executable, "-c", _INSIDE, job]
    env = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    done = subprocess.run(argv, env=env, text=True, capture_output=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
