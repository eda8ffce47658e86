"""Private key files, as far as a passphrase is not needed: is it one, is it encrypted, what is its public half.

Only OpenSSH's programs handle the private half. Sources: OpenSSH's PROTOCOL.key (openssh-key-v1), RFC 1421 (PEM).
"""

import binascii
import re
from dataclasses import dataclass
from pathlib import Path

from claude_bottle.backend.local import openssh
from claude_bottle.errors import IdentityError

MAX_FILE_BYTES = 65536
"""a 16,384 bit RSA key has 13 KB"""

_KIND = re.compile(r"[a-z0-9@.-]+")
_MAGIC = b"openssh-key-v1\0"
_BEGIN_OPENSSH = "-----BEGIN OPENSSH PRIVATE KEY-----"
_END_OPENSSH = "-----END OPENSSH PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class Identity:
    """One private key file."""

    path: Path
    """absolute path"""
    public_key: str
    """`TYPE BASE64`"""
    encrypted: bool
    """whether a passphrase is needed"""
    guessed: bool = False
    """public_key is the word of the `.pub` file alone, to be checked once the key is open"""


def read_identity(path: Path, where: str) -> Identity:
    """Read what is public of the private key file `path`; `where` is the manifest key that names it.

    Raises:
        IdentityError: unreadable, not a private key, or of a kind that the bottle's agent does not take.
    """
    text = _read_text(path, where)
    if _BEGIN_OPENSSH in text:
        identity = _parse_openssh(path, text, where)
    elif "PRIVATE KEY-----" in text:
        identity = _read_pem(path, text, where)
    else:
        raise _not_a_key(path, text, where)
    if identity.public_key.startswith("sk-"):
        raise IdentityError(
            f"{path}: a key on a security token cannot be used in a bottle", where=where, hint="declare a file key"
        )
    return identity


def _read_text(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode("latin-1")
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror}", where=where, hint="name a private key you can read") from error


def _parse_openssh(path: Path, text: str, where: str) -> Identity:
    """The header and public key of PROTOCOL.key, which are in the clear also when the rest is encrypted."""
    body = text.partition(_BEGIN_OPENSSH)[2].partition(_END_OPENSSH)[0]
    try:
        data = binascii.a2b_base64(body)
        if not data.startswith(_MAGIC):
            raise ValueError("no openssh-key-v1 inside")
        cipher, rest = _string(data[len(_MAGIC) :])
        _kdf, rest = _string(rest)
        _options, rest = _string(rest)
        blob, _private = _string(rest[4:])
        kind = _kind(blob)
    except ValueError as error:
        raise IdentityError(f"{path}: damaged private key: {error}", where=where) from error
    return Identity(path, f"{kind} {_base64(blob)}", encrypted=cipher != b"none")


def _read_pem(path: Path, text: str, where: str) -> Identity:
    """Formats that do not show their public key: ask ssh-keygen, or the `.pub` file when a passphrase is in the way."""
    if "ENCRYPTED" in text:
        return Identity(path, _public_file(path, where), encrypted=True, guessed=True)
    argv = [openssh.find_program("ssh-keygen"), "-y", "-f", str(path)]
    status, printed = openssh.run(argv, folder=path.parent, env={"SSH_ASKPASS_REQUIRE": "never"})
    if status != 0:
        raise IdentityError(f"{path}: {printed}", where=where, hint=f"ssh-keygen -y -f {path}")
    return Identity(path, " ".join(printed.split()[:2]), encrypted=False)


def _public_file(path: Path, where: str) -> str:
    """`TYPE BASE64` from the `.pub` file beside a private key."""
    public = path.with_name(f"{path.name}.pub")
    try:
        words = public.read_text(encoding="latin-1").split()
        blob = binascii.a2b_base64(words[1], strict_mode=True)
        if _kind(blob) == words[0]:
            return f"{words[0]} {_base64(blob)}"
    except (OSError, ValueError, IndexError):
        pass
    raise IdentityError(
        f"{path}: encrypted in a format that hides its public key, and {public.name} does not tell it",
        where=where,
        hint=f"ssh-keygen -p -f {path} (writes the key in OpenSSH's format)",
    )


def _not_a_key(path: Path, text: str, where: str) -> IdentityError:
    hint = "name the private key file that ssh-keygen made"
    if text.startswith("PuTTY-User-Key-File"):
        hint = f"puttygen {path} -O private-openssh -o {path.stem}"
    elif text.startswith(("ssh-", "ecdsa-", "sk-")):
        hint = f"this is a public key; the private one is usually {path.with_suffix('')}"
    return IdentityError(f"{path}: not a private key", where=where, hint=hint)


def _kind(blob: bytes) -> str:
    """The key type that a public key blob begins with (RFC 4253 §6.6)."""
    kind = _string(blob)[0].decode("ascii")
    if not _KIND.fullmatch(kind):
        raise ValueError(f"{kind!r} is no key type")
    return kind


def _string(data: bytes) -> tuple[bytes, bytes]:
    """An SSH string (RFC 4251 §5) and what follows it."""
    end = 4 + int.from_bytes(data[:4], "big")
    if len(data) < max(end, 4):
        raise ValueError("it ends too early")
    return data[4:end], data[end:]


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")
