"""ssh, scp, sftp and rsync, unmodified, through a real bottle to a real sshd."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.local.consoles import run_argv
from tests.integration.local.trees import make_tree, noise, snapshot
from tests.support.bottle import World
from tests.support.sshd import SSHServer

PIPED_BYTES = 50_000_000


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A folder that only the server's side can see."""
    folder = tmp_path / "remote"
    folder.mkdir()
    return folder


def test_output_and_errors_of_a_remote_command_come_apart(world: World, forge: SSHServer) -> None:
    done = world.run("ssh", "forge", "echo out; echo err >&2; printf 'no newline'")
    assert (done.stdout, done.stderr, done.returncode) == ("out\nno newline", "err\n", 0)


def test_the_exit_status_of_a_remote_command_comes_back(world: World, forge: SSHServer) -> None:
    done = world.sh("for n in 0 255; do ssh forge exit $n; echo $?; done; ssh forge exit 7")
    assert done.stdout.split() == ["0", "255"]
    assert done.returncode == 7


def test_a_remote_command_that_a_signal_ends_is_255_as_without_a_bottle(world: World, forge: SSHServer) -> None:
    assert world.run("ssh", "forge", "kill -TERM $$").returncode == 255


def test_what_does_not_exist_on_the_server_is_told_by_the_server(world: World, forge: SSHServer) -> None:
    done = world.run("ssh", "forge", "no-such-program")
    assert done.returncode == 127
    assert "no-such-program" in done.stderr


def test_bytes_piped_in_arrive_whole_and_come_back_whole(world: World, forge: SSHServer, remote: Path) -> None:
    data = world.root / "data"
    data.write_bytes(noise(PIPED_BYTES))
    arrived = remote / "arrived"
    with data.open("rb") as stdin:
        argv = run_argv(world, "ssh", "forge", f"tee {arrived} | sha256sum; cat {arrived}")
        done = subprocess.run(argv, stdin=stdin, stdout=subprocess.PIPE, cwd=world.work, env=world.env, check=False)
    line, _, came_back = done.stdout.partition(b"\n")
    expected = hashlib.sha256(data.read_bytes()).hexdigest()
    assert line.decode().split()[0] == expected
    assert hashlib.sha256(came_back).hexdigest() == expected
    assert done.returncode == 0


def test_the_end_of_input_reaches_the_remote_program(world: World, forge: SSHServer) -> None:
    done = world.run("ssh", "forge", "wc -c; echo after", input="twelve bytes")
    assert done.stdout.split() == ["12", "after"]


def test_the_end_of_the_reader_reaches_the_remote_program(world: World, forge: SSHServer, remote: Path) -> None:
    ended = remote / "ended"
    done = world.sh(f"ssh forge 'yes; echo $? > {ended}' | head -c 3000000 | wc -c")
    assert done.stdout.split() == ["3000000"]
    assert world.run("ssh", "forge", f"until test -s {ended}; do sleep 0.05; done", timeout=20).returncode == 0


def test_several_sessions_share_one_connection(world: World, forge: SSHServer) -> None:
    done = world.sh(
        "ssh -fNM -S /tmp/control forge && ssh -S /tmp/control forge echo first && "
        "ssh -S /tmp/control forge echo second && ssh -S /tmp/control -O exit forge"
    )
    assert done.stdout.split() == ["first", "second"], done.stderr
    assert [record["event"] for record in world.audit()].count("connect") == 1


def test_many_ssh_at_once_all_answer(world: World, forge: SSHServer) -> None:
    done = world.sh("for n in $(seq 8); do ssh forge echo $n & done; wait")
    assert sorted(map(int, done.stdout.split())) == list(range(1, 9)), done.stderr


@pytest.mark.parametrize("protocol", ["-O", "-s"], ids=["scp", "sftp"])
def test_scp_copies_a_tree_there_and_back(world: World, forge: SSHServer, remote: Path, protocol: str) -> None:
    tree = make_tree(world.work / "tree")
    (tree / "link").unlink()  # scp follows links
    done = world.sh(f"scp {protocol} -qrp tree forge:{remote}/ && scp {protocol} -qrp forge:{remote}/tree back")
    assert done.returncode == 0, done.stderr
    assert snapshot(remote / "tree") == snapshot(tree)
    assert snapshot(world.work / "back") == snapshot(tree)


def test_scp_says_which_file_is_missing(world: World, forge: SSHServer, remote: Path) -> None:
    done = world.run("scp", "-q", f"forge:{remote}/nothing", ".")
    assert done.returncode == 1
    assert f"{remote}/nothing" in done.stderr


def test_sftp_runs_a_batch(world: World, forge: SSHServer, remote: Path) -> None:
    (world.work / "there").write_bytes(noise(100_000))
    batch = world.work / "batch"
    batch.write_text(
        f"mkdir {remote}/new\nput there {remote}/new/moved\nrename {remote}/new/moved {remote}/new/file\n"
        f"chmod 600 {remote}/new/file\nget {remote}/new/file back\nls -l {remote}/new\n-rm {remote}/nothing\n"
    )
    done = world.run("sftp", "-q", "-b", "batch", "forge")
    assert done.returncode == 0, done.stderr
    assert "100000" in done.stdout
    assert (world.work / "back").read_bytes() == (remote / "new/file").read_bytes() == noise(100_000)
    assert (remote / "new/file").stat().st_mode & 0o777 == 0o600


def test_a_failing_sftp_batch_fails(world: World, forge: SSHServer, remote: Path) -> None:
    done = world.run("sftp", "-q", "-b", "-", "forge", input=f"get {remote}/nothing\n")
    assert done.returncode == 1
    assert "nothing" in done.stderr


@pytest.mark.skipif(shutil.which("rsync") is None, reason="apt install rsync")
class TestRsync:
    def test_mirrors_a_tree_both_ways(self, world: World, forge: SSHServer, remote: Path) -> None:
        tree = make_tree(world.work / "tree")
        done = world.sh(f"rsync -a tree/ forge:{remote}/tree/ && rsync -a forge:{remote}/tree/ back/")
        assert done.returncode == 0, done.stderr
        assert snapshot(remote / "tree") == snapshot(tree)
        assert snapshot(world.work / "back") == snapshot(tree)

    def test_deletes_what_the_source_no_longer_has(self, world: World, forge: SSHServer, remote: Path) -> None:
        tree = make_tree(world.work / "tree")
        make_tree(remote / "tree")
        (remote / "tree/stale").write_text("old")
        (tree / "script.sh").unlink()
        done = world.run("rsync", "-a", "--delete", "--itemize-changes", "tree/", f"forge:{remote}/tree/")
        assert done.returncode == 0, done.stderr
        assert "*deleting   stale" in done.stdout
        assert snapshot(remote / "tree") == snapshot(tree)

    def test_sends_only_the_rest_of_a_partial_file(self, world: World, forge: SSHServer, remote: Path) -> None:
        data = noise(4_000_000)
        (world.work / "big").write_bytes(data)
        (remote / "big").write_bytes(data[:3_900_000])
        done = world.run("rsync", "-a", "--partial", "--append-verify", "big", f"forge:{remote}/")
        assert done.returncode == 0, done.stderr
        assert (remote / "big").read_bytes() == data
        sent = [record["sent_bytes"] for record in world.audit() if record["event"] == "close"]
        assert len(sent) == 1
        assert 100_000 < sent[0] < 400_000
