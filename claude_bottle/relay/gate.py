"""What all connections of one gate share, and who may come in."""

from __future__ import annotations

from claude_bottle.relay.journal import Journal
from claude_bottle.relay.limits import connection_cap, raise_fd_limit
from claude_bottle.relay.loop import Loop
from claude_bottle.relay.pipes import PipePool
from claude_bottle.relay.resolver import Resolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from claude_bottle.relay.config import Config, Entry

_MOST_PIPES = 64
MOST_REFUSALS = 128
"""clients that are being told why they were refused, at once; others are just closed"""


MOST_PROOFS = 64
"""handshakes remembered: a client asks for its signature right after its own"""


class Proof:
    """What a declared host has signed: that it has the host key, in one session."""

    __slots__ = ("alias", "host_key", "signature")

    def __init__(self, alias: str, host_key: bytes, signature: bytes) -> None:
        self.alias = alias
        self.host_key = host_key
        self.signature = signature


class Gate:
    """The gate's shared state."""

    def __init__(self, config: Config) -> None:
        self.loop = Loop()
        self.journal = Journal(config.audit, config.bottle)
        self.loop.after_batch.append(self.journal.flush)
        self.resolver = Resolver(self.loop)
        self.pipes = PipePool(_MOST_PIPES)
        self.allowed = config.allowed
        self.signs = config.agent is not None
        """whether there are keys, and so signatures to vouch for"""
        self.proofs: list[Proof] = []
        """the latest handshakes, the newest last"""
        self.open_connections = 0
        self.open_refusals = 0
        self.open_drains = 0
        self.last_number = 0
        self._cap = connection_cap(raise_fd_limit(), len(config.listeners) + 2 * _MOST_PIPES + MOST_REFUSALS)

    def objection(self, entry: Entry) -> tuple[str, str]:
        """Why a new connection to `entry` is refused and by which rule; empty when it is not."""
        most = entry.max_connections
        if most is not None and entry.open_connections >= most:
            return f"{most} connections are open already", f"{entry.rule}.max_connections"
        if self.open_connections + self.open_drains // 2 >= self._cap:
            return f"the gate has {self._cap} connections open already", "open files"
        if entry.upload.spent:
            return "the upload limit is used up", f"{entry.rule}.upload_limit_bytes"
        if entry.download.spent:
            return "the download limit is used up", f"{entry.rule}.download_limit_bytes"
        return "", ""

    def prove(self, alias: str, host_key: bytes, signature: bytes) -> None:
        """Remember a handshake."""
        del self.proofs[: -MOST_PROOFS + 1]
        self.proofs.append(Proof(alias, host_key, signature))
