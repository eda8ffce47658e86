"""Life beside a running bottle: exec, logs, ps, stop and --detach."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.integration.local.consoles import Console, exec_argv, run_argv
from tests.support.bottle import CLI, World
from tests.support.sshd import SSHServer, free_port, make_key

DEADLINE_S = 20.0
HEED = """
import os, signal, sys
def heed(number, frame):
    os.write(1, b"heard %d\\n" % number)
    sys.exit(4)
for name in sys.argv[1:]:
    signal.signal(signal.Signals[name], heed)
open("up", "w").close()
os.write(1, b"up\\n")
while True:
    signal.pause()
"""
"""a program that says which signal it got and ends in its own way"""
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e]")
"""characters that could change what a terminal shows; line ends apart"""


def eventually(condition: Callable[[], object]) -> None:
    """Look until it is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def detach(world: World, *command: str) -> str:
    """Start a detached bottle and return its name."""
    done = world.cli("run", "--detach", "--manifest", str(world.write()), "--", *command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def rows(world: World) -> list[dict[str, object]]:
    return list(json.loads(world.cli("ps", "--json").stdout))


@pytest.fixture
def idle(world: World) -> str:
    """A detached bottle that does nothing; the fixture `world` stops it."""
    return detach(world, "sleep", "600")


class TestExec:
    def test_the_exit_status_comes_back(self, world: World, idle: str) -> None:
        for status in (0, 7, 255):
            assert world.cli("exec", idle, "--", "sh", "-c", f"exit {status}").returncode == status
        assert world.cli("exec", idle, "--", "sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM
        missing = world.cli("exec", idle, "--", "no-such-program")
        assert missing.returncode == 127
        assert "no-such-program" in missing.stderr
        assert world.cli("exec", idle, "--", "/etc/passwd").returncode == 126

    def test_streams_are_the_callers(self, world: World, idle: str) -> None:
        done = world.cli("exec", idle, "--", "sh", "-c", "cat; echo err >&2", input="typed\0in\n")
        assert (done.stdout, done.stderr) == ("typed\0in\n", "err\n")

    def test_the_environment_is_the_bottles(self, world: World) -> None:
        world.bottle |= {"env": {"EDITOR": "vim"}, "pass_env": ["TOKEN"]}
        world.environ["TOKEN"] = "secret"
        name = detach(world, "sleep", "600")
        world.environ |= {"TOKEN": "another", "NOT_NAMED": "x"}
        inside = dict(line.split("=", 1) for line in world.cli("exec", name, "--", "env").stdout.splitlines())
        assert inside["EDITOR"] == "vim"
        assert inside["TOKEN"] == "secret"
        assert inside["CLAUDE_BOTTLE"] == name
        assert "NOT_NAMED" not in inside

    def test_the_kind_of_terminal_is_the_callers_of_exec(self, world: World) -> None:
        world.environ["TERM"] = "dumb"
        name = detach(world, "sleep", "600")
        world.environ["TERM"] = "screen-256color"
        assert world.cli("exec", name, "--", "sh", "-c", "echo $TERM").stdout == "screen-256color\n"

    def test_the_folder_is_the_work_folder_or_the_one_named(self, world: World, idle: str) -> None:
        assert world.cli("exec", idle, "--", "pwd").stdout == f"{world.work}\n"
        assert world.cli("exec", "--workdir", "/usr/bin", idle, "--", "pwd").stdout == "/usr/bin\n"
        done = world.cli("exec", "--workdir", "/no/such/folder", idle, "--", "pwd")
        assert done.returncode == 126
        assert "claude-bottle: error: " in done.stderr
        assert "/no/such/folder" in done.stderr

    def test_what_holds_for_the_bottle_holds_for_it(self, world: World) -> None:
        """The same namespaces, no capability, no new privileges, and the same system call filter."""
        script = (
            "grep -E '^(Cap|NoNewPrivs|Seccomp|SigIgn|Groups|Uid|Gid)' /proc/self/status; "
            "for kind in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$kind; done; "
            "unshare -U true; echo userns $?; cat /proc/self/oom_score_adj; ulimit -a; ls -la /proc/self/fd | wc -l"
        )
        name = detach(world, "sh", "-c", f"({script}) > facts.txt 2>&1; mv facts.txt facts; exec sleep 600")
        eventually((world.work / "facts").exists)
        done = world.cli("exec", name, "--", "sh", "-c", f"({script}) 2>&1", stdin=None)
        assert done.stdout == (world.work / "facts").read_text()
        assert "CapBnd:\t0000000000000000\n" in done.stdout
        assert "CapEff:\t0000000000000000\n" in done.stdout
        assert "NoNewPrivs:\t1\n" in done.stdout
        assert "Seccomp:\t2\n" in done.stdout
        ignored = int(done.stdout.partition("SigIgn:\t")[2].split()[0], 16)
        assert ignored & ~(0b11 << 31) == 0  # 32 and 33 are the C library's own; no program can change them
        assert "userns 1\n" in done.stdout

    def test_it_reaches_what_the_bottle_reaches(self, world: World, forge: SSHServer) -> None:
        name = detach(world, "sleep", "600")
        assert world.cli("exec", name, "--", "ssh", "forge", "echo through the gate").stdout == "through the gate\n"

    def test_it_ends_with_the_bottle(self, world: World, idle: str) -> None:
        running = subprocess.Popen(
            exec_argv(idle, "sh", "-c", "echo up; sleep 600"), cwd=world.work, env=world.env, stdout=subprocess.PIPE
        )
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        assert world.cli("stop", idle).returncode == 0
        assert running.wait(DEADLINE_S) == 128 + signal.SIGKILL
        assert running.stdout.read() == b""
        running.stdout.close()

    def test_its_own_end_does_not_end_the_bottle(self, world: World, idle: str) -> None:
        running = subprocess.Popen(
            exec_argv(idle, "sh", "-c", "echo $$; exec sleep 600"),
            cwd=world.work,
            env=world.env,
            stdout=subprocess.PIPE,
        )
        assert running.stdout is not None
        pid = running.stdout.readline().decode().strip()
        running.kill()
        running.communicate()
        eventually(lambda: world.cli("exec", idle, "--", "test", "-e", f"/proc/{pid}").returncode == 1)
        assert [row["status"] for row in rows(world)] == ["running"]

    def test_signals_reach_the_program(self, world: World, idle: str) -> None:
        argv = exec_argv(idle, "python3", "-c", HEED, "SIGTERM")
        running = subprocess.Popen(argv, cwd=world.work, env=world.env, stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        running.terminate()
        assert running.communicate(timeout=DEADLINE_S)[0] == "heard 15\n"
        assert running.returncode == 4

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("exec", "nobody", "--", "true"), "no bottle named 'nobody'"),
            (("exec", "ended", "--", "true"), "bottle ended does not run"),
            (("exec", "ended"), "no command to run"),
            (("exec", "../ended", "--", "true"), "no bottle named '../ended'"),
        ],
    )
    def test_what_cannot_be_entered_is_bad_input(self, world: World, words: tuple[str, ...], said: str) -> None:
        world.agents["ended"] = {"bottle": "dev", "command": ["true"]}
        assert world.cli("run", "--manifest", str(world.write()), "ended").returncode == 0
        done = world.cli(*words)
        assert done.returncode == 2
        assert said in done.stderr
        assert "claude-bottle: hint: " in done.stderr


class TestLogs:
    def test_text_tells_what_happened_line_by_line(self, world: World, server: SSHServer) -> None:
        world.declare(server)
        closed = free_port()
        world.declare(server, Host="down", Port=closed)
        world.sh("ssh forge true; ssh down true")
        shown = world.cli("logs", "dev").stdout
        lines = shown.splitlines()
        assert len(lines) == len(world.audit())
        assert "allowed by bottles.dev.ssh[0]" in shown
        assert f"down (127.0.0.1:{closed}) REFUSED: connection refused" in shown
        assert re.search(r"stop +status 255 after [0-9.]+ s$", lines[-1])
        assert all(re.match(r"\d\d:\d\d:\d\d\.\d\d\d  \S", line) for line in lines)

    def test_json_is_the_log_as_it_is(self, world: World) -> None:
        world.run("true")
        shown = world.cli("logs", "dev", "--json").stdout
        assert shown == (world.state / "dev/audit.jsonl").read_text()
        assert [json.loads(line)["event"] for line in shown.splitlines()] == ["launch", "stop"]

    def test_a_record_is_one_line_whatever_it_holds(self, world: World) -> None:
        """Nothing that an agent, a server or a folder is called can fake a line or reach the terminal."""
        evil = "a\nb\r\x1b[31mc\x9b2J\u2028d\u202ee"
        world.run("echo", evil)
        events: list[dict[str, object]] = [
            {"event": "launch", "agent": None, "command": [evil], "pid": 1, "workdir": evil},
            {"event": "connect", "conn": 1, "entry": evil, "host": evil, "port": 22, "rule": evil},
            {"event": "connected", "conn": 1, "address": evil},
            {"event": "refuse", "conn": 1, "entry": evil, "host": evil, "port": 22, "rule": evil, "reason": evil},
            {"event": "close", "conn": 1, "entry": evil, "sent_bytes": 1, "received_bytes": 1, "duration_s": 1.5},
            {"event": "close", "conn": 1, "entry": evil, "sent_bytes": 1, "received_bytes": 1, "duration_s": 1.5}
            | {"reason": evil},
            {"event": "stop", "status": evil, "duration_s": 1.5},
            {"event": "sign", "request": 1, "entry": evil, "key": evil, "verdict": evil},
            {"event": evil, evil: evil},
        ]
        log = world.state / "dev/audit.jsonl"
        with log.open("a", encoding="utf-8") as file:
            for event in events:
                record = {"time": "2026-01-01T00:00:00.000Z", "bottle": "dev", **event}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.write(f"not json {evil}".replace("\n", "") + "\n")
        shown = world.cli("logs", "dev").stdout
        assert CONTROLS.findall(shown) == []
        assert shown.count("\n") == len(log.read_bytes().rstrip(b"\n").split(b"\n")) == 2 + len(events) + 1

    def test_following_shows_records_as_they_come_and_ends_with_the_bottle(
        self, world: World, forge: SSHServer
    ) -> None:
        name = detach(world, "sleep", "600")
        following = subprocess.Popen(
            [*CLI, "logs", name, "-f", "--json"], cwd=world.work, env=world.env, stdout=subprocess.PIPE, text=True
        )
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["event"] == "launch"
        assert world.cli("exec", name, "--", "ssh", "forge", "true").returncode == 0
        seen = [json.loads(following.stdout.readline())["event"]]
        while seen[-1] != "close":
            seen.append(json.loads(following.stdout.readline())["event"])
        assert "connect" in seen
        world.cli("stop", name)
        assert json.loads(following.communicate(timeout=DEADLINE_S)[0])["event"] == "stop"
        assert following.returncode == 0

    def test_a_reader_that_goes_away_is_no_crash(self, world: World) -> None:
        for _ in range(3):
            world.run("true")
        log = world.state / "dev/audit.jsonl"
        log.write_text(log.read_text() * 500)
        argv = ["sh", "-c", '"$@" | head -n 1', "sh", *CLI, "logs", "dev"]
        done = subprocess.run(argv, cwd=world.work, env=world.env, capture_output=True, text=True, check=False)
        assert done.stdout.count("\n") == 1
        assert done.stderr == ""

    def test_a_bottle_that_never_ran_is_bad_input(self, world: World) -> None:
        done = world.cli("logs", "nobody")
        assert done.returncode == 2
        assert "no bottle named 'nobody'" in done.stderr


class TestPs:
    def test_only_running_bottles_are_listed(self, world: World) -> None:
        world.run("true")
        assert rows(world) == []
        assert world.cli("ps").stdout.split() == ["NAME", "STATUS", "AGENT", "STARTED", "HOSTS", "WORKDIR"]

    def test_a_running_bottle_is_told_whole(self, world: World, forge: SSHServer) -> None:
        world.agents["fixer"] = {"bottle": "dev", "command": ["sleep", "600"]}
        started = time.time()
        assert world.cli("run", "--detach", "--manifest", str(world.write()), "fixer").stdout == "fixer\n"
        (row,) = rows(world)
        wanted = {"name": "fixer", "status": "running", "agent": "fixer", "bottle": "dev", "hosts": ["forge"]}
        assert {name: row[name] for name in wanted} == wanted
        assert row["workdir"] == str(world.work)
        assert row["command"] == ["sleep", "600"]
        at = time.strptime(str(row["started"]), "%Y-%m-%dT%H:%M:%SZ")
        assert abs(started - (time.mktime(at) - time.timezone)) < 60
        os.kill(int(str(row["pid"])), 0)
        assert re.search(r"^fixer +running +fixer +\S+Z +forge +/", world.cli("ps").stdout, re.MULTILINE)

    def test_a_folders_name_cannot_break_the_table(self, world: World) -> None:
        folder = world.work / "a\nfaked  running\x1b[31m"
        folder.mkdir()
        argv = [*CLI, "run", "--detach", "--workdir", str(folder), "--manifest", str(world.write()), "--", "sleep", "9"]
        assert subprocess.run(argv, cwd=world.work, env=world.env, check=False, capture_output=True).returncode == 0
        shown = world.cli("ps").stdout
        assert shown.count("\n") == 2
        assert CONTROLS.findall(shown) == []


class TestStop:
    def test_a_program_may_end_in_its_own_way(self, world: World) -> None:
        name = detach(world, "python3", "-c", HEED, "SIGTERM")
        eventually((world.work / "up").exists)
        assert world.cli("stop", name).returncode == 0
        assert world.cli("logs", "--output", name).stdout == "up\nheard 15\n"
        assert world.audit()[-1]["event"] == "stop"
        assert world.audit()[-1]["status"] == 4
        assert rows(world) == []

    def test_a_program_that_will_not_end_is_killed(self, world: World) -> None:
        name = detach(world, "sh", "-c", "trap '' TERM HUP INT; touch up; sleep 600")
        eventually((world.work / "up").exists)
        begun = time.monotonic()
        assert world.cli("stop", name).returncode == 0
        assert 3 < time.monotonic() - begun < 15
        assert world.audit()[-1]["status"] == 128 + signal.SIGKILL
        assert rows(world) == []

    def test_a_bottle_that_has_ended_is_success(self, world: World) -> None:
        world.run("true")
        for _ in range(2):
            done = world.cli("stop", "dev")
            assert (done.returncode, done.stderr) == (0, "")

    def test_an_unknown_name_is_bad_input_and_nothing_is_stopped(self, world: World, idle: str) -> None:
        done = world.cli("stop", idle, "nobody")
        assert done.returncode == 2
        assert "no bottle named 'nobody'" in done.stderr
        assert f"claude-bottle: hint: known: {idle}" in done.stderr
        assert [row["status"] for row in rows(world)] == ["running"]

    @pytest.mark.parametrize("words", [(), ("--all", "dev")])
    def test_names_or_all_but_not_both_or_neither(self, world: World, words: tuple[str, ...]) -> None:
        done = world.cli("stop", *words)
        assert done.returncode == 2
        assert "claude-bottle: error: stop: name bottles, or --all" in done.stderr

    def test_all_is_every_bottle(self, world: World) -> None:
        assert [detach(world, "sleep", "600") for _ in range(3)] == ["dev", "dev-2", "dev-3"]
        assert [row["name"] for row in rows(world)] == ["dev", "dev-2", "dev-3"]
        assert world.cli("stop", "--all").returncode == 0
        assert rows(world) == []
        assert world.cli("stop", "--all").returncode == 0

    def test_two_stops_at_once_both_succeed(self, world: World, idle: str) -> None:
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda: results.append(world.cli("stop", idle).returncode)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert results == [0, 0]


class TestDetach:
    def test_it_prints_the_name_and_keeps_the_output(self, world: World) -> None:
        name = detach(world, "sh", "-c", "echo out; echo err >&2; cat; touch done; exec sleep 600")
        assert name == "dev"
        eventually((world.work / "done").exists)
        assert world.cli("logs", name, "--output").stdout == "out\nerr\n"
        world.cli("stop", name)
        assert world.cli("logs", name, "--output").stdout == "out\nerr\n"

    def test_output_can_be_followed(self, world: World) -> None:
        name = detach(world, "sh", "-c", "echo one; read x < fifo; echo two; read x < fifo")
        os.mkfifo(world.work / "fifo")
        following = subprocess.Popen(
            [*CLI, "logs", name, "-f", "--output"], cwd=world.work, env=world.env, stdout=subprocess.PIPE, text=True
        )
        assert following.stdout is not None
        assert following.stdout.readline() == "one\n"
        world.cli("stop", name)
        following.communicate(timeout=DEADLINE_S)
        assert following.returncode == 0

    def test_it_outlives_the_terminal_it_was_started_from(self, world: World) -> None:
        with Console(world) as console:
            words = run_argv(world, "python3", "-c", HEED, "SIGHUP")
            words.insert(words.index("--manifest"), "--detach")
            console.start(["bash", "-c", '"$@"; exec sleep 600', "bash", *words])
            console.expect("dev\r\n")
            eventually((world.work / "up").exists)
            console.hang_up()
            console.process.wait(DEADLINE_S)
        assert [row["status"] for row in rows(world)] == ["running"]
        assert world.cli("logs", "--output", "dev").stdout == "up\n"

    def test_a_start_that_fails_says_so_and_leaves_nothing(self, world: World, server: SSHServer) -> None:
        """Nobody is there to be asked for a passphrase."""
        world.declare(server, key=make_key(world.root / "locked", passphrase="secret"))
        done = world.cli("run", "--detach", "--manifest", str(world.write()), "--", "true")
        assert done.returncode == 4
        assert "claude-bottle: error: " in done.stderr
        assert done.stdout == ""
        assert rows(world) == []

    def test_nothing_of_the_caller_is_held_open(self, world: World) -> None:
        """`$(claude-bottle run --detach ...)` returns at once, although the bottle goes on."""
        reading, writing = os.pipe()
        argv = [*CLI, "run", "--detach", "--manifest", str(world.write()), "--", "sleep", "600"]
        done = subprocess.run(argv, cwd=world.work, env=world.env, stdout=writing, stderr=writing, check=False)
        os.close(writing)
        assert done.returncode == 0
        with os.fdopen(reading) as everything:
            assert everything.read() == "dev\n"


@pytest.fixture(autouse=True)
def no_bottle_stays(world: World) -> Iterator[None]:
    """What a test leaves running is stopped, and nothing is left then."""
    yield
    assert world.cli("stop", "--all").returncode == 0
    assert rows(world) == []
