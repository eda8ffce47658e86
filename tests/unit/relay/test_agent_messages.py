"""The agent protocol, as far as the filter reads it."""

import contextlib
import itertools
import subprocess
from base64 import b64decode
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.relay.agent_messages import (
    MOST_BYTES,
    MessageError,
    bound_host,
    certificate_authority,
    framed,
    request_name,
    signing_request,
    split_message,
)


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.binary(min_size=1, max_size=50)), st.lists(st.integers(1, 100), min_size=1))
def test_messages_in_any_fragments(messages: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(framed(message) for message in messages)
    buffer, found = bytearray(), []
    for size in itertools.cycle(sizes):
        if not stream:
            break
        buffer += stream[:size]
        stream = stream[size:]
        while (message := split_message(buffer)) is not None:
            found.append(message)
    assert found == messages
    assert not buffer


@pytest.mark.parametrize("length", [0, MOST_BYTES + 1, 2**32 - 1])
def test_length_that_cannot_be(length: int) -> None:
    with pytest.raises(MessageError):
        split_message(bytearray(length.to_bytes(4, "big")))


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (signing_request, bound_host):
        with contextlib.suppress(MessageError):
            read(b"\x0d" + data)
    assert isinstance(certificate_authority(data), bytes)
    assert request_name(b"\x1b" + data).isascii() or "\ufffd" in request_name(b"\x1b" + data)


def test_fields() -> None:
    assert signing_request(b"\x0d" + string(b"key") + string(b"data") + bytes(4)) == (b"key", b"data")
    bind = b"\x1b" + string(b"session-bind@openssh.com") + string(b"host") + string(b"id") + string(b"signature")
    assert bound_host(bind + b"\0") == (b"host", False)
    assert bound_host(bind + b"\1") == (b"host", True)
    for wrong in (bind, bind + b"\0\0", bind.replace(b"session-bind", b"session-bond") + b"\0"):
        with pytest.raises(MessageError):
            bound_host(wrong)
    with pytest.raises(MessageError):
        signing_request(b"\x0d" + string(b"key") + string(b"data") + bytes(5))


def test_names() -> None:
    assert request_name(b"\x13") == "remove all keys"
    assert request_name(b"\xf0") == "type 240"
    assert request_name(b"\x1b" + string(b"query")) == "extension query"
    assert request_name(b"\x1b\xff") == "extension ?"


@pytest.mark.parametrize("options", [["ed25519"], ["ecdsa", "-b", "384"], ["rsa", "-b", "2048"]], ids=lambda o: o[0])
def test_authority_of_a_host_certificate(tmp_path: Path, options: list[str]) -> None:
    for name in ("ca", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", *options, "-N", "", "-f", tmp_path / name], check=True)
    sign = ["ssh-keygen", "-q", "-s", "ca", "-h", "-I", "id", "-n", "forge", "host.pub"]
    subprocess.run(sign, check=True, cwd=tmp_path)
    blobs = {name: b64decode((tmp_path / f"{name}.pub").read_text().split()[1]) for name in ("ca", "host", "host-cert")}
    assert certificate_authority(blobs["host-cert"]) == blobs["ca"]
    assert certificate_authority(blobs["host"]) == b""
    assert certificate_authority(blobs["host-cert"][:-1]) == b""
