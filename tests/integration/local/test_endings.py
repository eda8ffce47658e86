"""A bottle ends in good order, however it is ended, and one that was let go stays."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.support.bottle import CLI, World
from tests.support.clients import PYTHON, recorded_pid
from tests.support.killer import STEPS
from tests.support.sshd import SSHServer
from tests.support.traces import files_of, processes_of, wait_until_gone
from tests.unit.relay.harness import wait_until

ENDING = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT]
BOUND_S = 20.0


@contextmanager
def running(world: World, script: str, shell: str = "bash") -> Iterator["subprocess.Popen[str]"]:
    """A command line whose program has begun, which the script tells by a line."""
    process = world.start(shell, "-c", script)
    assert process.stdout is not None
    try:
        assert select.select([process.stdout], [], [], BOUND_S)[0]
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def stop_record(world: World) -> Mapping[str, Any]:
    found = [record for record in world.audit() if record["event"] == "stop"]
    assert len(found) == 1
    return found[0]


def assert_nothing_left(world: World) -> None:
    assert files_of(world) == set()
    assert wait_until_gone(world) == []
    assert world.cli("ps", "--json").stdout == "[]\n"


# The command line gets a signal.


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_a_signal_ends_the_program_and_the_bottle(world: World, forge: SSHServer, number: signal.Signals) -> None:
    with running(world, "import signal; print('ready', flush=True); signal.pause()", PYTHON) as process:
        process.send_signal(number)  # not to bash, which ignores SIGQUIT
        assert process.wait(BOUND_S) == 128 + number
    assert stop_record(world)["status"] == 128 + number
    assert_nothing_left(world)


def test_the_program_may_end_in_its_own_way(world: World) -> None:
    script = 'trap "echo tidied > tidied; exit 5" TERM; echo ready; while :; do sleep 0.01; done'
    with running(world, script) as process:
        process.terminate()
        assert process.wait(BOUND_S) == 5
    assert (world.work / "tidied").read_text() == "tidied\n"
    assert stop_record(world)["status"] == 5
    assert_nothing_left(world)


def test_what_the_program_started_gets_the_signal_too(world: World) -> None:
    script = '(trap "echo told > told; exit" TERM; echo ready; sleep 60 & wait) & trap "" TERM; wait; wait'
    with running(world, script) as process:
        process.terminate()
        wait_until((world.work / "told").exists, "the child's answer")
        process.wait(BOUND_S)
    assert_nothing_left(world)


def test_a_program_that_will_not_end_is_ended(world: World) -> None:
    with running(world, 'trap "" TERM HUP; echo ready; sleep 60') as process:
        began = time.monotonic()
        process.terminate()
        assert process.wait(BOUND_S) == 128 + signal.SIGKILL
        assert 4 < time.monotonic() - began < 8
    assert stop_record(world)["status"] == 128 + signal.SIGKILL
    assert_nothing_left(world)


def test_an_interrupt_is_the_programs_to_refuse(world: World) -> None:
    script = 'trap "echo refused" INT; echo ready; while ! [ -e go ]; do sleep 0.01; done; exit 3'
    with running(world, script) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], BOUND_S)[0]
        assert process.stdout.readline() == "refused\n"
        (world.work / "go").touch()
        assert process.wait(BOUND_S) == 3
    assert_nothing_left(world)


@pytest.mark.parametrize("step", STEPS)
def test_a_signal_during_the_start_is_not_lost(world: World, forge: SSHServer, step: str) -> None:
    argv = [sys.executable, "-m", "tests.support.interrupter", "SIGTERM", step, "--"]
    argv += ["run", "--manifest", str(world.write()), "--", "sleep", "60"]
    began = time.monotonic()
    done = world.outside(*argv)
    assert time.monotonic() - began < BOUND_S
    assert done.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in done.stderr
    assert_nothing_left(world)


def test_the_end_of_the_callers_terminal_ends_the_bottle(world: World) -> None:
    words = [*CLI[1:], "run", "--manifest", str(world.write()), "--", "bash", "-c", "echo ready; exec sleep 60"]
    terminal = pexpect.spawn(CLI[0], words, cwd=str(world.work), env=world.env, timeout=BOUND_S)
    terminal.expect_exact("ready")
    terminal.close()  # the kernel hangs up on whoever the terminal belongs to
    assert wait_until_gone(world) == []
    assert stop_record(world)["status"] == 128 + signal.SIGHUP
    assert_nothing_left(world)


def test_a_reader_that_goes_away_ends_the_program_as_in_any_pipe(world: World) -> None:
    with running(world, "echo ready; while [ ! -e go ]; do sleep 0.01; done; echo more; echo end > end") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        (world.work / "go").touch()
        assert process.wait(BOUND_S) == 128 + signal.SIGPIPE
    assert not (world.work / "end").exists()
    assert_nothing_left(world)


# Detached.


def detach(world: World, *command: str) -> str:
    """Start a bottle in the background, from a shell that ends; return its name."""
    words = (*CLI, "run", "--detach", "--manifest", str(world.write()), "--", *command)
    done = world.outside("bash", "-c", '"$@"; echo $$', "bash", *words)
    name, shell = done.stdout.splitlines()
    assert not os.path.exists(f"/proc/{shell}")
    return name


def test_a_detached_bottle_outlives_the_shell_that_started_it(world: World, forge: SSHServer) -> None:
    name = detach(world, "bash", "-c", "echo printed; exec sleep 60")
    assert name == "dev"
    (row,) = json.loads(world.cli("ps", "--json").stdout)
    assert (row["name"], row["status"]) == ("dev", "running")
    supervisor = recorded_pid(world, "supervisor")
    assert row["pid"] == supervisor
    assert os.getsid(supervisor) == supervisor
    assert world.cli("exec", name, "--", "ssh", "forge", "echo through").stdout == "through\n"
    assert world.cli("logs", name, "--output").stdout == "printed\n"
    assert world.cli("stop", name).returncode == 0
    assert stop_record(world)["status"] == 128 + signal.SIGTERM
    assert wait_until_gone(world) == []
    assert files_of(world) == {str(world.state / "dev/output.log")}


def test_a_detached_bottle_outlives_the_terminal_it_was_started_on(world: World) -> None:
    terminal = pexpect.spawn("bash", ["--norc"], cwd=str(world.work), env=world.env, timeout=BOUND_S)
    words = " ".join([*CLI, "run", "--detach", "--manifest", str(world.write()), "--", "sleep", "60"])
    terminal.sendline(f'{words} && echo it-"runs"')
    terminal.expect_exact("it-runs")
    terminal.close(force=True)
    (row,) = json.loads(world.cli("ps", "--json").stdout)
    assert row["status"] == "running"
    assert world.cli("exec", "dev", "--", "echo", "works").stdout == "works\n"
    assert world.cli("stop", "dev").returncode == 0
    assert_nothing_left(world)


def test_a_detached_bottle_holds_nothing_of_its_callers(world: World) -> None:
    """A caller that waits for the end of its pipes is not kept waiting."""
    began = time.monotonic()
    detach(world, "sleep", "60")
    assert time.monotonic() - began < BOUND_S
    ours = {os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)}
    for pid in (int(line.split()[0]) for line in processes_of(world)):
        links = set()
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                links.add(str(fd.readlink()))
        assert not {link for link in links & ours if link.startswith(("pipe:", "/dev/pts"))}


def test_a_detached_program_that_ends_leaves_its_output(world: World) -> None:
    detach(world, "bash", "-c", "echo to stdout; echo to stderr >&2; exit 4")
    assert wait_until_gone(world) == []
    assert stop_record(world)["status"] == 4
    assert sorted(world.cli("logs", "dev", "--output").stdout.splitlines()) == ["to stderr", "to stdout"]
    assert world.cli("ps", "--json").stdout == "[]\n"


def test_a_detached_start_that_fails_says_so_to_its_caller(world: World) -> None:
    (world.state / "dev").mkdir(parents=True)
    (world.state / "dev/.state.json").mkdir()
    done = world.cli("run", "--detach", "--manifest", str(world.write()), "--", "sleep", "60")
    assert done.returncode == 3
    assert done.stdout == ""
    assert "claude-bottle: error:" in done.stderr
    assert wait_until_gone(world) == []


# stop.


def test_stop_waits_for_a_program_that_tidies_up(world: World) -> None:
    detach(
        world,
        "bash",
        "-c",
        'trap "sleep 0.3; echo tidied > tidied; exit 0" TERM; touch on; while :; do sleep 0.01; done',
    )
    wait_until((world.work / "on").exists, "the program")
    assert world.cli("stop", "dev").returncode == 0
    assert (world.work / "tidied").exists()
    assert stop_record(world)["status"] == 0


def test_stop_ends_a_command_line_that_is_stuck(world: World) -> None:
    detach(world, "sleep", "60")
    os.kill(recorded_pid(world, "supervisor"), signal.SIGSTOP)
    assert world.cli("stop", "dev").returncode == 0
    assert_nothing_left(world)


def test_stop_from_two_sides_at_once(world: World, forge: SSHServer) -> None:
    detach(world, "sleep", "60")
    words = (*CLI, "stop", "--all")
    both = [
        subprocess.Popen(words, env=world.env, cwd=world.work, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in both] == [(b"", 0)] * 3
    assert_nothing_left(world)


def test_stop_of_what_has_ended_is_success(world: World) -> None:
    world.run("true")
    assert world.cli("stop", "dev").returncode == 0
    assert world.cli("stop", "--all").returncode == 0
