"""Unix sockets at paths of any length: sun_path holds 108 bytes, folders may be deeper."""

import os
import socket
from pathlib import Path


def listen_unix(path: Path) -> socket.socket:
    """Return a listening Unix socket at `path`, for its owner only.

    Raises:
        OSError: the folder is missing or the path is taken.

    Source: unix(7); the folder's descriptor stands in for its name.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        path.chmod(0o600)
        listener.listen(64)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener
