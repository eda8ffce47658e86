"""Start programs that cannot outlive us, and look at running ones.

Rule 1: every child asks the kernel to be killed when its parent dies, and checks that the parent did not die first.
Rule 2: a child gets the descriptors it is given and the environment it is given, nothing else of ours.
"""

import ctypes
import os
import select
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from claude_bottle.errors import BackendError

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38

KILL_WAIT_S = 5.0
"""seconds the kernel gets to end a process after SIGKILL"""

libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """Call prctl(2) with one argument.

    Raises:
        OSError: the kernel refuses.
    """
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    fds: Mapping[int, int],
    name: str = "",
) -> "Program":
    """Start a program in a session of its own; whether it could be executed, `Program.require` tells.

    `fds` maps the child's descriptor numbers to ours; numbers 0, 1 and 2 that are missing become /dev/null. `name`
    stands in the place of the program's path in what `ps` shows.
    """
    fail_read, fail_write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _exec_child(argv, env, fds, name, parent, fail_write)
    os.close(fail_write)
    return Program(pid, argv[0], fail_read)


def _exec_child(
    argv: Sequence[str],
    env: Mapping[str, str],
    fds: Mapping[int, int],
    name: str,
    parent: int,
    fail_fd: int,
) -> None:
    """Become the program, or report why not and exit; runs in the forked child and never returns."""
    try:
        reset_signals()
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        keep_descriptors()
        place_fds(fds, keep=fail_fd)
        os.execve(argv[0], [name or argv[0], *argv[1:]], dict(env))
    except OSError as error:
        with suppress(OSError):
            os.write(fail_fd, (error.strerror or str(error)).encode())
    finally:
        os._exit(127)


def reset_signals() -> None:
    """Give a child the default signal dispositions; Python ignores SIGPIPE and SIGXFSZ, and we may ignore more.

    A child that stays Python must not write what it gets into its parent's wake-up pipe either.
    """
    signal.set_wakeup_fd(-1)
    for name in "SIGPIPE SIGXFSZ SIGINT SIGTERM SIGHUP SIGQUIT SIGWINCH".split():
        signal.signal(signal.Signals[name], signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def keep_descriptors() -> None:
    """Let no program that we execute have a descriptor of ours, but those that `place_fds` makes for it.

    Our own are closed on exec anyway; those that our caller left open for us are not. A folder or a socket among them
    would be the host's file system or network, inside.
    """
    for entry in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):  # the listing's own is gone by now
            os.set_inheritable(int(entry.name), False)


def place_fds(fds: Mapping[int, int], *, keep: int = -1) -> None:
    """Make `fds` (ours by the child's number) true and inheritable; `keep` is our own and is moved by nobody.

    Numbers may overlap in any way, so every source is first moved above every target.
    """
    import fcntl

    wanted = dict(fds)
    floor = max([2, *wanted]) + 1
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        wanted.setdefault(number, null)
    moved = {number: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, floor) for number, source in wanted.items()}
    if 0 <= keep < floor and keep in wanted:
        raise OSError(f"descriptor {keep} is both kept and replaced")
    for number, source in moved.items():
        os.dup2(source, number, inheritable=True)


def take_terminal() -> None:
    """Make the first standard stream that is a terminal the controlling terminal of this new session."""
    import fcntl
    import termios

    for number in (0, 1, 2):
        if os.isatty(number):
            fcntl.ioctl(number, termios.TIOCSCTTY, 0)
            return


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot, or None when it is gone.

    Together with the pid this names a process for good: pids come back, pairs do not.

    Source: proc_pid_stat(5), field 22.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] == b"Z" else int(fields[19])


def named(mark: str) -> Iterator[int]:
    """Yield the processes whose command line has a mark in it; what a crash left can have parents that are gone."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and mark.encode() in (folder / "cmdline").read_bytes():
                yield int(folder.name)


def kill(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


class Child:
    """A process that we started, held by descriptor: a pid can come back as somebody else's, a descriptor cannot."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        """exit status once it has ended: its own, or 128+n for signal n"""
        self._fd = os.pidfd_open(pid)

    def fileno(self) -> int:
        """Return a descriptor that is readable once the process has ended."""
        return self._fd

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when the process has ended."""
        if self.status is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Return the exit status, or None when the process has not ended in time."""
        if self.status is None:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            if poll.poll(None if timeout_s is None else timeout_s * 1000):
                self.status = exit_status(os.waitpid(self.pid, 0)[1])
                os.close(self._fd)
        return self.status

    def stop(self, grace_s: float) -> None:
        """End it: SIGTERM, and SIGKILL after the grace time; idempotent."""
        self.signal(signal.SIGTERM)
        if self.wait(grace_s) is None:
            self.kill()

    def kill(self) -> None:
        """End it at once and reap it; idempotent."""
        self.signal(signal.SIGKILL)
        self.wait(KILL_WAIT_S)


class Program(Child):
    """A child that has to become another program first."""

    def __init__(self, pid: int, path: str, failure_fd: int) -> None:
        """Hold child `pid`; on `failure_fd` comes why `path` cannot be executed, or the end of file once it is."""
        super().__init__(pid)
        self._path = path
        self._failure = open(failure_fd, "rb")  # noqa: SIM115 - closed by `require` and `wait`

    def require(self) -> None:
        """Wait until the program is executed.

        Raises:
            BackendError: it cannot be.
        """
        with self._failure as failure:
            reason = failure.read()
        if reason:
            self.wait()
            raise BackendError(f"cannot execute {self._path}: {reason.decode()}")

    def wait(self, timeout_s: float | None = None) -> int | None:
        """See `Child.wait`."""
        status = super().wait(timeout_s)
        if status is not None:
            self._failure.close()
        return status


def exit_status(wait_status: int) -> int:
    """Turn a wait status into a shell's exit status."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code
