"""Clients that never tell the agent which host they talk to can use the bottle's keys: the gate vouches for them.

paramiko stands for libssh2, Go's ssh and JGit. Without the gate's word the same agent refuses, because its keys are
bound to their hosts; and the gate's word is worth nothing for another host.
"""

import sysconfig
from pathlib import Path

import pytest

from tests.support.bottle import World
from tests.support.sshd import SSHServer, make_key

LOGIN = """
import sys, paramiko
client = paramiko.SSHClient()
client.load_system_host_keys("/etc/ssh/ssh_known_hosts")
client.connect(sys.argv[1], int(sys.argv[2]), sys.argv[3], look_for_keys=False, timeout=20)
for _ in range(2):
    print(client.exec_command("echo hello from $SSH_CONNECTION")[1].read().decode(), end="")
client.close()
"""


@pytest.fixture
def paramiko_inside(world: World) -> list[str]:
    """The Python packages of the tests, mounted; returns the words that start Python with them."""
    packages = sysconfig.get_paths()["purelib"]
    world.bottle["mounts"] = [{"source": packages, "target": "/mnt/packages"}]
    world.bottle["env"] = {"PYTHONPATH": "/mnt/packages"}
    return ["/usr/bin/python3", "-W", "ignore", "-c"]


def test_paramiko_signs_with_the_agent_by_real_address(
    world: World, forge: SSHServer, paramiko_inside: list[str]
) -> None:
    login = [*paramiko_inside, LOGIN, forge.address, str(forge.port), forge.user]
    done = world.run(*login)
    assert done.stdout.count("hello from") == 2, done.stderr
    signs = [record for record in world.audit() if record["event"] == "sign"]
    assert [(record["entry"], record["verdict"]) for record in signs] == [("forge", "ask")]
    assert [record["verdict"] for record in world.audit() if record["event"] == "signed"] == ["signed"]


def test_two_sessions_over_one_agent_connection(world: World, forge: SSHServer, paramiko_inside: list[str]) -> None:
    twice = LOGIN + "".join(line for line in LOGIN.splitlines(keepends=True) if "import" not in line)
    done = world.run(*paramiko_inside, twice, forge.address, str(forge.port), forge.user)
    assert done.stdout.count("hello from") == 4, done.stderr


def test_the_key_of_one_host_does_not_sign_for_another(
    world: World, forge: SSHServer, paramiko_inside: list[str], tmp_path: Path
) -> None:
    """The other host would admit forge's key, and is declared, but with a key of its own."""
    with SSHServer(tmp_path / "other", authorized=[world.key.public]) as other:
        words = [*paramiko_inside, LOGIN, other.address, str(other.port), other.user]
        own = make_key(tmp_path / "own")
        world.declare(other, Host="other", key=own)
        done = world.run(*words)
        assert done.returncode != 0
        assert "hello" not in done.stdout
        verdicts = {record["verdict"] for record in world.audit() if record["event"] == "sign"}
        assert verdicts <= {"refuse", "ask"}
        world.entries.pop()
        world.declare(other, Host="other")
        assert world.run(*words).stdout.count("hello from") == 2
