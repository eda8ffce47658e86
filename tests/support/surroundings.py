"""Surroundings that the machine itself does not offer: a file of /etc replaced, a full disk, forbidden namespaces.

Each is a mount or user namespace of its own, made by util-linux' `unshare`, in which the real command line then runs;
they work for root and for everybody who may make user namespaces, which a bottle needs anyway.
"""

import os
import shlex
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
    mounts = [shlex.join(["mount", "--bind", str(source), target]) for target, source in files.items()]
    return in_mounts("\n".join(mounts), *command)


def with_hosts(folder: Path, hosts: str, *command: str) -> tuple[str, ...]:
    """Return an argv that runs a command for which names mean what `hosts` says, and others nothing."""
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
    (folder / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\nservices: files\n")
    return with_files({"/etc/hosts": folder / "hosts", "/etc/nsswitch.conf": folder / "nsswitch.conf"}, *command)


def with_disk(folder: Path, options: str, *command: str) -> tuple[str, ...]:
    """Return an argv that runs a command for which a folder is a small disk of its own (tmpfs mount options)."""
    return in_mounts(shlex.join(["mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "disk", str(folder)]), *command)


def seen_by(pid: int, path: Path) -> Path:
    """Return a path as a process in other surroundings sees it."""
    return Path(f"/proc/{pid}/root{path}")
