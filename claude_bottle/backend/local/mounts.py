"""Check from outside that a bottle's mounts lead where they were meant to, before its program runs.

bubblewrap mounts by path. A bottle that already runs in the same folder could swap a folder on such a path for a
symlink in the moment between our look and the mount, and the new bottle would see what the symlink names. The mount
table cannot be argued with: it says which folder of which file system is mounted where.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from claude_bottle.errors import BackendError
from claude_bottle.workfolder.files import show
from claude_bottle.workfolder.protect import Protection


class Mount(NamedTuple):
    """One line of a mount table."""

    device: str
    """major:minor of the file system"""
    root: str
    """path of the mounted folder or file within its file system"""
    point: str
    """path it is mounted at"""


def check_mounts(pid: int, workdir: Path, protections: Sequence[Protection]) -> None:
    """Compare the mounts of process `pid` with what was planned.

    Raises:
        BackendError: the work folder, or something that protects it, is not mounted or is something else.
    """
    host = read_mounts("self")
    inside = {mount.point: mount for mount in read_mounts(str(pid))}
    wanted = [(str(workdir), True), *((str(item.path), item.kind != "empty") for item in protections)]
    # a path can be planned twice, such as pinned first and then bound read-only: the mount on top counts
    for path, is_itself in dict(wanted).items():
        mount = inside.get(path)
        origin = origin_of(host, path)
        if mount is None or ((mount.device, mount.root) == origin) != is_itself:
            raise BackendError(
                f"{show(path)} was replaced while the bottle was built",
                where="work folder",
                hint="another bottle may run in this folder (claude-bottle ps); look at it, then try again",
            )


def read_mounts(process: str) -> list[Mount]:
    """Return a process's mount table, in mounting order.

    Source: proc_pid_mountinfo(5).
    """
    text = Path(f"/proc/{process}/mountinfo").read_bytes().decode("utf-8", "surrogateescape")
    return [Mount(words[2], unescape(words[3]), unescape(words[4])) for words in map(str.split, text.splitlines())]


def unescape(path: str) -> str:
    """Undo the octal escapes of blanks, tabs, newlines and backslashes."""
    if "\\" not in path:
        return path
    raw = re.sub(rb"\\(\d{3})", lambda code: bytes([int(code[1], 8)]), path.encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "surrogateescape")


def origin_of(mounts: Iterable[Mount], path: str) -> tuple[str, str]:
    """Return the device and the path within its file system that a path without symlinks means."""
    best = Mount("", "", "")
    for mount in mounts:
        if len(mount.point) >= len(best.point) and (mount.point == "/" or f"{path}/".startswith(f"{mount.point}/")):
            best = mount
    rest = path[len(best.point) :] if best.point != "/" else path
    return best.device, f"{best.root.rstrip('/')}/{rest.strip('/')}".rstrip("/") or "/"
