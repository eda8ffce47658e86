"""A terminal with the command line on it, as a person at a keyboard has it.

    with Console(world) as console:
        console.run("bash", "--norc")       # in bottle `dev`
        console.expect("[$#] ")
        console.press("exit 3\\n")
        assert console.wait() == 3

The test keeps the terminal open itself, so its settings can be looked at before and after.
"""

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import termios
import time
from types import TracebackType
from typing import IO, Any

from pexpect import TIMEOUT
from pexpect.fdpexpect import fdspawn

from tests.support.bottle import CLI, World

TIMEOUT_S = 30.0
LOOK_S = 0.5
"""seconds after which an expected text is missed if the program has ended"""
INTERRUPT = "\x03"
END_OF_INPUT = "\x04"
SUSPEND = "\x1a"
QUIT = "\x1c"

Stream = int | IO[Any] | None
"""None is the console's terminal"""


def run_argv(world: World, *command: str, options: tuple[str, ...] = ()) -> list[str]:
    """Command line that runs a command in bottle `dev`."""
    return [*CLI, "run", "--manifest", str(world.write()), *options, "--", *command]


def exec_argv(name: str, *command: str) -> list[str]:
    """Command line that runs one more command in a running bottle."""
    return [*CLI, "exec", name, "--", *command]


class Console:
    """One pseudo-terminal and the program on it; a context manager."""

    def __init__(self, world: World, *, rows: int = 30, columns: int = 100) -> None:
        self._world = world
        self.keyboard, self.slave = os.openpty()
        """our end, and the end that programs have"""
        self.process: subprocess.Popen[bytes]
        self._screen = ""
        self.resize(rows, columns)
        self._expect = fdspawn(self.keyboard, encoding="utf-8", codec_errors="replace")

    def run(self, *command: str, **how: Any) -> "Console":
        """Run a command in bottle `dev`; `how` as for `start`."""
        return self.start(run_argv(self._world, *command), **how)

    def exec(self, *command: str, **how: Any) -> "Console":
        """Run one more command in the running bottle `dev`; `how` as for `start`."""
        return self.start(exec_argv("dev", *command), **how)

    def start(
        self, argv: list[str], *, stdin: Stream = None, stdout: Stream = None, stderr: Stream = None, pipe_to: str = ""
    ) -> "Console":
        """Start any program in a session of its own on this terminal.

        Its output goes to the shell script `pipe_to` if there is one, where $0 is the terminal's path.
        """
        if pipe_to:
            argv = ["/bin/sh", "-c", f'"$@" | {pipe_to}', os.ttyname(self.slave), *argv]
        streams = [self.slave if stream is None else stream for stream in (stdin, stdout, stderr)]
        # opening a terminal makes it the controlling one of a session that has none
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", 'exec 9<>"$0" 9>&-; exec "$@"', os.ttyname(self.slave), *argv],
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            cwd=self._world.work,
            env=self._world.env,
            start_new_session=True,
        )
        return self

    def press(self, text: str) -> None:
        """Press keys."""
        self._expect.send(text)

    def expect(self, pattern: str) -> str:
        """Wait for a regular expression on the screen; return what matched its last group, or all of it."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            over = self.process.poll() is not None or time.monotonic() > deadline  # before the last look
            if self._expect.expect([pattern, TIMEOUT], timeout=LOOK_S) == 0:
                break
            assert not over, f"no {pattern!r}; status {self.process.poll()}, on the screen: {self._expect.before!r}"
        match = self._expect.match
        assert isinstance(match, re.Match)
        return str(match.group(match.lastindex or 0))

    def before(self, pattern: str) -> str:
        """Wait for a regular expression and return what was on the screen before it."""
        self.expect(pattern)
        return str(self._expect.before)

    def resize(self, rows: int, columns: int) -> None:
        """Give the window another size."""
        fcntl.ioctl(self.keyboard, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def settings(self) -> list[Any]:
        """The terminal's settings as termios(3) has them."""
        return termios.tcgetattr(self.slave)

    def wait(self) -> int:
        """Wait for the program's end while its output is read; return its exit status."""
        self._screen = str(self._expect.buffer)
        deadline = time.monotonic() + TIMEOUT_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end; on the screen: {self._screen!r}"
            self._read()
        self._read()
        return self.process.returncode

    def rest(self) -> str:
        """What is on the screen after the last match, once the program has ended."""
        self.wait()
        return self._screen

    def hang_up(self) -> None:
        """Close the terminal, as closing its window does."""
        os.close(self.slave)
        self._expect.close()
        self.slave = self.keyboard = -1

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if hasattr(self, "process") and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for fd in (self.slave, self.keyboard):
            with contextlib.suppress(OSError):
                os.close(fd)

    def _read(self) -> None:
        """Read what has come within a moment."""
        with contextlib.suppress(TIMEOUT):
            while True:
                self._screen += self._expect.read_nonblocking(1 << 16, timeout=0.02)
