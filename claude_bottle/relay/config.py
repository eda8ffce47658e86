"""What the backend tells the gate: one JSON object, read once at the start.

The backend is trusted and has validated the manifest; what is checked here keeps a mistake between the two from
becoming an open door.
"""

from __future__ import annotations

from claude_bottle.policy.addresses import Network, parse_networks
from claude_bottle.relay.limits import Budget
from claude_bottle.relay.records import Records
from claude_bottle.relay.resolver import parse_literal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONNECT_TIMEOUT_S = 8.0
"""time to reach an upstream when the entry does not say: name, all addresses, handshakes"""


class ConfigError(Exception):
    """The configuration is not what this gate understands."""


class Entry:
    """One declared destination."""

    __slots__ = (
        "alias",
        "connect_timeout_s",
        "download",
        "host",
        "idle_timeout_s",
        "literal",
        "max_connections",
        "open_connections",
        "port",
        "rule",
        "target",
        "upload",
    )

    def __init__(self, fields: dict[str, Any]) -> None:
        self.alias: str = fields["alias"]
        self.host: str = fields["host"]
        self.port: int = fields["port"]
        self.rule: str = fields["rule"]
        self.max_connections: int | None = fields.get("max_connections")
        self.idle_timeout_s: float | None = fields.get("idle_timeout_s")
        self.connect_timeout_s: float = fields.get("connect_timeout_s") or CONNECT_TIMEOUT_S
        self.upload = Budget(fields.get("upload_limit_bytes"))
        self.download = Budget(fields.get("download_limit_bytes"))
        self.literal = parse_literal(self.host, self.port)
        """the address when `host` is one; empty when it is a name"""
        self.open_connections = 0
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.target = f"{self.alias} ({host}:{self.port})"
        """how the user knows it"""


class Listening:
    """What a listener is for: `ssh` for one entry, or `agent`."""

    __slots__ = ("entry", "kind", "records")

    def __init__(self, fields: dict[str, Any], entries: list[Entry]) -> None:
        self.kind: str = fields["kind"]
        if self.kind not in ("ssh", "agent"):
            raise ConfigError(f"listener of unknown kind {self.kind!r}")
        self.entry: Entry | None = entries[fields["entry"]] if self.kind == "ssh" else None
        if self.entry is not None:
            self.records = Records(self.entry, f"{fields['address']}:{fields['port']}")


class AgentConfig:
    """The ssh-agent behind the filter and what its keys and host keys belong to."""

    __slots__ = ("hosts", "keys", "socket")

    def __init__(self, fields: dict[str, Any]) -> None:
        self.socket: str = fields["socket"]
        self.keys: dict[str, list[str]] = fields["keys"]
        self.hosts: dict[str, list[str]] = fields["hosts"]


class Config:
    """The whole configuration."""

    __slots__ = ("agent", "allowed", "audit", "bottle", "entries", "listeners")

    def __init__(self, fields: dict[str, Any]) -> None:
        self.bottle: str = fields["bottle"]
        self.audit: str = fields["audit"]
        self.allowed: tuple[Network, ...] = parse_networks(fields.get("allow_addresses", ()))
        self.entries = [Entry(entry) for entry in fields["entries"]]
        self.listeners = [Listening(listener, self.entries) for listener in fields["listeners"]]
        agent = fields.get("agent")
        self.agent = AgentConfig(agent) if agent else None
        if self.agent is None and any(listening.kind == "agent" for listening in self.listeners):
            raise ConfigError("an agent listener and no agent")


def parse_config(text: str) -> Config:
    """The configuration in `text`.

    Raises:
        ConfigError: not JSON, a key is missing, a value is of another type.
    """
    try:
        return Config(_loads(text))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{type(error).__name__}: {error}") from error


def _loads(text: str) -> Any:
    """JSON by the accelerator alone: importing the `json` package takes half as long as starting the interpreter."""
    try:
        from _json import make_scanner

        return make_scanner(_Options)(text, 0)[0]  # type: ignore[arg-type]
    except (ImportError, AttributeError, StopIteration, SystemError):
        # No accelerator; or not JSON, and the accelerator alone cannot say what is wrong.
        from json import loads

        return loads(text)


class _Options:
    """What the scanner asks its decoder for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012 (the scanner's own cache of keys)
