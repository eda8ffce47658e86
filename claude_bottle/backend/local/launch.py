"""Start one local bottle, stay with it, and leave nothing behind.

The order of a start; each step is undone, in reverse, when a later one fails or the bottle ends:

    record -> gate process -> key agent -> bubblewrap (waits) -> limits -> bubblewrap builds the bottle, while
    keys are added, listeners made inside and handed to the gate, launch audited, work folder looked at ->
    mounts checked -> gate ready -> program released
"""

import json
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import PurePosixPath
from typing import Any

from claude_bottle.audit import AuditError, AuditLog
from claude_bottle.backend.base import RunOptions
from claude_bottle.backend.local.bubblewrap import explain, find_bubblewrap
from claude_bottle.backend.local.descriptors import DescriptorTable
from claude_bottle.backend.local.gate import Gate
from claude_bottle.backend.local.handover import hand_over, send_listeners
from claude_bottle.backend.local.input import InputFile, open_input
from claude_bottle.backend.local.keys import AgentProcess, spawn_agent
from claude_bottle.backend.local.limits import keep_crashes_inside, plan_limits, remove_groups
from claude_bottle.backend.local.mounts import check_mounts
from claude_bottle.backend.local.process import KILL_WAIT_S, Child, spawn, start_time
from claude_bottle.backend.local.programs import distrust
from claude_bottle.backend.local.sandbox import (
    BUILT_FD,
    RELEASE_FD,
    SYSTEM_FOLDERS,
    bwrap_arguments,
    copied_files,
    is_for_loader,
)
from claude_bottle.backend.local.seal import seal_mounts
from claude_bottle.backend.local.seccomp import compile_filter
from claude_bottle.backend.local.sockets import listen_unix
from claude_bottle.backend.local.supervise import Supervisor, first_child
from claude_bottle.backend.local.terminal import SignalPipe, Terminal, standard_streams, terminal_streams
from claude_bottle.backend.mounts import cover_sockets
from claude_bottle.backend.state import BottleFolder, StateStore, remove_tree
from claude_bottle.backend.workfolder import WorkFolderWatch
from claude_bottle.errors import BackendError
from claude_bottle.plan import BottlePlan, gate_config

AGENT_SOCKET_NAME = "agent.sock"
SETUP_TIMEOUT_S = 10.0
WHERE = "local backend"
SEE_ABOVE = "bubblewrap's own message stands above"
GATE_LOST = "the gate has ended; the bottle has no network now"


class Sandbox:
    """A running bubblewrap and the bottle's first process.

    Two waits stand before the program. bubblewrap waits before it starts anything, so that limits reach everything;
    and what would become the program waits for a byte, where our death is an end of file that ends it. bubblewrap's own
    wait is no place for that: it takes an end of file for the byte, and ties its inner process to its outer one only
    later.
    """

    def __init__(self, monitor: Child, init: int, block: FileIO, built: FileIO, release: FileIO) -> None:
        self.monitor = monitor
        self.init = init
        """pid, seen from outside, of the process that is number 1 inside"""
        try:
            self._init_fd = os.pidfd_open(init)
        except ProcessLookupError:
            raise BackendError("bubblewrap could not build the bottle", where=WHERE, hint=SEE_ABOVE) from None
        self._block = block
        self._built = built
        self._release = release

    def unblock(self) -> None:
        """Let bubblewrap build the bottle."""
        self._signal_through(self._block)

    def wait_built(self) -> None:
        """Return once everything is mounted and the program could run.

        Raises:
            BackendError: bubblewrap ended before (its own message is on stderr), or is stuck.
        """
        poll = select.poll()
        poll.register(self._built, select.POLLIN)
        if not poll.poll(SETUP_TIMEOUT_S * 1000) or not self._built.read(1):
            raise BackendError("bubblewrap could not build the bottle", where=WHERE, hint=explain() or SEE_ABOVE)

    @property
    def program(self) -> int | None:
        """Pid, seen from outside, of the program; None when it has ended."""
        return first_child(self.init)

    def release(self) -> None:
        """Let the program run."""
        self._signal_through(self._release)

    @staticmethod
    def _signal_through(pipe: FileIO) -> None:
        with pipe, suppress(BrokenPipeError):  # it has ended; the supervisor sees that
            pipe.write(b"\n")

    def end(self) -> None:
        """End everything inside and wait until it is gone; idempotent."""
        if self._init_fd < 0:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._init_fd, signal.SIGKILL)
        self.monitor.kill()
        poll = select.poll()
        poll.register(self._init_fd, select.POLLIN)
        poll.poll(KILL_WAIT_S * 1000)
        os.close(self._init_fd)
        self._init_fd = -1


class Launch:
    """One start of one bottle in its locked folder."""

    def __init__(self, plan: BottlePlan, folder: BottleFolder, store: StateStore, options: RunOptions) -> None:
        self._plan = plan
        self._folder = folder
        self._store = store
        self._options = options
        self._undo = ExitStack()
        self._record: dict[str, Any] = {}
        self._input: InputFile | None = None

    def run(self) -> int:
        """Start, wait, clean up; return the program's exit status.

        Raises:
            BackendError: a step failed; nothing is left.
        """
        began = time.monotonic()
        with self._undo:
            signals = SignalPipe()
            self._undo.callback(signals.close)
            self._take_folders()
            distrust([self._plan.workdir, *(mount.source for mount in self._plan.bottle.mounts if mount.writable)])
            gate = self._start_gate()
            keys = self._start_keys()
            self._options.step("looking at the work folder")
            watch = WorkFolderWatch(self._plan, self._options.say)
            self._options.step("building the bottle")
            terminal = self._open_terminal()
            self._open_input()
            sandbox = self._start_sandbox(terminal, keys, watch)
            self._limit(sandbox)
            sandbox.unblock()
            self._hand_over(sandbox, gate, keys)
            self._remember(gate=gate.process.pid, monitor=sandbox.monitor.pid, init=sandbox.init)
            self._audit("launch", **self._launch_facts())
            self._options.step("reading what the host executes in the work folder")
            watch.look()
            self._check(sandbox, watch)
            self._release(sandbox, gate, terminal)
            watch.save(self._folder)
            status = self._stay(sandbox, gate, terminal, signals)
            if terminal is not None:
                terminal.detach()
            sandbox.end()
            gate.stop()  # its last records come before ours
            self._options.step("comparing the work folder")
            changed = watch.report(self._folder)
            self._options.step("")
            self._audit("stop", status=status, duration_s=round(time.monotonic() - began, 3), **changed)
        return status

    def _take_folders(self) -> None:
        self._undo.callback(self._folder.unlock)
        self._undo.callback(self._folder.clear)
        self._runtime = self._store.runtime_folder(self._folder.slug)
        self._undo.callback(remove_tree, self._runtime)
        self._record = {
            "version": 1,
            "backend": "local",
            "mark": f"claude-bottle:{self._plan.slug}:{os.urandom(8).hex()}",
            "slug": self._plan.slug,
            "agent": self._plan.agent,
            "bottle": self._plan.bottle_name,
            "manifest": str(self._plan.manifest_path),
            "command": list(self._plan.command),
            "workdir": str(self._plan.workdir),
            "hosts": [item.alias for item in self._plan.destinations],
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "runtime": str(self._runtime),
            "loader": {name: value for name, value in self._plan.env.items() if is_for_loader(name)},
            "groups": [],
            "processes": {},
        }
        self._remember(supervisor=os.getpid())

    def _remember(self, **pids: int) -> None:
        """Write down what `ps`, `exec` and a sweep need.

        The mark names bubblewrap's processes in a process list: the one that becomes number 1 inside would outlive a
        bubblewrap that is killed before it has tied the two together.
        """
        self._record["processes"] |= {name: [pid, start_time(pid)] for name, pid in pids.items()}
        self._folder.write_record(self._record)

    def _start_gate(self) -> Gate:
        gate = Gate(self._folder.gate_log)
        self._undo.callback(gate.stop)
        return gate

    def _start_keys(self) -> AgentProcess | None:
        """Start the key agent, still without keys, and the socket of the filter in front of it."""
        keys = spawn_agent(self._plan.bottle, self._runtime)
        if keys is not None:
            self._undo.callback(keys.stop)
            self._remember(keys=keys.pid)
            self._agent_listener = listen_unix(self._runtime / AGENT_SOCKET_NAME)
            self._undo.callback(self._agent_listener.close)
        return keys

    def _launch_facts(self) -> dict[str, object]:
        return {
            "agent": self._plan.agent,
            "command": list(self._plan.command),
            "pid": os.getpid(),
            "workdir": str(self._plan.workdir),
        }

    def _audit(self, event: str, **facts: object) -> None:
        """Write a record of ours. A log that fails is no reason to stop: the gate then refuses every connection."""
        try:
            log = AuditLog(self._folder.audit, self._plan.slug)
            try:
                log.write({"event": event, **facts})
            finally:
                log.close()
        except AuditError as error:
            self._options.say(f"audit log cannot be written, so the gate refuses every connection: {error}")

    def _open_terminal(self) -> Terminal | None:
        streams = () if self._options.detached else terminal_streams()
        if not streams:
            return None
        terminal = Terminal(streams)
        self._undo.callback(terminal.detach)
        return terminal

    def _open_input(self) -> None:
        self._input = None if self._options.detached else open_input()
        if self._input is not None:
            self._undo.callback(self._input.close)

    def _start_sandbox(self, terminal: Terminal | None, keys: AgentProcess | None, watch: WorkFolderWatch) -> Sandbox:
        """Start bubblewrap, which makes the namespaces and waits; begin to add the keys meanwhile."""
        program = find_bubblewrap(self._store.root / ".bubblewrap.json")
        info_read, info_write = os.pipe()
        block_read, block_write = os.pipe()
        built_read, built_write = os.pipe()
        release_read, release_write = os.pipe()
        built = self._undo.enter_context(FileIO(built_read, "rb"))
        block = self._undo.enter_context(FileIO(block_write, "wb"))
        release = self._undo.enter_context(FileIO(release_write, "wb"))
        with FileIO(info_read, "rb") as info:
            with ExitStack() as closing:  # before reading: our copy of the writing end would hide bubblewrap's end
                closing.callback(os.close, release_read)
                closing.callback(os.close, built_write)
                table = DescriptorTable(closing)
                arguments = bwrap_arguments(
                    self._plan,
                    protections=(*watch.protections, *cover_sockets(SYSTEM_FOLDERS)),
                    agent_socket=self._runtime / AGENT_SOCKET_NAME if keys is not None else None,
                    file_fds=self._file_fds(keys, table),
                    seccomp_fd=table.add(compile_filter()),
                    info_fd=table.add(info_write),
                    block_fd=table.add(block_read),
                    terminal=terminal.streams[0] if terminal is not None else None,
                )
                argv = hide_arguments(program, arguments, table)
                fds = self._streams(terminal, closing) | table.fds | {BUILT_FD: built_write, RELEASE_FD: release_read}
                env = {name: value for name, value in self._plan.env.items() if not is_for_loader(name)}
                monitor = spawn(argv, env=env, fds=fds, name=self._record["mark"])
            self._undo.callback(monitor.kill)
            try:
                if keys is not None:
                    keys.begin_adding()
            finally:  # even then: the bottle's first process, which can outlive a killed bubblewrap, has to be known
                monitor.require()
                sandbox = Sandbox(monitor, read_child_pid(info.fileno()), block, built, release)
                self._undo.callback(sandbox.end)
        return sandbox

    def _streams(self, terminal: Terminal | None, closing: ExitStack) -> dict[int, int]:
        """Return the program's standard streams; a detached one reads nothing and writes to the output log."""
        if not self._options.detached:
            own = standard_streams(terminal)
            if self._input is not None:
                own[0] = self._input.read_fd
            return own
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        log = os.open(self._folder.output_log, flags, 0o600)
        closing.callback(os.close, log)
        return {1: log, 2: log}

    def _file_fds(self, keys: AgentProcess | None, table: DescriptorTable) -> dict[PurePosixPath, int]:
        """Offer the copies of the system's files and the generated ones; return their numbers by path."""
        fds = {}
        for path in copied_files():
            with suppress(OSError):  # one that this user may not read would be no use inside either
                fds[path] = table.add(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        return fds | {path: table.text(text) for path, text in self._files(keys).items()}

    def _files(self, keys: AgentProcess | None) -> dict[PurePosixPath, str]:
        """Return the generated files, the public keys among them."""
        public = keys.public_keys if keys is not None else {}
        return dict(self._plan.files) | {
            PurePosixPath(self._plan.destinations[index].public_key_path): f"{key}\n" for index, key in public.items()
        }

    def _hand_over(self, sandbox: Sandbox, gate: Gate, keys: AgentProcess | None) -> None:
        """Give the keys to their agent, and the listeners to the gate."""
        agent = keys.gate_config() if keys is not None else None
        gate.configure(gate_config(self._plan, audit=self._folder.audit, agent=agent))
        try:
            hand_over(sandbox.init, self._plan.listeners, gate.control)
        except BackendError:
            sandbox.wait_built()  # raises when that is the reason
            raise
        if keys is not None:
            send_listeners(gate.control, [self._agent_listener])
            self._agent_listener.close()
            self._options.step("")  # a passphrase may be asked for
            keys.add_keys(ask=not self._options.detached)

    def _limit(self, sandbox: Sandbox) -> None:
        keep_crashes_inside(sandbox.init)
        limits = plan_limits(self._plan.bottle.resources, f"{self._plan.slug}-{os.getpid()}")
        groups = [group for limit in limits for group in limit.groups]
        self._record["groups"] = [str(group) for group in groups]
        if groups:
            self._remember()  # before they are made, so that a sweep knows them
        self._undo.callback(remove_groups, groups)
        for limit in limits:
            note = limit.apply(sandbox.init)
            if note:
                self._options.say(note)

    def _check(self, sandbox: Sandbox, watch: WorkFolderWatch) -> None:
        """Look at the finished bottle from outside, while nothing hostile runs in it."""
        sandbox.wait_built()
        program = sandbox.program
        if program is None:
            raise BackendError("bubblewrap ended before the program ran", where=WHERE)
        check_mounts(program, self._plan.workdir, watch.protections)
        seal_mounts(program)

    def _release(self, sandbox: Sandbox, gate: Gate, terminal: Terminal | None) -> None:
        """Let the program run, now that everything it may use and all that bounds it is there."""
        self._options.step("waiting for the gate")
        gate.wait_ready()
        self._options.step("")
        if terminal is not None:
            terminal.attach()
        sandbox.release()
        self._options.started()

    def _stay(self, sandbox: Sandbox, gate: Gate, terminal: Terminal | None, signals: SignalPipe) -> int:
        supervisor = Supervisor(
            sandbox.monitor,
            program=lambda: sandbox.program,
            signals=signals,
            terminal=terminal,
        )
        if self._input is not None:
            supervisor.also_feed(self._input)
        supervisor.also_watch(gate.process, lambda: self._options.say(GATE_LOST + gate.last_words()))
        return supervisor.wait()


def hide_arguments(program: str, arguments: Sequence[str], table: DescriptorTable) -> tuple[str, ...]:
    """Return an argv that takes its options from a descriptor: a command line can be read inside (/proc/1/cmdline)."""
    end = list(arguments).index("--")
    number = table.text("".join(f"{argument}\0" for argument in arguments[:end]))
    return (program, "--args", str(number), *arguments[end:])


def read_child_pid(info_fd: int) -> int:
    """Return the pid of the bottle's first process from bubblewrap's --info-fd.

    Raises:
        BackendError: bubblewrap ended before (its own message is on stderr), or is stuck.
    """
    text = b""
    poll = select.poll()
    poll.register(info_fd, select.POLLIN)
    while poll.poll(SETUP_TIMEOUT_S * 1000):
        part = os.read(info_fd, 65536)
        text += part
        with suppress(ValueError):
            said: Mapping[str, int] = json.loads(text)
            return said["child-pid"]
        if not part:
            break
    raise BackendError("bubblewrap could not make the bottle", where=WHERE, hint=explain() or SEE_ABOVE)
