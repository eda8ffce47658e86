"""Where the host's programs are looked for that we run: on PATH, but in no folder that an agent can write.

An activated virtual environment or `node_modules/.bin` puts a part of the work folder on PATH; an agent could leave its
own ssh-agent or bubblewrap there, and the next bottle's start would run it outside.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from claude_bottle.workfolder.files import path_outside

_writable: list[str] = []


def distrust(folders: Iterable[Path]) -> None:
    """Look for no program in these folders from now on; a process starts one bottle, so there is no way back."""
    _writable.extend(os.path.realpath(folder) for folder in folders)


def search_path() -> list[str]:
    """Return the absolute folders in which a program may be found, in order."""
    return path_outside(_writable).split(os.pathsep)
