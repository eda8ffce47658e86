"""What the manifest mounts beside the work folder: no way to the host's sockets, nothing led astray by a symlink."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from claude_bottle.errors import UsageError
from claude_bottle.plan import BottlePlan
from claude_bottle.workfolder.files import show
from claude_bottle.workfolder.protect import Protection, masked_sockets
from claude_bottle.workfolder.sockets import listed

MOST_SYMLINKS = 40
"""the kernel follows no more either"""


def protect_mounts(plan: BottlePlan) -> tuple[Protection, ...]:
    """Return what is mounted over the host's sockets in mounted folders; read-only mounts need it too.

    Raises:
        UsageError: a mount would be led astray.
    """
    refuse_symlinks(plan)
    folders = [mount for mount in plan.bottle.mounts if mount.source.is_dir()]
    return tuple(cover for mount in folders for cover in masked_sockets(mount.source, Path(mount.target)))


def cover_sockets(folders: Iterable[str]) -> tuple[Protection, ...]:
    """Return what is mounted over the host's sockets in folders of the system that are shown.

    They are too large to be searched, so this goes by the kernel's list of sockets.
    """
    real = [folder for folder in folders if Path(folder).is_dir() and not Path(folder).is_symlink()]
    paths = {path for folder in real for path in listed(folder)}
    return tuple(Protection(Path(path), "empty") for path in sorted(paths) if Path(path).is_socket())


def refuse_symlinks(plan: BottlePlan) -> None:
    """Refuse a mount that a symlink leads astray which an earlier bottle may have left in a writable folder.

    On the way to a mount's source it would show what the agent likes to see; on the way to its target, bubblewrap
    would make files where it leads.

    Raises:
        UsageError: there is one.
    """
    writable = {plan.workdir: plan.workdir}
    writable |= {Path(mount.target): mount.source.resolve() for mount in plan.bottle.mounts if mount.writable}
    for index, mount in enumerate(plan.bottle.mounts):
        target = Path(mount.target)
        outside = [
            folder / target.relative_to(inside) for inside, folder in writable.items() if target.is_relative_to(inside)
        ]
        for path in (mount.source, *outside):
            link = first_symlink(path, list(writable.values()))
            if link is not None:
                raise UsageError(
                    f"{show(str(link))} is a symlink, which an agent may have put there",
                    where=f"{plan.rule_prefix}.mounts[{index}]",
                    hint="remove it, or name another path",
                )


def first_symlink(path: Path, folders: Sequence[Path]) -> Path | None:
    """Return the first symlink on the way to a path that lies in one of the folders (whose symlinks are resolved)."""
    here, ahead, followed = Path("/"), list(path.parts[1:]), 0
    while ahead:
        step = here / ahead.pop(0)
        if step.name == "..":
            here = here.parent
        elif not step.is_symlink():
            here = step
        elif any(here.is_relative_to(folder) for folder in folders) or followed > MOST_SYMLINKS:
            return step
        else:
            target, followed = step.readlink(), followed + 1
            here = Path("/") if target.is_absolute() else here
            ahead = [part for part in target.parts if part != "/"] + ahead
    return None
