"""Finish a bottle's mounts from outside, after bubblewrap and before the program: what bubblewrap has no option for.

bubblewrap leaves the mounts as slaves of the host's: what the host mounts later below a folder that is shown (a network
folder in the work folder, a disk in /opt) would appear inside, and writable. And the device files in /dev are the
host's own; whoever has their owner's user id, which a bottle of root's has, could change their mode for everyone.
"""

import ctypes
import fcntl
import os
import signal
from contextlib import suppress

from claude_bottle.backend.local.namespace import CLONE_NEWUSER, NS_GET_USERNS, setns
from claude_bottle.backend.local.process import PR_SET_PDEATHSIG, libc, prctl, reset_signals
from claude_bottle.errors import BackendError

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18

DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
"""what bubblewrap's --dev shows of the host's"""


def seal_mounts(pid: int) -> None:
    """Make the mounts of process `pid` its own for good; in a bottle of root's, device files read-only as well.

    A read-only device file can still be written to: what it keeps is its mode and its owner.

    Raises:
        BackendError: the bottle cannot be entered, or the kernel refuses.
    """
    fail_read, fail_write = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _run_helper(pid, parent, fail_write)
    os.close(fail_write)
    with os.fdopen(fail_read, "rb") as failure:
        reason = failure.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if reason or status != 0:
        raise BackendError(f"mounts cannot be sealed: {reason or f'status {status}'}", where="local backend")


def _run_helper(pid: int, parent: int, fail_write: int) -> None:
    """Do the work of `seal_mounts` in the forked child; never returns."""
    status = 1
    try:
        reset_signals()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            setns(fcntl.ioctl(mounts, NS_GET_USERNS), CLONE_NEWUSER)
            setns(mounts, CLONE_NEWNS)
            change_mount("/", MS_REC | MS_PRIVATE)
            for name in DEVICES if os.getuid() == 0 else ():
                change_mount(f"/dev/{name}", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID)
            status = 0
    except OSError as error:
        with suppress(OSError):
            os.write(fail_write, (error.strerror or str(error)).encode())
    finally:
        os._exit(status)


def change_mount(path: str, flags: int) -> None:
    """Change a mount in place.

    Raises:
        OSError: names the path; the kernel refuses.

    Source: mount(2).
    """
    if libc.mount(None, path.encode(), None, ctypes.c_ulong(flags), None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{path}: {os.strerror(code)}")
