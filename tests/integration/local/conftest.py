"""Fixtures for tests with real bottles and real servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bottle import World
from tests.support.sshd import SSHServer


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A caller with a home and a work folder; whatever still runs in the end is stopped."""
    world = World(tmp_path)
    yield world
    world.cli("stop", "--all")


@pytest.fixture
def server(world: World, tmp_path: Path) -> Iterator[SSHServer]:
    """A real sshd that admits the world's key."""
    with SSHServer(tmp_path / "sshd", authorized=[world.key.public]) as server:
        yield server


@pytest.fixture
def forge(world: World, server: SSHServer) -> SSHServer:
    """The same sshd, declared as `forge`."""
    world.declare(server)
    return server
