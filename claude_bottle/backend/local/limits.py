"""Memory and process limits of a bottle, where the host lets its user set them.

A control group bounds the bottle as a whole; where none can be made, resource limits bound each process (memory) and
the user namespace (process count). Which one it was is said, never guessed.
"""

import os
import resource
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from claude_bottle.manifest import Resources

CGROUPS = Path("/sys/fs/cgroup")
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


LIMIT_FILES = {
    "memory": ("memory.max", "memory.limit_in_bytes"),
    "pids": ("pids.max", "pids.max"),
}
"""controller: limit file in version 2, in version 1"""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit and the control groups that could hold it, best first."""

    controller: str
    """`memory` or `pids`"""
    value: int
    """bytes, or processes and threads"""
    files: tuple[Path, ...]
    """limit files in groups that are to be made, best first"""

    @property
    def groups(self) -> tuple[Path, ...]:
        """The groups that `apply` may make."""
        return tuple(file.parent for file in self.files)

    def apply(self, pid: int) -> str:
        """Limit process `pid`, which has run nothing of the bottle's yet, and all it will start.

        Returns one line when the limit is weaker than asked, else an empty string.
        """
        for file in self.files:
            try:
                file.parent.mkdir(exist_ok=True)
                file.write_text(str(self.value))
                (file.parent / "cgroup.procs").write_text(str(pid))
            except OSError:
                remove_groups([file.parent])
            else:
                return ""
        return limit_process(self.controller, self.value, pid)


def plan_limits(wanted: Resources, name: str) -> tuple[Limit, ...]:
    """Return the limits that are asked for; their control groups would be called `claude-bottle-NAME`."""
    values = (("memory", wanted.memory_bytes), ("pids", wanted.pids))
    return tuple(
        Limit(
            controller,
            value,
            tuple(parent / f"claude-bottle-{name}" / file for parent, file in writable_parents(controller)),
        )
        for controller, value in values
        if value is not None
    )


def remove_groups(groups: Iterable[Path]) -> None:
    """Remove control groups whose processes have ended; those that were never made are no matter."""
    for group in groups:
        with suppress(OSError):
            group.rmdir()


def writable_parents(controller: str) -> list[tuple[Path, str]]:
    """Return the groups below which one with this controller can be made, nearest first, and its limit file's name.

    Source: cgroups(7); version 2 forbids processes in inner groups, so our own group is no parent but its parent is.
    """
    found = []
    second, first = LIMIT_FILES[controller]
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            for root in (CGROUPS, CGROUPS / "unified"):
                own = root / path.lstrip("/")
                found += [(group, second) for group in (own, *own.parents) if hands_down(group, controller)]
        elif controller in controllers.split(","):
            found.append((CGROUPS / controllers / path.lstrip("/"), first))
    return [(group, file) for group, file in found if os.access(group, os.W_OK)]


def hands_down(group: Path, controller: str) -> bool:
    """Tell whether groups below this one have the controller (version 2)."""
    with suppress(OSError):
        return controller in (group / "cgroup.subtree_control").read_text().split()
    return False


def keep_crashes_inside(pid: int) -> None:
    """Have process `pid` and its children leave no core dump where one would go to a crash handler of the host's.

    The handler runs outside, mostly as root, on memory that an agent has arranged. A limit of one byte is what keeps
    the kernel from starting it; no limit of bytes and not even zero does.

    Source: core(5); the kernel's fs/coredump.c, against crashes of the handler itself.
    """
    if CORE_PATTERN.read_bytes().startswith((b"|", b"@")):
        with suppress(OSError, ValueError):  # our own hard limit is lower
            resource.prlimit(pid, resource.RLIMIT_CORE, (1, 1))


def limit_process(controller: str, value: int, pid: int) -> str:
    """Set a resource limit on the bottle's first process and say what that is worth."""
    kind = resource.RLIMIT_DATA if controller == "memory" else resource.RLIMIT_NPROC
    try:
        resource.prlimit(pid, kind, (value, value))
    except (OSError, ValueError) as error:
        return f"{controller}: not limited ({error})"
    if controller == "memory":
        return f"memory: {value} bytes hold for each process, not for all together (no writable control group)"
    if os.getuid() == 0:
        return "pids: not limited (no writable control group, and the kernel does not count root's processes)"
    return ""
