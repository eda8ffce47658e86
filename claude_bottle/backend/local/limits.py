"""Memory and process limits of a bottle, where the host lets its user set them.

A control group bounds the bottle as a whole; where none can be made, resource limits bound each process (memory) and
the user namespace (process count). Which one it was is said, never guessed.
"""

import os
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from claude_bottle.manifest import Resources

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Applied:
    """What holds now, and what does not."""

    groups: tuple[Path, ...] = ()
    """control groups made for the bottle, to be removed when it ends"""
    notes: tuple[str, ...] = ()
    """one line for each limit that is weaker than asked"""


LIMIT_FILES = {
    "memory": ("memory.max", "memory.limit_in_bytes"),
    "pids": ("pids.max", "pids.max"),
}
"""controller: limit file in version 2, in version 1"""


def apply_limits(wanted: Resources, pid: int, slug: str) -> Applied:
    """Limit process `pid`, which has not run anything of the bottle's yet, and all it will start."""
    groups: list[Path] = []
    notes: list[str] = []
    for controller, value in (("memory", wanted.memory_bytes), ("pids", wanted.pids)):
        if value is None:
            continue
        group = _limit_group(controller, value, pid, slug)
        if group is not None:
            groups.append(group)
        else:
            notes.append(_limit_process(controller, value, pid))
    return Applied(tuple(dict.fromkeys(groups)), tuple(note for note in notes if note))


def remove_groups(groups: tuple[Path, ...]) -> None:
    """Remove control groups whose processes have ended."""
    for group in groups:
        with suppress(OSError):
            group.rmdir()


def group_name(slug: str) -> str:
    """Return the name of a bottle's control groups."""
    return f"claude-bottle-{slug}"


def _limit_group(controller: str, value: int, pid: int, slug: str) -> Path | None:
    for parent, file in _writable_parents(controller):
        group = parent / group_name(slug)
        try:
            group.mkdir(exist_ok=True)
            (group / file).write_text(str(value))
            (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        return group
    return None


def _writable_parents(controller: str) -> list[tuple[Path, str]]:
    """Return the groups below which one with this controller can be made, nearest first.

    Source: cgroups(7); version 2 forbids processes in inner groups, so our own group is no parent but its parent is.
    """
    found = []
    second, first = LIMIT_FILES[controller]
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            for root in (CGROUPS, CGROUPS / "unified"):
                own = root / path.lstrip("/")
                found += [(group, second) for group in (own, *own.parents) if _hands_down(group, controller)]
        elif controller in controllers.split(","):
            found.append((CGROUPS / controllers / path.lstrip("/"), first))
    return [(group, file) for group, file in found if os.access(group, os.W_OK)]


def _hands_down(group: Path, controller: str) -> bool:
    with suppress(OSError):
        return controller in (group / "cgroup.subtree_control").read_text().split()
    return False


def _limit_process(controller: str, value: int, pid: int) -> str:
    """Set a resource limit on the bottle's first process and say what that is worth."""
    if controller == "memory":
        resource.prlimit(pid, resource.RLIMIT_DATA, (value, value))
        return f"memory: {value} bytes hold for each process, not for all together (no writable control group)"
    resource.prlimit(pid, resource.RLIMIT_NPROC, (value, value))
    if os.getuid() == 0:
        return "pids: not limited (no writable control group, and the kernel does not count root's processes)"
    return ""
