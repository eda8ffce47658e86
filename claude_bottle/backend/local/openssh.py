"""Run OpenSSH's own programs outside the bottle: found on PATH, in a given folder, with an environment of our choosing.

Rule 1: no child outlives us. PR_SET_PDEATHSIG is cleared when a set-group-id program is executed, and Debian's
ssh-agent is one; with PR_SET_NO_NEW_PRIVS the group id is ignored and the signal stays (prctl(2)).
Rule 2: a child that does not ask on the terminal is in a session of its own, where no Ctrl-C reaches it.
"""

import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from claude_bottle.backend.local.programs import search_path
from claude_bottle.errors import BackendError

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def find_program(name: str) -> str:
    """The absolute path of one of OpenSSH's programs.

    Raises:
        BackendError: it is not on PATH.
    """
    for folder in search_path():
        candidate = Path(folder, name)
        # access first: a folder of PATH that we may not enter is no error
        if os.access(candidate, os.X_OK) and candidate.is_file():
            return str(candidate)
    raise BackendError(f"{name} is not installed", hint="apt install openssh-client")


def spawn(
    argv: Sequence[str],
    *,
    folder: Path,
    output: int,
    env: Mapping[str, str],
    terminal: int | None = None,
) -> int:
    """Start `argv` in `folder` and return its pid; standard output and error go to descriptor `output`.

    With `terminal`, a descriptor of the controlling terminal, the child reads it and stays in our process group, or
    the terminal would stop it. Call from the main thread: the child ends when the thread that started it does.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if terminal is None:
            os.setsid()
            _tie_to_parent(parent, signal.SIGKILL)
            terminal = os.open("/dev/null", os.O_RDONLY)
        else:
            # A signal that ssh-add catches, to turn the terminal's echo on again when we cannot.
            _tie_to_parent(parent, signal.SIGTERM)
        os.chdir(folder)
        os.dup2(terminal, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execve(argv[0], list(argv), env)
    finally:
        os._exit(127)


class Running:
    """A started program whose output is collected; several can run side by side."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        folder: Path,
        env: Mapping[str, str],
        terminal: int | None = None,
    ) -> None:
        reading, writing = os.pipe()
        self._printed = open(reading, "rb")  # noqa: SIM115 - closed by `finish` and `abandon`
        try:
            self._pid = spawn(argv, folder=folder, output=writing, env=env, terminal=terminal)
        except BaseException:
            self._printed.close()
            raise
        finally:
            os.close(writing)

    def finish(self) -> tuple[int, str]:
        """Wait for the end; return the exit status (128+n for signals) and what was printed."""
        try:
            text = self._printed.read().decode(errors="replace")
            _pid, status = os.waitpid(self._pid, 0)
        except BaseException:
            self.abandon()
            raise
        self._printed.close()
        code = os.waitstatus_to_exitcode(status)
        return (code if code >= 0 else 128 - code), text.strip()

    def abandon(self) -> None:
        """End it at once."""
        end(self._pid)
        self._printed.close()


def run(argv: Sequence[str], *, folder: Path, env: Mapping[str, str]) -> tuple[int, str]:
    """Run `argv` to its end and return its exit status (128+n for signals) and what it printed."""
    return Running(argv, folder=folder, env=env).finish()


def end(pid: int) -> None:
    """Kill and reap a child of ours that may be gone."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _tie_to_parent(parent: int, death_signal: int) -> None:
    for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_PDEATHSIG, death_signal)):
        if _libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3) != 0:
            os._exit(126)
    if os.getppid() != parent:  # died before the call above; no signal will come
        os._exit(125)
