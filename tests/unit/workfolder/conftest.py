"""Real git repositories and a real bubblewrap, run as whatever user runs the tests."""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from claude_bottle.workfolder.protect import Protection

Git = Callable[..., str]
InBottle = Callable[[Path, Sequence[Protection], str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """Run git in a folder with a configuration of its own."""
    home = tmp_path / "git-home"
    home.mkdir()
    (home / ".gitconfig").write_text('[user]\nname = t\nemail = t@example.com\n[protocol "file"]\nallow = always\n')
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"}

    def run(folder: Path, *arguments: str) -> str:
        done = subprocess.run(
            ("git", *arguments), cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout

    return run


@pytest.fixture
def work(tmp_path: Path, git: Git) -> Path:
    """A repository with one commit."""
    folder = tmp_path.resolve() / "work"
    folder.mkdir()
    new_repository(git, folder)
    return folder


def new_repository(git: Git, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "file").write_text("text\n")
    git(folder, "add", "file")
    git(folder, "commit", "--quiet", "--message", "first")


@pytest.fixture(scope="session")
def in_bottle() -> InBottle:
    """Run a shell script with the work folder writable and the planned mounts over it, as the backend does."""

    def run(workdir: Path, mounts: Sequence[Protection], script: str) -> "subprocess.CompletedProcess[str]":
        argv = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--tmpfs", "/mnt", "--unshare-all"]
        argv += ["--bind", str(workdir), str(workdir), *mount_argv(mounts), "--chdir", str(workdir)]
        return subprocess.run((*argv, "sh", "-c", script), capture_output=True, text=True, timeout=30, check=False)

    probe = subprocess.run(("bwrap", "--ro-bind", "/", "/", "--unshare-all", "true"), capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"bwrap cannot run here: {probe.stderr!r}; `apt-get install bubblewrap` and allow user namespaces")
    return run


def mount_argv(mounts: Sequence[Protection]) -> list[str]:
    argv: list[str] = []
    for path, kind in mounts:
        if kind == "empty" and (path.is_dir() or not os.path.lexists(path)):
            argv += ["--tmpfs", str(path), "--remount-ro", str(path)]
        elif kind == "empty":
            argv += ["--ro-bind", "/dev/null", str(path)]
        else:
            argv += ["--ro-bind" if kind == "read-only" else "--bind", str(path), str(path)]
    return argv
