"""What `init` finds: real git repositories, real `ssh -G`, nothing connected to."""

import os
import subprocess
from pathlib import Path

import pytest

from claude_bottle.backend.local.discover import discover, write_starter
from claude_bottle.errors import UsageError
from claude_bottle.manifest import load_manifest

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    for name in ("id_ed25519", "work"):
        path = folder / ".ssh" / name
        path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
        path.chmod(0o600)
    (folder / ".ssh/known_hosts").write_text(f"* {KEY}\n")
    (folder / ".ssh/config").write_text(
        f"Host forge\n  HostName git.example.com\n  Port 2222\n  User git\n  IdentityFile {folder}/.ssh/work\n"
        "Host far\n  ProxyJump bastion.example.com\n"
    )
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return folder


@pytest.fixture
def repository(tmp_path: Path, home: Path) -> Path:
    git(tmp_path, "init", "-q", "project")
    return tmp_path / "project"


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def test_remotes_as_the_users_ssh_would_reach_them(repository: Path, home: Path) -> None:
    git(repository, "remote", "add", "b", "ssh://me@build.example.com:2200/x")
    git(repository, "remote", "add", "origin", "forge:group/project")
    git(repository, "remote", "set-url", "--push", "origin", "git@push.example.com:group/project")
    git(repository, "remote", "add", "web", "https://web.example.com/x")
    origin, push, build = discover(repository)
    assert (origin.used_by, origin.problem, origin.notes) == ("remote origin", "", ())
    entry = origin.entry
    assert (entry.Host, entry.Hostname, entry.Port, entry.User) == ("forge", "git.example.com", 2222, "git")
    assert (entry.IdentityFile, entry.KnownHostKey) == (home / ".ssh/work", (KEY,))
    assert (push.entry.Host, push.entry.User, push.used_by) == ("push.example.com", "git", "remote origin")
    assert (build.entry.Host, build.entry.Port, build.entry.User) == ("build.example.com", 2200, "me")
    assert build.entry.IdentityFile == home / ".ssh/id_ed25519"


def test_instead_of_counts(repository: Path, home: Path) -> None:
    git(repository, "config", "--global", "url.git@git.example.com:.insteadOf", "gh:")
    git(repository, "config", "--global", "url.ssh://push.example.com/.pushInsteadOf", "https://web.example.com/")
    git(repository, "remote", "add", "origin", "gh:group/project")
    git(repository, "remote", "add", "web", "https://web.example.com/x")
    assert [remote.entry.Host for remote in discover(repository)] == ["git.example.com", "push.example.com"]


def test_submodules_count(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "git@git.example.com:a")
    (repository / ".gitmodules").write_text(
        '[submodule "libs/x"]\n\tpath = libs/x\n\turl = git@git.example.com:x\n'
        '[submodule "y"]\n\tpath = y\n\turl = ssh://other.example.com/y\n'
        '[submodule "z"]\n\tpath = z\n\turl = ../z\n'
    )
    (repository / "deep").mkdir()
    first, second = discover(repository / "deep")
    assert (first.entry.Host, first.used_by) == ("git.example.com", "remote origin, submodule libs/x")
    assert (second.entry.Host, second.used_by) == ("other.example.com", "submodule y")


def test_two_ports_of_one_host_have_two_aliases(repository: Path) -> None:
    git(repository, "remote", "add", "a", "ssh://git.example.com:22/x")
    git(repository, "remote", "add", "b", "git.example.com:x")
    git(repository, "remote", "add", "c", "ssh://git.example.com:2222/x")
    first, second = discover(repository)
    assert (first.entry.Host, first.entry.Port, first.used_by) == ("git.example.com", 22, "remote a, remote b")
    assert (second.entry.Host, second.entry.Hostname, second.entry.Port) == (
        "git.example.com-2222",
        "git.example.com",
        2222,
    )


def test_what_cannot_be_declared_is_named(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "home/.ssh/config").write_text(
        f'Match host * exec "touch {tmp_path}/%h"\nHost here\n  HostName localhost\n'
        "Host swap\n  HostName git.example.com\nHost git.example.com\n  HostName swap.example.com\n"
    )
    for number, host in enumerate(
        ["-oProxyCommand=x", "$(id)", "localhost", "here", "swap", "git.example.com", "a%20b"]
    ):
        git(repository, "remote", "add", f"r{number}", f"ssh://{host}/x")
    problems = {remote.entry.Host: remote.problem for remote in discover(repository)}
    assert set(problems) == {"-oProxyCommand=x", "$(id)", "localhost", "here", "swap", "git.example.com", "a%20b"}
    assert problems["localhost"].startswith("'localhost' means the bottle itself")
    assert problems["here"].startswith("'localhost' means the bottle itself")
    assert problems["git.example.com"] == "its name also means another destination"
    assert problems["swap"] == ""
    assert not (tmp_path / "-oProxyCommand=x").exists()
    assert (tmp_path / "git.example.com").exists(), "ssh -G did not see the user's configuration"


def test_notes_say_what_is_missing(repository: Path, home: Path) -> None:
    (home / ".ssh/known_hosts").unlink()
    (home / ".ssh/id_ed25519").chmod(0o644)
    git(repository, "remote", "add", "origin", "ssh://far:2222/x")
    [remote] = discover(repository)
    assert remote.entry.IdentityFile is None
    unknown, key, jump = remote.notes
    assert unknown.startswith("No host key is known for far port 2222: compare")
    assert "IdentityFile" in key
    assert "ProxyJump" in jump


def test_no_repository_no_remotes(tmp_path: Path, home: Path) -> None:
    assert discover(tmp_path) == ()
    assert discover(tmp_path / "missing") == ()


def test_neither_git_nor_ssh(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(repository, "remote", "add", "origin", "git@git.example.com:a")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert discover(repository) == ()


def test_an_inherited_git_dir_is_not_asked(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q", "other")
    git(tmp_path / "other", "remote", "add", "origin", "git@other.example.com:a")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    assert discover(repository) == ()


def test_the_starter_loads(repository: Path, home: Path) -> None:
    (home / ".gitconfig").write_text("[user]\n")
    git(repository, "remote", "add", "origin", "forge:group/project")
    git(repository, "remote", "add", "bad", "ssh://-x/x")
    git(repository, "remote", "add", "six", "ssh://[::1]:2200/x")
    git(repository, "remote", "add", "sixth", "ssh://[::1]:2201/x")
    path = write_starter(repository)
    assert path == repository / "claude-bottle.toml"
    bottle = load_manifest(path).bottles["dev"]
    assert [entry.Host for entry in bottle.ssh] == ["forge", "::1", "1-2201"]
    assert bottle.ssh[0].IdentityFile == home / ".ssh/work"
    assert bottle.mounts[0].source == home / ".gitconfig"


@pytest.mark.parametrize("name", ["claude-bottle.toml", "claude-bottle.json"])
def test_a_manifest_is_never_overwritten(repository: Path, name: str) -> None:
    (repository / name).symlink_to("nowhere")
    with pytest.raises(UsageError, match="never overwritten"):
        write_starter(repository)
    assert sorted(os.listdir(repository)) == [".git", name]


def test_a_folder_that_cannot_be_written(tmp_path: Path, home: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        write_starter(tmp_path / "missing")
