"""Private key files: whether ssh outside could use the declared one. Reads files, changes none."""

import os
import stat
from pathlib import Path

from claude_bottle.manifest.files import NotAFileError, read_regular

MAX_KEY_BYTES = 1 << 20
"""as much as ssh reads of a key file"""

_PRIVATE = ("OPENSSH", "RSA", "EC", "ENCRYPTED")
_PRIVATE_HEADERS = (b"-----BEGIN PRIVATE KEY-----", *(b"-----BEGIN %b PRIVATE KEY-----" % n.encode() for n in _PRIVATE))
_PUBLIC = (
    b"ssh-",
    b"ecdsa-",
    b"sk-",
    b"---- BEGIN SSH2 PUBLIC KEY",
    b"-----BEGIN PUBLIC KEY",
    b"-----BEGIN RSA PUBLIC",
)


def check_identity(path: Path) -> tuple[str, str] | None:
    """Why ssh could not use the private key in `path`: what is wrong and a hint; None when it could.

    Whether the passphrase is known is not asked here.
    """
    try:
        status, content = read_regular(path, MAX_KEY_BYTES)
    except FileNotFoundError:
        return f"{str(path)!r} does not exist", _missing_hint(path)
    except NotAFileError:
        return f"{str(path)!r} is not a file", "name the private key file itself"
    except OSError as error:
        return f"{str(path)!r} cannot be read: {error.strerror}", "the file must be yours and readable by you"
    return _check_content(path, content.lstrip()) or _check_mode(path, status)


def _check_content(path: Path, content: bytes) -> tuple[str, str] | None:
    if content.startswith(_PRIVATE_HEADERS):
        return None
    if content.startswith(_PUBLIC):
        private = path.with_suffix("") if path.suffix == ".pub" else path
        return (
            f"{str(path)!r} is a public key",
            f'name the private key: "{private}"' if private != path else "name the private key",
        )
    if content.startswith(b"PuTTY-User-Key-File"):
        return f"{str(path)!r} is a PuTTY key", f"convert it: puttygen {_quoted(path)} -O private-openssh -o NEW_FILE"
    if content.startswith(b"-----BEGIN DSA PRIVATE KEY-----"):
        return f"{str(path)!r} is a DSA key, which ssh refuses", "make a new one: ssh-keygen -t ed25519"
    return f"{str(path)!r} is not a private key", "name a file that ssh-keygen made"


def _check_mode(path: Path, status: os.stat_result) -> tuple[str, str] | None:
    # ssh looks at the mode only of files that are the user's own.
    if status.st_uid == os.geteuid() and status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        return (
            f"{str(path)!r} has mode {mode:04o}; ssh refuses a key that others can reach",
            f"chmod 600 {_quoted(path)}",
        )
    return None


def _missing_hint(path: Path) -> str:
    try:
        there = sorted(public.stem for public in path.parent.glob("*.pub") if public.with_suffix("").is_file())
    except OSError:
        there = []
    return (
        f"keys in that folder: {', '.join(there)}"
        if there
        else f"to make one: ssh-keygen -t ed25519 -f {_quoted(path)}"
    )


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
