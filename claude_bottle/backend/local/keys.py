"""One ssh-agent per bottle, outside it, that holds the declared keys and signs with each for its own hosts only.

Each key is added with a destination constraint per entry (`ssh-add -h`): OpenSSH binds every signature to the host key
of the real session, so a key declared for one host cannot sign for another, whatever asks. The agent's socket stays
outside; the gate's filter in front of it is what the bottle sees. What remains is three steps, so that the agent's
start and the adding overlap with other work:

    spawn_agent    read the key files (all mistakes show here), start ssh-agent
    begin_adding   wait until it listens, begin to add the keys that need no passphrase
    add_keys       wait until they are added, ask for passphrases

Source: OpenSSH 8.9 release notes and PROTOCOL.agent, restrict-destination-v00@openssh.com.
"""

import os
import select
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from claude_bottle.backend.local import openssh
from claude_bottle.backend.local.identity import Identity, read_identity
from claude_bottle.errors import BackendError, IdentityError
from claude_bottle.manifest.model import Bottle
from claude_bottle.ssh_client import SSHDestination, plan_destinations, render_known_hosts

SOCKET_NAME = "agent.real"
"""the agent's socket in the bottle's folder; programs get this relative name, for paths can pass 108 bytes"""

KNOWN_HOSTS_NAME = "agent.known_hosts"
"""host keys of the constraints, in the bottle's folder while keys are added"""

START_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Key:
    """One key and all entries that declare it."""

    identity: Identity
    entries: tuple[int, ...]
    """indices in bottle.ssh"""


class AgentProcess:
    """A running ssh-agent; a context manager that stops it."""

    def __init__(self, bottle: Bottle, folder: Path, keys: Sequence[_Key]) -> None:
        self._bottle = bottle
        self._destinations = plan_destinations(bottle)
        self._folder = folder
        self._keys = keys
        self._stopped = False
        self._adding: list[tuple[_Key, openssh.Running]] | None = None
        """keys that are being added; None before that has begun"""
        self.socket = folder / SOCKET_NAME
        """path of the agent's socket; connecting there is using the keys"""
        self.socket.unlink(missing_ok=True)
        self._output, self.pid = _start_ssh_agent(folder)
        """process id of ssh-agent, in a session of its own"""

    @property
    def public_keys(self) -> Mapping[int, str]:
        """`TYPE BASE64 alias` by index in bottle.ssh; known before the keys are added."""
        return {
            index: f"{key.identity.public_key} {self._destinations[index].alias}"
            for key in self._keys
            for index in key.entries
        }

    def begin_adding(self) -> None:
        """Begin to add the keys without passphrase, side by side; `add_keys` waits for them.

        Raises:
            BackendError: ssh-agent does not start, or OpenSSH is not installed.
        """
        if self._adding is None:
            (self._folder / KNOWN_HOSTS_NAME).write_text(render_known_hosts(self._bottle), encoding="utf-8")
            self._wait_until_listening()
            self._adding = []
            for key in self._keys:
                if not key.identity.encrypted:
                    self._adding.append((key, self._start(self._ssh_add_argv(key))))

    def add_keys(self, *, ask: bool) -> None:
        """Add every key, asking on the terminal for passphrases if `ask`; on any failure the agent is stopped.

        Raises:
            IdentityError: a key that cannot be added: wrong passphrase, no terminal to ask on, file not private.
            BackendError: ssh-agent does not start, or OpenSSH is older than 8.9.
        """
        try:
            self.begin_adding()
            self._finish_adding(ask)
        except BaseException:
            self.stop()
            raise
        (self._folder / KNOWN_HOSTS_NAME).unlink()

    def gate_config(self) -> dict[str, object]:
        """The gate's "agent" configuration: the socket, and which aliases each key and host key belong to.

        Host keys are those of certificate authorities too; the gate knows who signed a host certificate.
        """
        keys: dict[str, list[str]] = {}
        for index, line in self.public_keys.items():
            keys.setdefault(line.split()[1], []).append(self._destinations[index].alias)
        hosts: dict[str, list[str]] = {}
        for entry, destination in zip(self._bottle.ssh, self._destinations, strict=True):
            for host_key in entry.KnownHostKey:
                hosts.setdefault(host_key.split()[-1], []).append(destination.alias)
        return {"socket": str(self.socket), "keys": keys, "hosts": hosts}

    def stop(self) -> None:
        """End the agent and remove its socket; idempotent."""
        if self._stopped:
            return
        self._stopped = True
        for _key, running in self._adding or ():
            running.abandon()
        (self._folder / KNOWN_HOSTS_NAME).unlink(missing_ok=True)
        openssh.end(self.pid)
        os.close(self._output)
        self.socket.unlink(missing_ok=True)

    def __enter__(self) -> "AgentProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _wait_until_listening(self) -> None:
        """ssh-agent prints its variables once it listens; end of file or anything else is a failure."""
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        printed = os.read(self._output, 4096) if poll.poll(START_TIMEOUT_S * 1000) else b"it does not listen"
        if not printed.startswith(b"SSH_AUTH_SOCK="):
            reason = printed.decode(errors="replace").strip() or "it ended at once"
            raise BackendError(f"ssh-agent does not start: {reason}", where=str(self._folder))

    def _finish_adding(self, ask: bool) -> None:
        """Wait for the keys without passphrase, then ask one question after the other."""
        while self._adding:
            key, running = self._adding.pop(0)
            _require_added(key, *running.finish())
        for key in self._keys:
            if key.identity.encrypted:
                _require_added(key, *self._add_asking(key, ask))
            if key.identity.guessed:
                self._check_holds(key)

    def _ssh_add_argv(self, key: _Key) -> tuple[str, ...]:
        constraints = [word for index in key.entries for word in ("-h", _constraint(self._destinations[index]))]
        path = str(key.identity.path)
        return (openssh.find_program("ssh-add"), "-q", "-k", "-H", KNOWN_HOSTS_NAME, *constraints, path)

    def _start(self, argv: Sequence[str], terminal: int | None = None) -> openssh.Running:
        env = {"SSH_AUTH_SOCK": SOCKET_NAME, "SSH_ASKPASS_REQUIRE": "never"}
        return openssh.Running(argv, folder=self._folder, env=env, terminal=terminal)

    def _add_asking(self, key: _Key, ask: bool) -> tuple[int, str]:
        """Run ssh-add on the terminal, where it asks by itself, again after a wrong passphrase.

        ssh-add restores the terminal, but a Ctrl-C right after its prompt can leave it waiting with echo off.
        """
        terminal = _open_terminal() if ask else None
        if terminal is None:
            raise IdentityError(
                f"{key.identity.path} is encrypted and there is no terminal to ask for its passphrase",
                where=_where(key),
                hint="start the bottle from a terminal, or declare a key without passphrase, such as a deploy key",
            )
        import termios

        settings = termios.tcgetattr(terminal)
        try:
            aliases = ", ".join(self._destinations[index].alias for index in key.entries)
            os.write(terminal, f"claude-bottle: the key of {aliases} stays outside; an empty line gives up\n".encode())
            return self._start(self._ssh_add_argv(key), terminal).finish()
        finally:
            termios.tcsetattr(terminal, termios.TCSANOW, settings)
            os.close(terminal)

    def _check_holds(self, key: _Key) -> None:
        """Refuse a key whose `.pub` file named another one: the constraints and the filter go by it."""
        _status, printed = self._start([openssh.find_program("ssh-add"), "-L"]).finish()
        if key.identity.public_key not in (" ".join(line.split()[:2]) for line in printed.splitlines()):
            raise IdentityError(
                f"{key.identity.path}.pub is not the public half of the key",
                where=_where(key),
                hint=f"ssh-keygen -y -f {key.identity.path} > {key.identity.path}.pub",
            )


def start_agent(bottle: Bottle, folder: Path, *, ask: bool) -> AgentProcess | None:
    """Start the bottle's agent with all its keys, or return None when no entry has an IdentityFile.

    Raises:
        IdentityError: a key cannot be used.
        BackendError: OpenSSH is missing, too old, or does not start.
    """
    agent = spawn_agent(bottle, folder)
    if agent is not None:
        agent.add_keys(ask=ask)
    return agent


def spawn_agent(bottle: Bottle, folder: Path) -> AgentProcess | None:
    """Read the key files and start an agent without keys in `folder` (private to the user, must exist).

    The agent ends when the calling thread ends, however it ends. Returns None when no entry has an IdentityFile.

    Raises:
        IdentityError: a key file that cannot be used, or an entry with a key but no known host key.
        BackendError: OpenSSH is missing.
    """
    keys = _plan_keys(bottle)
    return AgentProcess(bottle, folder, keys) if keys else None


def _plan_keys(bottle: Bottle) -> tuple[_Key, ...]:
    """The declared keys, each once: adding a key again would replace its constraints."""
    identities: dict[str, Identity] = {}
    entries: dict[str, list[int]] = {}
    for index, entry in enumerate(bottle.ssh):
        if entry.IdentityFile is None:
            continue
        where = f"ssh[{index}].IdentityFile"
        if not entry.KnownHostKey:
            raise IdentityError("a key needs a known host key to be bound to", where=where)
        identity = read_identity(entry.IdentityFile, where)
        identities.setdefault(identity.public_key, identity)
        entries.setdefault(identity.public_key, []).append(index)
    return tuple(_Key(identity, tuple(entries[public])) for public, identity in identities.items())


def _start_ssh_agent(folder: Path) -> tuple[int, int]:
    """Start ssh-agent and return the descriptor of what it prints, and its pid."""
    argv = [openssh.find_program("ssh-agent"), "-D", "-a", SOCKET_NAME]
    reading, writing = os.pipe()
    try:
        # We keep the reading end and read no more than the first lines; a full pipe then drops what the agent logs
        # instead of stopping it, and a closed one would end it (SIGPIPE).
        os.set_blocking(writing, False)
        return reading, openssh.spawn(argv, folder=folder, output=writing, env={})
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)


def _constraint(destination: SSHDestination) -> str:
    """`[USER@]NAME` as `ssh-add -h` takes it; it splits at the first `@`, so a user with one cannot be told."""
    if destination.user is None or "@" in destination.user:
        return destination.host_key_alias
    return f"{destination.user}@{destination.host_key_alias}"


def _open_terminal() -> int | None:
    with suppress(OSError):
        return os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    return None


def _where(key: _Key) -> str:
    return f"ssh[{key.entries[0]}].IdentityFile"


def _require_added(key: _Key, status: int, printed: str) -> None:
    """Raise what ssh-add's exit status and output mean."""
    if status == 0:
        return
    path = key.identity.path
    if "option -- " in printed:
        raise BackendError("ssh-add cannot bind keys to hosts", hint="install OpenSSH 8.9 or newer")
    if "UNPROTECTED" in printed:
        raise IdentityError(f"{path}: others can read this key", where=_where(key), hint=f"chmod 600 {path}")
    if key.identity.encrypted and not printed:
        raise IdentityError(f"{path}: not opened, no right passphrase was given", where=_where(key))
    reason = printed.splitlines()[-1] if printed else f"ssh-add ended with status {status}"
    raise IdentityError(f"{path}: {reason}", where=_where(key))
