"""The text of a starter manifest, from facts that the backend gathered. Pure.

Rule 1: the text loads. What would not is left out, with a comment that says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from claude_bottle.manifest.model import SSHEntry

_HEAD = """\
# What the agent in the bottle may reach. What is not declared here does not exist for it.
#   claude-bottle check    report every mistake in this file
#   claude-bottle plan     show what would be done, touch nothing
#   claude-bottle run      start the agent in this folder

[bottles.dev]
# env = { EDITOR = "vim" }              # set inside
# pass_env = ["ANTHROPIC_API_KEY"]      # names of your variables that go in; no other does, but TERM and LANG
# resources = { memory = "4GiB", pids = 1024 }
"""
_MOUNT = 'mounts = [{ source = "~/.gitconfig", target = "~/.gitconfig" }]     # read-only unless writable = true\n'
_EXAMPLE = """
# No SSH remote was found in this folder. An entry looks like this:
# [[bottles.dev.ssh]]
# Host = "forge"                        # what the agent types: git clone forge:group/project
# Hostname = "git.example.com"          # where it leads
# User = "git"
# IdentityFile = "~/.ssh/id_ed25519"    # stays outside the bottle
"""
_AGENT = """
[agents.claude]
bottle = "dev"
command = ["claude"]
"""
_COMMENT_COLUMN = 40


@dataclass(frozen=True, slots=True)
class Remote:
    """One SSH destination that the folder already uses."""

    entry: SSHEntry
    """how it would be declared; IdentityFile and KnownHostKey only where they can be used"""
    used_by: str
    """what uses it, such as `remote origin`"""
    notes: tuple[str, ...] = ()
    """what the user should know about it, a line each"""
    problem: str = ""
    """why it cannot be declared; the entry is then left out"""


def render_starter(remotes: Sequence[Remote], *, home: Path, git_config: bool = False) -> str:
    """The text of a manifest with one bottle and one agent; `git_config`: the user has a ~/.gitconfig to show."""
    declared = [remote for remote in remotes if not remote.problem]
    blocks = [_render_remote(remote, home) if not remote.problem else _render_problem(remote) for remote in remotes]
    mount = _MOUNT if git_config else f"# {_MOUNT}"
    return "".join([_HEAD, mount, *blocks, "" if declared else _EXAMPLE, _AGENT])


def _render_remote(remote: Remote, home: Path) -> str:
    entry = remote.entry
    lines = ["", f"# {_plain(remote.used_by)}", *(f"# {_plain(note)}" for note in remote.notes), "[[bottles.dev.ssh]]"]
    lines.append(_pair("Host", quote(entry.Host), "what the agent types"))
    if entry.Hostname != entry.Host:
        lines.append(_pair("Hostname", quote(entry.Hostname), "where it leads"))
    if entry.Port != 22:
        lines.append(f"Port = {entry.Port}")
    if entry.User is not None:
        lines.append(f"User = {quote(entry.User)}")
    if entry.IdentityFile is not None:
        lines.append(_pair("IdentityFile", quote(_from_home(entry.IdentityFile, home)), "stays outside the bottle"))
    if entry.KnownHostKey:
        keys = [f"  {quote(key)}," for key in entry.KnownHostKey]
        lines += [_pair("KnownHostKey", "[", "from your known_hosts, which is asked when this is left out"), *keys, "]"]
    return "\n".join(lines) + "\n"


def _render_problem(remote: Remote) -> str:
    return f"\n# {_plain(remote.used_by)} is left out: {_plain(remote.problem)}\n"


def _pair(key: str, value: str, comment: str) -> str:
    return f"{f'{key} = {value}':<{_COMMENT_COLUMN - 2}}  # {comment}"


def _from_home(path: Path, home: Path) -> str:
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _plain(text: str) -> str:
    """Text that may stand in a comment: on one line, without control characters."""
    return text if text.isprintable() else ascii(text)


def quote(text: str) -> str:
    """`text` as a TOML basic string (https://toml.io/en/v1.0.0#string)."""
    return '"' + "".join(_escape(character) for character in text) + '"'


def _escape(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08X}"
