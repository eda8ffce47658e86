"""Enter a bottle's namespaces from outside. Needs no privilege but the uid that made them.

Rule 1: the user namespace that owns a namespace is entered before it, and no other first: entering a child user
namespace gives up the rights over what its parent owns.
"""

import ctypes
import fcntl
import os

from claude_bottle.backend.local.process import libc

NS_GET_USERNS = 0xB701
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


def setns(fd: int, kind: int) -> None:
    """Move this process into the namespace behind a descriptor (os.setns exists from Python 3.12 on).

    Raises:
        OSError: not permitted, or not such a namespace.

    Source: setns(2).
    """
    if libc.setns(fd, kind) != 0:
        raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")


def enter_network(pid: int) -> None:
    """Enter the network namespace of a process and the user namespace that owns it.

    Raises:
        OSError: the process is gone or not ours.

    Source: ioctl_ns(2), NS_GET_USERNS.
    """
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    owner = fcntl.ioctl(network, NS_GET_USERNS)
    setns(owner, CLONE_NEWUSER)
    setns(network, CLONE_NEWNET)
    os.close(owner)
    os.close(network)
