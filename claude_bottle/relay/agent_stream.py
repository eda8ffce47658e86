"""Whole messages of the agent protocol over Unix sockets in the loop."""

from __future__ import annotations

import errno
import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, socket
from select import EPOLLIN, EPOLLOUT

from claude_bottle.relay.agent_messages import MessageError, split_message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_bottle.relay.loop import Loop

_READ_BYTES = 64 << 10
_LONGEST_PATH = 107
"""of a Unix socket's address; longer ones go through /proc/self/fd"""


class Stream:
    """Whole messages over one Unix socket."""

    def __init__(self, loop: Loop, sock: socket, received: Callable[[], None], closed: Callable[[], None]) -> None:
        self._loop = loop
        self._sock = sock
        self._received = received
        self._closed = closed
        self._inbox = bytearray()
        self.unsent = b""
        self._listening = True
        self._interest = EPOLLIN
        loop.watch(sock.fileno(), self, EPOLLIN)

    def next_message(self) -> bytes | None:
        """A whole message without its length, or None when more has to come.

        Raises:
            MessageError: the other end does not speak the protocol.
        """
        return split_message(self._inbox)

    def on_event(self, mask: int) -> None:
        """Send, then receive."""
        try:
            if mask & EPOLLOUT:
                self._flush()
            if mask & EPOLLIN and self._listening:
                data = os.read(self._sock.fileno(), _READ_BYTES)
                if not data:
                    return self._closed()
                self._inbox += data
            elif mask & ~(EPOLLIN | EPOLLOUT):
                return self._closed()
            self._received()
        except BlockingIOError:
            return None
        except (OSError, MessageError):
            self._closed()
        return None

    def on_crash(self) -> None:
        """End the conversation."""
        self._closed()

    def send(self, data: bytes) -> None:
        """Send `data`, now as far as the socket takes it."""
        self.unsent += data
        self._flush()

    def listen(self, on: bool) -> None:
        """Whether more is read."""
        self._listening = on
        self._refresh()

    def close(self) -> None:
        """Forget the socket."""
        self._loop.drop(self._sock)
        self._received = self._closed = _nothing

    def _flush(self) -> None:
        try:
            sent = os.write(self._sock.fileno(), self.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The loop reports the hang-up; what is unsent never goes out.
            sent = len(self.unsent)
        self.unsent = self.unsent[sent:]
        self._refresh()

    def _refresh(self) -> None:
        want = (EPOLLIN if self._listening else 0) | (EPOLLOUT if self.unsent else 0)
        if want != self._interest and self._closed is not _nothing:
            self._interest = want
            self._loop.rewatch(self._sock.fileno(), want)


def _nothing() -> None:
    """Stands in the place of callbacks of a closed stream."""


def connect_unix(path: str) -> socket:
    """A non-blocking connection to the Unix socket at `path`, however long the path is.

    Raises:
        OSError: nobody listens there, or too many wait already.
    """
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    folder_fd = -1
    try:
        if len(os.fsencode(path)) > _LONGEST_PATH:
            folder, name = os.path.split(path)
            folder_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            path = f"/proc/self/fd/{folder_fd}/{name}"
        code = sock.connect_ex(path)
    except OSError as error:
        code = error.errno or errno.EIO
    finally:
        if folder_fd >= 0:
            os.close(folder_fd)
    if code:
        sock.close()
        raise OSError(code, os.strerror(code))
    return sock
