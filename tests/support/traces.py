"""What a bottle has left on the host: processes and files that belong to one test's world."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.support.bottle import World

SETTLE_S = 10.0
OURS = ("claude_bottle", "bwrap", "ssh-agent")
"""words in the command lines of the processes a bottle consists of"""


def processes_of(world: World) -> list[str]:
    """Return the processes that have to do with the world's folder, other than its sshd and this test.

    A process counts when its environment, its command line, its current folder or an open file names the folder.
    """
    return [
        f"{pid} {command}"
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if pid != os.getpid() and names(pid, str(world.root)) and "sshd" not in (command := command_line(pid))
    ]


def names(pid: int, folder: str) -> bool:
    """Tell whether a process names the folder."""
    return any(folder in text for text in texts(pid))


def texts(pid: int) -> Iterator[str]:
    """Yield what shows whom a process belongs to."""
    base = Path(f"/proc/{pid}")
    yield command_line(pid)
    for file in ("environ",):
        with suppress(OSError):
            yield (base / file).read_bytes().decode(errors="replace")
    for link in (base / "cwd", *open_files(base)):
        with suppress(OSError):
            yield str(link.readlink())


def open_files(base: Path) -> list[Path]:
    """Return the descriptors of a process, if they may be seen."""
    with suppress(OSError):
        return list((base / "fd").iterdir())
    return []


def command_line(pid: int) -> str:
    """Return the words of a process; empty when it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def wait_until_gone(world: World) -> list[str]:
    """Return the processes that are still there after a bounded wait; ending takes the kernel a moment."""
    deadline = time.monotonic() + SETTLE_S
    while (left := processes_of(world)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def files_of(world: World) -> set[str]:
    """Return what lies in the state and runtime folders, apart from what is meant to stay."""
    found = {str(path) for folder in (world.state, world.runtime) for path in folder.rglob("*")}
    empty = {str(path) for path in (world.runtime / "claude-bottle", *world.state.glob("*")) if path.is_dir()}
    logs = {str(path) for path in world.state.glob("*/audit.jsonl")}
    return found - empty - logs - {str(world.state / ".bubblewrap.json")}
