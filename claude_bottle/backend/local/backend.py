"""The local backend behind the common interface."""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from claude_bottle.backend.base import Backend, RunOptions, Say
from claude_bottle.backend.state import BottleFolder, StateStore, remove_tree
from claude_bottle.errors import BackendError, UsageError
from claude_bottle.plan import BottlePlan, gate_config

POLL_S = 0.02
KILL_WAIT_S = 5.0


class LocalBackend(Backend):
    """Rootless bottles: user and network namespaces through bubblewrap."""

    name = "local"

    def __init__(self, store: StateStore, say: Say) -> None:
        """Keep bottles in `store`; `say` hears what a sweep finds."""
        self._store = store
        self._say = say

    def run(self, plan: BottlePlan, folder: BottleFolder, options: RunOptions) -> int:
        """See `Backend.run`."""
        from claude_bottle.backend.local.launch import Launch

        try:
            sweep(folder, self._store.runtime / folder.slug, self._say)
            return Launch(plan, folder, self._store, options).run()
        except OSError as error:  # a full disk, no descriptors left: any step can meet these
            where = str(error.filename or "local backend")
            raise BackendError(f"the bottle cannot run: {error.strerror or error}", where=where) from error

    def describe(self, plan: BottlePlan) -> Mapping[str, Any]:
        """See `Backend.describe`; descriptors and run-time paths stand as names."""
        from claude_bottle.backend.local.sandbox import bwrap_arguments, copied_files
        from claude_bottle.backend.workfolder import protections_of

        public_keys = (PurePosixPath(item.public_key_path) for item in plan.destinations if item.has_key)
        arguments = bwrap_arguments(
            plan,
            protections=protections_of(plan),
            agent_socket=Path("AGENT_SOCKET") if any(item.has_key for item in plan.destinations) else None,
            file_fds=dict.fromkeys([*copied_files(), *plan.files, *public_keys], 0),
            seccomp_fd=0,
            info_fd=0,
            block_fd=0,
            terminal=0,
        )
        return {
            "bwrap": list(arguments),
            "gate": gate_config(plan, audit=self._store.root / plan.slug / "audit.jsonl", agent=None),
        }

    def exec(self, record: Mapping[str, Any], command: Sequence[str], workdir: str | None) -> int:
        """See `Backend.exec`."""
        from claude_bottle.backend.local.enter import environment_of, run_inside
        from claude_bottle.backend.local.supervise import first_child

        init = living(record, "init")
        program = first_child(init) if init is not None else None
        if init is None or program is None:
            raise UsageError(f"bottle {record['slug']} does not run", where="exec", hint="claude-bottle ps")
        terminal = {"TERM": os.environ["TERM"]} if "TERM" in os.environ else {}  # ours, not the one of the start
        return run_inside(
            program,
            command,
            env=environment_of(init) | record["loader"] | terminal,
            workdir=workdir or record["workdir"],
            groups=[Path(group) for group in record["groups"]],
        )

    def stop(self, folder: BottleFolder, grace_s: float) -> None:
        """See `Backend.stop`."""
        from claude_bottle.backend.local.process import kill

        record = folder.read_record()
        supervisor = living(record, "supervisor") if record else None
        if supervisor is not None:
            kill(supervisor, signal.SIGTERM)
            if wait_for_lock(folder, grace_s):
                folder.unlock()
            else:
                kill(supervisor, signal.SIGKILL)
        if not wait_for_lock(folder, KILL_WAIT_S):
            raise BackendError(f"bottle {folder.slug} does not end", where="stop")
        sweep(folder, self._store.runtime / folder.slug, self._say)
        folder.unlock()


def wait_for_lock(folder: BottleFolder, timeout_s: float) -> bool:
    """Take a bottle's lock as soon as its holder has ended; return whether that came about in time.

    flock(2) has no timeout, so this polls.
    """
    deadline = time.monotonic() + timeout_s
    while not folder.lock():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def sweep(folder: BottleFolder, runtime: Path, say: Say) -> None:
    """Remove what a crashed bottle left: processes, control groups, sockets, the record."""
    from claude_bottle.backend.local.limits import remove_groups
    from claude_bottle.backend.local.process import kill
    from claude_bottle.backend.workfolder import report_after_crash

    record = folder.read_record()
    if record is not None:
        for pid in leftovers(record):
            kill(pid, signal.SIGKILL)
        remove_groups(tuple(Path(group) for group in record.get("groups", ())))
        with suppress(OSError, KeyError):
            remove_tree(Path(record["runtime"]))
    remove_tree(runtime)
    report_after_crash(folder, say)
    folder.clear()


def leftovers(record: Mapping[str, Any]) -> Iterator[int]:
    """Yield the processes of a crashed bottle that still run."""
    from claude_bottle.backend.local.process import named

    for name in record.get("processes", {}):
        pid = living(record, name)
        if pid is not None:
            yield pid
    if mark := record.get("mark"):
        yield from named(mark)


def living(record: Mapping[str, Any], name: str) -> int | None:
    """Return the pid of a recorded process that still is that process."""
    from claude_bottle.backend.local.process import start_time

    pid, started = record.get("processes", {}).get(name, (0, None))
    return pid if started is not None and start_time(pid) == started else None
