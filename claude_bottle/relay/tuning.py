"""Socket options of the gate, and why."""

from __future__ import annotations

import errno
import fcntl
from _socket import (
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SO_LINGER,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_CONGESTION,
    TCP_KEEPIDLE,
    TCP_NODELAY,
    socket,
)

_KEEPALIVE_IDLE_S = 60
_SIOCOUTQ = 0x5411
_LINGER_NOTHING = b"\x01\x00\x00\x00\x00\x00\x00\x00"
"""struct linger {1, 0}: closing sends a reset"""

_LOCAL_CONGESTION_CONTROL = b"reno"
"""The bottle is on the same machine: a system-wide bbr would pace a wire that does not exist, at half the speed.
Every kernel has reno, and every user may choose it."""

OUT_OF_FDS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""errors of accept that pass when something is closed"""


def tune_listener(listener: socket) -> None:
    """Set what accepted sockets inherit, so that it costs nothing per connection."""
    listener.setblocking(False)
    listener.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    listener.setsockopt(IPPROTO_TCP, TCP_CONGESTION, _LOCAL_CONGESTION_CONTROL)


def upstream_socket(family: int) -> socket:
    """A socket to dial with.

    TCP_NODELAY: a small second write must not wait for an acknowledgement. Keepalive: an upstream that vanished is
    noticed. Not TCP_USER_TIMEOUT: it also kills a connection whose reader merely pauses (zero window).
    """
    sock = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
    return sock


def unsent_bytes(sock: socket) -> int:
    """Bytes the peer has not acknowledged yet."""
    return int.from_bytes(fcntl.ioctl(sock.fileno(), _SIOCOUTQ, bytes(4)), "little")


def close_with_reset(sock: socket) -> None:
    """Have the coming close send a reset; bytes still in the send queue are lost with it."""
    sock.setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_NOTHING)
