"""Host keys as ssh writes them: `TYPE BASE64`, checked down to the fields of the blob.

A key that is cut short, relabelled or too weak for ssh itself is refused here, where its place in the manifest is
still known; inside the bottle it would only look like a host that changed its key.
"""

import binascii

CERT_AUTHORITY = "@cert-authority"
"""marker of a key that signs host keys (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)"""
REVOKED = "@revoked"
"""marker of a key that must never be accepted"""

FIELDS = {
    "ssh-ed25519": 2,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "ssh-rsa": 3,
    "sk-ssh-ed25519@openssh.com": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
}
"""key types ssh accepts for a host, and how many fields their blobs have (RFC 4253 §6.6, RFC 5656 §3.1)"""

KEY_LINE_PATTERN = r"^\s*(@cert-authority\s+)?(ssh-|ecdsa-|sk-)[a-z0-9@.-]+\s+[A-Za-z0-9+/]+=*(\s.*)?$"
"""the form of a KnownHostKey, for editors"""

EXAMPLE_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"
"""a well formed key that is nobody's: RFC 8032 §7.1, test 1"""

MIN_RSA_BITS = 1024
"""RequiredRSASize of ssh_config(5)"""

_SIGNATURE_NAMES = ("rsa-sha2-256", "rsa-sha2-512")
_POINT_SIZES = {b"nistp256": 65, b"nistp384": 97, b"nistp521": 133}


def check_key(key_type: str, blob64: str) -> tuple[str, str] | None:
    """Why `TYPE BASE64` is not a host key that ssh would accept: what is wrong and a hint; None when it is one."""
    if key_type not in FIELDS:
        return f"{key_type!r} is not a host key type", _type_hint(key_type)
    copy_hint = "copy the whole line from known_hosts or from the host's /etc/ssh/ssh_host_*_key.pub"
    try:
        blob = binascii.a2b_base64(blob64, strict_mode=True)
    except ValueError:
        return f"the {key_type} key is not base64", copy_hint
    fields = split_fields(blob)
    if not fields or len(fields) != FIELDS[key_type] or not _sizes_fit(key_type, fields):
        return f"the {key_type} key is damaged or not of that type", copy_hint
    if key_type == "ssh-rsa" and _bits(fields[2]) < MIN_RSA_BITS:
        return (
            f"the ssh-rsa key has {_bits(fields[2])} bits, which ssh refuses",
            "give the host a newer key, such as ed25519",
        )
    return None


def check_key_line(line: str) -> tuple[str, str] | None:
    """The same for `[@cert-authority ]TYPE BASE64[ comment]`, one KnownHostKey of the manifest."""
    words = line.split()
    form = 'write it as "ssh-ed25519 AAAA...", as in the host\'s /etc/ssh/ssh_host_ed25519_key.pub'
    if not line.isprintable() or not words:
        return f"{line!r} is not a host key" if len(line) < 80 else "this is not one host key", form
    if words[0] == REVOKED:
        return "a revoked key is never accepted", "leave it out"
    if words[0] == CERT_AUTHORITY:
        words = words[1:]
    elif words[0].startswith("@"):
        return f"{words[0]!r} is not a marker", 'use "@cert-authority" or none'
    if len(words) >= 2 and words[0] not in FIELDS and words[1] in FIELDS:
        return f"{words[0]!r} stands before the key type", f'leave the host name out: "{words[1]} AAAA..."'
    if len(words) < 2:
        return f"{line!r} is not a host key" if len(line) < 80 else "the key type is missing", form
    return check_key(words[0], words[1])


def canonical_key_line(line: str) -> str:
    """The line without its comment, one space between words."""
    words = line.split()
    plain = line.strip().replace("\t", " ").isprintable()
    return " ".join(words[: 3 if words[:1] == [CERT_AUTHORITY] else 2]) if plain else line


def split_fields(blob: bytes) -> list[bytes] | None:
    """The length-prefixed fields of a key blob (RFC 4251 §5, string); None when they do not fill it exactly."""
    fields, rest = [], blob
    while rest:
        size = int.from_bytes(rest[:4], "big")
        if len(rest) < 4 + size:
            return None
        fields.append(rest[4 : 4 + size])
        rest = rest[4 + size :]
    return fields


def _sizes_fit(key_type: str, fields: list[bytes]) -> bool:
    if fields[0] != key_type.encode():
        return False
    if "ed25519" in key_type:
        return len(fields[1]) == 32
    if "ecdsa" in key_type:
        curve = fields[1]
        return f"-{curve.decode('ascii', 'replace')}" in key_type and len(fields[2]) == _POINT_SIZES.get(curve)
    return True


def _bits(number: bytes) -> int:
    return int.from_bytes(number, "big").bit_length()


def _type_hint(key_type: str) -> str:
    if key_type == "ssh-dss":
        return "DSA is too weak and ssh refuses it; use the host's ed25519 or ecdsa key"
    if key_type in _SIGNATURE_NAMES:
        return "that names a signature; the key's type is ssh-rsa"
    if "-cert-v01@" in key_type:
        return "give the key of the authority that signed it, as @cert-authority TYPE BASE64"
    return "ssh knows " + ", ".join(FIELDS)
