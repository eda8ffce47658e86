"""The bottle's ssh-agent against real OpenSSH servers: what it signs, what it refuses, and that it leaves nothing."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pexpect
import pytest

from claude_bottle.backend.local import keys, openssh
from claude_bottle.backend.local.identity import read_identity
from claude_bottle.backend.local.keys import AgentProcess, spawn_agent, start_agent
from claude_bottle.errors import BackendError, IdentityError
from claude_bottle.manifest.model import Bottle, SSHEntry
from claude_bottle.ssh_client import plan_destinations, render_known_hosts, render_ssh_config
from tests.support.sshd import KeyPair, SSHServer, make_key, ssh_keygen

PASSPHRASE = "correct horse"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def locked_key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("locked"), passphrase=PASSPHRASE)


@pytest.fixture(scope="module")
def server(key: KeyPair, locked_key: KeyPair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    with SSHServer(tmp_path_factory.mktemp("declared"), authorized=[key.public, locked_key.public]) as running:
        yield running


@pytest.fixture(scope="module")
def other_server(key: KeyPair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    """Another host, where the same key is authorised."""
    with SSHServer(tmp_path_factory.mktemp("other"), authorized=[key.public]) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bottle's folder whose path is longer than a Unix socket's address may be."""
    path = tmp_path / ("a-long-folder-name-" * 6)
    path.mkdir(mode=0o700)
    return path


def entry_of(server: SSHServer, key: KeyPair | None, alias: str = "forge", user: str | None = None) -> SSHEntry:
    identity = key.private if key is not None else None
    return SSHEntry(alias, "git.example.com", 22, user, identity, server.known_host_keys)


def ssh(
    bottle: Bottle, server: SSHServer, agent: AgentProcess | Path, tmp_path: Path, alias: str = "forge"
) -> subprocess.CompletedProcess[str]:
    """Log in to `server` as the bottle's client would, with the rendered files; only addresses and paths differ."""
    (tmp_path / "config").write_text(render_ssh_config(plan_destinations(bottle)))
    (tmp_path / "known").write_text(render_known_hosts(bottle))
    if isinstance(agent, AgentProcess):
        for index, line in agent.public_keys.items():
            (tmp_path / f"{bottle.ssh[index].Host}.pub").write_text(f"{line}\n")
        agent = agent.socket
    options = [f"HostName={server.address}", f"Port={server.port}", f"User={server.user}"]
    options += [f"GlobalKnownHostsFile={tmp_path / 'known'}", "IdentityAgent=agent.real", "BatchMode=yes"]
    options += [f"IdentityFile={tmp_path / f'{alias}.pub'}", "LogLevel=VERBOSE"]
    argv = ["ssh", "-F", str(tmp_path / "config"), *(word for option in options for word in ("-o", option)), alias]
    return subprocess.run(
        [*argv, "echo through"],
        cwd=agent.parent,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def ssh_add(agent: AgentProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh-add", *arguments],
        cwd=agent.socket.parent,
        env={"SSH_AUTH_SOCK": agent.socket.name, "PATH": os.environ["PATH"]},
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie of somebody else's has too)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def plant(tmp_path: Path, name: str, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program of ours before the real one on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / name).write_text(f"#!/bin/sh\n{body}\n")
    (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


class TestSigning:
    def test_it_signs_for_the_declared_host(
        self, key: KeyPair, server: SSHServer, folder: Path, tmp_path: Path
    ) -> None:
        bottle = Bottle(ssh=(entry_of(server, key),))
        agent = start_agent(bottle, folder, ask=False)
        assert agent is not None
        with agent:
            done = ssh(bottle, server, agent, tmp_path)
        assert (done.returncode, done.stdout) == (0, "through\n"), done.stderr

    def test_it_refuses_another_host_where_the_same_key_is_authorised(
        self, key: KeyPair, server: SSHServer, other_server: SSHServer, folder: Path, tmp_path: Path
    ) -> None:
        declared = Bottle(ssh=(entry_of(server, key),))
        believing = Bottle(ssh=(entry_of(other_server, key),))  # a client that trusts the other host's key
        agent = start_agent(declared, folder, ask=False)
        assert agent is not None
        with agent:
            refused = ssh(believing, other_server, agent, tmp_path)
            assert refused.returncode == 255
            assert "Permission denied (publickey)" in refused.stderr
            # The same login with the same agent, the key now without its constraint: only that made the difference.
            assert ssh_add(agent, "-D").returncode == 0
            assert ssh_add(agent, "-q", str(key.private)).returncode == 0
            allowed = ssh(believing, other_server, agent, tmp_path)
        assert (allowed.returncode, allowed.stdout) == (0, "through\n"), allowed.stderr

    def test_it_refuses_another_user_than_the_declared_one(
        self, key: KeyPair, server: SSHServer, folder: Path, tmp_path: Path
    ) -> None:
        bottle = Bottle(ssh=(entry_of(server, key, user="somebody-else"),))
        agent = start_agent(bottle, folder, ask=False)
        assert agent is not None
        with agent:
            refused = ssh(bottle, server, agent, tmp_path)  # logs in as the test's own user
        assert refused.returncode == 255
        assert "Permission denied (publickey)" in refused.stderr

    def test_it_refuses_a_client_that_does_not_say_to_whom_it_talks(
        self, key: KeyPair, server: SSHServer, folder: Path, tmp_path: Path
    ) -> None:
        bottle = Bottle(ssh=(entry_of(server, key),))
        agent = start_agent(bottle, folder, ask=False)
        assert agent is not None
        public = tmp_path / "key.pub"
        public.write_text(f"{key.public}\n")
        argv = ["ssh-keygen", "-Y", "sign", "-f", str(public), "-n", "git"]
        with agent:
            env = {"SSH_AUTH_SOCK": agent.socket.name, "PATH": os.environ["PATH"]}
            signed = subprocess.run(
                argv, cwd=folder, env=env, input=b"text", capture_output=True, timeout=60, check=False
            )
        assert signed.returncode != 0
        assert b"agent refused operation" in signed.stderr

    def test_a_key_of_two_entries_signs_for_both_hosts(
        self, key: KeyPair, server: SSHServer, other_server: SSHServer, folder: Path, tmp_path: Path
    ) -> None:
        shutil.copy(key.private, tmp_path / "copy")  # one key in two files is still one key
        second = SSHEntry("other", "other.example.com", 22, None, tmp_path / "copy", other_server.known_host_keys)
        bottle = Bottle(ssh=(entry_of(server, key), second))
        agent = start_agent(bottle, folder, ask=False)
        assert agent is not None
        with agent:
            assert len(ssh_add(agent, "-L").stdout.splitlines()) == 1
            assert ssh(bottle, server, agent, tmp_path).stdout == "through\n"
            assert ssh(bottle, other_server, agent, tmp_path, "other").stdout == "through\n"

    @pytest.mark.parametrize("pinned", ["rsa", "ecdsa"])
    def test_a_host_with_several_keys_shows_the_pinned_one(
        self, key: KeyPair, folder: Path, tmp_path: Path, pinned: str
    ) -> None:
        """OpenSSH asks for the known key types first, also under HostKeyAlias; no HostKeyAlgorithms is needed."""
        host_keys = [make_key(tmp_path / "hosts", kind, kind) for kind in ("ed25519", "ecdsa", "rsa")]
        known = next(each.public for each in host_keys if pinned in each.public)
        bottle = Bottle(ssh=(SSHEntry("forge", "git.example.com", 22, None, key.private, (known,)),))
        agent = start_agent(bottle, folder, ask=False)
        assert agent is not None
        with agent, SSHServer(tmp_path / "sshd", authorized=[key.public], host_keys=host_keys) as server:
            done = ssh(bottle, server, agent, tmp_path)
        assert (done.returncode, done.stdout) == (0, "through\n"), done.stderr

    def test_a_host_certificate_of_a_declared_authority(
        self, key: KeyPair, server: SSHServer, folder: Path, tmp_path: Path
    ) -> None:
        authority, host_key = make_key(tmp_path / "ca", "ca"), make_key(tmp_path / "host", "host")
        sign = ["-q", "-s", str(authority.private), "-h", "-I", "host", "-n", "git.example.com"]
        ssh_keygen(*sign, str(host_key.private.with_name("host.pub")))
        known = (f"@cert-authority {authority.public}",)
        bottle = Bottle(ssh=(SSHEntry("forge", "git.example.com", 22, None, key.private, known),))
        options = [f"HostCertificate {host_key.private}-cert.pub"]
        agent = start_agent(bottle, folder, ask=False)
        assert agent is not None
        with (
            agent,
            SSHServer(tmp_path / "sshd", authorized=[key.public], host_keys=[host_key], options=options) as signed,
        ):
            done = ssh(bottle, signed, agent, tmp_path)
            assert (done.returncode, done.stdout) == (0, "through\n"), done.stderr
            assert ssh(Bottle(ssh=(entry_of(server, key),)), server, agent, tmp_path).returncode == 255
        assert agent.gate_config()["hosts"] == {authority.public.split()[1]: ["forge"]}


class TestWhatItHolds:
    def test_the_agent_gives_public_keys_only(self, key: KeyPair, server: SSHServer, folder: Path) -> None:
        """Everything it answers to a listing is known beforehand, and none of it is in the private half."""
        agent = start_agent(Bottle(ssh=(entry_of(server, key),)), folder, ask=False)
        assert agent is not None
        with agent:
            listed = ssh_add(agent, "-L").stdout
        assert " ".join(listed.split()[:2]) == key.public
        private_words = key.private.read_text().splitlines()[3:-1]
        assert private_words
        assert not any(word in listed for word in private_words)

    def test_public_keys_and_gate_config(self, key: KeyPair, server: SSHServer, folder: Path) -> None:
        bottle = Bottle(ssh=(entry_of(server, None, "open"), entry_of(server, key), entry_of(server, key, "docs")))
        with spawn_agent(bottle, folder) or pytest.fail("no agent") as agent:
            assert agent.public_keys == {1: f"{key.public} forge", 2: f"{key.public} docs"}
            assert agent.gate_config() == {
                "socket": str(folder / "agent.real"),
                "keys": {key.public.split()[1]: ["forge", "docs"]},
                "hosts": {server.known_host_keys[0].split()[1]: ["open", "forge", "docs"]},
            }

    def test_no_identity_file_no_agent(self, server: SSHServer, folder: Path) -> None:
        assert start_agent(Bottle(ssh=(entry_of(server, None),)), folder, ask=False) is None
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize(
        ("kind", "options"),
        [("rsa", ["-b", "2048"]), ("ecdsa", []), ("rsa", ["-b", "2048", "-m", "PEM"]), ("ecdsa", ["-m", "PKCS8"])],
    )
    def test_other_kinds_of_keys(
        self, server: SSHServer, folder: Path, tmp_path: Path, kind: str, options: Sequence[str]
    ) -> None:
        made = make_key(tmp_path, "id", kind, options=options)
        made.private.with_name("id.pub").unlink()
        with start_agent(Bottle(ssh=(entry_of(server, made),)), folder, ask=False) or pytest.fail("none") as agent:
            assert agent.public_keys == {0: f"{made.public} forge"}
            assert " ".join(ssh_add(agent, "-L").stdout.split()[:2]) == made.public

    def test_a_certificate_beside_the_key_stays_out(self, server: SSHServer, folder: Path, tmp_path: Path) -> None:
        made = make_key(tmp_path, "id")
        authority = make_key(tmp_path, "ca")
        ssh_keygen("-q", "-s", str(authority.private), "-I", "me", "-n", "me", str(tmp_path / "id.pub"))
        assert (tmp_path / "id-cert.pub").exists()
        with start_agent(Bottle(ssh=(entry_of(server, made),)), folder, ask=False) or pytest.fail("none") as agent:
            assert [line.split()[0] for line in ssh_add(agent, "-L").stdout.splitlines()] == ["ssh-ed25519"]


class TestProcess:
    def test_it_takes_nothing_of_the_callers_environment(
        self, key: KeyPair, server: SSHServer, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSH_AUTH_SOCK", "/nonexistent")
        monkeypatch.setenv("SSH_ASKPASS", "/nonexistent")
        monkeypatch.setenv("SECRET", "s3cret")
        with start_agent(Bottle(ssh=(entry_of(server, key),)), folder, ask=False) or pytest.fail("none") as agent:
            # A process that hides its memory shows its environment to root only.
            if os.geteuid() == 0:
                assert Path(f"/proc/{agent.pid}/environ").read_bytes() == b""
            status = Path(f"/proc/{agent.pid}/status").read_text()
            assert "NoNewPrivs:\t1" in status
            assert os.getsid(agent.pid) == agent.pid
            assert stat.S_IMODE(agent.socket.stat().st_mode) == 0o600

    def test_stop_ends_it_removes_its_socket_and_is_idempotent(
        self, key: KeyPair, server: SSHServer, folder: Path
    ) -> None:
        before = sorted(os.listdir("/proc/self/fd"))
        agent = start_agent(Bottle(ssh=(entry_of(server, key),)), folder, ask=False)
        assert agent is not None
        assert [path.name for path in folder.iterdir()] == ["agent.real"]
        agent.stop()
        agent.stop()
        assert gone(agent.pid)
        assert list(folder.iterdir()) == []
        assert len(os.listdir("/proc/self/fd")) == len(before)

    def test_stop_is_fine_when_it_is_gone_already(self, key: KeyPair, server: SSHServer, folder: Path) -> None:
        agent = start_agent(Bottle(ssh=(entry_of(server, key),)), folder, ask=False)
        assert agent is not None
        os.kill(agent.pid, signal.SIGKILL)
        agent.stop()
        assert list(folder.iterdir()) == []

    def test_a_socket_that_a_crash_left_is_replaced(self, key: KeyPair, server: SSHServer, folder: Path) -> None:
        (folder / "agent.real").touch()
        with start_agent(Bottle(ssh=(entry_of(server, key),)), folder, ask=False) or pytest.fail("none") as agent:
            assert ssh_add(agent, "-l").returncode == 0

    def test_it_ends_with_its_parent_however_that_ends(self, key: KeyPair, server: SSHServer, folder: Path) -> None:
        script = textwrap.dedent(f"""
            import signal
            from pathlib import Path
            from claude_bottle.backend.local.keys import start_agent
            from claude_bottle.manifest.model import Bottle, SSHEntry
            keys = ({server.known_host_keys[0]!r},)
            entry = SSHEntry("forge", "git.example.com", 22, None, Path({str(key.private)!r}), keys)
            agent = start_agent(Bottle(ssh=(entry,)), Path({str(folder)!r}), ask=False)
            print(agent.pid, flush=True)
            signal.pause()
        """)
        parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        with parent.stdout:
            pid = int(parent.stdout.readline())
            assert not gone(pid)
            parent.kill()
            parent.wait()
        assert wait_for(lambda: gone(pid))

    def test_it_goes_on_when_nobody_reads_what_it_logs(self, key: KeyPair, server: SSHServer, folder: Path) -> None:
        """Refusals are logged to a pipe that we do not read; a full one must not stop the agent."""
        agent = start_agent(Bottle(ssh=(entry_of(server, key),)), folder, ask=False)
        assert agent is not None
        with agent:
            written = 0
            agent_end = os.open(f"/proc/{agent.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK) if os.geteuid() == 0 else None
            if agent_end is None:
                pytest.skip("needs root to look into the agent: run the tests as root")
            try:
                while True:
                    written += os.write(agent_end, b"x" * 4096)
            except BlockingIOError:
                assert written > 4096
            finally:
                os.close(agent_end)
            blob = key.private.with_name(f"{key.private.name}.pub")
            env = {"SSH_AUTH_SOCK": agent.socket.name, "PATH": os.environ["PATH"]}
            argv = ["ssh-keygen", "-Y", "sign", "-f", str(blob), "-n", "git"]
            public_only = folder / "only.pub"
            public_only.write_text(blob.read_text())
            argv[4] = str(public_only)
            refused = subprocess.run(argv, cwd=folder, env=env, input=b"", capture_output=True, timeout=60, check=False)
            assert refused.returncode != 0
            assert ssh_add(agent, "-l").returncode == 0

    def test_ctrl_c_on_the_terminal_does_not_reach_it(self, key: KeyPair, server: SSHServer, folder: Path) -> None:
        with start_agent(Bottle(ssh=(entry_of(server, key),)), folder, ask=False) or pytest.fail("none") as agent:
            assert os.getpgid(agent.pid) != os.getpgid(0)


class TestErrors:
    def check(self, entry: SSHEntry, folder: Path, *, ask: bool = False) -> IdentityError:
        with pytest.raises(IdentityError) as caught:
            start_agent(Bottle(ssh=(entry,)), folder, ask=ask)
        assert caught.value.where == "ssh[0].IdentityFile"
        assert list(folder.iterdir()) == []
        return caught.value

    def test_no_file(self, server: SSHServer, folder: Path, tmp_path: Path) -> None:
        error = self.check(entry_of(server, KeyPair(tmp_path / "none", "")), folder)
        assert error.what == f"{tmp_path / 'none'}: No such file or directory"

    def test_a_public_key(self, key: KeyPair, server: SSHServer, folder: Path) -> None:
        public = key.private.with_name(f"{key.private.name}.pub")
        error = self.check(entry_of(server, KeyPair(public, "")), folder)
        assert "not a private key" in error.what
        assert str(key.private) in error.hint

    @pytest.mark.parametrize("cut", [60, 150])
    def test_a_damaged_key(self, key: KeyPair, server: SSHServer, folder: Path, tmp_path: Path, cut: int) -> None:
        text = key.private.read_text()
        damaged = tmp_path / "damaged"
        damaged.write_text(text[:cut] + "\n" + text.splitlines()[-1] + "\n")
        damaged.chmod(0o600)
        assert str(damaged) in self.check(entry_of(server, KeyPair(damaged, "")), folder).what

    def test_a_damaged_private_half(self, key: KeyPair, server: SSHServer, folder: Path, tmp_path: Path) -> None:
        """Only ssh-add sees it; the agent that already runs is stopped."""
        lines = key.private.read_text().splitlines()
        lines[4] = lines[4][::-1]
        damaged = tmp_path / "damaged"
        damaged.write_text("\n".join(lines) + "\n")
        damaged.chmod(0o600)
        assert str(damaged) in self.check(entry_of(server, KeyPair(damaged, "")), folder).what

    def test_a_file_that_others_can_read(self, key: KeyPair, server: SSHServer, folder: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copy(key.private, copy)
        copy.chmod(0o644)
        assert self.check(entry_of(server, KeyPair(copy, "")), folder).hint == f"chmod 600 {copy}"

    def test_a_security_token(self, server: SSHServer, folder: Path, tmp_path: Path) -> None:
        """A real token is not at hand; its key file begins like every other, with a type of its own."""
        import base64

        def string(data: bytes) -> bytes:
            return len(data).to_bytes(4, "big") + data

        blob = string(b"sk-ssh-ed25519@openssh.com") + string(b"k" * 32) + string(b"ssh:")
        body = b"openssh-key-v1\0" + string(b"none") + string(b"none") + string(b"") + b"\0\0\0\1" + string(blob)
        path = tmp_path / "id_ed25519_sk"
        text = base64.encodebytes(body + string(b"")).decode()
        path.write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n")
        assert "security token" in self.check(entry_of(server, KeyPair(path, "")), folder).what

    def test_no_known_host_key(self, key: KeyPair, folder: Path) -> None:
        error = self.check(SSHEntry("forge", "git.example.com", 22, None, key.private), folder)
        assert "known host key" in error.what

    def test_an_encrypted_key_without_terminal(self, locked_key: KeyPair, server: SSHServer, folder: Path) -> None:
        error = self.check(entry_of(server, locked_key), folder, ask=False)
        assert "no terminal" in error.what
        assert "deploy key" in error.hint

    def test_an_encrypted_pem_key_needs_its_public_file(self, server: SSHServer, folder: Path, tmp_path: Path) -> None:
        made = make_key(tmp_path, "id", "rsa", passphrase=PASSPHRASE, options=["-b", "2048", "-m", "PEM"])
        assert read_identity(made.private, "").public_key == made.public
        assert read_identity(made.private, "").encrypted
        made.private.with_name("id.pub").unlink()
        assert f"ssh-keygen -p -f {made.private}" in self.check(entry_of(server, made), folder).hint

    def test_no_openssh(self, key: KeyPair, server: SSHServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(folder))
        with pytest.raises(BackendError, match="ssh-agent is not installed"):
            start_agent(Bottle(ssh=(entry_of(server, key),)), folder, ask=False)

    def test_a_folder_of_path_that_may_not_be_entered_is_passed_over(
        self, key: KeyPair, server: SSHServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """For root every folder may be entered: only the unprivileged run can fail here."""
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o000)
        monkeypatch.setenv("PATH", f"{closed}:{os.environ['PATH']}")
        with start_agent(Bottle(ssh=(entry_of(server, key),)), folder, ask=False) or pytest.fail("none") as agent:
            assert not gone(agent.pid)
        closed.chmod(0o700)

    def test_an_openssh_without_constraints(
        self, key: KeyPair, server: SSHServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant(tmp_path, "ssh-add", "echo \"ssh-add: invalid option -- 'h'\" >&2; exit 1", monkeypatch)
        with pytest.raises(BackendError) as caught:
            start_agent(Bottle(ssh=(entry_of(server, key),)), folder, ask=False)
        assert "8.9" in caught.value.hint
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("body", ["exit 1", "echo bind: Permission denied >&2; exit 1"])
    def test_an_agent_that_does_not_start(
        self,
        key: KeyPair,
        server: SSHServer,
        folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        body: str,
    ) -> None:
        plant(tmp_path, "ssh-agent", body, monkeypatch)
        with pytest.raises(BackendError, match=r"ssh-agent does not start: (it ended at once|bind: Permission denied)"):
            start_agent(Bottle(ssh=(entry_of(server, key),)), folder, ask=False)
        assert list(folder.iterdir()) == []

    def test_an_agent_that_hangs(
        self, key: KeyPair, server: SSHServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant(tmp_path, "ssh-agent", "exec sleep 60", monkeypatch)
        monkeypatch.setattr(keys, "START_TIMEOUT_S", 0.05)
        with pytest.raises(BackendError, match="it does not listen"):
            start_agent(Bottle(ssh=(entry_of(server, key),)), folder, ask=False)


class TestPassphrase:
    """On a real terminal: a session of its own that pexpect holds the other end of."""

    def start(self, server: SSHServer, key: KeyPair, folder: Path) -> "pexpect.spawn[str]":
        script = folder.parent / "asking.py"
        script.write_text(
            textwrap.dedent(f"""
            import os
            from pathlib import Path
            from claude_bottle.backend.local.keys import start_agent
            from claude_bottle.errors import IdentityError
            from claude_bottle.manifest.model import Bottle, SSHEntry
            keys = ({server.known_host_keys[0]!r},)
            entry = SSHEntry("forge", "git.example.com", 22, None, Path({str(key.private)!r}), keys)
            folder = Path({str(folder)!r})
            try:
                with start_agent(Bottle(ssh=(entry,)), folder, ask=True) as agent:
                    print("READY", agent.public_keys)
                    os.environ["SSH_AUTH_SOCK"] = "agent.real"
                    os.chdir(folder)
                    os.system("ssh-add -L")
                    input()
            except IdentityError as error:
                print("REFUSED", error)
            except KeyboardInterrupt:
                print("INTERRUPTED")
            print("LEFT", os.listdir(folder))
        """)
        )
        return pexpect.spawn(sys.executable, [str(script)], encoding="utf-8", timeout=30)

    def test_it_is_asked_once_and_not_shown(self, locked_key: KeyPair, server: SSHServer, folder: Path) -> None:
        terminal = self.start(server, locked_key, folder)
        terminal.expect("claude-bottle: the key of forge")
        terminal.expect(f"Enter passphrase for {locked_key.private}")
        terminal.sendline(PASSPHRASE)
        terminal.expect("READY")
        assert PASSPHRASE not in (terminal.before or PASSPHRASE)
        terminal.expect_exact(locked_key.public)
        terminal.sendline("")
        terminal.expect_exact("LEFT []")
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == 0

    def test_a_wrong_one_is_asked_again_and_an_empty_one_gives_up(
        self, locked_key: KeyPair, server: SSHServer, folder: Path
    ) -> None:
        terminal = self.start(server, locked_key, folder)
        terminal.expect("Enter passphrase")
        terminal.sendline("wrong")
        terminal.expect("Bad passphrase, try again")
        terminal.sendline("")
        terminal.expect(r"REFUSED ssh\[0\]\.IdentityFile: .* no right passphrase was given")
        terminal.expect_exact("LEFT []")
        terminal.expect(pexpect.EOF)
        terminal.close()

    def test_ctrl_c_leaves_nothing_and_the_terminal_as_it_was(
        self, locked_key: KeyPair, server: SSHServer, folder: Path
    ) -> None:
        terminal = self.start(server, locked_key, folder)
        terminal.expect("Enter passphrase")
        assert wait_for(lambda: not terminal.getecho())
        terminal.sendintr()
        terminal.expect("INTERRUPTED")
        terminal.expect_exact("LEFT []")
        assert terminal.getecho()
        terminal.expect(pexpect.EOF)
        terminal.close()

    def test_ctrl_c_restores_the_terminal_also_when_ssh_add_does_not(
        self, locked_key: KeyPair, server: SSHServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = "trap '' INT; stty -echo < /dev/tty; echo asking > /dev/tty; exec sleep 60"
        plant(tmp_path, "ssh-add", body, monkeypatch)
        terminal = self.start(server, locked_key, folder)
        terminal.expect("asking")
        assert not terminal.getecho()
        terminal.sendintr()
        terminal.expect("INTERRUPTED")
        terminal.expect_exact("LEFT []")
        assert terminal.getecho()
        terminal.expect(pexpect.EOF)
        terminal.close()

    def test_an_encrypted_pem_key_whose_public_file_is_anothers(
        self, key: KeyPair, server: SSHServer, folder: Path, tmp_path: Path
    ) -> None:
        made = make_key(tmp_path, "id", "rsa", passphrase=PASSPHRASE, options=["-b", "2048", "-m", "PEM"])
        made.private.with_name("id.pub").write_text(f"{key.public}\n")
        terminal = self.start(server, made, folder)
        terminal.expect("Enter passphrase")
        terminal.sendline(PASSPHRASE)
        terminal.expect(r"REFUSED .*id\.pub is not the public half")
        terminal.expect_exact("LEFT []")
        terminal.expect(pexpect.EOF)
        terminal.close()


class TestSteps:
    def test_what_can_be_told_from_the_files_is_told_before_anything_starts(
        self, server: SSHServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(openssh, "spawn", lambda *_a, **_k: pytest.fail("a program was started"))
        with pytest.raises(IdentityError):
            spawn_agent(Bottle(ssh=(entry_of(server, KeyPair(tmp_path / "none", "")),)), folder)
