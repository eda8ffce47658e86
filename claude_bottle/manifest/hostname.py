"""What may stand as a destination: a host name or an IP literal, nothing a shell or a config file could read otherwise.

Rule 1: every accepted text consists of ASCII letters, digits, `.`, `-`, `_` and `:` and does not begin with `-`.
Rule 2: a text has one meaning. What inet_aton(3) would read as an address although it does not look like one
(`127.1`, `0x7f.1`) is neither a name nor a literal, and IPv6 literals stand without brackets and without a zone.

Underscores are allowed in labels: RFC 1123 does not know them, but DNS and OpenSSH do and real hosts are named so.
A final dot is refused: `known_hosts` and `/etc/hosts` compare text, so `a.example.` and `a.example` would be two hosts.
"""

import re

MAX_NAME_LENGTH = 253
"""characters of a whole name, without the final dot (RFC 1035 §2.3.4, RFC 1123 §2.1)"""

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_IPV6_CHARACTERS = re.compile(r"[0-9A-Fa-f:.]+")


def is_ipv4_literal(text: str) -> bool:
    """Whether `text` is four decimal octets without leading zeros."""
    return _IPV4.fullmatch(text) is not None


def is_ipv6_literal(text: str) -> bool:
    """Whether `text` is an IPv6 address without brackets and without a zone (RFC 4291 §2.2)."""
    if ":" not in text or not _IPV6_CHARACTERS.fullmatch(text):
        return False
    # Imported here: 3 ms that a manifest of names does not need.
    import ipaddress

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_ip_literal(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address, in the strict forms above."""
    return is_ipv4_literal(text) or is_ipv6_literal(text)


def is_host_name(text: str) -> bool:
    """Whether `text` is a host name: labels of letters, digits, `-` and `_`, not readable as a number or address.

    Source: RFC 1123 §2.1; the last label may not be a number, as in the URL standard's "ends in a number".
    """
    if len(text) > MAX_NAME_LENGTH or not _NAME.fullmatch(text):
        return False
    return _NUMBER.fullmatch(text.rpartition(".")[2]) is None


def canonical_host(text: str) -> str:
    """The form that is stored: IPv6 without brackets, compressed, lower case; everything else as it is."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not is_ipv6_literal(bare):
        return text
    import ipaddress

    return ipaddress.IPv6Address(bare).compressed


def check_hostname(text: str) -> tuple[str, str] | None:
    """Why `text` (in its canonical form) cannot be a destination: what is wrong and a hint; None when it can."""
    if is_host_name(text):
        return None
    if is_ip_literal(text):
        return _check_address(text)
    shown = text if len(text) <= 80 else text[:77] + "..."
    return f"{shown!r} is not a host name or IP literal", _hint(text)


def _check_address(text: str) -> tuple[str, str] | None:
    """Literals that are well formed but lead to no single reachable host."""
    import ipaddress

    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return f"{text!r} is an IPv4 address written as IPv6", f'write "{address.ipv4_mapped}"'
        if address.is_link_local:
            return (
                f"{text!r} is link-local and needs a zone, which the gate does not take",
                "use a name or global address",
            )
    if address.is_unspecified:
        return f"{text!r} is the unspecified address, not a host", "write the address of one host"
    if address.is_multicast or str(address) == "255.255.255.255":
        return f"{text!r} is the address of many hosts", "write the address of one host"
    return None


def _hint(text: str) -> str:
    """The nearest right spelling, or the rule."""
    rule = "use a name such as git.example.com, or an address such as 192.0.2.1 or 2001:db8::1"
    if not text.isascii():
        return _punycode_hint(text) or rule
    if is_host_name(text.rstrip(".")) and text.endswith("."):
        return f'leave the final dot out: "{text.rstrip(".")}"'
    if "%" in text and is_ipv6_literal(text.partition("%")[0].lstrip("[")):
        return "zone ids are not accepted; use a name or a global address"
    if _NAME.fullmatch(text) and _NUMBER.fullmatch(text.rpartition(".")[2]):
        return "programs read this as a number, not as a name; write the address as four decimal numbers"
    name, colon, port = text.rpartition(":")
    if colon and port.isdigit() and (is_host_name(name) or is_ipv4_literal(name)):
        return f'write Hostname = "{name}" and Port = {port}'
    if "@" in text and is_host_name(text.rpartition("@")[2]):
        user, _, name = text.rpartition("@")
        return f'write Hostname = "{name}" and User = "{user}"' if user.isalnum() else rule
    return rule


def _punycode_hint(text: str) -> str:
    try:
        encoded = text.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
    return f'write its ASCII form "{encoded}"' if is_host_name(encoded) else ""
