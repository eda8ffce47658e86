"""Reading a server's proof out of the unencrypted part of a handshake, however it is cut into pieces."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.relay.handshake import MOST_BYTES, Handshake


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def packet(payload: bytes) -> bytes:
    padding = 4 + (-(len(payload) + 9) % 8)
    return (len(payload) + padding + 1).to_bytes(4, "big") + bytes([padding]) + payload + b"\0" * padding


BANNER = b"SSH-2.0-OpenSSH_9.9\r\n"
KEXINIT = packet(b"\x14" + b"x" * 900)
REPLY = packet(b"\x1f" + string(b"host key") + string(b"q") + string(b"signature"))
NEWKEYS = packet(b"\x15")


LINES = st.binary(max_size=20).filter(lambda line: b"\n" not in line and not line.startswith(b"SSH-"))


@settings(deadline=None)
@given(LINES, st.lists(st.integers(1, 500), min_size=1))
def test_the_proof_is_found_in_any_pieces(line: bytes, sizes: list[int]) -> None:
    stream = line + b"\n" + BANNER + KEXINIT + REPLY + NEWKEYS + b"encrypted"
    seen = Handshake()
    for size in itertools.cycle(sizes):
        if not seen.feed(stream[:size]):
            break
        stream = stream[size:]
    assert (seen.host_key, seen.signature) == (b"host key", b"signature")


def test_a_group_exchange_has_another_message_of_the_same_number() -> None:
    seen = Handshake()
    assert seen.feed(BANNER + KEXINIT + packet(b"\x1f" + string(b"prime") + string(b"\x02")))
    assert not seen.feed(packet(b"\x21" + string(b"host key") + string(b"f") + string(b"signature")))
    assert seen.host_key == b"host key"


def test_nothing_is_read_once_encryption_has_begun() -> None:
    seen = Handshake()
    assert not seen.feed(BANNER + KEXINIT + NEWKEYS + REPLY)
    assert seen.host_key == b""


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_junk_ends_the_watch_quietly(junk: bytes) -> None:
    Handshake().feed(BANNER + junk)
    Handshake().feed(junk)


def test_the_watch_is_bounded() -> None:
    seen = Handshake()
    assert seen.feed(BANNER)
    fed = len(BANNER)
    while seen.feed(KEXINIT):
        fed += len(KEXINIT)
    assert fed <= MOST_BYTES
