"""The work folder is a way out later: what a program inside plants there must not run outside."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.bottle import CLI, World
from tests.support.lab import WITHOUT_RIGHTS
from tests.support.sshd import SSHServer

PLANT = 'printf "#!/bin/sh\\ntouch $MARK\\n" > {0}; chmod +x {0}; '
"""shell words that put a program at a path; it leaves a mark where only the host's programs can"""

HOOK = ".git/hooks/post-commit"


@pytest.fixture
def mark(world: World) -> Path:
    return world.root / "ran-on-the-host"


@pytest.fixture
def repository(world: World) -> Path:
    """A repository with a hook of its own, in the work folder."""
    git(world, "init", "-q", "-b", "main")
    git(world, "config", "user.name", "t")
    git(world, "config", "user.email", "t@example.com")
    git(world, "commit", "-q", "--allow-empty", "-m", "first")
    return world.work


def git(world: World, *words: str) -> "subprocess.CompletedProcess[str]":
    done = world.outside("git", *words)
    assert done.returncode == 0, done.stderr
    return done


def commit(world: World) -> None:
    git(world, "commit", "-q", "--allow-empty", "-m", "next")


def inside(world: World, mark: Path, script: str) -> "subprocess.CompletedProcess[str]":
    world.bottle["env"] = {"MARK": str(mark)}
    return world.sh(script)


WAYS = {
    "write": PLANT.format(HOOK),
    "rename the folder": f"mv .git/hooks .git/old; mkdir .git/hooks; {PLANT.format(HOOK)}",
    "remove the folder": f"rm -rf .git/hooks; mkdir .git/hooks; {PLANT.format(HOOK)}",
    "rename the repository": f"mv .git .old; cp -a .old .git; {PLANT.format(HOOK)}",
    "swap the repository": "cp -a .git new; "
    + PLANT.format("new/hooks/post-commit")
    + 'python3 -c "import ctypes; ctypes.CDLL(None).renameat2(-100, b\\"new\\", -100, b\\".git\\", 2)"',
    "rename the work folder": f"cd ..; mv work other; mkdir -p work/.git/hooks; cd work; {PLANT.format(HOOK)}",
    "unmount": f"umount .git/hooks; umount -l .git; {PLANT.format(HOOK)}",
    "remount": f"mount -o remount,rw .git/hooks; {PLANT.format(HOOK)}",
    "through /proc": PLANT.format(f"/proc/self/cwd/{HOOK}") + PLANT.format(f"/proc/1/cwd/{HOOK}"),
    "hard link": PLANT.format("planted") + f"ln planted {HOOK}",
    "by git": PLANT.format("planted") + 'git -c core.hooksPath=.git/hooks init -q --template="$PWD"',
    "chmod": f"chmod 777 .git .git/hooks; {PLANT.format(HOOK)}",
}


@pytest.mark.parametrize("way", WAYS)
def test_no_hook_can_be_planted(world: World, repository: Path, mark: Path, way: str) -> None:
    inside(world, mark, WAYS[way])
    commit(world)
    assert not mark.exists()


def test_outside_a_planted_hook_runs(world: World, repository: Path, mark: Path) -> None:
    world.environ["MARK"] = str(mark)
    world.outside("sh", "-c", WAYS["write"])
    commit(world)
    assert mark.exists()


SETTINGS = {
    "core.fsmonitor": ("status",),
    "core.hooksPath": ("commit", "--allow-empty", "-m", "next"),
    "core.pager": ("--paginate", "log"),
    "core.sshCommand": ("ls-remote", "ssh://nowhere.invalid/x"),
    "alias.st": ("st",),
}


@pytest.mark.parametrize("key", SETTINGS)
def test_a_planted_setting_is_named_and_put_back(world: World, repository: Path, mark: Path, key: str) -> None:
    program = f"{world.work}/planted"
    value = {"core.hooksPath": f"{world.work}/hooks", "alias.st": f"!{program}"}.get(key, program)
    script = PLANT.format(program) + f"mkdir hooks; cp planted hooks/post-commit; git config {key} '{value}'"
    done = inside(world, mark, script)
    assert key.lower() in done.stderr
    trigger = (
        ("script", "-qec", f"git {' '.join(SETTINGS[key])}", "/dev/null")
        if key == "core.pager"
        else ("git", *SETTINGS[key])
    )
    before = (repository / ".git/config").read_bytes()
    world.outside(*trigger)
    assert mark.exists(), "outside it does not run, so this proves nothing"
    mark.unlink()
    assert world.cli("restore", "dev").returncode == 0
    assert (repository / ".git/config").read_bytes() != before
    world.outside(*trigger)
    assert not mark.exists()


@pytest.mark.parametrize("folder", ["", "sub/", ".git/modules/x/"])
def test_a_new_repository_is_named(world: World, mark: Path, folder: str) -> None:
    script = f"git init -q --bare {folder}repo.git; " + PLANT.format(f"{folder}repo.git/hooks/post-receive")
    assert "post-receive" in inside(world, mark, script).stderr


def test_a_program_on_path_is_not_run_outside(world: World, server: SSHServer, mark: Path) -> None:
    """As with an activated virtual environment, whose programs lie in the work folder."""
    world.declare(server)
    programs = ("bwrap", "ssh-agent", "ssh-add", "ssh-keygen", "git", "python3", "setsid", "sh")
    script = "mkdir bin; " + "".join(PLANT.format(f"bin/{name}") for name in programs)
    assert inside(world, mark, script).returncode == 0
    world.environ["PATH"] = f"{world.work}/bin:{os.environ['PATH']}"
    assert world.outside("bwrap").returncode == 0
    assert mark.exists()
    mark.unlink()
    assert world.run("ssh", "forge", "true").returncode == 0
    assert world.cli("restore", "dev").returncode == 0
    assert not mark.exists()


@pytest.mark.parametrize("variable", ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"])
def test_a_library_is_not_loaded_outside(world: World, mark: Path, variable: str) -> None:
    """A loader variable for the program inside must not reach bubblewrap, which starts outside."""
    if subprocess.run(["gcc", "--version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs a C compiler; run: sudo apt-get install gcc libc6-dev")
    source = (
        f'#include <fcntl.h>\n__attribute__((constructor)) static void f(void) {{ open("{mark}", O_CREAT, 0600); }}\n'
    )
    source += "unsigned la_version(unsigned version) { return version; }\n"
    library = world.work / "libcap.so.2"
    (world.work / "planted.c").write_text(source)
    assert world.outside("gcc", "-shared", "-fPIC", "-o", str(library), "planted.c").returncode == 0
    value = str(world.work if variable == "LD_LIBRARY_PATH" else library)
    world.outside("env", f"{variable}={value}", "/usr/sbin/getcap" if variable == "LD_LIBRARY_PATH" else "true")
    if variable != "LD_LIBRARY_PATH":
        assert mark.exists()
        mark.unlink()
    world.bottle["env"] = {variable: value}
    done = world.sh(f"echo ${variable}")
    assert done.stdout == f"{value}\n", done.stderr
    assert not mark.exists()


@pytest.mark.parametrize("writable", [False, True])
def test_a_mounts_source_cannot_be_swapped(world: World, writable: bool) -> None:
    """A source in the work folder is the agent's to replace; the next bottle would show what it likes to see."""
    (world.work / "data").mkdir()
    world.bottle["mounts"] = [{"source": str(world.work / "data"), "target": "/data", "writable": writable}]
    assert world.sh(f"ls /data && rmdir data && ln -s {world.home}/.aws data").returncode == 0
    (world.home / ".aws").mkdir()
    done = world.sh("ls /data")
    assert done.returncode == 2
    assert "is a symlink, which an agent may have put there" in done.stderr


def test_a_symlink_on_a_mounts_way_is_refused(world: World) -> None:
    (world.root / "data").mkdir()
    target = world.work / "a/b"
    world.bottle["mounts"] = [{"source": str(world.root / "data"), "target": str(target)}]
    assert world.sh(f"ls {target}").returncode == 0
    for path in ("a/b", "a"):
        (world.work / path).rmdir()
    (world.work / "a").symlink_to(f"/oldroot{world.root}")
    done = world.run("true")
    assert done.returncode == 2
    assert "is a symlink" in done.stderr
    assert not (world.root / "b").exists()


@pytest.mark.parametrize("place", ["outside", "run"])
def test_what_the_host_mounts_later_is_not_seen(world: World, place: str) -> None:
    """Where mounts are shared, as systemd makes them, a namespace's copy of them follows the host's."""
    for folder in ("late", "work/late"):
        (world.root / folder).mkdir()
    world.bottle["mounts"] = [{"source": str(world.root / "late"), "target": str(world.root / "late")}]
    words = [*WITHOUT_RIGHTS, *CLI, "run", "--manifest", str(world.write()), "--"]
    bottle = " ".join(words) if place == "run" else ""
    script = f"""
        {bottle} sh -c 'touch on; until [ -e go ]; do sleep 0.02; done; ls late ../late; touch ../late/written' &
        until [ -e on ]; do sleep 0.02; done
        for folder in late ../late; do mount -t tmpfs tmpfs $folder; touch $folder/seen; done
        touch go; wait; ls ../late
    """
    rights = () if os.geteuid() == 0 else ("--user", "--map-current-user", "--keep-caps")
    done = world.outside("unshare", *rights, "--mount", "--propagation", "shared", "timeout", "30", "sh", "-c", script)
    assert done.stdout.count("seen") == (3 if place == "outside" else 1), done.stderr
    assert ("written" in done.stdout) == (place == "outside")


def test_a_listener_inside_is_not_reached_from_outside(world: World) -> None:
    server = "import socket; s = socket.create_server(('', {0})); print('on', flush=True); s.accept()"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bottle = world.start("python3", "-c", server.format(port))
    try:
        assert bottle.stdout is not None
        assert bottle.stdout.readline() == "on\n"
        for address in addresses():
            with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
                socket.create_connection((address, port), 1)
    finally:
        bottle.terminate()
        bottle.communicate(timeout=30)


def addresses() -> Sequence[str]:
    found = ["127.0.0.1", "127.1.0.1"]
    with contextlib.suppress(OSError):  # a machine whose own name does not resolve
        found += socket.gethostbyname_ex(socket.gethostname())[2]
    return found
