"""Run one more program in a bottle that runs already, under everything that holds for the first one.

Order is the safety of this file: our process is made unreadable for its new neighbours before it enters, and has lost
every capability and gained the system call filter before it becomes the program.
"""

import ctypes
import fcntl
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from claude_bottle.backend.local.input import InputFile, open_input
from claude_bottle.backend.local.namespace import CLONE_NEWUSER, NS_GET_USERNS, setns
from claude_bottle.backend.local.process import (
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    Child,
    exit_status,
    keep_descriptors,
    libc,
    place_fds,
    prctl,
    reset_signals,
    take_terminal,
)
from claude_bottle.backend.local.sandbox import SHELL
from claude_bottle.backend.local.seccomp import compile_filter
from claude_bottle.backend.local.supervise import Supervisor, signal_group
from claude_bottle.backend.local.terminal import SignalPipe, Terminal, standard_streams, terminal_streams
from claude_bottle.errors import BackendError

PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
SECCOMP_MODE_FILTER = 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522
HIGHEST_CAPABILITY = 63

NAMESPACES = {"ipc": 0x08000000, "uts": 0x04000000, "net": 0x40000000, "cgroup": 0x02000000, "pid": 0x20000000}
"""clone(2) flags by file name below /proc/PID/ns; mnt is entered after these, because it takes /proc away"""

CLONE_NEWNS = 0x00020000

INHERITED_LIMITS = (resource.RLIMIT_DATA, resource.RLIMIT_NPROC, resource.RLIMIT_CORE)
"""what stands in for a control group where none can be made, and what keeps crashes inside"""


def run_inside(
    pid: int, command: Sequence[str], *, env: Mapping[str, str], workdir: str, groups: Sequence[Path]
) -> int:
    """Run a program in the namespaces and control groups of process `pid`; return its exit status.

    Raises:
        BackendError: the bottle has ended, or cannot be entered.
    """
    with ExitStack() as undo:
        signals = SignalPipe()
        undo.callback(signals.close)
        streams = terminal_streams()
        terminal = Terminal(streams) if streams else None
        if terminal is not None:
            undo.callback(terminal.detach)
        filter_fd = compile_filter()
        undo.callback(os.close, filter_fd)
        own = standard_streams(terminal)
        file = open_input()
        if file is not None:
            undo.callback(file.close)
            own[0] = file.read_fd
        guard = _fork_guard(pid, command, env, workdir, groups, own, filter_fd, file)
        if terminal is not None:
            terminal.attach()
        supervisor = Supervisor(
            guard,
            program=lambda: guard.pid,
            signals=signals,
            terminal=terminal,
        )
        if file is not None:
            supervisor.also_feed(file)
        return supervisor.wait()


def _fork_guard(
    pid: int,
    command: Sequence[str],
    env: Mapping[str, str],
    workdir: str,
    groups: Sequence[Path],
    streams: Mapping[int, int],
    filter_fd: int,
    file: InputFile | None,
) -> Child:
    """Start the process that enters the bottle, starts the program and waits for it."""
    fail_read, fail_write = os.pipe()
    parent = os.getpid()
    guard = os.fork()
    if guard == 0:
        status = 1
        try:
            _become_guard(parent)
            if file is not None:
                os.close(file.write_fd)  # or the program would never see the end of the file
            program = filter_program(filter_fd)
            limits = {kind: resource.prlimit(pid, kind) for kind in INHERITED_LIMITS}
            _join(pid, groups)
            child = os.fork()
            if child == 0:
                _become_program(command, env, workdir, streams, program, limits)
            _pass_signals_to(child)
            os.close(fail_write)
            status = exit_status(os.waitpid(child, 0)[1])
        except OSError as error:
            with suppress(OSError):
                os.write(fail_write, (error.strerror or str(error)).encode())
        finally:
            os._exit(status)
    os.close(fail_write)
    with os.fdopen(fail_read, "rb") as failure:
        reason = failure.read()
    if reason:
        os.waitpid(guard, 0)
        raise BackendError(f"the bottle cannot be entered: {reason.decode()}", where="exec")
    return Child(guard)


def _become_guard(parent: int) -> None:
    reset_signals()
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    keep_descriptors()


def _pass_signals_to(child: int) -> None:
    def forward(number: int, frame: object) -> None:
        signal_group(child, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, forward)


def _join(pid: int, groups: Sequence[Path]) -> None:
    """Enter the control groups, then the namespaces, the innermost user namespace last."""
    for group in groups:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    flags = os.O_RDONLY | os.O_CLOEXEC
    namespaces = [(os.open(f"/proc/{pid}/ns/{name}", flags), kind) for name, kind in NAMESPACES.items()]
    mounts = os.open(f"/proc/{pid}/ns/mnt", flags)
    inner = os.open(f"/proc/{pid}/ns/user", flags)
    owner = fcntl.ioctl(mounts, NS_GET_USERNS)
    same = os.path.sameopenfile(owner, inner)
    setns(owner, CLONE_NEWUSER)
    prctl(PR_SET_DUMPABLE, 0)
    for fd, kind in namespaces:
        setns(fd, kind)
    setns(mounts, CLONE_NEWNS)
    if not same:
        setns(inner, CLONE_NEWUSER)
    prctl(PR_SET_DUMPABLE, 0)


class _FilterProgram(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def filter_program(fd: int) -> _FilterProgram:
    """Read a compiled filter into the form that prctl takes."""
    code = os.pread(fd, 1 << 20, 0)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _FilterProgram(len(code) // 8, ctypes.addressof(buffer))
    program.buffer = buffer  # keeps the memory alive
    return program


def _become_program(
    command: Sequence[str],
    env: Mapping[str, str],
    workdir: str,
    streams: Mapping[int, int],
    program: _FilterProgram,
    limits: Mapping[int, tuple[int, int]],
) -> None:
    """Drop everything and execute; runs in the forked child inside the bottle and never returns."""
    try:
        for kind, value in limits.items():
            with suppress(ValueError):  # our own are lower already
                resource.setrlimit(kind, value)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        drop_capabilities()
        place_fds(streams)
        os.setsid()  # a group without the guard: what is typed must not reach the program twice
        take_terminal()
        os.chdir(workdir)
        if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "seccomp")
        os.execve(SHELL[0], [*SHELL, *command], dict(env))
    except OSError as error:
        with suppress(OSError):
            os.write(2, f"claude-bottle: error: exec: {error}\n".encode())
    finally:
        os._exit(126)


def drop_capabilities() -> None:
    """Give up every capability for good: out of the bounding set and out of this process.

    Raises:
        OSError: the kernel refuses.

    Source: capabilities(7), capset(2).
    """
    for number in range(HIGHEST_CAPABILITY + 1):
        with suppress(OSError):  # EINVAL: above the kernel's highest
            prctl(PR_CAPBSET_DROP, number)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment a process was started with.

    Raises:
        BackendError: it has ended.
    """
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError as error:
        raise BackendError(f"the bottle's environment cannot be read: {error.strerror}", where="exec") from error
    pairs = (item.split(b"=", 1) for item in text.split(b"\0") if b"=" in item)
    return {os.fsdecode(name): os.fsdecode(value) for name, value in pairs}
