"""The work folder's guard, as every backend uses it: look before, compare after, keep what was there."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from claude_bottle.backend.base import Say
from claude_bottle.backend.mounts import protect_mounts
from claude_bottle.backend.state import BottleFolder, StateStore
from claude_bottle.errors import BottleError, UsageError
from claude_bottle.plan import BottlePlan
from claude_bottle.workfolder.protect import Protection, plan_protection
from claude_bottle.workfolder.snapshot import Snapshot, compare, take
from claude_bottle.workfolder.store import load_snapshot, save_snapshot
from claude_bottle.workfolder.walk import Survey, survey
from claude_bottle.workfolder.watched import load_rules


def protections_of(
    plan: BottlePlan, say: Say = lambda _: None, *, found: Survey | None = None
) -> tuple[Protection, ...]:
    """Return what is mounted over the work folder, and over the host's sockets in other mounted folders.

    Raises:
        UsageError: a mount would be led astray.
    """
    protections = plan_protection(plan.workdir, plan.manifest_path, say, home=plan.caller.home, found=found)
    return (*protections, *protect_mounts(plan))


class WorkFolderWatch:
    """What the host would execute in the work folder, as it was before the bottle started."""

    def __init__(self, plan: BottlePlan, say: Say) -> None:
        """Walk the folder once and say what cannot be protected."""
        self._say = say
        self._workdir = plan.workdir
        self._found = survey(str(plan.workdir), load_rules())
        self.protections = protections_of(plan, say, found=self._found)
        writable = [mount.source for mount in plan.bottle.mounts if mount.writable]
        self._extra = [*writable, *(item.path for item in self.protections if item.kind == "writable")]

    def look(self) -> None:
        """Remember what the host would execute, before the program runs."""
        self._snapshot = take(self._workdir, self._extra, found=self._found)

    def save(self, folder: BottleFolder) -> None:
        """Put what is remembered on disk, should we be killed; not needed before the program runs."""
        with suppress(OSError):
            save_snapshot(self._snapshot, folder.snapshot)

    def report(self, folder: BottleFolder) -> Mapping[str, object]:
        """Say what changed, keep the old texts, and return the facts for the audit record."""
        return report_changes(self._snapshot, folder, self._say)


def report_after_crash(folder: BottleFolder, say: Say) -> None:
    """Report what a bottle changed whose command line was killed."""
    if not folder.snapshot.exists():
        return
    try:
        report_changes(load_snapshot(folder.snapshot), folder, say)
    except BottleError as error:
        say(f"what the crashed bottle {folder.slug} changed is not known: {error}")


def report_changes(snapshot: Snapshot, folder: BottleFolder, say: Say) -> Mapping[str, object]:
    """Compare, keep the old texts, and say what changed; return the facts for an audit record."""
    changes = compare(snapshot)
    if not changes:
        return {}
    from claude_bottle.workfolder.restore import keep, render_changes

    keep(changes, folder.kept)
    say(render_changes(changes, folder.slug).rstrip())
    return {"changed": sorted({str(Path(change.path)) for change in changes})}


def refuse_planted(manifest: Path, store: StateStore) -> None:
    """Refuse a manifest that a bottle wrote and nobody has accepted since: an agent would declare its own next bottle.

    Raises:
        UsageError: with the command that shows what it did.
    """
    from claude_bottle.workfolder.restore import pending

    path = manifest.resolve()
    for folder in store.folders():
        if folder.kept.is_dir() and any(item.path == path for item in pending(folder.kept)):
            raise UsageError(
                f"was written by bottle {folder.slug}",
                where=str(manifest),
                hint=f"look at it, then: claude-bottle restore {folder.slug} {path}   (or add --accept)",
            )
