"""The user's known_hosts: which keys ssh itself would accept for a destination.

Rule 1: a revoked key is never returned, wherever else it is listed.
Rule 2: a line that ssh skips (unknown marker, unknown or damaged key) is skipped.

Pure: text in, keys out; `resolve` reads the files. Not read: what `ssh_config` may say about other files
(UserKnownHostsFile), other names (HostKeyAlias) or a command (KnownHostsCommand); KnownHostKey is the way then.

Source: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from claude_bottle.manifest.hostkey import CERT_AUTHORITY, REVOKED, check_key

_REVOKED = REVOKED.encode()
_MARKERS = (b"", CERT_AUTHORITY.encode(), _REVOKED)
_HASHED = b"|1|"
_SPECIAL = re.compile(rb"[*?!]")
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


class FoundKeys(NamedTuple):
    """What known_hosts says about one destination."""

    keys: tuple[str, ...] = ()
    """`[@cert-authority ]TYPE BASE64`, in file order, without repeats"""
    revoked: tuple[str, ...] = ()
    """`TYPE BASE64` that must never be accepted"""
    files: tuple[str, ...] = ()
    """files that hold the keys"""


class _Line(NamedTuple):
    """One entry: its place in reading order and its parts after the host names."""

    number: int
    file: str
    marker: bytes
    key: bytes


class KnownHosts:
    """The lines of several known_hosts files, parsed once; keys are checked and hashes computed when asked for."""

    def __init__(self, files: list[tuple[str, bytes]]) -> None:
        """Parse `(file name, content)` pairs in order of precedence."""
        self._accepted = _Lines()
        self._revoked = _Lines()
        number = 0
        for file, content in files:
            for text in content.split(b"\n"):
                number += 1
                self._add(text, file, number)

    def _add(self, text: bytes, file: str, number: int) -> None:
        words = text.split(None, 3)
        marker = b""
        if words and words[0].startswith(b"@"):
            marker, *words = text.split(None, 4)
        if len(words) < 3 or words[0].startswith(b"#") or marker not in _MARKERS:
            return
        lines = self._revoked if marker == _REVOKED else self._accepted
        lines.add(words[0], _Line(number, file, marker, words[1] + b" " + words[2]))

    def find(self, host: str, port: int) -> FoundKeys:
        """The keys ssh would accept for `host` on `port`.

        As ssh does, a port other than 22 is looked up as `[host]:port`, and without the port when that is unknown.
        """
        revoked = self.revoked(host, port)
        for name in _names(host, port):
            keys = _keys(self._accepted.naming(name))
            good = {key: file for key, file in keys.items() if key.removeprefix(f"{CERT_AUTHORITY} ") not in revoked}
            if good:
                return FoundKeys(tuple(good), revoked, tuple(dict.fromkeys(good.values())))
        return FoundKeys(revoked=revoked)

    def revoked(self, host: str, port: int) -> tuple[str, ...]:
        """`TYPE BASE64` of the keys that are revoked for `host`, with or without the port."""
        return tuple(_keys([line for name in _names(host, port) for line in self._revoked.naming(name)]))


class _Lines:
    """Lines by the host names they are for: looked up, matched or hashed, as each is written."""

    def __init__(self) -> None:
        self._plain: dict[bytes, list[_Line]] = {}
        self._patterns: list[tuple[list[tuple[bool, re.Pattern[bytes]]], _Line]] = []
        self._hashed: list[tuple[bytes, _Line]] = []
        self._digests: list[tuple[bytes, bytes, bytes, _Line]] | None = None

    def add(self, hosts: bytes, line: _Line) -> None:
        """File a line under its first word."""
        if hosts.startswith(_HASHED):
            self._hashed.append((hosts, line))
        elif _SPECIAL.search(hosts):
            self._patterns.append(([_compiled(host) for host in hosts.lower().split(b",")], line))
        else:
            for host in set(hosts.lower().split(b",")):
                self._plain.setdefault(host, []).append(line)

    def naming(self, name: bytes) -> list[_Line]:
        """Every line for `name`, in reading order."""
        lines = list(self._plain.get(name, ()))
        lines += (line for patterns, line in self._patterns if _matches(name, patterns))
        if self._hashed:
            lines += self._hashed_for(name)
        return sorted(lines)

    def _hashed_for(self, name: bytes) -> Iterator[_Line]:
        """Lines whose hashed name is `name`: HMAC-SHA1 with the salt as key.

        HMAC is spelled out over key blocks made once per line (RFC 2104 §2): half the time of `hmac.digest`, and every
        name has to be tried against every line.
        """
        import hashlib

        if self._digests is None:
            self._digests = [entry for hosts, line in self._hashed for entry in _hash_blocks(hosts, line)]
        sha1 = hashlib.sha1
        for inner, outer, digest, line in self._digests:
            if sha1(outer + sha1(inner + name).digest()).digest() == digest:
                yield line


def _names(host: str, port: int) -> list[bytes]:
    """The names ssh looks a destination up by, in order."""
    name = host.lower().encode()
    return [name] if port == 22 else [b"[%b]:%d" % (name, port), name]


def _hash_blocks(hosts: bytes, line: _Line) -> Iterator[tuple[bytes, bytes, bytes, _Line]]:
    """Inner block, outer block and digest of one `|1|salt|digest` name; nothing when it is damaged."""
    import binascii

    try:
        salt, digest = (binascii.a2b_base64(part, strict_mode=True) for part in hosts[len(_HASHED) :].split(b"|"))
    except ValueError:
        return
    if len(salt) == len(digest) == 20:
        block = salt.ljust(64, b"\0")
        yield block.translate(_INNER), block.translate(_OUTER), digest, line


def _compiled(pattern: bytes) -> tuple[bool, re.Pattern[bytes]]:
    """Whether a pattern is negated, and what it matches (ssh_config(5), PATTERNS)."""
    # Runs of `*` mean one; unmerged they would make the search slow.
    plain = re.escape(re.sub(rb"\*+", b"*", pattern.removeprefix(b"!")))
    return pattern.startswith(b"!"), re.compile(plain.replace(rb"\*", b".*").replace(rb"\?", b"."), re.DOTALL)


def _matches(name: bytes, patterns: list[tuple[bool, re.Pattern[bytes]]]) -> bool:
    """One pattern must match and no negated one may."""
    hits = [negated for negated, pattern in patterns if pattern.fullmatch(name)]
    return bool(hits) and not any(hits)


def _keys(lines: list[_Line]) -> dict[str, str]:
    """File by `[@cert-authority ]TYPE BASE64`, keys that ssh would not read left out."""
    found: dict[str, str] = {}
    for line in lines:
        key = line.key.decode("ascii", "replace")
        if check_key(*key.split(" ")) is None:
            marker = f"{CERT_AUTHORITY} " if line.marker == CERT_AUTHORITY.encode() else ""
            found.setdefault(marker + key, line.file)
    return found
