"""The SSH egress gate: which port leads where, the script a sidecar runs, and the abstract gate that backends fill in.

Rule 1: entry *i* of `bottle.ssh` listens on `BASE_LISTEN_PORT + i`; appending an entry never moves an existing port.
Rule 2: nothing is rendered that was not checked here, also when it comes from objects built by hand: the script is
shell text, and the manifest's own checks may have been passed by.

`prepare` is pure host-side work; only a backend's `start` and `stop` touch an engine.
"""

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from claude_bottle.errors import PlanError
from claude_bottle.manifest.hostname import check_hostname
from claude_bottle.manifest.model import Bottle

BASE_LISTEN_PORT = 30000
"""the gate's first listen port"""

LAST_LISTEN_PORT = 32767
"""the kernel's ephemeral range begins right above (ip_local_port_range, 32768 by default)"""

MAX_ENTRIES = LAST_LISTEN_PORT - BASE_LISTEN_PORT + 1
"""ssh entries of one bottle, one listen port each"""

ENTRYPOINT_NAME = "ssh_gate_entrypoint.sh"
"""file name of the rendered script in the stage folder"""


@dataclass(frozen=True)
class SSHGateUpstream:
    """One listen port of the gate and the SSH server it leads to."""

    listen_port: int
    """TCP port the gate listens on"""
    upstream_host: str
    """host name or IP literal the gate dials, IPv6 without brackets"""
    upstream_port: int
    """TCP port the gate dials"""
    bottle_host_alias: str
    """the entry's Host, for diagnostics and for the ssh provisioner"""


@dataclass(frozen=True)
class SSHGatePlan:
    """What `start` needs; the launch step fills the networks with `dataclasses.replace` once they exist."""

    slug: str
    """name of the bottle's resources"""
    entrypoint_script: Path
    """rendered script on the host"""
    upstreams: tuple[SSHGateUpstream, ...]
    """in manifest order"""
    internal_network: str = ""
    """network shared with the agent, no route out; empty: not set yet"""
    egress_network: str = ""
    """network with the way out; empty: not set yet"""


def ssh_gate_upstreams_for_bottle(bottle: Bottle) -> tuple[SSHGateUpstream, ...]:
    """Number the bottle's ssh entries in manifest order.

    `bottle.ssh` may hold any objects with `Host`, `Hostname` and `Port`.

    Raises:
        PlanError: more entries than ports below the ephemeral range, or an entry that must not reach a shell.
    """
    if len(bottle.ssh) > MAX_ENTRIES:
        raise PlanError(
            f"{len(bottle.ssh)} entries, but only {MAX_ENTRIES} fit: ports {BASE_LISTEN_PORT} to {LAST_LISTEN_PORT}",
            where="ssh",
            hint=f"keep at most {MAX_ENTRIES} ssh entries in one bottle",
        )
    upstreams = tuple(
        SSHGateUpstream(BASE_LISTEN_PORT + index, entry.Hostname, entry.Port, entry.Host)
        for index, entry in enumerate(bottle.ssh)
    )
    for index, upstream in enumerate(upstreams):
        _check_upstream(index, upstream)
    return upstreams


def ssh_gate_render_entrypoint(upstreams: Sequence[SSHGateUpstream]) -> str:
    """The POSIX sh script that runs one socat forwarder per upstream.

    A forwarder that dies stays dead and the others go on until the container is removed: `wait` returns when all have
    ended, at once when there are none. The shell forwards no signals, so a backend removes its container by force.

    Raises:
        PlanError: a host or port that does not belong into a script, or a listen port used twice.
    """
    for index, upstream in enumerate(upstreams):
        _check_upstream(index, upstream)
    _check_listen_ports_differ(upstreams)
    lines = [
        f"socat TCP-LISTEN:{upstream.listen_port},reuseaddr,fork {_socat_target(upstream)} &" for upstream in upstreams
    ]
    return "\n".join(["#!/bin/sh", "set -eu", *lines, "wait", ""])


class SSHGate(ABC):
    """The gate as the launch step sees it: `prepare`, then `start` with both networks, at the end `stop`."""

    def prepare(self, bottle: Bottle, slug: str, stage_dir: Path) -> SSHGatePlan:
        """Compute the upstreams and write the script into `stage_dir`, which must exist; no engine is touched.

        The script appears whole or not at all, mode 600 or what is narrower of an existing file's mode.

        Raises:
            PlanError: the bottle cannot be planned; nothing is written.
            OSError: `stage_dir` cannot be written; what was there stays as it was.
        """
        upstreams = ssh_gate_upstreams_for_bottle(bottle)
        script = stage_dir / ENTRYPOINT_NAME
        _write_private(script, ssh_gate_render_entrypoint(upstreams))
        return SSHGatePlan(slug=slug, entrypoint_script=script, upstreams=upstreams)

    @staticmethod
    def require_networks(plan: SSHGatePlan) -> None:
        """Refuse a plan whose networks are not set; the first line of every `start`.

        Raises:
            PlanError: a network of the plan is empty.
        """
        for name in ("internal_network", "egress_network"):
            if not getattr(plan, name):
                raise PlanError(
                    f"{name} is not set",
                    where=f"ssh gate of {plan.slug}",
                    hint="create the networks first, then fill both with dataclasses.replace",
                )

    @abstractmethod
    def start(self, plan: SSHGatePlan) -> str:
        """Bring the gate up and return the target that `stop` takes; refuses a plan without networks."""

    @abstractmethod
    def stop(self, target: str) -> None:
        """Remove the gate. Idempotent: a target that is gone is success."""


def _check_upstream(index: int, upstream: SSHGateUpstream) -> None:
    """Refuse what is not plain host, port and port, naming the manifest key it came from."""
    where = f"ssh[{index}]"
    host = upstream.upstream_host
    problem = check_hostname(host) if isinstance(host, str) else (f"{host!r} is not a host name or IP literal", "")
    if problem is not None:
        raise PlanError(problem[0], where=f"{where}.Hostname", hint=problem[1])
    if not _is_port(upstream.upstream_port):
        raise PlanError(
            f"{upstream.upstream_port!r} is not a TCP port",
            where=f"{where}.Port",
            hint="use a whole number from 1 to 65535",
        )
    if not _is_port(upstream.listen_port):
        raise PlanError(f"{upstream.listen_port!r} is not a TCP port to listen on", where=where)


def _check_listen_ports_differ(upstreams: Sequence[SSHGateUpstream]) -> None:
    seen: dict[int, int] = {}
    for index, upstream in enumerate(upstreams):
        first = seen.setdefault(upstream.listen_port, index)
        if first != index:
            raise PlanError(f"listen port {upstream.listen_port} is that of ssh[{first}]", where=f"ssh[{index}]")


def _is_port(value: object) -> bool:
    # `type`, not isinstance: True is an int, and a subclass could render as anything.
    return type(value) is int and 1 <= value <= 65535


def _socat_target(upstream: SSHGateUpstream) -> str:
    if ":" in upstream.upstream_host:
        return f"TCP6:[{upstream.upstream_host}]:{upstream.upstream_port}"
    return f"TCP:{upstream.upstream_host}:{upstream.upstream_port}"


def _write_private(path: Path, text: str) -> None:
    """Put `text` at `path` by rename, readable by the owner at most.

    The temporary name is new at each call (O_EXCL follows no symlink), so that two writers never share a file.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            # fchmod, because the umask may have taken bits away from the mode of open.
            os.fchmod(fd, _narrowed_mode(path))
            _write_all(fd, text.encode())
        finally:
            os.close(fd)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _narrowed_mode(path: Path) -> int:
    """0600, less what an existing file at `path` denies its owner."""
    try:
        existing = path.lstat()
    except FileNotFoundError:
        return 0o600
    return existing.st_mode & 0o600 if stat.S_ISREG(existing.st_mode) else 0o600


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
