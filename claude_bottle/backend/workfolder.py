"""The work folder's guard, as every backend uses it."""

from collections.abc import Mapping

from claude_bottle.backend.base import Say
from claude_bottle.backend.state import BottleFolder
from claude_bottle.plan import BottlePlan
from claude_bottle.workfolder.protect import plan_protection


class WorkFolderWatch:
    """What the host would execute in the work folder, as it was before the bottle started."""

    def __init__(self, plan: BottlePlan, say: Say) -> None:
        """Look at the folder and say what cannot be protected."""
        self._say = say
        self.protections = plan_protection(plan.workdir, plan.manifest_path, say)

    def report(self, folder: BottleFolder) -> Mapping[str, object]:
        """Say what changed, keep the old texts, and return the facts for the audit record."""
        return {}
