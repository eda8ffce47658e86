"""A terminal of the bottle's own, connected to the caller's.

The program inside never holds the caller's terminal: it cannot put bytes into its input, change its settings for good,
or read from it after the bottle has ended. What it writes passes through unchanged, as with any program.

Rule 1: with input and output both on the terminal the bottle has it alone: raw mode, every key goes in.
Rule 2: otherwise the rest of a pipeline may use it too (`| less`, `| sudo tee FILE`): its settings stay untouched,
whole lines go in, and none once another program has changed the settings, because then that one is asking.
"""

import fcntl
import os
import select
import signal
import stat
import termios
import tty
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from claude_bottle.errors import BackendError

CHUNK_BYTES = 65536
OFLAG, LFLAG, CC = 1, 3, 6
"""places in what tcgetattr returns"""


class Terminal:
    """A pseudo-terminal in the place of those standard streams that are terminals."""

    def __init__(self, streams: tuple[int, ...]) -> None:
        """Open it with the size and settings of the first of `streams` (our descriptors that are terminals)."""
        self.streams = streams
        self.master, self.slave = os.openpty()
        os.set_blocking(self.master, False)
        self._saved: list[Any] | None = None
        self._pending = b""
        self._readable = True
        self._alone = {0, 1} <= set(streams)
        self._input = reopened(0) if 0 in streams else None
        self._output = next((fd for fd in streams if fd in (1, 2)), None)
        settings = termios.tcgetattr(streams[0])
        self._end_of_input: bytes = settings[CC][termios.VEOF]
        if not self._alone:  # the caller's terminal does these already
            settings[OFLAG] &= ~termios.OPOST
            settings[LFLAG] &= ~termios.ECHO
        termios.tcsetattr(self.slave, termios.TCSANOW, settings)
        self.resize()

    def resize(self) -> None:
        """Give the bottle's terminal the size of the caller's; the kernel then signals the program."""
        with suppress(OSError):
            size = fcntl.ioctl(self.streams[0], termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def attach(self) -> None:
        """Close our end of the program's side and switch the caller's terminal to raw mode if we have it alone."""
        os.close(self.slave)
        self.slave = -1
        if self._alone and self._input is not None:
            self._saved = termios.tcgetattr(self._input)
            tty.setraw(self._input, termios.TCSANOW)

    def detach(self) -> None:
        """Give the caller's terminal back as it was; idempotent."""
        self._leave_input()
        for fd in (self.slave, self.master):
            if fd >= 0:
                os.close(fd)
        self.slave = self.master = -1

    def _leave_input(self) -> None:
        """Restore the caller's terminal and read no more of it."""
        if self._input is None:
            return
        if self._saved is not None:
            with suppress(termios.error):
                termios.tcsetattr(self._input, termios.TCSADRAIN, self._saved)
        os.close(self._input)
        self._input = None

    def interest(self) -> dict[int, int]:
        """Return which poll(2) events on which descriptors matter now; input waits while earlier input is unread."""
        wanted = {}
        if self._readable:
            wanted[self.master] = select.POLLIN | (select.POLLOUT if self._pending else 0)
        if self._input is not None and not self._pending:
            wanted[self._input] = select.POLLIN
        return wanted

    def handle(self, ready: Mapping[int, int]) -> None:
        """Copy what can be copied without waiting for the program."""
        if self.master in ready:
            if ready[self.master] & select.POLLOUT:
                self._feed()
            if ready[self.master] & ~select.POLLOUT:
                self._readable = self._copy_out()
        if self._input is not None and self._input in ready:
            self._read_input(self._input, ready[self._input])

    def drain(self) -> None:
        """Write out what the program left in the terminal when it ended."""
        while self._readable:
            self._readable = self._copy_out()

    def _copy_out(self) -> bool:
        """Pass one piece of output on; return False when there is, or will be, no more."""
        try:
            data = os.read(self.master, CHUNK_BYTES)
        except OSError:  # EIO: no process has the program's side open; EAGAIN: nothing left to drain
            return False
        write_all(self._output if self._output is not None else self.streams[0], data)
        return bool(data)

    def _read_input(self, fd: int, events: int) -> None:
        if not self._alone and not reads_lines(fd):
            return self._leave_input()
        try:
            data = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:  # another program of the pipeline was faster
            return None
        except OSError:
            data = b""
        if not data and (self._alone or events & select.POLLHUP):
            # the caller's terminal is gone; its SIGHUP decides what happens
            return self._leave_input()
        # a line without an end was ended by Ctrl-D
        self._pending = data if self._alone or data.endswith(b"\n") else data + self._end_of_input
        return self._feed()

    def _feed(self) -> None:
        """Give the program as much pending input as its terminal takes."""
        try:
            self._pending = self._pending[os.write(self.master, self._pending) :]
        except BlockingIOError:
            return
        except OSError:
            self._pending = b""


def reopened(fd: int) -> int:
    """Return a descriptor of the same terminal that never waits; `fd` itself is shared with others."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # somebody else's terminal, as after `su`
        return os.dup(fd)


def reads_lines(fd: int) -> bool:
    """Tell whether a terminal is as a shell leaves it: whole lines, shown while they are typed.

    A program that asks for a password or for single keys has changed one of the two.
    """
    wanted = termios.ICANON | termios.ECHO
    try:
        return bool(termios.tcgetattr(fd)[LFLAG] & wanted == wanted)
    except termios.error:
        return False


def write_all(fd: int, data: bytes) -> None:
    """Write everything, waiting where the other side is slow; a closed other side swallows it."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
        except OSError:
            return


def terminal_streams() -> tuple[int, ...]:
    """Return which of our standard streams are terminals."""
    return tuple(fd for fd in (0, 1, 2) if os.isatty(fd))


def standard_streams(terminal: Terminal | None) -> dict[int, int]:
    """Return the program's standard streams: ours, but the bottle's own terminal for those that are terminals.

    Raises:
        BackendError: one of ours would be a way out of the bottle.
    """
    own = terminal.streams if terminal is not None else ()
    for fd in {0, 1, 2}.difference(own):
        refuse_way_out(fd)
    return {fd: terminal.slave if terminal is not None and fd in own else fd for fd in (0, 1, 2)}


def refuse_way_out(fd: int) -> None:
    """Refuse a folder, and a socket that can be connected anew: it stays in the host's network (ADR 0001).

    A connected Unix stream socket cannot, and many programs start others with such a pair as standard streams.

    Raises:
        BackendError: the descriptor is one of these.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        what = "a folder"
    elif stat.S_ISSOCK(mode) and not is_socket_pair(fd):
        what = "a socket that can be connected anew"
    else:
        return
    name = ("input", "output", "error")[fd]
    raise BackendError(f"standard {name} is {what}, a way out of the bottle", hint="put a pipe between: ... | cat")


def is_socket_pair(fd: int) -> bool:
    """Tell whether a socket is a connected stream between two programs of this machine."""
    import socket  # 4 ms, and few callers' streams are sockets

    with socket.socket(fileno=os.dup(fd)) as stream:
        if stream.family != socket.AF_UNIX or stream.type != socket.SOCK_STREAM:
            return False
        with suppress(OSError):
            stream.getpeername()
            return True
        return False


class SignalPipe:
    """Signals as bytes on a descriptor, for as long as the program runs."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH)

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        self._old_wakeup = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)

    @staticmethod
    def _note(number: int, frame: object) -> None:
        """Do nothing here: the wake-up descriptor has the number."""

    def take(self) -> tuple[int, ...]:
        """Return the signals that came since the last call."""
        with suppress(BlockingIOError):
            return tuple(number for number in os.read(self.read_fd, 4096) if number in self.SIGNALS)
        return ()

    def close(self) -> None:
        """Give the old handlers back."""
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        os.close(self.read_fd)
        os.close(self._write_fd)
