"""Standard streams are the one thing a caller hands in: none of them may lead further than it seems."""

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.bottle import CLI, World

LOOK = "for fd in 0 1 2; do readlink /proc/self/fd/$fd; ls -d /proc/self/fd/$fd/.. 2>/dev/null; done > found; true"
RUN = ("sh", "-c", LOOK)


def run(world: World, **streams: Any) -> "subprocess.CompletedProcess[str]":
    argv = [*CLI, "run", "--manifest", str(world.write()), "--", *RUN]
    return subprocess.run(argv, cwd=world.work, env=world.env, text=True, timeout=60, check=False, **streams)


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_stream_is_empty_inside(world: World, closed: str) -> None:
    """Outside, the next file opened has the number of a closed stream; of ours, it would be the state folder."""
    command = " ".join([*CLI, "run", "--manifest", str(world.write()), "--", *RUN[:2]])
    done = world.outside("sh", "-c", f'{command} "$0" {closed} 3</', LOOK)
    assert done.returncode == 0, done.stderr
    found = (world.work / "found").read_text().splitlines()
    assert len(found) == 3
    assert "/dev/null" in found
    assert not any(str(world.state) in line or line == "/" for line in found)


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("kind", ["tcp", "udp", "listening", "datagram pair", "unix listening"])
def test_a_socket_that_can_be_connected_anew_is_refused(world: World, stream: str, kind: str) -> None:
    sockets = make_sockets(kind, world.runtime / "s")
    try:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        done = run(world, **(streams | {stream: sockets[0].fileno()}))
        assert done.returncode == 3 or stream == "stderr"
        assert done.returncode != 0
        assert stream == "stderr" or "a way out of the bottle" in done.stderr
    finally:
        for each in sockets:
            each.close()
    assert not (world.work / "found").exists()


def make_sockets(kind: str, path: Path) -> list[socket.socket]:
    if kind == "datagram pair":
        return list(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
    sock = socket.socket(
        socket.AF_UNIX if kind.startswith("unix") else socket.AF_INET,
        socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM,
    )
    if kind == "unix listening":
        folder = os.open(path.parent, os.O_PATH)
        sock.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
    else:
        sock.bind(("127.0.0.1", 0))
    if kind == "udp":
        return [sock]
    sock.listen()
    if kind == "tcp":
        return [socket.create_connection(sock.getsockname()), sock.accept()[0], sock]
    return [sock]


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_folder_is_refused(world: World, stream: str) -> None:
    folder = os.open("/", os.O_RDONLY)
    done = run(world, **{"stdin": subprocess.DEVNULL, stream: folder})
    os.close(folder)
    assert done.returncode != 0
    assert not (world.work / "found").exists()


def test_a_pair_of_stream_sockets_is_as_good_as_a_pipe(world: World) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"through\n")
        ours.shutdown(socket.SHUT_WR)
        argv = [*CLI, "run", "--manifest", str(world.write()), "--", "cat"]
        done = subprocess.run(
            argv, cwd=world.work, env=world.env, stdin=theirs.fileno(), capture_output=True, timeout=60
        )
    assert done.stdout == b"through\n"


@pytest.mark.parametrize("place", ["outside", "run", "exec"])
def test_a_file_as_standard_input_cannot_be_changed(world: World, place: str) -> None:
    file = world.root / "script"
    file.write_text("as it was\n")
    program = ("sh", "-c", "cat; echo changed > /proc/self/fd/0")
    with file.open() as stream:
        if place == "outside":
            done = world.outside(*program, stdin=stream)
        elif place == "run":
            done = world.run(*program, stdin=stream)
        else:
            holder = world.start("sh", "-c", "echo on; cat", stdin=subprocess.PIPE)
            assert holder.stdout is not None
            assert holder.stdout.readline() == "on\n"
            done = world.cli("exec", "dev", "--", *program, stdin=stream)
            holder.communicate(timeout=30)
    assert done.stdout == "as it was\n"
    assert file.read_text() == ("changed\n" if place == "outside" else "as it was\n")


def test_what_a_program_leaves_of_a_file_is_there_for_the_next(world: World) -> None:
    file = world.root / "list"
    file.write_text("one\ntwo\nthree\n")
    bottle = " ".join([*CLI, "run", "--manifest", str(world.write()), "--"])
    with file.open() as stream:
        done = world.outside("sh", "-c", f"{bottle} true; {bottle} sh -c 'read -r x; echo $x'; cat", stdin=stream)
    assert done.stdout == "one\ntwo\nthree\n"


def test_a_file_longer_than_a_pipe_passes_whole(world: World) -> None:
    file = world.root / "long"
    file.write_bytes(os.urandom(3 << 20))
    with file.open("rb") as stream:
        done = world.run("cksum", stdin=stream)
        stream.seek(0)
        assert done.stdout == world.outside("cksum", stdin=stream).stdout
