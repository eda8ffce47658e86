"""What the machine knows: key files, mount sources and host keys. Reads files, changes none."""

from dataclasses import replace
from pathlib import Path

from claude_bottle.manifest.identity import check_identity
from claude_bottle.manifest.known_hosts import KnownHosts
from claude_bottle.manifest.model import Bottle, Manifest, SSHEntry
from claude_bottle.manifest.reading import BAD, KeyPath, Reading
from claude_bottle.manifest.rules import entries_of, mounts_of
from claude_bottle.manifest.sources import check_source

SYSTEM_KNOWN_HOSTS = (Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))
"""GlobalKnownHostsFile of ssh_config(5)"""


def resolve_manifest(manifest: Manifest, reading: Reading) -> Manifest:
    """The manifest with host keys filled in; what is missing on this machine is reported."""
    if manifest.bottles is BAD:
        return manifest
    finder = HostKeys(reading.home)
    bottles = {}
    keys = _check_identities(manifest, reading)
    for name, bottle in manifest.bottles.items():
        path: KeyPath = ("bottles", name)
        for here, mount in mounts_of(bottle, path, reading, "source"):
            wrong = check_source(mount.source, reading.home, keys, writable=mount.writable)
            if wrong:
                reading.report((*here, "source"), *wrong)
        bottles[name] = replace(bottle, ssh=_with_host_keys(bottle, path, reading, finder))
    return replace(manifest, bottles=bottles)


class HostKeys:
    """The host keys the user's ssh would accept; files are read when the first is asked for."""

    def __init__(self, home: Path) -> None:
        self._files = (home / ".ssh/known_hosts", home / ".ssh/known_hosts2", *SYSTEM_KNOWN_HOSTS)
        self._known: KnownHosts | None = None

    def fill(self, entry: SSHEntry) -> SSHEntry:
        """The entry with the keys known for it, unless it declares its own."""
        if self._known is None:
            self._known = KnownHosts([(str(file), _content(file)) for file in self._files])
        if entry.KnownHostKey:
            return replace(entry, revoked_host_keys=self._known.revoked(entry.Hostname, entry.Port))
        found = self._known.find(entry.Hostname, entry.Port)
        source = ", ".join(found.files)
        return replace(entry, KnownHostKey=found.keys, revoked_host_keys=found.revoked, known_host_key_source=source)


def _check_identities(manifest: Manifest, reading: Reading) -> list[Path]:
    """The declared private keys, each file checked once and reported at each place that names it."""
    checked: dict[Path, tuple[str, str] | None] = {}
    for name, bottle in manifest.bottles.items():
        for here, entry in entries_of(bottle, ("bottles", name), reading, "IdentityFile"):
            if entry.IdentityFile is None:
                continue
            if entry.IdentityFile not in checked:
                checked[entry.IdentityFile] = check_identity(entry.IdentityFile)
            wrong = checked[entry.IdentityFile]
            if wrong:
                reading.report((*here, "IdentityFile"), *wrong)
    return list(checked)


def _with_host_keys(bottle: Bottle, path: KeyPath, reading: Reading, finder: HostKeys) -> tuple[SSHEntry, ...]:
    filled = dict(enumerate(bottle.ssh))
    for here, entry in entries_of(bottle, path, reading, "Hostname", "Port", "KnownHostKey"):
        if entry.Hostname is BAD:
            continue
        known = filled[int(here[-1])] = finder.fill(entry)
        usable = [key for key in known.KnownHostKey if key.split()[-1] not in _blobs(known.revoked_host_keys)]
        if len(usable) < len(known.KnownHostKey):
            hint = "find out why before you trust the host; the line is in your known_hosts"
            reading.report((*here, "KnownHostKey"), "the key is @revoked in known_hosts", hint)
        elif not usable:
            reading.report((*here, "KnownHostKey"), *unknown_host(known))
    return tuple(filled.values())


def _blobs(keys: tuple[str, ...]) -> set[str]:
    return {key.split()[-1] for key in keys}


def unknown_host(entry: SSHEntry) -> tuple[str, str]:
    """What is missing for an entry without host keys, and how to compare and accept one; none is trusted blindly."""
    port = "" if entry.Port == 22 else f" port {entry.Port}"
    revoked = "only revoked keys are" if entry.revoked_host_keys else "no host key is"
    return (
        f"{revoked} known for {entry.Hostname}{port}",
        f"compare with what its owner publishes: ssh-keyscan -p {entry.Port} {entry.Hostname} | ssh-keygen -lf -; "
        f"to accept it, log in once outside the bottle: ssh -p {entry.Port} {entry.Hostname}",
    )


def _content(file: Path) -> bytes:
    """The file's content; empty where ssh too would go on without it."""
    try:
        return file.read_bytes() if file.is_file() else b""
    except OSError:
        return b""
