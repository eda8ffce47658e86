"""Surroundings that the machine itself does not offer: a file of /etc replaced, a full disk, forbidden namespaces.

Each is a mount or user namespace of its own, made by util-linux' `unshare`, in which the real command line then runs;
they work for root and for everybody who may make user namespaces, which a bottle needs anyway.
"""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

AS_ROOT = os.getuid() == 0

NAMESPACE = (*("unshare --mount" if AS_ROOT else "unshare --user --map-current-user --keep-caps --mount").split(),)
"""a mount namespace of the present user's; every mount in it goes with its last process"""

# Capabilities that --keep-caps has made ambient would frighten bubblewrap: it takes them for a wrong installation.
LOSE_CAPABILITIES = () if AS_ROOT else ("setpriv", "--inh-caps=-all", "--ambient-caps=-all")

AS_ITS_ROOT = ("unshare", "--user", "--map-root-user")
"""a user namespace whose root is the present user, where limits on further namespaces can be set"""


def in_mounts(script: str, *command: str) -> tuple[str, ...]:
    """Return an argv that runs a shell script which mounts something, and then the command, in a mount namespace."""
    return (*NAMESPACE, "sh", "-ec", f'{script}\nexec "$@"', "sh", *LOSE_CAPABILITIES, *command)


def with_files(files: Mapping[str, Path], *command: str) -> tuple[str, ...]:
    """Return an argv that runs a command which sees other files in the place of some of the machine's."""
    return in_mounts(binding(files), *command)


def binding(files: Mapping[str, Path]) -> str:
    """Return the shell commands that put files in the place of some of the machine's."""
    return "\n".join(shlex.join(["mount", "--bind", str(source), target]) for target, source in files.items())


def with_hosts(folder: Path, hosts: str, *command: str) -> tuple[str, ...]:
    """Return an argv that runs a command for which names mean what `hosts` says, and others nothing."""
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
    (folder / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\nservices: files\n")
    return with_files({"/etc/hosts": folder / "hosts", "/etc/nsswitch.conf": folder / "nsswitch.conf"}, *command)


SILENT_NAME_SERVER = """
import fcntl, os, socket, struct, sys
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
server = socket.socket(type=socket.SOCK_DGRAM)
fcntl.ioctl(server, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
server.bind(("127.0.0.1", 53))
server.set_inheritable(True)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""brings loopback up and holds the name servers' port for as long as the command runs, and answers nobody"""


def with_silent_names(folder: Path, *command: str) -> tuple[str, ...]:
    """Return an argv that runs a command for which every name server is silent, in a network of its own."""
    (folder / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: dns\n")
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30\n")
    files = {"/etc/resolv.conf": folder / "resolv.conf", "/etc/nsswitch.conf": folder / "nsswitch.conf"}
    own = (*AS_ITS_ROOT, "--net", "--mount", "sh", "-ec", f'{binding(files)}\nexec "$@"', "sh")
    return (*own, sys.executable, "-I", "-c", SILENT_NAME_SERVER, *command)


def with_disk(folder: Path, options: str, *command: str) -> tuple[str, ...]:
    """Return an argv that runs a command for which a folder is a small disk of its own (tmpfs mount options)."""
    return in_mounts(shlex.join(["mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "disk", str(folder)]), *command)


def seen_by(pid: int, path: Path) -> Path:
    """Return a path as a process in other surroundings sees it."""
    return Path(f"/proc/{pid}/root{path}")
