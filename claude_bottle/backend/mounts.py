"""What the manifest mounts beside the work folder: no way to the host's sockets, nothing led astray by a symlink."""

from pathlib import Path

from claude_bottle.errors import UsageError
from claude_bottle.plan import BottlePlan
from claude_bottle.workfolder.files import show
from claude_bottle.workfolder.protect import Protection, masked_sockets


def protect_mounts(plan: BottlePlan) -> tuple[Protection, ...]:
    """Return what is mounted over the host's sockets in mounted folders; read-only mounts need it too.

    Raises:
        UsageError: a mount would be led astray.
    """
    refuse_symlinks(plan)
    folders = [mount for mount in plan.bottle.mounts if mount.source.is_dir()]
    return tuple(cover for mount in folders for cover in masked_sockets(mount.source, Path(mount.target)))


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
