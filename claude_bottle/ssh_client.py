"""The bottle's ssh client side: where each declared destination is found inside, as plain data and rendered files.

Every declared destination is a loopback address inside the bottle (an IP literal is its own address). On it listen the
entry's gate port and its real port, so the alias, the real name and `ssh://` URLs all lead to the gate:

    ssh forge                       block of the alias: address, gate port, key, HostKeyAlias
    ssh git.example.com [-p PORT]   block of the name: /etc/hosts gives the address, the real port picks the entry

Rule 1: an alias always leads to its own entry; a real name to the first entry with that name and port.
Rule 2: what a config file would read otherwise (spaces, quotes, patterns, `%`) is refused, never quoted.

The agent can override every line here; what must hold is held by the gate and by the keys' constraints.
"""

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from claude_bottle.errors import PlanError
from claude_bottle.manifest.hostname import canonical_host, is_host_name, is_ip_literal
from claude_bottle.manifest.model import Bottle
from claude_bottle.manifest.texts import check_alias, check_destination, check_user
from claude_bottle.ssh_gate import SSHGateUpstream, ssh_gate_upstreams_for_bottle

KNOWN_HOSTS_PATH = "/etc/ssh/ssh_known_hosts"
"""rendered known_hosts inside the bottle"""

PUBLIC_KEY_FOLDER = "/etc/ssh/claude-bottle"
"""folder of `<listen_port>.pub` inside the bottle"""

AGENT_SOCKET = "/run/claude-bottle/agent.sock"
"""filtered agent socket inside the bottle, the value of SSH_AUTH_SOCK"""

_CA_MARKER = "@cert-authority "
_HOST_KEY = re.compile(r"(?:@cert-authority )?[A-Za-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, slots=True)
class SSHDestination:
    """One ssh entry as the bottle's clients see it."""

    upstream: SSHGateUpstream
    """the gate's side of the entry"""
    address: str
    """address inside the bottle: 127.1.0.0/16, or the entry's IP literal"""
    user: str | None
    """login name; None: ssh's own"""
    has_key: bool
    """whether the bottle's agent holds a key for the entry"""
    host_key_alias: str
    """name under which the entry's host keys are known"""

    @property
    def alias(self) -> str:
        """What the agent types."""
        return self.upstream.bottle_host_alias

    @property
    def hostname(self) -> str:
        """Host name or IP literal the gate dials."""
        return self.upstream.upstream_host

    @property
    def port(self) -> int:
        """TCP port the gate dials."""
        return self.upstream.upstream_port

    @property
    def public_key_path(self) -> str:
        """Path of the entry's public key inside the bottle."""
        return f"{PUBLIC_KEY_FOLDER}/{self.upstream.listen_port}.pub"


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening socket inside the bottle."""

    entry: int
    """index of the destination it leads to"""
    address: str
    """IPv4 or IPv6 literal"""
    port: int
    """TCP port"""


def plan_destinations(bottle: Bottle) -> tuple[SSHDestination, ...]:
    """Give each ssh entry its address, in manifest order.

    Entry i has 127.1.((i+1) >> 8).((i+1) & 255); entries with the same Hostname share the address of the first.

    Raises:
        PlanError: an alias, user or host that cannot stand in a config file, or two entries with one alias.
    """
    addresses: dict[str, str] = {}
    aliases: dict[str, int] = {}
    destinations = []
    for index, (entry, upstream) in enumerate(
        zip(bottle.ssh, ssh_gate_upstreams_for_bottle(bottle), strict=True),
    ):
        _check_texts(index, upstream.bottle_host_alias, upstream.upstream_host, entry.User)
        _check_alias_is_new(index, upstream.bottle_host_alias, aliases)
        name = canonical_host(upstream.upstream_host).lower()
        address = addresses.setdefault(name, _address_of(name, index))
        host_key_alias = _host_key_alias(upstream, entry.KnownHostKey)
        destinations.append(
            SSHDestination(upstream, address, entry.User, entry.IdentityFile is not None, host_key_alias),
        )
    return tuple(destinations)


def plan_listeners(destinations: Sequence[SSHDestination]) -> tuple[Listener, ...]:
    """The sockets the gate listens on, each (address, port) once.

    Gate ports win over real ports, so that an alias never leads to another entry; among equals the first entry wins.
    """
    chosen: dict[tuple[str, int], int] = {}
    for address, port, entry in _wanted(destinations):
        chosen.setdefault((address, port), entry)
    return tuple(Listener(entry, address, port) for (address, port), entry in chosen.items())


def render_ssh_config(destinations: Sequence[SSHDestination]) -> str:
    """The bottle's /etc/ssh/ssh_config: aliases, real names, then what holds for every host.

    A real name that is also the alias of another entry stays an alias.
    """
    blocks = [_alias_block(destination) for destination in destinations if not _is_own_name(destination)]
    taken = _taken_names(destinations)
    for same_name in _by_hostname(destinations):
        if same_name[0].hostname.lower() not in taken:
            blocks.append(_hostname_block(same_name))
    return "\n".join([*blocks, _DEFAULTS])


def render_known_hosts(bottle: Bottle) -> str:
    """The bottle's known_hosts: one line per entry and key, for the alias, the gate port and the real name and port.

    Raises:
        PlanError: as `plan_destinations`, or a KnownHostKey that is not `[@cert-authority] TYPE BASE64`.
    """
    destinations = plan_destinations(bottle)
    taken = _taken_names(destinations)
    lines = []
    for index, (entry, destination) in enumerate(zip(bottle.ssh, destinations, strict=True)):
        patterns = ",".join(_known_names(destination, taken))
        for key in entry.KnownHostKey:
            if not _HOST_KEY.fullmatch(key):
                raise PlanError(f"{key!r} is not a host key", where=f"ssh[{index}].KnownHostKey")
            marker = _CA_MARKER if key.startswith(_CA_MARKER) else ""
            lines.append(f"{marker}{patterns} {key.removeprefix(marker)}\n")
        lines += [f"@revoked {patterns} {key}\n" for key in entry.revoked_host_keys if _HOST_KEY.fullmatch(key)]
    return "".join(lines)


def render_hosts(destinations: Sequence[SSHDestination], hostname: str) -> str:
    """The bottle's /etc/hosts: localhost, each declared name and alias, and the bottle's own name.

    A real name wins over an alias and both over `hostname`; what is no host name, such as a literal, has no line.
    """
    addresses = {"localhost": "127.0.0.1"}
    for destination in destinations:
        addresses.setdefault(destination.hostname.lower(), destination.address)
    for destination in destinations:
        addresses.setdefault(destination.alias.lower(), destination.address)
    addresses.setdefault(hostname.lower(), "127.0.0.1")
    lines = [f"{address} {name}\n" for name, address in addresses.items() if is_host_name(name)]
    return "".join([*lines, "::1 localhost ip6-localhost ip6-loopback\n"])


def _check_texts(index: int, alias: str, hostname: str, user: str | None) -> None:
    """The manifest's own checks again: these texts become config lines, and a `Bottle` may be built without them."""
    problems = {"Host": check_alias(alias), "Hostname": check_destination(hostname)}
    if user is not None:
        problems["User"] = check_user(user)
    for key, problem in problems.items():
        if problem is not None:
            raise PlanError(problem[0], where=f"ssh[{index}].{key}", hint=problem[1])


def _check_alias_is_new(index: int, alias: str, aliases: dict[str, int]) -> None:
    """Refuse an alias that known_hosts could not tell from an earlier one; it compares without case."""
    first = aliases.setdefault(alias.lower(), index)
    if first != index:
        raise PlanError(
            f"{alias!r} is the alias of ssh[{first}]", where=f"ssh[{index}].Host", hint="give each entry its own alias"
        )


def _address_of(name: str, index: int) -> str:
    """The address of a canonical Hostname that entry `index` declares first."""
    return name if is_ip_literal(name) else f"127.1.{(index + 1) >> 8}.{(index + 1) & 255}"


def _wanted(destinations: Sequence[SSHDestination]) -> Iterator[tuple[str, int, int]]:
    """(address, port, entry) of every listener in order of precedence."""
    for entry, destination in enumerate(destinations):
        yield "127.0.0.1", destination.upstream.listen_port, entry
    for entry, destination in enumerate(destinations):
        yield destination.address, destination.upstream.listen_port, entry
    for entry, destination in enumerate(destinations):
        yield destination.address, destination.port, entry


def _by_hostname(destinations: Sequence[SSHDestination]) -> Iterator[list[SSHDestination]]:
    """Groups with the same Hostname; first in each is the one that the bare name leads to.

    That is the entry with this very alias, else the first on port 22, else the first.
    """
    groups: dict[str, list[SSHDestination]] = {}
    for destination in destinations:
        groups.setdefault(destination.hostname.lower(), []).append(destination)
    for group in groups.values():
        yield sorted(group, key=lambda each: (not _is_own_name(each), each.port != 22))


def _is_own_name(destination: SSHDestination) -> bool:
    """Whether alias and real name are one, so that one block serves both."""
    return destination.alias.lower() == destination.hostname.lower()


def _taken_names(destinations: Sequence[SSHDestination]) -> set[str]:
    """Lower-case aliases that are not their entry's own Hostname: they hide another entry's real name."""
    return {destination.alias.lower() for destination in destinations if not _is_own_name(destination)}


def _alias_block(destination: SSHDestination) -> str:
    return _block(
        f"Host {_spellings(destination.alias)}",
        f"HostName {destination.address}",
        f"Port {destination.upstream.listen_port}",
        f"HostKeyAlias {destination.host_key_alias}",
        *_login_lines([destination]),
    )


def _hostname_block(same_name: Sequence[SSHDestination]) -> str:
    """Block of a real name: no HostName and no HostKeyAlias, because with `-p` both depend on the port.

    Offering the keys of all its ports is harmless: the agent signs with each for its own host only.
    """
    default = same_name[0]
    first_of_port: dict[int, SSHDestination] = {}
    for destination in same_name:
        first_of_port.setdefault(destination.port, destination)
    return _block(
        f"Host {_spellings(default.alias if _is_own_name(default) else default.hostname)}",
        f"Port {default.upstream.listen_port if _is_own_name(default) else default.port}",
        *_login_lines(list(first_of_port.values())),
    )


def _block(*lines: str) -> str:
    return "\n    ".join(lines) + "\n"


def _spellings(name: str) -> str:
    """`name`, and its lower-case form where that differs: ssh compares Host patterns letter by letter."""
    return name if name == name.lower() else f"{name} {name.lower()}"


def _login_lines(destinations: Sequence[SSHDestination]) -> list[str]:
    """User of the first destination and the keys of all."""
    lines = [f"User {destinations[0].user}"] if destinations[0].user is not None else []
    keys = [f"IdentityFile {destination.public_key_path}" for destination in destinations if destination.has_key]
    if keys:
        lines += [f"IdentityAgent {AGENT_SOCKET}", *keys, "IdentitiesOnly yes"]
    return lines


def _host_key_alias(upstream: SSHGateUpstream, keys: Sequence[str]) -> str:
    """The alias; but ssh compares this name with a host certificate's principals, so the real name where a CA signs."""
    if any(key.startswith(_CA_MARKER) for key in keys):
        return upstream.upstream_host
    return upstream.bottle_host_alias


def _known_names(destination: SSHDestination, taken: Container[str]) -> list[str]:
    """The known_hosts patterns of one destination; a real name that is another entry's alias belongs to the alias."""
    gate_port = destination.upstream.listen_port
    names = [destination.host_key_alias, f"[127.0.0.1]:{gate_port}"]
    if destination.hostname.lower() not in taken:
        real = destination.hostname if destination.port == 22 else f"[{destination.hostname}]:{destination.port}"
        names += [real, f"[{destination.hostname}]:{gate_port}"]
    return list(dict.fromkeys(names))


_DEFAULTS = f"""\
Host *
    StrictHostKeyChecking yes
    GlobalKnownHostsFile {KNOWN_HOSTS_PATH}
    UserKnownHostsFile /dev/null
    CheckHostIP no
    UpdateHostKeys no
    ForwardAgent no
    ForwardX11 no
    AddKeysToAgent no
"""
