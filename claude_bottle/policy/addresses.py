"""The address guard: may the gate dial this address for that destination?

A declared *name* says which host is meant, not where it leads: whoever answers for the name could point it at the
user's own services, the neighbourhood or a cloud's metadata. So an address a name resolves to is refused when it is
loopback, link-local, metadata, multicast, unspecified or reserved; one that a wildcard resolves to also when private.
`allow_addresses` admits what the user means, and an address written in the manifest is its own permission.

Rule 1: an address that carries another (IPv4 in IPv6, translation, tunnels) is judged as both.
Rule 2: what cannot be parsed is refused.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Decision:
    """What was decided, by which rule, and why when refused."""

    __slots__ = ("allow", "reason", "rule")

    def __init__(self, allow: bool, rule: str, reason: str = "") -> None:
        self.allow = allow
        self.rule = rule
        self.reason = reason

    def __repr__(self) -> str:
        return f"Decision({self.allow}, {self.rule!r}, {self.reason!r})"


class Network:
    """One network, as a number and its length; `text` is how it was written."""

    __slots__ = ("bits", "shift", "text", "value")

    def __init__(self, text: str) -> None:
        """Parse `ADDRESS/LENGTH`, or an address alone for itself.

        Bits set past the length are ignored.

        Raises:
            ValueError: neither.
        """
        address, slash, length = text.partition("/")
        self.text = text
        self.bits, value = _parsed(address)
        if slash and not (length.isascii() and length.isdigit() and int(length) <= self.bits):
            raise ValueError(f"{text!r} is not a network such as 10.0.0.0/8")
        self.shift = self.bits - int(length) if slash else 0
        self.value = value >> self.shift

    def __contains__(self, address: tuple[int, int]) -> bool:
        return address[0] == self.bits and address[1] >> self.shift == self.value


def _parsed(text: str) -> tuple[int, int]:
    """The bits (32 or 128) and the number of an address; a zone (`%eth0`) is left out.

    Raises:
        ValueError: not an IPv4 address in four decimal parts and not an IPv6 address.
    """
    bare = text.partition("%")[0] if ":" in text else text
    try:
        packed = inet_pton(AF_INET6 if ":" in bare else AF_INET, bare)
    except (OSError, ValueError) as error:
        raise ValueError(f"{text!r} is not an IP address") from error
    return len(packed) * 8, int.from_bytes(packed, "big")


def _networks(*rows: tuple[str, str]) -> tuple[tuple[Network, str], ...]:
    return tuple((Network(text), kind) for text, kind in rows)


# The first match names the kind, so single addresses stand before the networks that hold them.
_REFUSED = _networks(
    ("169.254.169.254", "cloud metadata"),
    ("169.254.170.2", "cloud metadata"),  # Amazon ECS task credentials
    ("100.100.100.200", "cloud metadata"),  # Alibaba
    ("168.63.129.16", "cloud metadata"),  # Azure's wire server
    ("192.0.0.192", "cloud metadata"),  # Oracle
    ("fd00:ec2::254", "cloud metadata"),  # Amazon
    ("fd20:ce::254", "cloud metadata"),  # Google
    ("fd00:42::42", "cloud metadata"),  # Scaleway
    ("0.0.0.0/8", "unspecified"),  # Linux connects 0.0.0.0 to itself
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("192.0.0.0/24", "reserved"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255", "broadcast"),
    ("240.0.0.0/4", "reserved"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::/96", "reserved"),  # IPv4-compatible, RFC 4291 section 2.5.5.1
    ("64:ff9b:1::/48", "reserved"),  # translation of local use: what it carries cannot be told, RFC 8215
    ("100::/64", "reserved"),  # discard only
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
"""Refused to every name. Source: IANA's special-purpose address registries, the clouds' manuals."""

_PRIVATE = _networks(
    ("10.0.0.0/8", "private"),
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("100.64.0.0/10", "private"),  # carrier-grade NAT, RFC 6598; also overlay networks
    ("198.18.0.0/15", "private"),  # benchmarking; local proxies answer with it
    ("fc00::/7", "private"),
)
"""Refused to wildcards too: nobody wrote these names down."""

_MAPPED = Network("::ffff:0:0/96")
_CARRIERS = (
    (Network("::/96"), 0, 0),  # IPv4-compatible
    (Network("64:ff9b::/96"), 0, 0),  # NAT64, RFC 6052
    (Network("2002::/16"), 80, 0),  # 6to4, RFC 3056
    (Network("2001::/32"), 0, 0xFFFFFFFF),  # Teredo: the client's address is inverted, RFC 4380
    (Network("2001::/32"), 64, 0),  # Teredo: the server's
)
"""Network, how far right the IPv4 address it carries stands, and what it is XORed with."""


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks of `allow_addresses`.

    Raises:
        ValueError: one is not a network.
    """
    return tuple([Network(text) for text in texts])


def decide(address: str, literal: bool, allowed: Sequence[Network] = (), *, wildcard: bool = False) -> Decision:
    """Whether the gate may dial `address`; the same answer for every spelling of it.

    `literal`: the manifest itself has this address. `wildcard`: the name matched a pattern, so private networks are
    refused as well.
    """
    if literal:
        return Decision(True, "address in the manifest")
    try:
        outer = _unmapped(_parsed(address))
    except ValueError:
        return Decision(False, "address guard", f"{address} is not an IP address")
    for network in allowed:
        if outer in network:
            return Decision(True, f"allow_addresses {network.text}")
    kind = _kind(outer, wildcard)
    if kind:
        return Decision(False, f"address guard: {kind}", f"{address} is a {kind} address")
    for inner in _carried(outer):
        kind = _kind(inner, wildcard)
        if kind:
            return Decision(False, f"address guard: {kind}", f"{address} leads to {_spelled(inner)}, a {kind} address")
    return Decision(True, "address guard")


def _unmapped(address: tuple[int, int]) -> tuple[int, int]:
    """An IPv4-mapped IPv6 address is the IPv4 address: the kernel makes an IPv4 connection of it."""
    return (32, address[1] & 0xFFFFFFFF) if address in _MAPPED else address


def _kind(address: tuple[int, int], wildcard: bool) -> str:
    """Why `address` is refused in one word or two, empty when it is not."""
    for network, kind in _REFUSED + _PRIVATE if wildcard else _REFUSED:
        if address in network:
            return kind
    return ""


def _carried(address: tuple[int, int]) -> list[tuple[int, int]]:
    """The IPv4 addresses that an IPv6 address carries and packets to it may reach."""
    value = address[1]
    return [(32, (value >> shift & 0xFFFFFFFF) ^ mask) for network, shift, mask in _CARRIERS if address in network]


def _spelled(address: tuple[int, int]) -> str:
    return inet_ntop(AF_INET, address[1].to_bytes(4, "big"))
