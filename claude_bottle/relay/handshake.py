"""What a server says before encryption begins: its host key, and its signature of the session. Pure.

OpenSSH's client tells the ssh-agent which host a session is with (session-bind@openssh.com), and a key that is bound to
hosts signs for no connection that was not told. paramiko, libssh2, Go's ssh and JGit do not do that. But the server's
key and signature pass through the gate in the clear, and the session's identifier is in the request to sign: from
these the gate can tell the agent in the client's place. Nothing is believed by that: the agent verifies the signature
with the host key, and only the declared host can have made it.
"""

from __future__ import annotations

from claude_bottle.relay.agent_messages import MessageError, Reader

NEWKEYS = 21
KEX_REPLIES = (31, 33)
"""SSH_MSG_KEXDH_REPLY and SSH_MSG_KEX_ECDH_REPLY (RFC 4253, RFC 5656, RFC 8731), SSH_MSG_KEX_DH_GEX_REPLY (RFC 4419)"""

MOST_BYTES = 64 << 10
"""a handshake that is longer is not watched to its end"""
LONGEST_LINE = 255
"""of an identification (RFC 4253 section 4.2); lines before it may be longer, no server has them"""


class Handshake:
    """Reads along until a server has proved who it is, or encryption begins."""

    __slots__ = ("_buffer", "_identified", "_left", "host_key", "signature")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._identified = False
        self._left = MOST_BYTES
        self.host_key = b""
        """blob of the host key; empty until it was seen"""
        self.signature = b""
        """signature blob over the session identifier"""

    def feed(self, data: bytes) -> bool:
        """Read what the server sent next; return whether more is wanted."""
        self._left -= len(data)
        self._buffer += data
        try:
            while (packet := self._next_payload()) is not None:
                if packet[0] == NEWKEYS or self._take(packet):
                    return False
        except (MessageError, IndexError):
            return False
        return self._left > 0

    def _next_payload(self) -> bytes | None:
        """Take one unencrypted packet off the buffer and return its payload.

        Source: RFC 4253 section 6.
        """
        if not self._identified and not self._take_identification():
            return None
        buffer = self._buffer
        if len(buffer) < 5:
            return None
        length, padding = int.from_bytes(buffer[:4], "big"), buffer[4]
        if length > MOST_BYTES or padding + 2 > length:
            raise MessageError("not an unencrypted packet")
        if len(buffer) < 4 + length:
            return None
        payload = bytes(buffer[5 : 4 + length - padding])
        del buffer[: 4 + length]
        return payload

    def _take_identification(self) -> bool:
        """Take the lines up to the server's identification off the buffer; return whether that was there."""
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            if line.startswith(b"SSH-"):
                self._identified = True
                return True
        if len(self._buffer) > LONGEST_LINE:
            raise MessageError("not an identification")
        return False

    def _take(self, payload: bytes) -> bool:
        """Keep the host key and signature of a key exchange's reply; return whether this was one."""
        if payload[0] not in KEX_REPLIES:
            return False
        reader = Reader(payload[1:])
        host_key = reader.string()
        reader.string()  # the server's half of the exchange
        if reader.at_end:  # number 31 is also the group of a Diffie-Hellman group exchange: two numbers
            return False
        self.host_key, self.signature = host_key, reader.string()
        return True
