"""An audit log that cannot be written: nothing reaches an upstream, the program inside is told why, and it heals."""

import errno
import fcntl
import json
import os
import select
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.bottle import CLI, World
from tests.support.clients import TIMEOUT_S, Clients, Upstream, lead_to
from tests.support.sshd import SSHServer
from tests.support.surroundings import seen_by, with_disk
from tests.support.traces import files_of, wait_until_gone
from tests.unit.relay.harness import HELLO, receive, receive_all, wait_until

NOTICE = "audit log cannot be written, so the gate refuses every connection"


@pytest.fixture
def upstream(world: World) -> Iterator[Upstream]:
    """What the bottle's only entry leads to."""
    with Upstream() as upstream:
        lead_to(world, upstream.port)
        yield upstream


def log_of(world: World) -> Path:
    return world.state / "dev/audit.jsonl"


def assert_works(clients: Clients, upstream: Upstream) -> None:
    client = clients.connect(hello=HELLO)
    assert receive(upstream.accept(), len(HELLO)) == HELLO
    client.close()


def assert_refuses(clients: Clients, upstream: Upstream, reason: str) -> None:
    said = receive_all(clients.connect(hello=HELLO))
    assert f"audit log cannot be written: {reason}".encode() in said
    assert b"/" not in said.partition(b"audit log")[2]  # no path of the host's
    assert not select.select([upstream.listener], [], [], 0)[0], "nothing was dialled"


def is_refused(clients: Clients, upstream: Upstream) -> bool:
    """Whether a connection is refused, and not dialled."""
    client = clients.connect(hello=HELLO)
    dialled = upstream.listener in select.select([client, upstream.listener], [], [], TIMEOUT_S)[0]
    if dialled:
        upstream.accept().close()
    client.close()
    return not dialled


def replace_log(world: World) -> Path:
    """Delete the log and return its path; the gate looks for its log once in a millisecond, which has passed then."""
    log_of(world).unlink()
    now = time.time_ns() // 1_000_000
    wait_until(lambda: time.time_ns() // 1_000_000 > now, "the next millisecond")
    return log_of(world)


def events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines() if line]


def test_ssh_shows_that_the_log_cannot_be_written(world: World, forge: SSHServer) -> None:
    log_of(world).mkdir(parents=True)
    done = world.run("ssh", "-T", "forge", "true")
    assert done.returncode == 255
    assert "claude-bottle: forge" in done.stderr
    assert "audit log cannot be written: is a directory" in done.stderr
    assert NOTICE in done.stderr  # to the person, once for the launch
    assert "Connection from" not in forge.logged()


def test_a_program_that_needs_no_network_runs_without_a_log(world: World, forge: SSHServer) -> None:
    log_of(world).mkdir(parents=True)
    done = world.run("echo", "works")
    assert (done.returncode, done.stdout) == (0, "works\n")
    assert NOTICE in done.stderr


@pytest.mark.parametrize("kind", ["symlink", "pipe", "device"])
def test_something_else_in_the_logs_place_is_not_written_to(world: World, upstream: Upstream, kind: str) -> None:
    log = log_of(world)
    log.parent.mkdir(parents=True)
    (elsewhere := world.root / "elsewhere").touch()
    match kind:
        case "symlink":
            log.symlink_to(elsewhere)
        case "pipe":
            os.mkfifo(log)
        case _:
            log.symlink_to("/dev/null")
    done = world.run("ssh", "-T", "forge", "true")
    assert done.returncode == 255
    assert "audit log cannot be written" in done.stderr
    assert elsewhere.read_bytes() == b""
    assert not select.select([upstream.listener], [], [], 0)[0]


def test_a_log_that_is_deleted_is_begun_anew(world: World, upstream: Upstream) -> None:
    with Clients(world) as clients:
        assert_works(clients, upstream)
        replace_log(world)
        assert_works(clients, upstream)
        # its own records are there, not in a file that nobody can find
        assert events(log_of(world)).count("connect") == 1
    assert events(log_of(world))[-1] == "stop"


def test_a_log_replaced_by_a_folder_stops_connections_until_it_is_gone(world: World, upstream: Upstream) -> None:
    with Clients(world) as clients:
        assert_works(clients, upstream)
        replace_log(world).mkdir()
        assert_refuses(clients, upstream, "is a directory")
        assert_refuses(clients, upstream, "is a directory")
        log_of(world).rmdir()
        assert_works(clients, upstream)
        # what could not be told at the time is told now, before what happens then
        assert events(log_of(world))[:3] == ["refuse", "refuse", "connect"]
    assert clients.status == 0


def test_a_state_folder_that_is_deleted_stops_connections(world: World, upstream: Upstream) -> None:
    with Clients(world) as clients:
        assert_works(clients, upstream)
        for path in (world.state / "dev").iterdir():
            path.unlink()
        (world.state / "dev").rmdir()
        assert_refuses(clients, upstream, "no such file or directory")
    assert clients.status == 0
    assert "Traceback" not in clients.stderr
    assert wait_until_gone(world) == []


FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FS_IMMUTABLE, FS_APPEND = 0x10, 0x20


@contextmanager
def attribute(path: Path, flag: int) -> Iterator[None]:
    """A file with an attribute of chattr(1)."""
    with path.open("rb") as file:
        try:
            old = struct.unpack("i", fcntl.ioctl(file, FS_IOC_GETFLAGS, bytes(4)))[0]
            fcntl.ioctl(file, FS_IOC_SETFLAGS, struct.pack("i", old | flag))
        except OSError as error:
            pytest.skip(f"this file system has no such attribute ({error.strerror}); try: TMPDIR=/var/tmp make test")
        try:
            yield
        finally:
            fcntl.ioctl(file, FS_IOC_SETFLAGS, struct.pack("i", old))


@pytest.mark.skipif(os.getuid() != 0, reason="attributes are root's to set; run as root: make test")
def test_an_immutable_log_stops_connections(world: World, upstream: Upstream) -> None:
    world.run("true")
    with attribute(log_of(world), FS_IMMUTABLE):
        done = world.run("ssh", "-T", "forge", "true")
        assert done.returncode == 255
        assert "audit log cannot be written: operation not permitted" in done.stderr
        assert not select.select([upstream.listener], [], [], 0)[0]
    with Clients(world) as clients:
        assert_works(clients, upstream)


@pytest.mark.skipif(os.getuid() != 0, reason="attributes are root's to set; run as root: make test")
def test_an_append_only_log_is_enough(world: World, upstream: Upstream) -> None:
    world.run("true")
    with attribute(log_of(world), FS_APPEND), Clients(world) as clients:
        assert_works(clients, upstream)
    assert "connect" in events(log_of(world))


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """A folder on whose disk nothing is free."""
    filler = folder / "filler"
    fd = os.open(filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in (1 << 16, 1 << 12, 1):
        with suppress(OSError):
            while os.write(fd, bytes(size)) == size:
                pass
    os.close(fd)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (folder / "more").write_bytes(bytes(1 << 16))
    (folder / "more").unlink()
    try:
        yield
    finally:
        filler.unlink()


def test_a_full_disk_stops_connections_until_there_is_room(world: World, upstream: Upstream) -> None:
    world.state.mkdir(parents=True)
    disk = with_disk(world.state, "size=256k")
    with Clients(world, prefix=disk) as clients:
        state = seen_by(clients.command_line.pid, world.state)
        assert_works(clients, upstream)
        with full(state):
            while not is_refused(clients, upstream):
                pass  # what is left of the log's last page may take some more records
            assert_refuses(clients, upstream, "no space left on device")
        assert_works(clients, upstream)
        whole = [json.loads(line) for line in (state / "dev/audit.jsonl").read_text().splitlines() if is_json(line)]
        assert [record["event"] for record in whole].count("connect") >= 2
    assert clients.status == 0


def is_json(line: str) -> bool:
    """Whether a line is a whole record; one that was cut short stands alone."""
    with suppress(ValueError):
        json.loads(line)
        return True
    return False


def test_a_limit_on_the_size_of_files_stops_connections(world: World, upstream: Upstream) -> None:
    log_of(world).parent.mkdir(parents=True)
    log_of(world).write_bytes(b"\n" * (1 << 20))
    argv = ("prlimit", "--fsize=1048576", *CLI, "run", "--manifest", str(world.write()), "--")
    done = world.outside(*argv, "ssh", "-T", "forge", "true")
    assert done.returncode == 255
    assert "audit log cannot be written: file too large" in done.stderr
    assert not select.select([upstream.listener], [], [], 0)[0]
    assert files_of(world) == set()
