"""Reading private key files: whatever is in one, the answer is an identity or an error with its place."""

import base64
import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_bottle.backend.local.identity import Identity, read_identity
from claude_bottle.errors import IdentityError
from tests.support.sshd import make_key

IN_TMP_PATH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def key_file(cipher: bytes, kind: bytes, rest: bytes = b"") -> bytes:
    """An openssh-key-v1 file with one public key (OpenSSH's PROTOCOL.key)."""
    body = (
        b"openssh-key-v1\0" + string(cipher) + string(b"none") + string(b"") + b"\0\0\0\1" + string(string(kind) + rest)
    )
    encoded = base64.encodebytes(body + string(b"private"))
    return b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + encoded + b"-----END OPENSSH PRIVATE KEY-----\n"


def read(path: Path, content: bytes) -> Identity:
    path.write_bytes(content)
    return read_identity(path, "ssh[0].IdentityFile")


@pytest.mark.parametrize("passphrase", ["", "secret"])
def test_a_real_key(tmp_path: Path, passphrase: str) -> None:
    key = make_key(tmp_path, passphrase=passphrase)
    assert read_identity(key.private, "") == Identity(key.private, key.public, encrypted=bool(passphrase))


@pytest.mark.parametrize("kind", [b"", b"ssh ed25519", b"ssh-ed25519\nevil", b"\xff", b"SSH"])
def test_a_key_type_that_is_none(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(IdentityError, match="damaged private key"):
        read(tmp_path / "key", key_file(b"none", kind))


def test_putty(tmp_path: Path) -> None:
    with pytest.raises(IdentityError) as caught:
        read(tmp_path / "key.ppk", b"PuTTY-User-Key-File-3: ssh-ed25519\n")
    assert caught.value.hint.startswith("puttygen ")


@given(st.binary(max_size=200))
@IN_TMP_PATH
def test_any_file(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(IdentityError) as caught:
        read(tmp_path / "key", content)
    assert caught.value.where == "ssh[0].IdentityFile"


@given(st.data())
@IN_TMP_PATH
def test_any_cut_of_a_key_file(tmp_path: Path, data: st.DataObject) -> None:
    """Cut anywhere, it is refused or still says the same public key."""
    whole = key_file(b"none", b"ssh-ed25519", string(b"k" * 32))
    expected = read(tmp_path / "key", whole)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    with contextlib.suppress(IdentityError):
        assert read(tmp_path / "key", cut) == expected
