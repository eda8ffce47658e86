"""The gate's audit records as text. Pure.

What does not change from connection to connection is rendered once: at thousands of connections a second, building
and encoding mappings costs as much as the connections themselves. `AuditLog.write` adds time and bottle.
"""

from __future__ import annotations

from claude_bottle.audit import quoted, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from claude_bottle.relay.config import Entry


def _fields(fields: dict[str, object]) -> str:
    """`fields` as they stand inside a record, each with a comma in front."""
    return render("", fields).removeprefix('"event": ""').removesuffix("}")


class Records:
    """Renders the records of one listener's connections; `number` is the connection's, counted per gate process."""

    __slots__ = ("_entry", "_rule", "_where")

    def __init__(self, entry: Entry, listen: str) -> None:
        where = {"entry": entry.alias, "host": entry.host, "port": entry.port, "listen": listen}
        self._where = _fields(where)
        self._entry = _fields({"entry": entry.alias})
        self._rule = _fields({"verdict": "allow", "rule": entry.rule})

    def connect(self, number: int) -> str:
        """It is allowed to dial; written before."""
        return f'"event": "connect", "conn": {number}{self._where}{self._rule}}}'

    def connected(self, number: int, address: str) -> str:
        """The upstream has answered at `address`."""
        return f'"event": "connected", "conn": {number}, "address": {quoted(address)}}}'

    def refuse(self, number: int, rule: str, reason: str, address: str) -> str:
        """It was not allowed, or not possible."""
        why: dict[str, object] = {"verdict": "refuse", "rule": rule, "reason": reason}
        if address:
            why["address"] = address
        return f'"event": "refuse", "conn": {number}{self._where}{_fields(why)}}}'

    def close(self, number: int, sent: int, received: int, duration_s: float, reason: str) -> str:
        """It has ended: bytes from and to the bottle, and why."""
        return (
            f'"event": "close", "conn": {number}{self._entry}, "sent_bytes": {sent}, "received_bytes": {received}, '
            f'"duration_s": {duration_s:.3f}, "reason": {quoted(reason)}}}'
        )
