"""What people do through the gate: a command, a clone, a stream, with the real ssh, git and sshd."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import Load
from bench.report import Row, Target
from bench.rounds import Figures, Samples, run_rounds
from bench.routes import OURS, ROUTES, Route, open_routes
from bench.scale import Scale
from tests.support.sshd import SSHServer, make_key

TIMEOUT_S = 120.0
PIECE_BYTES = 1 << 20
QUICK_KEY_EXCHANGE = ("-o", "KexAlgorithms=curve25519-sha256")
"""OpenSSH's default from 9.0 to 9.8, sntrup761, computes for longer than the rest of a login takes"""
SERVER_OPTIONS = ("SetEnv SHLVL=2",)
"""bash that is started by sshd itself would run the user's .bashrc, whatever that takes"""


@dataclass(frozen=True)
class Client:
    """ssh and git with a configuration of their own."""

    config: Path
    """ssh configuration file"""
    routes: Mapping[str, Route]
    """the ways to the server"""

    def ssh(self, way: str, *command: str, options: Sequence[str] = ()) -> float:
        """Run a command on the host and return its duration."""
        return timed((*self._ssh(way), *options, "bench", *command))

    def clone(self, way: str, repository: Path, into: Path) -> float:
        """Clone a repository, remove the clone, and return the duration of the first."""
        argv = ("git", "clone", "--quiet", "--bare", f"bench:{repository}", str(into))
        try:
            return timed(argv, GIT_SSH_COMMAND=" ".join(self._ssh(way)))
        finally:
            shutil.rmtree(into, ignore_errors=True)

    def _ssh(self, way: str) -> tuple[str, ...]:
        return ("ssh", "-F", str(self.config), "-p", str(self.routes[way].port))


def timed(argv: Sequence[str], **environ: str) -> float:
    """Run a program to its end, throw its output away, and return how long it took.

    Raises:
        CalledProcessError: it failed.
    """
    begun = time.perf_counter()
    subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **environ},
        timeout=TIMEOUT_S,
        check=True,
    )
    return time.perf_counter() - begun


@contextmanager
def client(folder: Path) -> Iterator[Client]:
    """A real sshd, every way to it, and a client that may log in."""
    key = make_key(folder)
    with SSHServer(folder / "sshd", authorized=[key.public], options=SERVER_OPTIONS) as server:
        known_hosts = folder / "known_hosts"
        known_hosts.write_text("".join(f"bench {line}\n" for line in server.known_host_keys))
        config = folder / "ssh_config"
        config.write_text(
            f"HostName 127.0.0.1\nUser {server.user}\nIdentityFile {key.private}\nIdentitiesOnly yes\nBatchMode yes\n"
            f"HostKeyAlias bench\nUserKnownHostsFile {known_hosts}\nStrictHostKeyChecking yes\nUpdateHostKeys no\n"
        )
        with open_routes(tuple(ROUTES), lambda _: server.port, folder) as routes:
            yield Client(config, routes)


def ssh_true(load: Load, folder: Path, scale: Scale) -> Iterator[tuple[Row, Samples]]:
    """The shortest command: a login and nothing else; by the default key exchange, and by one that costs no time."""
    with client(folder) as user:
        default = _rounds(scale, lambda way: 1000 * user.ssh(way, "true"))
        quick = _rounds(scale, lambda way: 1000 * user.ssh(way, "true", options=QUICK_KEY_EXCHANGE))
    targets = (Target(0.5, "direct"),)
    yield Row("ssh host true", "ms", OURS, default.of("time"), targets), default
    yield Row("ssh host true, curve25519", "ms", OURS, quick.of("time"), targets), quick


def git_clone(load: Load, folder: Path, scale: Scale) -> Iterator[tuple[Row, Samples]]:
    """A clone of a repository whose content cannot be compressed."""
    repository = make_repository(folder / "work", scale.repository_bytes)
    with client(folder) as user:
        samples = _rounds(scale, lambda way: user.clone(way, repository, folder / "clone"))
    yield Row(f"git clone, {_size(scale.repository_bytes)}", "s", OURS, samples.of("time")), samples


def ssh_cat(load: Load, folder: Path, scale: Scale) -> Iterator[tuple[Row, Samples]]:
    """A file to the client; its bytes are zeros, which the cipher does not care about."""
    file = folder / "file"
    with file.open("wb") as out:
        out.truncate(scale.cat_bytes)
    with client(folder) as user:
        samples = _rounds(scale, lambda way: user.ssh(way, "cat", str(file)))
    yield Row(f"ssh host cat, {_size(scale.cat_bytes)}", "s", OURS, samples.of("time")), samples


def _rounds(scale: Scale, measure: Callable[[str], float]) -> Samples:
    def figures(way: str) -> Figures:
        return {"time": measure(way)}

    return run_rounds(tuple(ROUTES), scale.rounds, figures, warm_up=scale.warm_up)


def make_repository(folder: Path, size_bytes: int) -> Path:
    """Make a repository with files of random bytes, packed, and return its folder."""
    folder.mkdir()
    for number in range(size_bytes // PIECE_BYTES):
        (folder / f"{number}.bin").write_bytes(os.urandom(PIECE_BYTES))
    name = ("-c", "user.name=bench", "-c", "user.email=bench@invalid", "-c", "core.compression=0")
    for words in (("init", "-q"), ("add", "."), (*name, "commit", "-qm", "files"), (*name, "repack", "-adq")):
        subprocess.run(("git", *words), cwd=folder, check=True, timeout=TIMEOUT_S, stdout=sys.stderr)
    return folder / ".git"


def _size(size_bytes: int) -> str:
    return f"{size_bytes >> 30} GiB" if size_bytes >= 1 << 30 else f"{size_bytes >> 20} MiB"
