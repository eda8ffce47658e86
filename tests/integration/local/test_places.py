"""Where a bottle keeps and finds things: full disks, missing and deep folders, work folders with any name."""

import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bottle import CLI, World
from tests.support.clients import Clients
from tests.support.sshd import SSHServer
from tests.support.surroundings import in_mounts, with_disk
from tests.support.traces import files_of, wait_until_gone


def run_words(world: World, *command: str) -> tuple[str, ...]:
    return (*CLI, "run", "--manifest", str(world.write()), "--", *command)


def and_list(folder: Path, words: tuple[str, ...]) -> tuple[str, ...]:
    """Run a command, then print the files below a folder; with the command's exit status."""
    return ("sh", "-c", f'"$@"; status=$?; find {folder} -type f; exit $status', "sh", *words)


def run_with(world: World, environ: dict[str, str | None], *command: str) -> "subprocess.CompletedProcess[str]":
    """Run in bottle `dev` with variables of the caller's changed, or removed where None."""
    changed = {**world.env, **environ}
    env = {name: value for name, value in changed.items() if value is not None}
    return world.outside(*run_words(world, *command), env=env)


# Disks.


def test_a_full_disk_at_the_start_is_an_error_and_leaves_nothing(world: World) -> None:
    world.state.mkdir(parents=True)
    fill = f"dd if=/dev/zero of={world.state}/.filler bs=4096 count=1 status=none"
    disk = with_disk(world.state, "size=4096", "sh", "-ec", f'{fill}; exec "$@"', "sh")
    done = world.outside(*disk, *and_list(world.state, run_words(world, "echo", "ran")))
    assert done.returncode == 3
    assert done.stdout == f"{world.state}/.filler\n"
    assert "No space left on device" in done.stderr
    assert "hint: make room there, or set XDG_STATE_HOME to another folder" in done.stderr
    assert wait_until_gone(world) == []


def test_a_disk_that_takes_no_more_files_is_an_error_at_each_step(world: World) -> None:
    world.state.mkdir(parents=True)
    meant_to_stay = {f"{world.state}/.bubblewrap.json", f"{world.state}/dev/audit.jsonl"}
    steps = set()
    for files in range(1, 20):
        disk = with_disk(world.state, f"nr_inodes={files}")
        done = world.outside(*disk, *and_list(world.state, run_words(world, "echo", "ran")))
        if done.returncode == 0:
            break
        assert done.returncode == 3
        assert set(done.stdout.splitlines()) <= meant_to_stay
        assert done.stderr.startswith(f"claude-bottle: error: {world.state}/dev")
        assert "No space left on device" in done.stderr
        steps.add(done.stderr.splitlines()[0])
    assert done.stdout.startswith("ran\n")
    assert len(steps) >= 3
    assert wait_until_gone(world) == []


@pytest.mark.parametrize("folder", ["state", "runtime"])
def test_a_read_only_disk_is_an_error(world: World, folder: str) -> None:
    place = world.state if folder == "state" else world.runtime
    place.mkdir(parents=True, exist_ok=True)
    disk = in_mounts(f"mount -t tmpfs -o ro,mode=0700 disk {place}")
    done = world.outside(*disk, *run_words(world, "echo", "ran"))
    if done.returncode == 0:  # a runtime folder that cannot be written to is not used
        assert (folder, done.stdout) == ("runtime", "ran\n")
    else:
        assert done.returncode == 3
        assert f"claude-bottle: error: {place}" in done.stderr
        assert "Read-only file system" in done.stderr
        assert "hint: set XDG_STATE_HOME" in done.stderr


# Folders of the caller.


@pytest.mark.parametrize("runtime", ["/nonexistent/runtime", "relative", "", None, "a file", "closed"])
def test_without_a_usable_runtime_folder_sockets_go_to_the_state(
    world: World, forge: SSHServer, runtime: str | None
) -> None:
    if runtime == "a file":
        runtime = str(world.write())
    elif runtime == "closed":
        world.runtime.chmod(0o500)  # root may write there all the same
        runtime = str(world.runtime)
    done = run_with(world, {"XDG_RUNTIME_DIR": runtime}, "ssh", "forge", "echo through")
    assert (done.returncode, done.stdout) == (0, "through\n"), done.stderr
    assert files_of(world) <= {str(world.state / ".run")}
    world.runtime.chmod(0o700)


def test_a_relative_state_folder_is_ignored(world: World) -> None:
    assert run_with(world, {"XDG_STATE_HOME": "states"}, "true").returncode == 0
    assert not (world.work / "states").exists()
    assert (world.state / "dev/audit.jsonl").exists()


def test_without_a_home_variable_the_home_folder_is_the_users(world: World) -> None:
    state = world.root / "state"
    done = run_with(world, {"HOME": None, "XDG_STATE_HOME": str(state)}, "sh", "-c", "echo $HOME")
    assert done.stdout == f"{pwd.getpwuid(os.getuid()).pw_dir}\n", done.stderr
    assert (state / "claude-bottle/dev/audit.jsonl").exists()
    assert not world.state.exists()


@pytest.mark.parametrize("home", ["/", "", "relative", "."])
def test_a_home_that_cannot_be_one_inside_is_refused(world: World, home: str) -> None:
    done = run_with(world, {"HOME": home, "XDG_STATE_HOME": str(world.root / "state")}, "true")
    assert done.returncode == 2
    assert "cannot be a home folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_home_that_does_not_exist_is_a_home_inside(world: World) -> None:
    home = world.root / "nowhere"
    done = run_with(world, {"HOME": str(home), "XDG_STATE_HOME": str(world.root / "state")}, "sh", "-c", "cd && pwd")
    assert (done.stdout, home.exists()) == (f"{home}\n", False)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[World]:
    """A world below a folder whose path is much longer than a Unix socket's address may be."""
    world = World(tmp_path.joinpath(*["a-long-folder-name-" * 5] * 5))
    yield world
    world.cli("stop", "--all")


def test_paths_longer_than_a_sockets_address(deep: World, tmp_path: Path) -> None:
    assert len(str(deep.runtime)) > 400
    with SSHServer(tmp_path / "sshd", authorized=[deep.key.public]) as server:
        deep.declare(server)
        done = deep.run("ssh", "forge", "echo through")
        assert (done.returncode, done.stdout) == (0, "through\n"), done.stderr
        with Clients(deep) as clients:
            assert os.path.exists(f"/proc/{clients.pid('keys')}")
            done = deep.cli("exec", "dev", "--", "ssh", "forge", "echo again")
            assert done.stdout == "again\n", done.stderr
    assert files_of(deep) == set()


# Work folders.

NAMES = [
    b"with spaces ",
    b"new\nline",
    "\u00fcml\u00e4ut \N{CRAB}".encode(),
    b'quote\'s "double" `id` $(touch pwned) ${HOME}; &',
    b"-rf",
    b"--",
    b"not utf-8 \xff\xfe",
    b"back\\slash\ttab",
    b"*?[a-z]~",
    b"escape \x1b[31m",
    b"a" * 255,
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:20].decode("utf-8", "backslashreplace"))[1:-1])
def test_a_work_folder_may_have_any_name(world: World, forge: SSHServer, name: bytes) -> None:
    folder = Path(os.fsdecode(os.path.join(os.fsencode(world.work), name)))
    folder.mkdir()
    options = {"cwd": folder, "errors": "surrogateescape"}
    done = world.sh("pwd; echo inside > made; ssh forge echo through", **options)
    assert done.stdout == f"{folder}\nthrough\n", done.stderr
    assert os.listdir(os.fsencode(folder)) == [b"made"]
    assert os.listdir(world.work) == [folder.name]  # nothing was taken for a command
    assert world.audit()[0]["workdir"] == str(folder)
    lines = world.cli("logs", "dev").stdout.split("\n")
    assert [line for line in lines if not re.match(r"[0-9:.]{12}  \w", line)] == [""]  # one record, one line
    assert all(map(str.isprintable, lines))
    assert files_of(world) == set()


def test_a_work_folder_that_is_a_symlink_is_the_folder_behind_it(world: World) -> None:
    link = world.root / "link"
    link.symlink_to(world.work)
    done = world.sh("pwd; echo inside > made", cwd=link)
    assert done.stdout == f"{world.work}\n"
    done = world.cli("run", "--manifest", str(world.write()), "--workdir", str(link), "--", "pwd", cwd=world.root)
    assert done.stdout == f"{world.work}\n"
    assert (world.work / "made").read_text() == "inside\n"


def test_a_work_folder_that_is_not_there_is_an_error(world: World) -> None:
    done = world.cli("run", "--manifest", str(world.write()), "--workdir", "nowhere", "--", "true")
    assert done.returncode == 2
    assert "nowhere" in done.stderr


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_a_current_folder_that_was_removed_is_an_error(world: World, verb: str) -> None:
    (here := world.work / "here").mkdir()
    words = (*CLI, verb, "--manifest", str(world.write()), "--", "true")
    done = world.outside("sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *words, cwd=here)
    assert done.returncode == 2
    assert "the current folder has been removed" in done.stderr
    assert world.outside("sh", "-c", '"$@"', "sh", *CLI, "ps").returncode == 0


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_work_folder_may_vanish_while_the_bottle_runs(world: World, forge: SSHServer, how: str) -> None:
    with Clients(world) as clients:
        if how == "moved":
            world.work.rename(world.root / "moved")
        else:
            shutil.rmtree(world.work)
        world.work.mkdir()
        done = world.cli("exec", "dev", "--workdir", "/tmp", "--", "ssh", "forge", "echo through")
        assert done.stdout == "through\n", done.stderr
    assert clients.status == 0
    assert "Traceback" not in clients.stderr
    assert world.audit()[-1]["event"] == "stop"
    assert wait_until_gone(world) == []
    assert not [name for name in files_of(world) if "/kept" not in name]


def test_a_manifest_may_vanish_while_the_bottle_runs(world: World) -> None:
    with Clients(world) as clients:
        world.manifest.unlink()
        assert world.cli("exec", "dev", "--", "echo", "works").stdout == "works\n"
    assert clients.status == 0


def test_another_program_may_hold_every_static_port_of_the_host(world: World, forge: SSHServer) -> None:
    """The gate's ports are the bottle's own: what the host listens on does not matter."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 30000))
            taken.listen()
        except OSError:
            pass  # somebody else does it for us
        assert world.run("ssh", "forge", "echo through").stdout == "through\n"
