"""Facts for `init`: the SSH destinations that a git repository uses, as the user's own ssh would reach them.

git and ssh are asked, not imitated: `git remote get-url` knows insteadOf, `ssh -G` knows ~/.ssh/config. Neither
connects anywhere. A repository is somebody else's text: what it names reaches a command line only after `--` and after
the manifest's own checks.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from claude_bottle.backend.local.git_url import Target, parse_git_url
from claude_bottle.errors import UsageError
from claude_bottle.manifest.hostname import canonical_host
from claude_bottle.manifest.identity import check_identity
from claude_bottle.manifest.load import FILE_NAMES, user_home
from claude_bottle.manifest.model import Bottle, Manifest, SSHEntry
from claude_bottle.manifest.reading import Reading
from claude_bottle.manifest.resolve import HostKeys, unknown_host
from claude_bottle.manifest.rules import check_rules
from claude_bottle.manifest.sources import check_source
from claude_bottle.manifest.starter import Remote, render_starter
from claude_bottle.manifest.texts import check_alias, check_destination, check_user

TIMEOUT_S = 10.0
"""for one question to git or ssh; both answer from files"""
MAX_URLS = 200
"""URLs looked at; each costs a run of git or ssh"""

_GIT_PLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_PREFIX")
_GIT = (
    *("git", "--no-pager", "--no-optional-locks"),
    # None of the questions below runs a hook or a monitor; these make sure.
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
)


def write_starter(folder: Path, *, home: Path | None = None) -> Path:
    """Write a starter manifest into `folder` and return its path.

    Raises:
        UsageError: there is a manifest already, or the folder cannot be written.
    """
    home = home or user_home()
    path = folder / FILE_NAMES[0]
    for name in FILE_NAMES:
        if os.path.lexists(folder / name):
            raise _exists(folder / name)
    git_config = (home / ".gitconfig").is_file() and check_source(home / ".gitconfig", home) is None
    text = render_starter(discover(folder, home=home), home=home, git_config=git_config)
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(path), hint="name another folder") from error
    return path


def _exists(path: Path) -> UsageError:
    return UsageError(
        "is there already and is never overwritten",
        where=str(path),
        hint=f"see it: claude-bottle check --manifest {path}",
    )


def discover(folder: Path, *, home: Path | None = None) -> tuple[Remote, ...]:
    """The SSH destinations of the git repository that `folder` is in and of its submodules, each once.

    Empty where there is no repository or no git.
    """
    home = home or user_home()
    keys = HostKeys(home)
    answers: dict[Target, Remote] = {}
    merged: dict[tuple[str, int], Remote] = {}
    for used_by, target in _targets(folder, home):
        if target not in answers:
            answers[target] = _resolve(target, folder, home, keys)
        place = (target.host.lower(), answers[target].entry.Port)
        known = merged.setdefault(place, replace(answers[target], used_by=used_by))
        if used_by not in known.used_by.split(", "):
            merged[place] = replace(known, used_by=f"{known.used_by}, {used_by}")
    return _without_conflicts(_one_alias_each(list(merged.values())))


def _targets(folder: Path, home: Path) -> Iterator[tuple[str, Target]]:
    for count, (used_by, url) in enumerate(_urls(folder, home)):
        target = parse_git_url(url)
        if count >= MAX_URLS:
            return
        if target is not None:
            yield used_by, target


def _urls(folder: Path, home: Path) -> Iterator[tuple[str, str]]:
    """What uses a URL, and the URL with insteadOf applied."""

    def git(*arguments: str) -> list[str]:
        return _ask(folder, home, *_GIT, *arguments)

    for name in sorted(git("remote"), key=lambda name: name != "origin"):
        for push in ((), ("--push",)):
            for url in git("remote", "get-url", "--all", *push, "--", name):
                yield f"remote {name}", url
    for top in git("rev-parse", "--show-toplevel"):
        for line in git("config", "--file", f"{top}/.gitmodules", "--get-regexp", r"^submodule\..*\.url$"):
            key, _, url = line.partition(" ")
            for expanded in git("ls-remote", "--get-url", "--", url):
                yield f"submodule {key.removeprefix('submodule.').removesuffix('.url')}", expanded


def _resolve(target: Target, folder: Path, home: Path, keys: HostKeys) -> Remote:
    """The entry that leads where the user's ssh would go."""
    wrong = check_alias(target.host) or (check_user(target.user) if target.user else None)
    if wrong:
        return Remote(SSHEntry(Host=target.host), "", problem=f"{wrong[0]}; {wrong[1]}")
    settings = _ssh_settings(target, folder, home)
    hostname = canonical_host(_first(settings, "hostname") or target.host)
    wrong = check_destination(hostname)
    if wrong:
        return Remote(SSHEntry(Host=target.host), "", problem=f"{wrong[0]}; {wrong[1]}")
    port = _first(settings, "port")
    entry = SSHEntry(
        Host=target.host,
        Hostname=hostname,
        Port=target.port or (int(port) if port.isdecimal() else 22),
        User=target.user or _configured_user(settings),
        IdentityFile=_usable_identity(settings, home),
    )
    entry = keys.fill(entry)
    return Remote(entry, "", notes=tuple(_notes(entry, settings)))


def _ssh_settings(target: Target, folder: Path, home: Path) -> dict[str, list[str]]:
    """What `ssh -G` says: values by lower-case keyword; empty where ssh is missing or its configuration is broken."""
    options = [*(["-p", str(target.port)] if target.port else []), *(["-l", target.user] if target.user else [])]
    settings: dict[str, list[str]] = {}
    for line in _ask(folder, home, "ssh", "-G", *_user_config(home), *options, "--", target.host):
        keyword, _, value = line.partition(" ")
        settings.setdefault(keyword.lower(), []).append(value)
    return settings


def _user_config(home: Path) -> tuple[str, ...]:
    """ssh looks into the home that the password database names, whatever HOME says."""
    import pwd

    try:
        usual = Path(pwd.getpwuid(os.getuid()).pw_dir) == home
    except KeyError:
        usual = False
    own = home / ".ssh/config"
    return () if usual or not own.is_file() else ("-F", str(own))


def _first(settings: dict[str, list[str]], keyword: str) -> str:
    return next(iter(settings.get(keyword, [])), "")


def _configured_user(settings: dict[str, list[str]]) -> str | None:
    """The login name from ~/.ssh/config; ssh's default is the user's own name, which is the same inside."""
    import getpass

    user = _first(settings, "user")
    return user if user and user != getpass.getuser() and check_user(user) is None else None


def _usable_identity(settings: dict[str, list[str]], home: Path) -> Path | None:
    """The first private key that ssh would offer and that can be declared."""
    for name in settings.get("identityfile", []):
        path = home / name[2:] if name.startswith("~/") else Path(name)
        if path.is_absolute() and name.isprintable() and check_identity(path) is None:
            return path
    return None


def _notes(entry: SSHEntry, settings: dict[str, list[str]]) -> Iterator[str]:
    if not entry.KnownHostKey:
        what, hint = unknown_host(entry)
        yield f"{what[:1].upper()}{what[1:]}: {hint}"
    if entry.IdentityFile is None:
        yield "No private key was found that the bottle could use; add IdentityFile."
    for keyword in ("ProxyJump", "ProxyCommand"):
        if _first(settings, keyword.lower()) not in ("", "none"):
            yield f"Your ssh_config reaches it through {keyword}; the gate connects directly."


def _one_alias_each(remotes: list[Remote]) -> list[Remote]:
    """Give a second port of the same host an alias of its own; URLs that name the port lead there as they are."""
    taken: set[str] = set()
    unique = []
    for remote in remotes:
        entry = remote.entry
        if entry.Host.lower() in taken:
            entry = replace(entry, Host=f"{entry.Host}-{entry.Port}".replace(":", "-").strip("-"))
        taken.add(entry.Host.lower())
        unique.append(replace(remote, entry=entry))
    return unique


def _without_conflicts(remotes: list[Remote]) -> tuple[Remote, ...]:
    """Leave out what the manifest's rules between entries would refuse, such as a name with two meanings."""
    reading = Reading(Path("/"), Path("/"))
    usable = [remote for remote in remotes if not remote.problem]
    bottle = Bottle(ssh=[remote.entry for remote in usable])
    check_rules(Manifest(Path("/"), {"dev": bottle}), reading)
    conflicts = [remote for place, remote in enumerate(usable) if reading.is_bad(("bottles", "dev", "ssh", place))]
    why = "its name also means another destination"
    return tuple(replace(remote, problem=why) if remote in conflicts else remote for remote in remotes)


def _ask(folder: Path, home: Path, *argv: str) -> list[str]:
    """The lines a program prints; none when it is missing, fails or does not answer in time."""
    env = {name: value for name, value in os.environ.items() if name not in _GIT_PLACES}
    env |= {"HOME": str(home), "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        answer = subprocess.run(
            argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []
    return answer.stdout.decode(errors="replace").splitlines() if answer.returncode == 0 else []
