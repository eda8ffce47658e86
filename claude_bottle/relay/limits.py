"""What may be used up: bytes of an entry over a run, connections of a process."""

from __future__ import annotations

import resource

_RESERVED_FDS = 96
"""standard streams, control socket, epoll, audit log, wake-up, lookups, and room for what libraries open"""


class Budget:
    """Bytes that may still pass in one direction, over all connections of one entry; None is no limit.

    Whoever reads from a socket asks for `left` at most and takes what it read at once, so the sum is exact.
    """

    __slots__ = ("left",)

    def __init__(self, limit_bytes: int | None) -> None:
        self.left = limit_bytes

    @property
    def spent(self) -> bool:
        """Whether nothing more may pass."""
        return self.left is not None and self.left <= 0


def raise_fd_limit() -> int:
    """Raise the soft limit on open files to the hard one; the limit that now holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return soft
    return hard


def connection_cap(fd_limit: int, other_fds: int) -> int:
    """How many connections of two sockets each fit beside `other_fds`."""
    return max(1, (fd_limit - _RESERVED_FDS - other_fds) // 2)
