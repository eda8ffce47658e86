"""A throwaway sshd on loopback.

An sshd of an ordinary user admits that user only; run by root it needs the system's folder /run/sshd, which is made
when it is missing and stays.
"""

import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from claude_bottle.backend.local.process import Child, spawn
from claude_bottle.errors import BackendError

PROGRAMS = {
    "sshd": "openssh-server",
    "sftp-server": "openssh-sftp-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "bash": "bash",
    "git": "git",
    "rsync": "rsync",
}
"""what the demo runs, and the Debian package it is in"""

MORE_FOLDERS = "/usr/sbin:/usr/local/sbin:/usr/lib/openssh:/usr/lib/ssh:/usr/libexec/openssh:/usr/libexec"
"""where programs are that are not on an ordinary user's PATH"""

PRIVILEGE_SEPARATION_FOLDER = Path("/run/sshd")
START_TIMEOUT_S = 10.0
START_ATTEMPTS = 5


def find_program(name: str) -> str | None:
    """Return the absolute path of a program, or None."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{MORE_FOLDERS}")


def require_programs() -> None:
    """Refuse to begin when something is missing.

    Raises:
        BackendError: with the command that installs it.
    """
    missing = [name for name in PROGRAMS if find_program(name) is None]
    if missing:
        packages = " ".join(dict.fromkeys(PROGRAMS[name] for name in missing))
        raise BackendError(
            f"not installed: {', '.join(missing)}", where="demo", hint=f"as root: apt-get install -y {packages}"
        )


def make_key(path: Path) -> str:
    """Make an SSH key pair without passphrase; return the public key as `TYPE BASE64`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    argv = [str(find_program("ssh-keygen")), "-q", "-t", "ed25519", "-N", "", "-C", "claude-bottle demo"]
    subprocess.run([*argv, "-f", str(path)], check=True, stdin=subprocess.DEVNULL)
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])


class SSHServer:
    """A real sshd on loopback whose sessions begin in `folder/files`, as the current user."""

    def __init__(self, folder: Path, *, address: str, authorized_key: str) -> None:
        self.address = address
        self.port = 0
        """TCP port, known once started"""
        self.files = folder / "files"
        """what its user sees"""
        self.files.mkdir(parents=True)
        self._folder = folder
        self._process: Child | None = None
        self.host_key = make_key(folder / "host_key")
        """`TYPE BASE64`"""
        (folder / "authorized_keys").write_text(f"{authorized_key}\n")
        (folder / "session.sh").write_text(_session_script(self.files))

    def start(self) -> None:
        """Start; return once it listens.

        Raises:
            BackendError: it does not start; with what it says.
        """
        if os.geteuid() == 0:
            PRIVILEGE_SEPARATION_FOLDER.mkdir(mode=0o755, exist_ok=True)
        said = ""
        for _ in range(START_ATTEMPTS):
            self.port = _free_port(self.address)
            said = self._start_once()
            if "Server listening on" in said:
                return
            self.stop()
            if "already in use" not in said:  # somebody else took the port in between
                break
        raise BackendError(f"sshd does not start: {' '.join(said.split()) or 'it says nothing'}", where="demo")

    def stop(self) -> None:
        """End it and its sessions; idempotent."""
        process, self._process = self._process, None
        if process is not None and process.status is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()

    def _start_once(self) -> str:
        """Start it and return what it says until it listens or ends."""
        config = self._folder / "sshd_config"
        config.write_text(self._config())
        log = self._folder / "sshd.log"
        with log.open("wb") as writing:
            argv = (str(find_program("sshd")), "-D", "-e", "-f", str(config))
            self._process = spawn(argv, env={"PATH": os.defpath}, fds={2: writing.fileno()})
            self._process.require()
        # sshd says on stderr that it listens, and there is no descriptor to wait on for a line in a file
        deadline = time.monotonic() + START_TIMEOUT_S
        ended = select.poll()
        ended.register(self._process.fileno(), select.POLLIN)
        while "Server listening on" not in (said := log.read_text(errors="replace")):
            if ended.poll(5) or time.monotonic() > deadline:
                return log.read_text(errors="replace")
        return said

    def _config(self) -> str:
        return "".join(
            f"{line}\n"
            for line in (
                f"ListenAddress {self.address}:{self.port}",
                f'HostKey "{self._folder}/host_key"',
                f'AuthorizedKeysFile "{self._folder}/authorized_keys"',
                f'ForceCommand /bin/sh "{self._folder}/session.sh"',
                "Subsystem sftp internal-sftp",
                "AuthenticationMethods publickey",
                "PermitRootLogin prohibit-password",
                "StrictModes no",  # the folder lies in /tmp, which others may write to
                f"UsePAM {'yes' if _root_is_locked() else 'no'}",
                "UseDNS no",
                "PidFile none",
                "PrintMotd no",
                "PrintLastLog no",
            )
        )


def _session_script(folder: Path) -> str:
    """What every session runs: the client's command, in the server's own folder instead of the user's home."""
    return f"""\
HOME={shlex.quote(str(folder))}
export HOME
cd "$HOME" || exit 1
case $SSH_ORIGINAL_COMMAND in
internal-sftp*) exec {shlex.quote(str(find_program("sftp-server")))} ;;
*) exec /bin/sh -c "$SSH_ORIGINAL_COMMAND" ;;
esac
"""


def _root_is_locked() -> bool:
    """Whether sshd would need PAM to let root in: without it, it takes `!` in shadow(5) for a locked account."""
    with suppress(OSError, IndexError):
        for line in Path("/etc/shadow").read_text().splitlines():
            if line.startswith("root:"):
                return os.geteuid() == 0 and line.split(":")[1].startswith("!")
    return False


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
