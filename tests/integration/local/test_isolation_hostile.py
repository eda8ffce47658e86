"""A hostile program uses what it has: its own processes, the gate, the key agent.

The bottle still ends when it is told to, and nothing outside notices.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from claude_bottle.backend.local import limits
from tests.support.bottle import World
from tests.support.sshd import SSHServer

GRACE_S = 20.0

STUBBORN = """
import ctypes, os, signal, sys, time
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, signal.SIG_IGN)
"""
FREEZE_FIRST_PROCESS = """
libc = ctypes.CDLL(None)
assert libc.ptrace(16, 1, None, None) == 0  # PTRACE_ATTACH
os.waitpid(1, 0x40000000)
"""
STOP_OTHERS = """
for pid in [int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]:
    try: os.kill(pid, signal.SIGSTOP)
    except OSError: pass
"""
MULTIPLY = """
for _ in range(40):
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
"""
STAY = """
print('on', flush=True)
time.sleep(600)
"""


def inside_python(*parts: str) -> tuple[str, ...]:
    return ("python3", "-c", "".join(textwrap.dedent(part) for part in parts))


TRICKS = {"deaf": "", "freeze": FREEZE_FIRST_PROCESS, "stop": STOP_OTHERS, "many": MULTIPLY}
ENDS = [
    ("deaf", "SIGTERM"),
    ("freeze", "stop"),
    ("stop", "stop"),
    ("many", "stop"),
    ("freeze", "SIGKILL"),
    ("many", "SIGKILL"),
]


@pytest.mark.parametrize(("trick", "how"), ENDS)
def test_a_program_that_will_not_end_is_ended(world: World, trick: str, how: str) -> None:
    marker = world.work.name + str(time.monotonic_ns())
    bottle = world.start(*inside_python(STUBBORN, TRICKS[trick], STAY), marker)
    assert bottle.stdout is not None
    assert bottle.stdout.readline() == "on\n"
    if how == "stop":
        assert world.cli("stop", "dev").returncode == 0
    else:
        bottle.send_signal(getattr(signal, how))
    bottle.communicate(timeout=GRACE_S)
    deadline = time.monotonic() + GRACE_S
    while processes_with(marker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_with(word: str) -> list[str]:
    """Processes outside, and inside as seen from outside, with a word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_killing_everyone_reaches_nobody_outside(world: World) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        assert world.run(
            *inside_python("import os, subprocess\nsubprocess.Popen(['sleep', '60'])\nos.kill(-1, 9)")
        ).returncode in (0, 128 + 9)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_planted_set_group_id_file_gains_nothing(world: World) -> None:
    others = [group for group in os.getgroups() if group != os.getgid()] if os.geteuid() else [65534]
    if not others:
        pytest.skip("needs a second group to give a file to; run as root: sudo make test")
    planted = world.work / "planted"
    shutil.copy("/usr/bin/id", planted)
    os.chown(planted, -1, others[0])
    planted.chmod(0o2755)
    assert world.outside(str(planted), "-g").stdout == f"{others[0]}\n"
    assert world.run(str(planted), "-g").stdout == f"{os.getgid()}\n"


@pytest.mark.parametrize("program", ["/usr/bin/su", "/usr/bin/passwd", "/usr/bin/mount", "/usr/bin/newgrp"])
def test_set_user_id_programs_run_as_the_caller(world: World, program: str) -> None:
    if not Path(program).exists() or not Path(program).stat().st_mode & 0o4000:
        pytest.skip(f"{program} is not set-user-ID here")
    code = textwrap.dedent(f"""
        import os, signal, time
        pid = os.fork()
        if pid == 0:
            read, write = os.pipe()
            os.dup2(read, 0)
            os.execv({program!r}, [{program!r}, 'nobody'])
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with open(f'/proc/{{pid}}/status') as lines:
                status = dict(line.split(':', 1) for line in lines)
            if status['Name'].strip() != 'python3':
                break
        print(status['Uid'].split()[1], status['CapEff'].strip())
        os.kill(pid, signal.SIGKILL)
    """)
    done = world.run("python3", "-c", code)
    assert done.stdout in ("", f"{os.geteuid()} {0:016x}\n"), done.stderr


@pytest.mark.parametrize("pattern", ["|/usr/lib/handler %p", "@/run/handler", "core"])
def test_a_crash_starts_no_program_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    """The kernel starts no crash handler for a process whose limit is one byte; any other limit does not hold it.

    Its real setting is the whole machine's, so the test cannot change it.
    """
    monkeypatch.setattr(limits, "CORE_PATTERN", tmp_path / "core_pattern")
    limits.CORE_PATTERN.write_text(pattern)
    with subprocess.Popen(["sleep", "60"]) as process:
        before = resource.prlimit(process.pid, resource.RLIMIT_CORE)
        limits.keep_crashes_inside(process.pid)
        after = resource.prlimit(process.pid, resource.RLIMIT_CORE)
        process.kill()
    assert after == (before if pattern == "core" else (1, 1))


def test_a_fork_bomb_meets_the_limit(world: World) -> None:
    world.bottle["resources"] = {"pids": 64}
    code = """
    import os, time
    made = 0
    try:
        while made < 500:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            made += 1
    except BlockingIOError:
        pass
    print(made)
    os.kill(-1, 9)
    """
    done = world.run(*inside_python(code))
    if "pids: not limited" in done.stderr:
        pytest.skip("no control group can be made here, and the kernel does not count root's processes")
    assert 0 < int(done.stdout) < 64


AGENT_TRICKS = {
    "descriptors": "s.sendmsg([ask], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [s.fileno()] * 200))])",
    "a length of 4 GB": "s.sendall(bytes([255] * 4) + ask)",
    "no length": "s.sendall(bytes(4))",
    "add a key": "s.sendall(bytes([0, 0, 0, 5, 17, 0, 0, 0, 0]))",
    "remove all keys": "s.sendall(bytes([0, 0, 0, 1, 19]))",
    "lock": "s.sendall(bytes([0, 0, 0, 9, 22, 0, 0, 0, 4]) + b'word')",
    "two at once": "s.sendall(ask + ask)",
    "byte by byte": "[s.sendall(ask[at:at + 1]) for at in range(5)]",
    "half": "s.sendall(ask[:3])",
    "an unknown request": "s.sendall(bytes([0, 0, 0, 1, 200]))",
}


def test_the_key_agent_takes_no_orders(world: World, forge: SSHServer) -> None:
    """Whatever is said to its socket inside, the next login works, and only listing is answered."""
    tricks = "\n".join(f"attempt({name!r}, lambda s: {words})" for name, words in AGENT_TRICKS.items())
    code = f"""
import array, json, os, socket
ask = bytes([0, 0, 0, 1, 11])
answers = {{}}
def attempt(name, act):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(2)
        s.connect(os.environ['SSH_AUTH_SOCK'])
        try:
            act(s)
            s.shutdown(socket.SHUT_WR)
            answers[name] = s.recv(65536)[4:5].hex()
        except OSError as error:
            answers[name] = type(error).__name__
{tricks}
print(json.dumps(answers))
"""
    (world.work / "tricks.py").write_text(code)
    done = world.sh("python3 tricks.py; ssh forge echo through; ssh-add -l")
    answers = json.loads(done.stdout.splitlines()[0])
    listed, refused = "0c", "05"
    assert {name for name, answer in answers.items() if answer == listed} == {
        "descriptors",
        "two at once",
        "byte by byte",
    }
    assert all(answers[name] == refused for name in ("add a key", "remove all keys", "lock", "an unknown request"))
    assert done.stdout.splitlines()[1] == "through"
    assert world.key.fingerprint in done.stdout


def test_the_agents_socket_cannot_be_replaced(world: World, forge: SSHServer) -> None:
    done = world.sh('rm -f "$SSH_AUTH_SOCK"; mv "$SSH_AUTH_SOCK" x; ln -sf x "$SSH_AUTH_SOCK"; ssh forge echo through')
    assert done.stdout == "through\n"


def test_descriptors_held_in_flight_do_not_starve_the_gate(world: World, forge: SSHServer) -> None:
    code = """
    import array, socket, subprocess
    pairs = [socket.socketpair() for _ in range(100)]
    for a, b in pairs:
        try: a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [b.fileno()] * 250))])
        except OSError: break
    print(subprocess.run(['ssh', 'forge', 'echo', 'through'], capture_output=True, text=True).stdout)
    """
    assert "through" in world.run(*inside_python(code)).stdout


def test_exec_into_a_hostile_bottle_shows_nothing_of_the_caller(world: World) -> None:
    """While `exec` enters, its process has the caller's memory and descriptors; the bottle watches for that moment."""
    world.environ["SECRET"] = secret = "the-callers-secret"
    watcher = textwrap.dedent("""
        import os, sys, ctypes
        libc = ctypes.CDLL(None)
        print('on', flush=True)
        found, seen, known = set(), 0, set(os.listdir('/proc'))
        while not os.path.exists('done'):
            for pid in set(os.listdir('/proc')) - known:
                if not pid.isdigit():
                    continue
                seen += 1
                for name in ('environ', 'mem', 'maps', 'fd', 'cwd', 'root', 'exe'):
                    path = f'/proc/{pid}/{name}'
                    try:
                        if name == 'fd':
                            found |= {os.readlink(f'{path}/{fd}') for fd in os.listdir(path)}
                        elif name in ('cwd', 'root', 'exe'):
                            found.add(os.readlink(path))
                        elif name == 'environ':
                            found.add(open(path).read())
                    except OSError:
                        continue
                if libc.ptrace(0x4206, int(pid), None, None) == 0:  # PTRACE_SEIZE, then INTERRUPT and DETACH
                    try:
                        found.add('traced ' + open(f'/proc/{pid}/cmdline').read())
                    except OSError:
                        pass
                    libc.ptrace(0x4207, int(pid), None, None)
                    os.waitpid(int(pid), 0x40000000)
                    libc.ptrace(17, int(pid), None, None)
        open('found', 'w').write(repr(sorted(found)))
        print(seen, flush=True)
    """)
    bottle = world.start("python3", "-c", watcher)
    try:
        assert bottle.stdout is not None
        assert bottle.stdout.readline() == "on\n"
        for _ in range(8):
            world.cli("exec", "dev", "--", "true")
        (world.work / "done").touch()
        assert int(bottle.stdout.readline()) > 0
    finally:
        bottle.communicate(timeout=30)
    found = (world.work / "found").read_text()
    assert secret not in found
    assert str(world.state) not in found
    assert "traced" not in found or sys.executable not in found
