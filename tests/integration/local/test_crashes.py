"""SIGKILL at every step of a start, for every process of a bottle: nothing stays that `stop --all` does not remove."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.bottle import World
from tests.support.killer import STEPS
from tests.support.sshd import SSHServer
from tests.support.traces import files_of, processes_of, wait_until_gone


def run_with_a_death(world: World, victim: str, step: str, when: str) -> "subprocess.CompletedProcess[str]":
    """Run a bottle in which one process dies; its output goes to files, which a process left behind cannot hold up."""
    argv = [sys.executable, "-m", "tests.support.killer", victim, step, when, "--"]
    argv += ["run", "--manifest", str(world.write()), "--", "sh", "-c", "echo ran; exec sleep 0.2"]
    with (world.root / "out").open("w+") as out, (world.root / "err").open("w+") as err:
        done = subprocess.run(
            argv, cwd=world.work, env=world.env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=60
        )
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(argv, done.returncode, out.read(), err.read())


def assert_swept(world: World) -> None:
    assert world.cli("stop", "--all").returncode == 0
    assert wait_until_gone(world) == []
    assert files_of(world) == set()
    assert world.cli("ps", "--json").stdout == "[]\n"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_the_command_line_dies(world: World, forge: SSHServer, step: str, when: str) -> None:
    done = run_with_a_death(world, "cli", step, when)
    assert done.returncode == -signal.SIGKILL
    assert ("ran" in done.stdout) <= ((step, when) in (("_release", "after"), ("_stay", "before"), ("_stay", "after")))
    assert_swept(world)


@pytest.mark.skipif(os.getuid() != 0, reason="control groups are root's here; run as root: make test")
def test_the_control_groups_of_a_crashed_bottle_are_swept(world: World) -> None:
    world.bottle["resources"] = {"pids": 100, "memory": "1GiB"}
    world.agents["grouped"] = {"bottle": "dev", "command": ["true"]}
    argv = [sys.executable, "-m", "tests.support.killer", "cli", "_stay", "before", "--", "run", "grouped"]
    subprocess.run([*argv, "--manifest", str(world.write())], cwd=world.work, env=world.env, timeout=60)
    record = json.loads((world.state / "grouped/state.json").read_text())
    assert [path for path in map(Path, record["groups"]) if path.is_dir()]
    assert_swept(world)
    assert [path for path in map(Path, record["groups"]) if path.is_dir()] == []


@pytest.mark.parametrize("step", STEPS[STEPS.index("_start_gate") :])
@pytest.mark.parametrize("victim", ["gate", "keys", "bwrap"])
def test_another_process_of_the_bottle_dies(world: World, forge: SSHServer, victim: str, step: str) -> None:
    done = run_with_a_death(world, victim, step, "after")
    assert done.returncode >= 0  # the command line itself lives, and says what happened
    assert "Traceback" not in done.stderr
    assert ("ran" in done.stdout) or done.stderr.startswith(("claude-bottle: error:", "bwrap:")) or victim == "bwrap"
    assert files_of(world) == set()  # nobody had to sweep
    assert_swept(world)


def test_the_program_dies(world: World, forge: SSHServer) -> None:
    assert world.sh("kill -KILL $$").returncode == 128 + signal.SIGKILL
    assert files_of(world) == set()
    assert_swept(world)


def test_a_crash_is_shown_and_the_name_can_be_used_again(world: World, forge: SSHServer) -> None:
    run_with_a_death(world, "cli", "_stay", "before")
    assert "crashed" in world.cli("ps").stdout
    assert world.sh("echo $CLAUDE_BOTTLE").stdout == "dev\n"
    assert files_of(world) == set()


def test_without_its_gate_a_bottle_loses_its_network_and_nothing_else(world: World, forge: SSHServer) -> None:
    ready = world.work / "ready"
    running = world.start(
        "bash", "-c", "ssh -T forge true && touch ready; read -r _ < go; ssh -T forge true; echo status $?; echo alive"
    )
    (go := world.work / "go").touch()
    go.unlink()
    os.mkfifo(go)
    deadline = time.monotonic() + 30
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ready.exists()
    gates = [line for line in processes_of(world) if "claude_bottle.relay" in line]
    assert len(gates) == 1
    os.kill(int(gates[0].split()[0]), signal.SIGKILL)
    while any("claude_bottle.relay" in line for line in processes_of(world)):
        assert time.monotonic() < deadline
    go.write_text("\n")
    out, err = running.communicate(timeout=30)
    assert "status 255" in out
    assert "alive" in out
    assert "the gate has ended" in err
    assert running.returncode == 0


@pytest.mark.heavy
def test_two_hundred_bottles_leave_nothing(world: World, forge: SSHServer) -> None:
    world.run("true")
    for _ in range(200):
        assert world.run("true").returncode == 0
    assert wait_until_gone(world) == []
    assert files_of(world) == set()
    assert sorted(path.name for path in world.state.iterdir() if path.is_dir()) == ["dev"]
