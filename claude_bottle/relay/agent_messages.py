"""The ssh-agent protocol as far as the filter has to understand it. Pure.

Source: draft-ietf-sshm-ssh-agent; OpenSSH's PROTOCOL.agent for session-bind; PROTOCOL.certkeys for certificates.
"""

from __future__ import annotations

MOST_BYTES = 256 << 10
"""longest message, as in OpenSSH's own agent"""

FAILURE = 5
SUCCESS = 6
LIST = 11
SIGN = 13
SIGNED = 14
EXTENSION = 27
SESSION_BIND = b"session-bind@openssh.com"

FAILURE_REPLY = b"\x00\x00\x00\x01\x05"

_NAMES = {
    1: "list keys (version 1)",
    9: "remove all keys (version 1)",
    17: "add key",
    18: "remove key",
    19: "remove all keys",
    20: "add smartcard key",
    21: "remove smartcard key",
    22: "lock",
    23: "unlock",
    25: "add constrained key",
    26: "add constrained smartcard key",
    LIST: "list keys",
    SIGN: "sign",
}

_CERTIFIED_FIELDS = {
    b"ssh-ed25519": 1,
    b"ecdsa-sha2-nistp256": 2,
    b"ecdsa-sha2-nistp384": 2,
    b"ecdsa-sha2-nistp521": 2,
    b"ssh-rsa": 2,
    b"sk-ssh-ed25519": 2,
    b"sk-ecdsa-sha2-nistp256": 3,
}
"""how many fields a key of this type has between a certificate's nonce and its serial number"""


class MessageError(Exception):
    """Not the agent protocol."""


class Reader:
    """Takes fields off the front of a message."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, size: int) -> bytes:
        """The next `size` bytes.

        Raises:
            MessageError: there are fewer.
        """
        if len(self._data) < size:
            raise MessageError("message ends early")
        field, self._data = self._data[:size], self._data[size:]
        return field

    def number(self) -> int:
        """An unsigned 32-bit number."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """A length and so many bytes."""
        return self.take(self.number())

    @property
    def at_end(self) -> bool:
        """Whether nothing is left."""
        return not self._data


def split_message(buffer: bytearray) -> bytes | None:
    """Take one whole message off the front of `buffer`, without its length; None when more has to come.

    Raises:
        MessageError: it is empty or longer than allowed.
    """
    if len(buffer) < 4:
        return None
    length = int.from_bytes(buffer[:4], "big")
    if not 1 <= length <= MOST_BYTES:
        raise MessageError(f"message of {length} bytes")
    if len(buffer) < 4 + length:
        return None
    message = bytes(buffer[4 : 4 + length])
    del buffer[: 4 + length]
    return message


def framed(message: bytes) -> bytes:
    """`message` with its length in front."""
    return len(message).to_bytes(4, "big") + message


def request_name(message: bytes) -> str:
    """What a request asks for, in words."""
    if message[0] != EXTENSION:
        return _NAMES.get(message[0], f"type {message[0]}")
    try:
        name = Reader(message[1:]).string()
    except MessageError:
        name = b"?"
    return f"extension {name[:64].decode('ascii', 'replace')}"


def signing_request(message: bytes) -> tuple[bytes, bytes]:
    """The public key blob of a SIGN request, and the data to be signed.

    Raises:
        MessageError: the request is malformed.
    """
    reader = Reader(message[1:])
    key, data = reader.string(), reader.string()
    reader.number()  # flags
    if not reader.at_end:
        raise MessageError("message goes on after its end")
    return key, data


def session_of(data: bytes) -> bytes:
    """The identifier of the SSH session that data to be signed is a login for; empty when it does not begin with one.

    Source: RFC 4252 section 7. The agent checks the rest.
    """
    try:
        return Reader(data).string()
    except MessageError:
        return b""


def session_bind(host_key: bytes, session: bytes, signature: bytes) -> bytes:
    """A session-bind request."""
    fields = b"".join(framed(field) for field in (SESSION_BIND, host_key, session, signature))
    return bytes([EXTENSION]) + fields + b"\x00"


def bound_host(message: bytes) -> tuple[bytes, bool]:
    """The host key blob of a session-bind request, and whether the connection is said to be forwarded further.

    Raises:
        MessageError: the request is malformed.
    """
    reader = Reader(message[1:])
    if reader.string() != SESSION_BIND:
        raise MessageError("not session-bind")
    key = reader.string()
    reader.string()  # session id
    reader.string()  # signature
    forwarding = reader.take(1) != b"\x00"
    if not reader.at_end:
        raise MessageError("message goes on after its end")
    return key, forwarding


def certificate_authority(key: bytes) -> bytes:
    """The key that signed a host certificate; empty when `key` is not a certificate that can be read."""
    reader = Reader(key)
    try:
        base, suffix, _ = reader.string().partition(b"-cert-v01@openssh.com")
        if not suffix:
            return b""
        for _ in range(1 + _CERTIFIED_FIELDS[base]):  # nonce and the key's own
            reader.string()
        reader.take(8 + 4)  # serial number, type
        reader.string()  # key id
        reader.string()  # principals
        reader.take(8 + 8)  # validity
        for _ in range(3):  # critical options, extensions, reserved
            reader.string()
        authority = reader.string()
        reader.string()  # the authority's signature; the agent checks it before a session counts as bound
    except (MessageError, KeyError):
        return b""
    return authority if reader.at_end else b""
