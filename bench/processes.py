"""What processes use: processor time, memory of their own, memory of the kernel for them. Source: proc(5)."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
USAGE_FILES = ("memory.current", "memory.usage_in_bytes")
"""in version 2, in version 1"""
END_TIMEOUT_S = 30.0
"""longest that killed processes may take to end; thousands of socat's take seconds"""


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants; those that end meanwhile may be missing."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in (PROC / str(parent) / "task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def name(pid: int) -> str:
    """Return a process's name, or nothing when it is gone."""
    with suppress(OSError):
        return (PROC / str(pid) / "comm").read_text().strip()
    return ""


def cpu_s(pids: list[int]) -> float:
    """Return the processor time, user and system, that processes have used.

    Nanoseconds of the scheduler's account: utime and stime of /proc/PID/stat are the same time in hundredths.
    """
    return sum(_nanoseconds(pid) for pid in pids) / 1e9


def _nanoseconds(pid: int) -> int:
    total = 0
    with suppress(OSError):
        for task in (PROC / str(pid) / "task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


def pss_bytes(pids: list[int]) -> int:
    """Return the proportional set size of processes; the resident set of one that does not let itself be looked at."""
    return sum(_field(pid, "smaps_rollup", "Pss:") or _field(pid, "status", "VmRSS:") for pid in pids)


def _field(pid: int, file: str, label: str) -> int:
    with suppress(OSError):
        for line in (PROC / str(pid) / file).read_text().splitlines():
            if line.startswith(label):
                return int(line.split()[1]) * 1024
    return 0


class MemoryGroup:
    """A control group that counts the memory of what is started in it, sockets and kernel objects included."""

    def __init__(self, path: Path, home: Path) -> None:
        self._path = path
        self._home = home

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in the group, so that what is started meanwhile is born there."""
        _move(self._path)
        try:
            yield
        finally:
            _move(self._home)

    def used_bytes(self) -> int:
        """Return what the group uses now, without cached files, which are given up when memory runs short.

        Version 1 counts socket buffers apart, and calls cached files otherwise.
        """
        files = (self._path / file for file in (*USAGE_FILES, "memory.kmem.tcp.usage_in_bytes"))
        used = sum(int(file.read_text()) for file in files if file.exists())
        statistics = dict(line.split() for line in (self._path / "memory.stat").read_text().splitlines())
        return used - int(statistics.get("file") or statistics.get("cache") or 0)

    def remove(self) -> None:
        """Remove the group as soon as its processes have ended; what was killed takes its time."""
        deadline = time.monotonic() + END_TIMEOUT_S
        while self._path.exists() and time.monotonic() < deadline:
            with suppress(OSError):
                self._path.rmdir()
            time.sleep(0.01)


@contextmanager
def memory_group() -> Iterator[MemoryGroup | None]:
    """Make a control group for the time of the context; None where this user cannot."""
    group = _make_group()
    try:
        yield group
    finally:
        if group is not None:
            group.remove()


def _make_group() -> MemoryGroup | None:
    """Make a group below our own, or below one of its parents (version 2 wants inner groups empty)."""
    for line in (PROC / "self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        home = CGROUPS / controllers / own.lstrip("/")
        for parent in (home, *home.parents):
            if not parent.is_relative_to(CGROUPS / controllers):
                break
            path = parent / f"claude-bottle-bench-{os.getpid()}"
            if _is_usable(path, home):
                return MemoryGroup(path, home)
    return None


def _is_usable(path: Path, home: Path) -> bool:
    """Make the group and tell whether it counts memory and lets us in; if not, nothing is left."""
    with suppress(OSError):
        path.mkdir()
        if any((path / file).exists() for file in USAGE_FILES):
            _move(path)
            _move(home)
            return True
    with suppress(OSError):
        path.rmdir()
    return False


def _move(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))
