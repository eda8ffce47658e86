"""The work folder's guard, as every backend uses it."""

from collections.abc import Mapping
from pathlib import Path

from claude_bottle.backend.base import Say
from claude_bottle.backend.state import BottleFolder
from claude_bottle.errors import UsageError
from claude_bottle.plan import BottlePlan
from claude_bottle.workfolder.files import show
from claude_bottle.workfolder.protect import Protection, masked_sockets, plan_protection


def protections_of(plan: BottlePlan, say: Say = lambda _: None) -> tuple[Protection, ...]:
    """Return what is mounted over the work folder, and over the host's sockets in other mounted folders.

    Raises:
        UsageError: a mount would be led astray.
    """
    refuse_symlinks(plan)
    covers = [cover for mount in plan.bottle.mounts for cover in masked_sockets(mount.source, Path(mount.target))]
    return (*plan_protection(plan.workdir, plan.manifest_path, say), *covers)


def refuse_symlinks(plan: BottlePlan) -> None:
    """Refuse a mount on a symlink that an earlier bottle may have left: bubblewrap would make files where it leads.

    Raises:
        UsageError: there is one between a writable folder and a mount in it.
    """
    writable = [(plan.workdir, plan.workdir)]
    writable += [(Path(mount.target), mount.source) for mount in plan.bottle.mounts if mount.writable]
    for mount in plan.bottle.mounts:
        target = Path(mount.target)
        for inside, outside in writable:
            link = first_symlink(outside, target.relative_to(inside)) if target.is_relative_to(inside) else None
            if link is not None:
                raise UsageError(
                    f"{show(str(link))} is a symlink; nothing can be mounted there",
                    where=f"{plan.rule_prefix}.mounts",
                    hint="remove it, or choose another target",
                )


def first_symlink(folder: Path, below: Path) -> Path | None:
    """Return the first symlink on the way from a folder down to the path `below` it."""
    for part in below.parts:
        folder /= part
        if folder.is_symlink():
            return folder
    return None


class WorkFolderWatch:
    """What the host would execute in the work folder, as it was before the bottle started."""

    def __init__(self, plan: BottlePlan, say: Say) -> None:
        """Look at the folder and say what cannot be protected."""
        self._say = say
        self.protections = protections_of(plan, say)

    def look(self) -> None:
        """Remember what the host would execute; before the program runs."""

    def report(self, folder: BottleFolder) -> Mapping[str, object]:
        """Say what changed, keep the old texts, and return the facts for the audit record."""
        return {}
