"""What an agent changes in the work folder that the host would execute later is refused, or named and put back."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bottle import World
from tests.support.sshd import make_key

PLANT = """
git config core.fsmonitor 'touch /tmp/owned'
git config user.name 'Harmless'
echo 'touch owned' > .envrc
mkdir -p .vscode && echo '{}' > .vscode/tasks.json
"""


@pytest.fixture
def repository(world: World) -> Path:
    """The work folder as a git repository."""
    world.outside("git", "init", "-q", ".")
    return world.work


def test_a_hook_runs_on_the_host_without_a_bottle(world: World, repository: Path) -> None:
    (hook := repository / ".git/hooks/pre-commit").write_text("#!/bin/sh\ntouch owned\n")
    hook.chmod(0o755)
    commit(world)
    assert (repository / "owned").exists()


def test_hooks_cannot_be_written_inside(world: World, repository: Path) -> None:
    done = world.sh("printf '#!/bin/sh\\ntouch owned\\n' > .git/hooks/pre-commit")
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
    world.sh("mv .git .old; mkdir .git; cp -r .old/* .git; touch .git/hooks/pre-commit")
    commit(world)
    assert not (repository / ".git/hooks/pre-commit").exists()
    assert not (repository / ".old").exists()


def test_changes_are_named_when_the_bottle_ends_and_can_be_put_back(world: World, repository: Path) -> None:
    before = (repository / ".git/config").read_text()
    done = world.sh(PLANT)
    assert done.returncode == 0
    assert "core.fsmonitor" in done.stderr
    assert ".envrc" in done.stderr
    assert "tasks.json" in done.stderr
    assert "Harmless" not in done.stderr
    assert "claude-bottle restore dev" in done.stderr
    assert any(path.endswith(".envrc") for path in world.audit()[-1]["changed"])
    assert "core.fsmonitor" in world.cli("restore", "dev", "--list").stdout
    assert world.cli("restore", "dev").returncode == 0
    assert (repository / ".git/config").read_text() == before
    assert not (repository / ".envrc").exists()
    assert world.cli("restore", "dev", "--list").stdout == ""


def test_one_change_is_put_back_and_another_accepted(world: World, repository: Path) -> None:
    world.sh(PLANT)
    assert world.cli("restore", "dev", ".envrc").stdout == f"put back: {repository / '.envrc'}\n"
    assert world.cli("restore", "dev", "--accept").returncode == 0
    assert "fsmonitor" in (repository / ".git/config").read_text()
    assert world.cli("restore", "dev", "--list").stdout == ""


def test_changes_of_a_crashed_bottle_are_named_by_the_sweep(world: World, repository: Path) -> None:
    running = world.start("bash", "-c", f"{PLANT} echo planted; sleep 60")
    assert running.stdout is not None
    assert running.stdout.readline() == "planted\n"
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=20)
    swept = world.cli("stop", "--all")
    assert swept.returncode == 0
    assert "core.fsmonitor" in swept.stderr


def test_an_untouched_folder_is_not_mentioned(world: World, repository: Path) -> None:
    assert world.sh("echo text > file; git add file").stderr == ""


def test_the_manifest_in_the_work_folder_is_read_only(world: World) -> None:
    text = '[bottles.dev]\n[agents.a]\nbottle = "dev"\ncommand = ["sh", "-c", "echo >> claude-bottle.toml"]\n'
    (world.work / "claude-bottle.toml").write_text(text)
    assert world.cli("run").returncode != 0
    assert (world.work / "claude-bottle.toml").read_text() == text


def test_a_manifest_that_a_bottle_planted_is_not_obeyed(world: World) -> None:
    text = '[bottles.mine]\n[agents.a]\nbottle = "mine"\ncommand = ["true"]\n'
    planted = world.work / "claude-bottle.toml"
    assert "claude-bottle.toml" in world.run("tee", str(planted), input=text).stderr
    refused = world.cli("run")
    assert refused.returncode == 2
    assert "was written by bottle dev" in refused.stderr
    assert world.cli("restore", "dev", str(planted), "--accept").returncode == 0
    assert world.cli("run").returncode == 0


SWAP = """
import sys
from pathlib import Path
from claude_bottle.backend.local import launch
from claude_bottle.cli.main import main

start = launch.Launch._start_sandbox
def swap_then_start(*arguments):
    folder = Path(sys.argv[1])
    folder.rename(f"{folder}.aside")
    folder.symlink_to(sys.argv[2])
    return start(*arguments)
launch.Launch._start_sandbox = swap_then_start
raise SystemExit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize(("folder", "target"), [("", "other"), (".git", "home"), (".git/hooks", "home/.ssh")])
def test_a_folder_swapped_for_a_symlink_while_the_bottle_is_built_stops_the_start(
    world: World, repository: Path, folder: str, target: str
) -> None:
    """As another bottle could do that runs in the same folder, or in one around it."""
    words = ("run", "--manifest", str(world.write()), "--", "ls", "-a", ".")
    swapped = world.work / folder
    world.outside("git", "init", "-q", str(world.root / "other"))
    done = world.outside(sys.executable, "-c", SWAP, str(swapped), str(world.root / target), *words)
    assert done.returncode == 3
    assert "was replaced while the bottle was built" in done.stderr or folder
    assert done.stdout == ""


def test_a_private_key_in_the_work_folder_is_refused(world: World) -> None:
    key = make_key(world.work)
    world.entries.append({"Host": "forge", "IdentityFile": str(key.private), "KnownHostKey": [world.key.public]})
    done = world.run("cat", key.private.name)
    assert done.returncode == 2
    assert "bottles.dev.ssh[0].IdentityFile" in done.stderr


def test_folders_that_would_open_the_sandbox_are_refused(world: World) -> None:
    for folder in (world.home, world.home / ".ssh", world.root, Path("/"), Path("/etc")):
        done = world.cli("run", "--manifest", str(world.write()), "--workdir", str(folder), "--", "true")
        assert done.returncode == 2, folder
        assert str(folder) in done.stderr


def commit(world: World) -> "subprocess.CompletedProcess[str]":
    """Commit on the host, as the user would."""
    name = ("-c", "user.name=u", "-c", "user.email=u@example.com")
    return world.outside("git", *name, "commit", "-q", "--allow-empty", "-m", "text")
