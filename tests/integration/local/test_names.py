"""Every name a declared host has, and none of an undeclared one, leads through the gate; keys and host keys follow."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.local.names import local_name, need_ipv6, outward_address
from tests.support.bottle import World
from tests.support.sshd import SSHServer, make_key


@pytest.fixture
def second(world: World, tmp_path: Path) -> Iterator[SSHServer]:
    """Another sshd, with another host key, that admits the world's key; not declared."""
    with SSHServer(tmp_path / "second", authorized=[world.key.public]) as server:
        yield server


@pytest.fixture
def named(world: World, tmp_path: Path) -> Iterator[tuple[str, SSHServer]]:
    """A real name and the sshd behind it, declared as `forge`."""
    name, address = local_name()
    with SSHServer(tmp_path / "named", authorized=[world.key.public], address=address) as server:
        world.declare(server, Hostname=name)
        world.bottle["allow_addresses"] = [address]
        yield name, server


def options(text: str) -> dict[str, str]:
    """What `ssh -G` prints, by option; of several lines of one option the first."""
    pairs: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        pairs.setdefault(name, value)
    return pairs


def test_ssh_shows_what_one_expects(world: World, forge: SSHServer) -> None:
    shown = options(world.run("ssh", "-G", "forge").stdout)
    wanted = {
        "user": forge.user,
        "hostname": forge.address,
        "port": "30000",
        "hostkeyalias": "forge",
        "stricthostkeychecking": "true",
        "userknownhostsfile": "/dev/null",
        "identityfile": "/etc/ssh/claude-bottle/30000.pub",
        "identitiesonly": "yes",
        "identityagent": "/run/claude-bottle/agent.sock",
        "forwardagent": "no",
    }
    assert {name: shown[name] for name in wanted} == wanted


def test_every_name_of_a_named_host_leads_to_it(world: World, named: tuple[str, SSHServer]) -> None:
    name, server = named
    ways = ("forge", f"-p {server.port} forge", f"ssh://forge:{server.port}", name, f"-p {server.port} {name}")
    urls = (f"ssh://{name}", f"ssh://{server.user}@{name}:{server.port}")
    done = world.sh("; ".join(f"ssh {way} 'set -- $SSH_CONNECTION; echo $4'" for way in (*ways, *urls)))
    assert done.stdout.split() == [str(server.port)] * 7, done.stderr
    entries = {(record["entry"], record["host"]) for record in world.audit() if record["event"] == "connect"}
    assert entries == {("forge", name)}


def test_a_name_in_capitals_is_the_same_name(world: World, tmp_path: Path) -> None:
    name, address = local_name()
    with SSHServer(tmp_path / "named", authorized=[world.key.public], address=address) as server:
        world.declare(server, Host="Forge", Hostname=name.upper())
        world.bottle["allow_addresses"] = [address]
        done = world.sh(f"ssh Forge echo one; ssh forge echo two; ssh {name.upper()} echo three; ssh {name} echo four")
        assert done.stdout.split() == ["one", "two", "three", "four"], done.stderr


def test_a_host_without_an_alias_is_its_own_alias(world: World, tmp_path: Path) -> None:
    name, address = local_name()
    with SSHServer(tmp_path / "named", authorized=[world.key.public], address=address) as server:
        world.declare(server, Host=name, Hostname=None)
        world.bottle["allow_addresses"] = [address]
        done = world.sh(f"ssh {name} echo one; ssh -p {server.port} {name} echo two; ssh -p 30000 {name} echo three")
        assert done.stdout.split() == ["one", "two", "three"], done.stderr


def test_a_client_without_ssh_config_finds_the_real_name_on_its_real_port(
    world: World, named: tuple[str, SSHServer]
) -> None:
    """paramiko stands for libssh2, JGit and Go's ssh; it checks the host key by the same file as ssh."""
    name, server = named
    packages = sysconfig.get_paths()["purelib"]
    world.bottle["mounts"] = [{"source": packages, "target": "/mnt/packages"}]
    world.bottle["env"] = {"PYTHONPATH": "/mnt/packages"}
    script = (
        "import sys, paramiko; client = paramiko.SSHClient()\n"
        "client.load_system_host_keys('/etc/ssh/ssh_known_hosts')\n"
        "client.set_missing_host_key_policy(paramiko.RejectPolicy())\n"
        "client.connect(sys.argv[1], int(sys.argv[2]), sys.argv[3], look_for_keys=False, timeout=20)\n"
        "print(client.exec_command('echo $SSH_CONNECTION')[1].read().decode().split()[3]); client.close()"
    )
    words = ["/usr/bin/python3", "-W", "ignore", "-c", script, name, str(server.port), server.user]
    done = world.run(*words)
    assert done.stdout.split() == [str(server.port)], done.stderr
    world.entries[0]["KnownHostKey"] = [make_key(world.root / "wrong").public]
    done = world.run(*words)
    assert "BadHostKeyException" in done.stderr
    assert server.logged().count("Accepted publickey") == 1


@pytest.mark.parametrize("literal", ["127.5.6.7", "::1", "outward"])
def test_an_address_leads_to_its_host(world: World, tmp_path: Path, literal: str) -> None:
    if literal == "::1":
        need_ipv6()
    address = outward_address() if literal == "outward" else literal
    with SSHServer(tmp_path / "sshd", authorized=[world.key.public], address=address) as server:
        world.declare(server)
        empty = tmp_path / "empty.git"
        assert world.outside("git", "init", "-q", "--bare", str(empty)).returncode == 0
        url = f"ssh://[{address}]" if ":" in address else f"ssh://{address}"
        done = world.sh(
            f"ssh forge 'set -- $SSH_CONNECTION; echo $3 $4'; ssh -p {server.port} {address} echo two; "
            f"ssh {address} echo three; git ls-remote {url}:{server.port}{empty} && echo four"
        )
        assert done.stdout.split() == [address, str(server.port), "two", "three", "four"], done.stderr
        dialled = [record["address"] for record in world.audit() if record["event"] == "connected"]
        assert dialled == [address] * 4


def test_two_ports_of_one_host_are_two_entries(world: World, forge: SSHServer, second: SSHServer) -> None:
    world.declare(second, Host="other")
    address = forge.address
    ways = ("forge", "other", address, f"-p {forge.port} {address}", f"-p {second.port} {address}")
    done = world.sh("; ".join(f"ssh {way} 'set -- $SSH_CONNECTION; echo $4'" for way in ways))
    ports = [forge.port, second.port, forge.port, forge.port, second.port]
    assert done.stdout.split() == [str(port) for port in ports], done.stderr
    entries = [record["entry"] for record in world.audit() if record["event"] == "connect"]
    assert entries == ["forge", "other", "forge", "forge", "other"]


def test_two_aliases_of_one_host_sign_with_keys_of_their_own(world: World, tmp_path: Path) -> None:
    """Deploy keys: the server tells by the key which repository is meant."""
    keys = {name: make_key(tmp_path / "keys", name) for name in ("app", "library")}
    lines = [f'command="echo key of {name}" {key.public}' for name, key in keys.items()]
    with SSHServer(tmp_path / "sshd", authorized=lines) as server:
        for name, key in keys.items():
            world.declare(server, Host=name, key=key)
        done = world.sh("ssh app; ssh library; ssh library; ssh app")
    assert done.stdout.splitlines() == ["key of app", "key of library", "key of library", "key of app"], done.stderr
    signed = [record["entry"] for record in world.audit() if record["event"] == "sign"]
    assert signed == ["app", "library", "library", "app"]


def test_a_host_key_that_is_not_the_declared_one_is_refused(world: World, server: SSHServer) -> None:
    wrong = make_key(world.root / "wrong").public
    world.declare(server, KnownHostKey=[wrong])
    done = world.sh(f"ssh forge echo logged in; ssh -p {server.port} {server.address} echo logged in")
    assert done.returncode == 255
    assert "logged in" not in done.stdout
    assert done.stderr.count("Host key verification failed.") == 2
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert "Accepted" not in server.logged()


def test_any_declared_host_key_will_do(world: World, server: SSHServer) -> None:
    """A host changes its key: both are declared for a while."""
    world.declare(server, KnownHostKey=[make_key(world.root / "next").public, *server.known_host_keys])
    assert world.run("ssh", "forge", "echo logged in").stdout == "logged in\n"


def test_hosts_that_are_not_declared_are_not_there(world: World, forge: SSHServer, second: SSHServer) -> None:
    name, _ = local_name()
    assert world.outside("ssh-keyscan", "-p", str(second.port), second.address).stdout != ""
    done = world.sh(
        f"ssh -o ConnectTimeout=5 -p {second.port} {second.address} true; ssh -o ConnectTimeout=5 {name} true; "
        "ssh -o ConnectTimeout=5 192.0.2.77 true"
    )
    assert done.returncode == 255
    assert "Connection refused" in done.stderr
    assert f"Could not resolve hostname {name}" in done.stderr
    assert "Network is unreachable" in done.stderr
    assert [record["event"] for record in world.audit()] == ["launch", "stop"]


def test_a_name_that_leads_to_this_machine_is_refused_unless_allowed(
    world: World, named: tuple[str, SSHServer]
) -> None:
    name, server = named
    if not server.address.startswith("127."):
        pytest.skip(f"{name} is not on loopback here; as root: echo '127.0.0.1 {name}' >>/etc/hosts")
    world.bottle["allow_addresses"] = []
    done = world.run("ssh", "forge", "true")
    assert done.returncode == 255
    assert f"claude-bottle: forge ({name}:{server.port}): {server.address} is a loopback address" in done.stderr
    refused = [record for record in world.audit() if record["event"] == "refuse"]
    assert [record["rule"] for record in refused] == ["address guard: loopback"]
