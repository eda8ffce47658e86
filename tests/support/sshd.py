"""A real sshd on loopback, as the current user, for tests; and key pairs.

    with SSHServer(tmp_path / "sshd", authorized=[key.public]) as server:
        run("ssh", "-p", server.port, ...)

Works as root (the privilege separation folder is made when it is missing) and unprivileged; only the user who runs
the tests can log in. Nothing outside `folder` is written.
"""

import contextlib
import functools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or "/usr/sbin/sshd"
PRIVILEGE_SEPARATION_FOLDER = Path("/run/sshd")
START_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class KeyPair:
    """A private key file and its public half."""

    private: Path
    """path of the private key; the public one is beside it with `.pub`"""
    public: str
    """`TYPE BASE64`, without comment"""

    @property
    def fingerprint(self) -> str:
        """SHA256:... as ssh-keygen prints it."""
        return ssh_keygen("-l", "-f", str(self.private)).split()[1]


def ssh_keygen(*arguments: str) -> str:
    """Run ssh-keygen and return its output."""
    argv = ["ssh-keygen", *arguments]
    return subprocess.run(argv, check=True, text=True, stdin=subprocess.DEVNULL, capture_output=True).stdout


def make_key(
    folder: Path,
    name: str = "id_ed25519",
    kind: str = "ed25519",
    *,
    passphrase: str = "",
    options: Sequence[str] = (),
) -> KeyPair:
    """Make a key pair `folder/name`; `options` are further words for ssh-keygen, such as `-m PEM`."""
    folder.mkdir(parents=True, exist_ok=True)
    private = folder / name
    ssh_keygen("-q", "-t", kind, "-N", passphrase, "-C", f"{name} for tests", "-f", str(private), *options)
    return KeyPair(private, " ".join(private.with_name(f"{name}.pub").read_text().split()[:2]))


class SSHServer:
    """One sshd with its own host keys and authorized keys; a context manager.

    `host_keys` are made in `folder` unless given (two servers can then be one host). `options` are sshd_config lines,
    """

    def __init__(
        self,
        folder: Path,
        *,
        authorized: Sequence[str] = (),
        host_keys: Sequence[KeyPair] | None = None,
        address: str = "127.0.0.1",
        port: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.address = address
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.log = folder / "sshd.log"
        self.host_keys = tuple(host_keys) if host_keys is not None else (make_key(folder, "host_ed25519"),)
        self._wanted_port = port
        self._port = 0
        self._options = tuple(options)
        self._process: subprocess.Popen[bytes] | None = None
        self.authorized_keys = folder / "authorized_keys"
        self.authorized_keys.write_text("".join(f"{line}\n" for line in authorized))

    @property
    def port(self) -> int:
        """TCP port it listens on, known once started."""
        return self._port

    @property
    def pid(self) -> int:
        """Process id of the listening sshd."""
        assert self._process is not None
        return self._process.pid

    @property
    def known_host_keys(self) -> tuple[str, ...]:
        """`TYPE BASE64` of each host key, as a manifest's KnownHostKey takes them."""
        return tuple(key.public for key in self.host_keys)

    def start(self) -> "SSHServer":
        """Start and wait until it listens; a port lost to somebody else in between is replaced by another."""
        attempts = 1 if self._wanted_port else 10
        for _ in range(attempts):
            self._port = self._wanted_port or free_port(self.address)
            if self._start_once():
                return self
        raise RuntimeError(f"sshd does not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        """End the server and its sessions; harmless when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        # A session's sshd leaves the server's process group, so they are found by descent, while that still shows.
        for pid in [*descendants(process.pid), process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def logged(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def __enter__(self) -> "SSHServer":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _start_once(self) -> bool:
        if os.geteuid() == 0:
            PRIVILEGE_SEPARATION_FOLDER.mkdir(mode=0o755, exist_ok=True)
        self.log.write_bytes(b"")
        config = self.folder / "sshd_config"
        config.write_text(self._config())
        self._process = subprocess.Popen(
            [SSHD, "-D", "-f", str(config), "-E", str(self.log)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if f"Server listening on {self.address} port {self._port}." in self.logged():
                return True
            if self._process.poll() is not None:
                break
            time.sleep(0.005)
        self.stop()
        return False

    def _config(self) -> str:
        lines = [
            *self._options,
            f"ListenAddress {_bracketed(self.address)}:{self._port}",
            *(f"HostKey {key.private}" for key in self.host_keys),
            f"AuthorizedKeysFile {self.authorized_keys}",
            "PidFile none",
            "StrictModes no",
            "UsePAM no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UseDNS no",
            "PrintMotd no",
            "PrintLastLog no",
            "LogLevel VERBOSE",
            "MaxStartups 4000:100:4000",
            "MaxSessions 100",
            "Subsystem sftp internal-sftp",
        ]
        # On from 9.8: tests that are refused on purpose would lock loopback out.
        if openssh_version() >= (9, 8):
            lines.append("PerSourcePenalties no")
        return "".join(f"{line}\n" for line in lines)


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that was free a moment ago."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@functools.cache
def openssh_version() -> tuple[int, int]:
    """Major and minor version of the installed OpenSSH."""
    shown = subprocess.run(["ssh", "-V"], check=True, text=True, capture_output=True).stderr
    match = re.match(r"OpenSSH_(\d+)\.(\d+)", shown)
    assert match is not None, shown
    return int(match[1]), int(match[2])


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [below for child in map(int, words) for below in (child, *descendants(child))]
