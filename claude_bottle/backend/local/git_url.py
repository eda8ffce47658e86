"""Where a git URL leads over SSH. Pure.

Source: git-clone(1), GIT URLS.
"""

from dataclasses import dataclass

from claude_bottle.manifest.hostname import canonical_host

_SSH_SCHEMES = ("ssh", "git+ssh", "ssh+git")


@dataclass(frozen=True, slots=True)
class Target:
    """What a git URL says about the way."""

    host: str
    """host as it stands in the URL, without brackets"""
    port: int | None = None
    """port, if the URL names one"""
    user: str | None = None
    """login name, if the URL names one"""


def parse_git_url(url: str) -> Target | None:
    """Where an SSH URL of git leads, in either form; None for every other transport."""
    scheme, separator, rest = url.partition("://")
    if separator:
        if scheme.lower() not in _SSH_SCHEMES:
            return None
        user, host, port = _split_authority(rest.partition("/")[0])
        return _target(user, host, port)
    # `[host:port]:path` and `[2001:db8::1]:path` may have a user before them, like all of the scp-like form.
    head, bracket, tail = url.partition("[")
    if bracket and "/" not in head and ":" not in head and "]:" in tail:
        inner = tail.partition("]:")[0]
        user, host, port = _split_authority(head + (f"[{inner}]" if inner.count(":") > 1 else inner))
        return _target(user, host, port)
    authority, colon, path = url.partition(":")
    # A slash before the colon means a local path, a second colon a transport helper.
    if not colon or "/" in authority or path.startswith(":"):
        return None
    user, _, host = authority.rpartition("@")
    return _target(user, host, "")


def _split_authority(authority: str) -> tuple[str, str, str]:
    """User, host and port of `[user[:password]@]host[:port]`."""
    login, _, place = authority.rpartition("@")
    user = login.partition(":")[0]
    if place.startswith("["):
        host, _, after = place[1:].partition("]")
        return user, host, after.removeprefix(":")
    host, _, port = place.partition(":")
    return user, host, port


def _target(user: str, host: str, port: str) -> Target | None:
    number = int(port) if port.isdecimal() and port.isascii() and len(port) <= 5 else None
    return Target(canonical_host(host), number, user or None) if host else None
