"""A refusal an SSH client shows to its user: an identification line and an unencrypted disconnect message. Pure."""

from __future__ import annotations

IDENTIFICATION = b"SSH-2.0-claude-bottle\r\n"

HOST_NOT_ALLOWED = 1
SERVICE_NOT_AVAILABLE = 7
TOO_MANY_CONNECTIONS = 12
"""reason codes. Source: RFC 4253 section 11.1"""

_DISCONNECT = 1
_BLOCK = 8
_SMALLEST_PADDING = 4
_LONGEST_TEXT = 390
"""OpenSSH prints 400 bytes of it"""


def disconnect(text: str, code: int) -> bytes:
    """All that is sent to a client that is refused: OpenSSH prints `text` and exits with status 255.

    Source: RFC 4253 sections 4.2 (identification), 6 (binary packet, no cipher and no MAC yet), 11.1 (disconnect).
    """
    words = _printable(text)
    payload = bytes([_DISCONNECT]) + code.to_bytes(4, "big") + _string(words) + _string(b"en")
    padding = _BLOCK - (5 + len(payload)) % _BLOCK
    if padding < _SMALLEST_PADDING:
        padding += _BLOCK
    length = 1 + len(payload) + padding
    return IDENTIFICATION + length.to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _printable(text: str) -> bytes:
    """One line of printable ASCII: it ends up on a terminal."""
    return "".join([c if " " <= c <= "~" else "?" for c in text])[:_LONGEST_TEXT].encode("ascii")
