"""Git configuration text as keys and values, read by git itself, so that no second parser can be fooled."""

import os
from collections.abc import Sequence

from claude_bottle.workfolder.files import path_outside

CONFIG_LIMIT_BYTES = 1024 * 1024
"""longest git config file that is read"""

TIMEOUT_S = 10.0
"""seconds for git to parse one file; it takes 2 ms"""


def read_config(text: bytes, roots: Sequence[str]) -> tuple[tuple[str, str | None], ...] | None:
    """Parse the text of one config file; None when git refuses it or is not installed outside `roots`.

    Keys as git normalises them (section and name in lower case, subsection as written); a key without `=` has the value
    None. Files it includes are not read. The text goes in on standard input and git runs in `/` with a clean
    environment: it sees no repository and no other configuration. `roots` are the folders that the agent can write: a
    program named git in them, where PATH leads, is not run.
    """
    import subprocess  # 5 ms, and few starts need it

    try:
        done = subprocess.run(
            ("git", "config", "--file", "-", "--null", "--list", "--no-includes"),
            input=text,
            capture_output=True,
            cwd="/",
            env=_environment(roots),
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return tuple(_split(record) for record in done.stdout.split(b"\0") if record)


def _split(record: bytes) -> tuple[str, str | None]:
    key, equals, value = record.partition(b"\n")
    return os.fsdecode(key), os.fsdecode(value) if equals else None


def _environment(roots: Sequence[str]) -> dict[str, str]:
    return {
        "PATH": path_outside(roots),
        "HOME": "/nonexistent",
        "XDG_CONFIG_HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CEILING_DIRECTORIES": "/",
        "GIT_DIR": "/nonexistent",
        "LC_ALL": "C",
    }
