"""Unix sockets of the host that are reachable through a shared folder.

A socket with a path is reached through the file system, not the network namespace: sealing the network does not close
it, and neither does a read-only bind, because connecting writes nothing to the file system.

What is not seen: a socket that the host binds after the bottle has started, and named pipes, which are left alone.
"""

import os
from typing import TYPE_CHECKING

from claude_bottle.workfolder.files import is_inside

if TYPE_CHECKING:
    import socket


def live(paths: list[str]) -> tuple[str, ...]:
    """Those of the socket files that some process, in any network namespace, still has bound.

    A datagram socket is connected to each: that has no effect on its owner (a stream socket answers EPROTOTYPE before
    anything reaches its queue), and only ECONNREFUSED means that nobody can ever be reached there again: binding needs
    a new file. Stale ones are left alone, because a covered file cannot be removed and the next server could not start.

    Source: unix(7); net/unix/af_unix.c, unix_find_bsd.
    """
    if not paths:
        return ()
    import socket  # 4 ms, and a work folder rarely holds a socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as probe:
        return tuple(path for path in paths if not _is_stale(probe, path))


def _is_stale(probe: "socket.socket", path: str) -> bool:
    # Through a descriptor of its folder, because an address holds 107 bytes only.
    folder, _, name = path.rpartition("/")
    try:
        descriptor = os.open(folder or "/", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        probe.connect(os.fsencode(f"/proc/self/fd/{descriptor}/{name}"))
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def listed(folder: str, table: str = "/proc/net/unix") -> tuple[str, ...]:
    """Bound sockets below a folder that the kernel lists by absolute path, for folders too big to walk.

    The list covers this network namespace only, and names a socket that was bound by a relative path as it was spelled:
    those two are missed here and found by the walk.
    """
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as lines:
            next(lines, None)
            paths = {line.rstrip("\n").split(None, 7)[-1] for line in lines}
    except OSError:
        return ()
    return tuple(sorted(path for path in paths if path.startswith("/") and is_inside(path, folder)))
