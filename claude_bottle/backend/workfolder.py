"""The work folder's guard, as every backend uses it: look before, compare after, keep what was there."""

from collections.abc import Mapping

from claude_bottle.backend.base import Say
from claude_bottle.backend.state import BottleFolder
from claude_bottle.plan import BottlePlan
from claude_bottle.workfolder.protect import plan_protection
from claude_bottle.workfolder.restore import keep, render_changes
from claude_bottle.workfolder.snapshot import compare, take


class WorkFolderWatch:
    """What the host would execute in the work folder, as it was before the bottle started."""

    def __init__(self, plan: BottlePlan, say: Say) -> None:
        """Look at the folder and say what cannot be protected."""
        self._say = say
        self.protections = plan_protection(plan.workdir, plan.manifest_path)
        self._snapshot = take(plan.workdir, ())

    def report(self, folder: BottleFolder) -> Mapping[str, object]:
        """Say what changed, keep the old texts, and return the facts for the audit record."""
        changes = compare(self._snapshot)
        if not changes:
            return {}
        keep(changes, folder.kept)
        self._say(render_changes(changes))
        return {"changed": [str(change.path) for change in changes]}
