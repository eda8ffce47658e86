"""Rules between keys: what each value alone cannot show. Pure; nothing here looks at the machine.

A rule is silent where one of its values already has a mistake of its own.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePath

from claude_bottle.manifest.hostname import is_ip_literal
from claude_bottle.manifest.model import Agent, Bottle, Manifest, Mount, SSHEntry
from claude_bottle.manifest.reading import BAD, KeyPath, Reading, show_path
from claude_bottle.manifest.tables import nearest

OWN_TARGETS = (
    "/proc",
    "/sys",
    "/dev",
    "/etc/ssh",
    "/etc/group",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/resolv.conf",
    "/run/claude-bottle",
)
"""paths that the bottle makes itself; nothing may stand on, in or around them"""
SYSTEM_TARGETS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""folders of the system that may not be replaced as a whole"""


def check_rules(manifest: Manifest, reading: Reading) -> None:
    """Report every broken rule of a manifest in which single values may be missing or BAD."""
    if manifest.bottles is BAD:
        return
    for name, bottle in manifest.bottles.items():
        path: KeyPath = ("bottles", name)
        _check_aliases(bottle, path, reading)
        _check_environment(bottle, path, reading)
        _check_targets(bottle, path, reading)
    _check_agents(manifest.agents, list(manifest.bottles), reading)


def entries_of(bottle: Bottle, path: KeyPath, reading: Reading, *keys: str) -> Iterator[tuple[KeyPath, SSHEntry]]:
    """The ssh entries that could be read and whose `keys` have no mistake, each with its path."""
    for place, entry in enumerate(bottle.ssh):
        here: KeyPath = (*path, "ssh", place)
        if entry is not BAD and not reading.is_bad(*((*here, key) for key in keys)):
            yield here, entry


def mounts_of(bottle: Bottle, path: KeyPath, reading: Reading, key: str) -> Iterator[tuple[KeyPath, Mount]]:
    """The same for mounts."""
    for place, mount in enumerate(bottle.mounts):
        here: KeyPath = (*path, "mounts", place)
        if mount is not BAD and not reading.is_bad((*here, key)):
            yield here, mount


def _check_aliases(bottle: Bottle, path: KeyPath, reading: Reading) -> None:
    """One alias, one destination: neither twice, nor the real name of somewhere else."""
    first: dict[str, KeyPath] = {}
    for here, entry in entries_of(bottle, path, reading, "Host"):
        # ssh compares host names without regard to case.
        known = first.setdefault(entry.Host.lower(), here)
        if known is not here:
            hint = f"the first is {show_path(known)}; choose another alias"
            reading.report((*here, "Host"), f"{entry.Host!r} is declared twice", hint)
    entries = list(entries_of(bottle, path, reading, "Host", "Hostname"))
    real: dict[str, KeyPath] = {}
    for here, entry in entries:
        real.setdefault(entry.Hostname.lower(), here)
    for here, entry in entries:
        if entry.Host.lower() == entry.Hostname.lower():
            continue
        if entry.Host.lower() in real:
            what = f"{entry.Host!r} leads to {entry.Hostname}, but is also a Hostname"
            hint = f"choose another alias; {show_path(real[entry.Host.lower()])} leads to the real {entry.Host}"
            reading.report((*here, "Host"), what, hint)
        elif is_ip_literal(entry.Host):
            what = f"{entry.Host!r} is an address and cannot stand for {entry.Hostname}"
            reading.report((*here, "Host"), what, "choose a name as the alias")


def _check_environment(bottle: Bottle, path: KeyPath, reading: Reading) -> None:
    for place, name in enumerate(bottle.pass_env):
        if name is not BAD and name in bottle.env:
            hint = "leave it out of env or of pass_env"
            reading.report((*path, "pass_env", place), f"{name} is set in env as well", hint)


def _check_targets(bottle: Bottle, path: KeyPath, reading: Reading) -> None:
    """Mounts are made in their order; none may hide another or a part of the bottle itself."""
    earlier: dict[PurePath, KeyPath] = {}
    for here, mount in mounts_of(bottle, path, reading, "target"):
        target = mount.target
        inside = [other for other in earlier if other.is_relative_to(target)]
        if not check_target(target, (*here, "target"), reading):
            pass
        elif target in earlier:
            hint = f"the first is {show_path(earlier[target])}"
            reading.report((*here, "target"), f"{str(target)!r} is mounted twice", hint)
        elif inside:
            what = f"{str(target)!r} would hide the earlier mount on {str(inside[0])!r}"
            reading.report((*here, "target"), what, f"move it before {show_path(earlier[inside[0]])}")
        earlier.setdefault(target, here)


def check_target(target: PurePath, path: KeyPath, reading: Reading) -> bool:
    """Whether something may be mounted on `target`."""
    own = [each for each in OWN_TARGETS if target.is_relative_to(each) or PurePath(each).is_relative_to(target)]
    if own:
        reading.report(path, f"{str(target)!r} would hide the bottle's own {own[0]}", "choose another target")
    elif str(target) in SYSTEM_TARGETS:
        reading.report(path, f"{str(target)!r} would hide the system's programs", "choose a folder below it")
    else:
        return True
    return False


def _check_agents(agents: Mapping[str, Agent], bottles: list[str], reading: Reading) -> None:
    for name, agent in agents.items():
        path: KeyPath = ("agents", name)
        if agent.bottle not in bottles and not reading.is_bad((*path, "bottle"), ("bottles", agent.bottle)):
            near = nearest(agent.bottle, bottles)
            hint = f'did you mean "{near}"?' if near else "declared are: " + (", ".join(bottles) or "none")
            reading.report((*path, "bottle"), f"there is no bottle {agent.bottle!r}", hint)
        if not reading.is_bad((*path, "command")) and agent.command[0] == "":
            reading.report((*path, "command", 0), "the program's name is empty", 'write it, such as "claude"')
