"""What will be done, decided before anything is touched: manifest and caller in, frozen plan out.

Pure. `plan` prints it, a backend carries it out, and nothing is decided later that could be decided here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from claude_bottle.errors import BottleError, PlanError, UsageError
from claude_bottle.manifest import Bottle, Manifest
from claude_bottle.ssh_client import (
    Listener,
    SSHDestination,
    plan_destinations,
    plan_listeners,
    render_hosts,
    render_known_hosts,
    render_ssh_config,
)

AGENT_SOCKET = PurePosixPath("/run/claude-bottle/agent.sock")
"""where the key agent's socket is inside the bottle"""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

ALWAYS_PASSED = ("TERM", "LANG")
"""the caller's variables that every bottle sees"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who starts the bottle, as far as the bottle shows it."""

    uid: int
    """user id, the same inside"""
    gid: int
    """group id, the same inside"""
    user: str
    """login name, the same inside"""
    home: Path
    """home folder; inside it is a fresh tmpfs at the same path"""
    environ: Mapping[str, str]
    """the caller's environment; only named variables go in"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BottlePlan:
    """One bottle, ready to be started by any backend."""

    slug: str
    """name of the running bottle; every resource name derives from it"""
    agent: str | None
    """name of the agent in the manifest, if one was named"""
    bottle_name: str
    """name of the bottle in the manifest"""
    bottle: Bottle
    """the bottle as declared"""
    manifest_path: Path
    """file the bottle was declared in"""
    command: tuple[str, ...]
    """argument vector of the program inside"""
    workdir: Path
    """work folder, writable, at the same path inside"""
    caller: Caller
    """who starts it"""
    env: Mapping[str, str]
    """whole environment inside"""
    destinations: tuple[SSHDestination, ...]
    """SSH destinations with their addresses and ports, in manifest order"""
    listeners: tuple[Listener, ...]
    """what the gate listens on inside"""
    files: Mapping[PurePosixPath, str]
    """generated files inside, by path"""

    @property
    def rule_prefix(self) -> str:
        """Key path of the bottle in its manifest."""
        return f"bottles.{self.bottle_name}"


def plan_bottle(
    manifest: Manifest,
    *,
    agent: str | None,
    bottle: str | None,
    command: Sequence[str],
    workdir: Path,
    caller: Caller,
    slug: str | None = None,
) -> BottlePlan:
    """Decide everything about one bottle.

    With neither `agent` nor `bottle`, the manifest's only agent (or, with a command, its only bottle) is meant.

    Raises:
        UsageError: no such agent or bottle, an ambiguous choice, or no command.
        PlanError: more entries than ports, or a private key in the work folder.
    """
    agent, bottle = choose(manifest, agent, bottle, bool(command))
    declared = manifest.bottles[bottle]
    program = tuple(command) or (manifest.agents[agent].command if agent else ())
    if not program:
        raise UsageError("no command to run", where="run", hint="name an agent of the manifest, or add: -- COMMAND")
    refuse_visible_keys(declared, workdir, f"bottles.{bottle}")
    name = slug or agent or bottle
    destinations = plan_destinations(declared)
    return BottlePlan(
        slug=name,
        agent=agent,
        bottle_name=bottle,
        bottle=declared,
        manifest_path=manifest.path,
        command=program,
        workdir=workdir,
        caller=caller,
        env=plan_environment(declared, caller, name),
        destinations=destinations,
        listeners=plan_listeners(destinations),
        files=plan_files(declared, destinations, caller, name),
    )


def choose(manifest: Manifest, agent: str | None, bottle: str | None, has_command: bool) -> tuple[str | None, str]:
    """Return the names of the agent (if any) and the bottle that are meant.

    Raises:
        UsageError: no such name, or more than one would fit.
    """
    if agent is not None:
        if agent not in manifest.agents:
            raise _unknown("agent", agent, manifest.agents, manifest.path)
        declared = manifest.agents[agent].bottle
        if bottle is not None and bottle != declared:
            raise UsageError(
                f"agent {agent} runs in bottle {declared}, not in {bottle}",
                where=str(manifest.path),
                hint="leave out --bottle, or run a command of its own: run --bottle NAME -- COMMAND",
            )
        return agent, declared
    if bottle is not None:
        if bottle not in manifest.bottles:
            raise _unknown("bottle", bottle, manifest.bottles, manifest.path)
        return None, bottle
    if not has_command and len(manifest.agents) == 1:
        only = next(iter(manifest.agents))
        return only, manifest.agents[only].bottle
    if has_command and len(manifest.bottles) == 1:
        return None, next(iter(manifest.bottles))
    kind, names = ("bottle", manifest.bottles) if has_command else ("agent", manifest.agents)
    raise UsageError(
        f"which {kind}? the manifest has {', '.join(names) or 'none'}",
        where=str(manifest.path),
        hint=f"name one: run {'--bottle NAME -- COMMAND' if has_command else 'AGENT'}",
    )


def refuse_visible_keys(bottle: Bottle, workdir: Path, where: str) -> None:
    """Refuse a work folder that would show a private key inside.

    Raises:
        PlanError: with the key's place in the manifest.
    """
    for index, entry in enumerate(bottle.ssh):
        if entry.IdentityFile is not None and entry.IdentityFile.resolve().is_relative_to(workdir):
            raise PlanError(
                f"{entry.IdentityFile} lies in the work folder, where the agent would read it",
                where=f"{where}.ssh[{index}].IdentityFile",
                hint="keep the key in another folder, such as ~/.ssh",
            )


def _unknown(kind: str, name: str, known: Mapping[str, object], path: Path) -> BottleError:
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"the manifest has {', '.join(known) or 'none'}"
    return UsageError(f"no {kind} named {name}", where=str(path), hint=hint)


def plan_environment(bottle: Bottle, caller: Caller, slug: str) -> dict[str, str]:
    """Return the whole environment inside: nothing of the caller's that is not named."""
    passed = (*ALWAYS_PASSED, *bottle.pass_env)
    env = {
        "HOME": str(caller.home),
        "USER": caller.user,
        "LOGNAME": caller.user,
        "SHELL": "/bin/bash",
        "PATH": DEFAULT_PATH,
        "XDG_RUNTIME_DIR": f"/run/user/{caller.uid}",
        "CLAUDE_BOTTLE": slug,
    }
    env |= {name: caller.environ[name] for name in passed if name in caller.environ}
    env |= bottle.env
    if any(entry.IdentityFile is not None for entry in bottle.ssh):
        env["SSH_AUTH_SOCK"] = str(AGENT_SOCKET)
    return env


def plan_files(
    bottle: Bottle, destinations: Sequence[SSHDestination], caller: Caller, slug: str
) -> dict[PurePosixPath, str]:
    """Return the generated files inside, by path."""
    etc = PurePosixPath("/etc")
    return {
        etc / "passwd": _render_passwd(caller),
        etc / "group": f"{caller.user}:x:{caller.gid}:\nnogroup:x:65534:\n",
        etc / "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
        etc / "hosts": render_hosts(destinations, slug),
        etc / "resolv.conf": "# names are resolved by the gate; this bottle has no DNS\n",
        etc / "ssh/ssh_config": render_ssh_config(destinations),
        etc / "ssh/ssh_known_hosts": render_known_hosts(bottle),
    }


def _render_passwd(caller: Caller) -> str:
    lines = [f"{caller.user}:x:{caller.uid}:{caller.gid}::{caller.home}:/bin/bash"]
    if caller.uid != 0:
        lines.append("root:x:0:0::/root:/bin/sh")
    return "\n".join([*lines, "nobody:x:65534:65534::/nonexistent:/bin/false", ""])


def gate_config(plan: BottlePlan, *, audit: Path, agent: Mapping[str, object] | None) -> dict[str, object]:
    """Return what the gate process is told, as JSON-ready data; the listeners come in `plan.listeners` order."""
    listeners: list[dict[str, object]] = [
        {"kind": "ssh", "entry": item.entry, "address": item.address, "port": item.port} for item in plan.listeners
    ]
    if agent is not None:
        listeners.append({"kind": "agent"})
    return {
        "bottle": plan.slug,
        "audit": str(audit),
        "allow_addresses": list(plan.bottle.allow_addresses),
        "entries": [
            {
                "alias": entry.Host,
                "host": entry.Hostname,
                "port": entry.Port,
                "rule": f"{plan.rule_prefix}.ssh[{index}]",
                "max_connections": entry.max_connections,
                "idle_timeout_s": entry.idle_timeout_s,
                "connect_timeout_s": entry.connect_timeout_s,
                "upload_limit_bytes": entry.upload_limit_bytes,
                "download_limit_bytes": entry.download_limit_bytes,
            }
            for index, entry in enumerate(plan.bottle.ssh)
        ],
        "listeners": listeners,
        "agent": agent,
    }


def describe_plan(plan: BottlePlan) -> dict[str, Any]:
    """Return the plan as JSON-ready data; values of passed variables are left out, they may be secrets."""
    hidden = set(plan.bottle.pass_env) - set(plan.bottle.env)
    return {
        "bottle": plan.bottle_name,
        "agent": plan.agent,
        "manifest": str(plan.manifest_path),
        "slug": plan.slug,
        "workdir": str(plan.workdir),
        "command": list(plan.command),
        "env": {name: "(passed)" if name in hidden else value for name, value in plan.env.items()},
        "mounts": [
            f"{mount.source} -> {mount.target} ({'writable' if mount.writable else 'read-only'})"
            for mount in plan.bottle.mounts
        ],
        "ssh": [
            {
                "alias": entry.Host,
                "host": entry.Hostname,
                "port": entry.Port,
                "user": entry.User,
                "identity_file": str(entry.IdentityFile) if entry.IdentityFile else None,
                "host_keys": len(entry.KnownHostKey),
                "listen_port": destination.upstream.listen_port,
                "address": destination.address,
                "listens": [f"{item.address}:{item.port}" for item in plan.listeners if item.entry == index],
            }
            for index, (entry, destination) in enumerate(zip(plan.bottle.ssh, plan.destinations, strict=True))
        ],
        "listeners": [{"entry": item.entry, "address": item.address, "port": item.port} for item in plan.listeners],
        "files": {str(path): text for path, text in plan.files.items()},
    }
