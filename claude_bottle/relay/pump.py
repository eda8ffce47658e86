"""One socket of a forwarded connection: what is read from it goes to its peer.

Small data is copied: one read, one write. Sustained bulk is spliced through a kernel pipe and never enters this
process. Nothing more is read while the peer has not taken what was read before; that is the whole back-pressure, so
a connection holds one chunk or one pipe per direction at most, and nothing when idle.

Rule 1: end of data is passed on as end of data, after all bytes before it (half-close).
Rule 2: what was read is delivered before a failure of its source is passed on.
Rule 3: a budget is asked before a read and pays at once, so no byte passes beyond a limit.
"""

from __future__ import annotations

import errno
import os
from _socket import IPPROTO_TCP, MSG_PEEK, SHUT_WR, TCP_QUICKACK
from select import EPOLLIN, EPOLLOUT

from claude_bottle.relay.outlet import SPLICE_FLAGS, Outlet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from claude_bottle.relay.connection import Connection
    from claude_bottle.relay.handshake import Handshake
    from claude_bottle.relay.limits import Budget
    from claude_bottle.relay.pipes import Pipe

CHUNK = 64 << 10
"""bytes copied at once"""
LARGE = 32 << 10
"""a read of this size or more counts as bulk"""
_ENTER_BULK = 3
"""large reads in a row before splicing begins"""
_LEAVE_BULK = -6
"""small reads more than large ones before copying begins again; leaving at the first would make a fast gate copy"""
_SHARE = 4
"""reads per event, so that one busy connection does not starve the others"""
_QUICK_READS = 60
"""reads whose acknowledgement is sent at once. OpenSSH's login meets Nagle and delayed acknowledgements: without
this, `ssh host true` stalls for 40 ms three times. The kernel forgets the option, so it is set after each read."""


class Side(Outlet):
    """One of the two sockets. `peer` is the other, None until the upstream is connected."""

    __slots__ = (
        "budget",
        "bulk",
        "connection",
        "ended",
        "failed",
        "identified",
        "name",
        "peer",
        "quick",
        "received",
        "shut",
        "streak",
        "witness",
    )

    def __init__(self, connection: Connection, sock: socket, name: str, budget: Budget, identified: bool) -> None:
        super().__init__(connection.gate, sock)
        self.connection = connection
        self.name = name
        """who is behind it: bottle or upstream"""
        self.peer: Side | None = None
        self.budget = budget
        self.identified = identified
        """whether what comes from here may be forwarded"""
        self.received = 0
        """bytes read from here and not lost since"""
        self.quick = _QUICK_READS
        self.bulk = False
        self.streak = 0
        self.ended = False
        """nothing more will be read from here"""
        self.failed = ""
        """why it broke, if it did"""
        self.shut = False
        """end of data has been passed on to it"""
        self.witness: Handshake | None = None
        """reads along what comes from here before encryption, if that is wanted"""

    def on_event(self, mask: int) -> None:
        """Move what can be moved."""
        connection = self.connection
        connection.active_at = self.gate.loop.now
        if mask & EPOLLOUT:
            self._flush()
        if mask == EPOLLOUT or connection.closed:
            return
        if not self.interest & EPOLLIN:
            self._hung_up()
        elif self.identified:
            self.read()
        else:
            connection.identify()

    def on_crash(self) -> None:
        """Give up the whole connection."""
        self.connection.close("internal error")

    # Reading

    def read(self) -> None:
        """Forward what is there, up to the fair share."""
        peer = self.peer
        if peer is not None:
            for _ in range(_SHARE):
                if not (self._splice(peer) if self.bulk else self._copy(peer)):
                    return

    def _copy(self, peer: Side) -> bool:
        """Forward one chunk through this process; whether there may be more and the peer can take it."""
        left = self.budget.left
        if left is not None and left <= 0:
            return self._at_limit()
        try:
            data = os.read(self.fd, CHUNK if left is None or left > CHUNK else left)
        except BlockingIOError:
            return False
        except OSError as error:
            return self._read_failed(error)
        size = len(data)
        if not size:
            return self._end()
        self.took(size)
        if size >= LARGE:
            self.streak += 1
            self.bulk = self.streak >= _ENTER_BULK
        else:
            self.streak = 0
        if self.witness is not None and not self.witness.feed(data):
            self.connection.on_handshake(self)
        sent = peer.write(data)
        if self.quick and self.received > size:  # the kernel itself is quick with the first
            self.quick -= 1
            self.sock.setsockopt(IPPROTO_TCP, TCP_QUICKACK, 1)
        return sent and size == CHUNK

    def _splice(self, peer: Side) -> bool:
        """Forward one pipeful inside the kernel; whether there may be more and the peer can take it."""
        left = self.budget.left
        if left is not None and left <= 0:
            return self._at_limit()
        pipes = self.gate.pipes
        pipe = pipes.take()
        if pipe is None:
            return self._copy(peer)
        try:
            # Only ever into an empty pipe: EAGAIN then means "no data" and not "pipe full".
            most = pipe.size if left is None else min(pipe.size, left)
            pipe.filled = os.splice(self.fd, pipe.sink, most, flags=SPLICE_FLAGS)
        except OSError as error:
            pipes.give(pipe)
            return False if error.errno == errno.EAGAIN else self._read_failed(error)
        size = pipe.filled
        if not size:
            pipes.give(pipe)
            return self._end()
        self.took(size)
        self.streak = min(self.streak + 1, 0) if size >= LARGE else self.streak - 1
        if self.streak <= _LEAVE_BULK:
            self.bulk, self.streak = False, 0
        return peer.write_pipe(pipe) and size >= CHUNK

    def took(self, size: int) -> None:
        """Account for bytes read from here."""
        self.received += size
        if self.budget.left is not None:
            self.budget.left -= size

    def _at_limit(self) -> bool:
        """The budget is spent: the end of data may still pass, one byte more may not."""
        try:
            more = self.sock.recv(1, MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError as error:
            return self._read_failed(error)
        if not more:
            return self._end()
        self.connection.cut("upload limit" if self.name == "bottle" else "download limit")
        return False

    def _end(self) -> bool:
        """End of data was read."""
        self.ended = True
        self.settle()
        return False

    def _read_failed(self, error: OSError) -> bool:
        """It broke; nothing can be read from it or written to it any more."""
        self._break(error)
        self.ended = True
        self.unwatch()
        self.settle()
        return False

    def _hung_up(self) -> None:
        """An error or a full hang-up while nothing is read from here."""
        if self.ended and not self.shut:
            self._read_failed(ConnectionResetError(errno.ECONNRESET, "hung up"))
        else:
            # Paused: what is left in it, and the error after that, are read when the peer has room again.
            self.unwatch()
            if self.peer is None:
                self.connection.close(f"reset by {self.name}")

    # Writing

    def write(self, data: bytes) -> bool:
        """Send bytes of the peer; whether all went out."""
        try:
            return self.send(data) or self._hold_back()
        except OSError as error:
            return self._write_failed(error, len(data))

    def write_pipe(self, pipe: Pipe) -> bool:
        """Send a pipeful of the peer's; whether all went out."""
        try:
            return self.pour(pipe) or self._hold_back()
        except OSError as error:
            return self._write_failed(error)

    def _hold_back(self) -> bool:
        """Stop reading from the peer until this socket can take more."""
        self.refresh()
        if self.peer is not None:
            self.peer.refresh()
        return False

    def _flush(self) -> None:
        """Send what waits, then let the peer go on."""
        held = len(self.held)
        try:
            done = self.send_held() if self.pipe is None else self.pour(self.pipe)
        except OSError as error:
            done = self._write_failed(error, held)
        if done and self.peer is not None:
            self.refresh()
            self.peer.refresh()
            self.peer.settle()

    def _write_failed(self, error: OSError, unsent: int = 0) -> bool:
        """Its reader is gone and `unsent` bytes with it; what it sent before may still be there to be read."""
        self._break(error, unsent)
        self.refresh()
        self.settle()
        return False

    def _break(self, error: OSError, unsent: int = 0) -> None:
        """Drop what waits for this socket and stop reading what could only go there."""
        self.failed = self.failed or _cause(self.name, error)
        lost = self.discard()
        if self.peer is not None:
            self.peer.received -= lost + unsent
            self.peer.ended = True
            self.peer.refresh()

    # Ends

    def settle(self) -> None:
        """When this side has ended and all it sent is delivered, pass its end on."""
        peer = self.peer
        if not self.ended or peer is None or peer.waiting or self.connection.closed:
            return
        if self.connection.ending:
            self.connection.finish_cut()
        elif self.failed:
            self.connection.close(self.failed, reset=peer)
        elif self.shut:
            self.connection.close("eof")
        else:
            if not peer.shut and not peer.failed:
                peer.shut_down()
            self.refresh()

    def shut_down(self) -> None:
        """Pass on that the peer sends no more."""
        self.shut = True
        try:
            self.sock.shutdown(SHUT_WR)
        except OSError as error:
            self._write_failed(error)

    def refresh(self) -> None:
        """Watch for what can be acted on now."""
        if self.connection.closed:
            return
        want = EPOLLOUT if self.waiting else 0
        if not self.ended and (not self.identified or (self.peer is not None and not self.peer.waiting)):
            want |= EPOLLIN
        self.watch_for(want)


def _cause(name: str, error: OSError) -> str:
    """The reason of a close record."""
    if error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
        return f"reset by {name}"
    return f"{name} lost: {os.strerror(error.errno or 0).lower()}"
