"""git, unmodified, through a real bottle: every form of URL, the whole daily round, and a repository of 100 MB."""

import subprocess
from pathlib import Path

import pytest

from tests.integration.local.names import local_name
from tests.integration.local.trees import digest, noise
from tests.support.bottle import World
from tests.support.sshd import SSHServer, free_port

SETTINGS = "user.name=Outside user.email=outside@example.com core.compression=0 core.bigFileThreshold=1m".split()
"""the last two keep git from trying to make noise smaller"""
BIG_FILES = 26
BIG_FILE_BYTES = 4 << 20


def git(*words: str | Path, cwd: Path) -> str:
    """Run git outside, where no bottle is involved, and return its output."""
    settings = [word for setting in SETTINGS for word in ("-c", setting)]
    argv = ["git", *settings, *map(str, words)]
    return subprocess.run(argv, cwd=cwd, check=True, text=True, capture_output=True).stdout.strip()


def make_repository(folder: Path, **files: bytes) -> Path:
    """Make a bare repository with one commit on `main`."""
    work = folder.with_suffix(".work")
    work.mkdir(parents=True)
    git("init", "-q", "-b", "main", cwd=work)
    for name, data in (files or {"README": b"hello\n"}).items():
        (work / name).write_bytes(data)
    git("add", ".", cwd=work)
    git("commit", "-qm", "first", cwd=work)
    git("clone", "-q", "--bare", work, folder, cwd=work)
    for setting in SETTINGS[2:]:
        git("config", *setting.split("="), cwd=folder)
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A bare repository that only the server's side can see."""
    return make_repository(tmp_path / "remote/app.git")


@pytest.fixture
def gitconfig(world: World) -> None:
    """The user's git configuration, mounted into the bottle."""
    (world.home / ".gitconfig").write_text(
        "[user]\n\tname = Inside\n\temail = inside@example.com\n[core]\n\tcompression = 0\n\tbigFileThreshold = 1m\n"
    )
    world.bottle["mounts"] = [{"source": "~/.gitconfig", "target": "~/.gitconfig"}]


def heads(world: World, *urls: str) -> list[str]:
    """What each URL has as `main`, asked from inside one bottle."""
    done = world.sh("; ".join(f"git ls-remote '{url}' refs/heads/main" for url in urls))
    assert done.returncode == 0, done.stderr
    return [line.split()[0] for line in done.stdout.splitlines()]


def test_every_form_of_an_alias_leads_to_the_repository(world: World, forge: SSHServer, repository: Path) -> None:
    user, port = forge.user, forge.port
    urls = (
        f"forge:{repository}",
        f"{user}@forge:{repository}",
        f"ssh://forge{repository}",
        f"ssh://{user}@forge{repository}",
        f"ssh://{user}@forge:{port}{repository}",
    )
    assert heads(world, *urls) == [git("rev-parse", "main", cwd=repository)] * len(urls)


def test_every_form_of_an_address_leads_to_the_repository(world: World, forge: SSHServer, repository: Path) -> None:
    user, port, address = forge.user, forge.port, forge.address
    urls = (
        f"{user}@{address}:{repository}",
        f"ssh://{address}{repository}",
        f"ssh://{user}@{address}:{port}{repository}",
    )
    assert heads(world, *urls) == [git("rev-parse", "main", cwd=repository)] * len(urls)


def test_every_form_of_a_real_name_leads_to_the_repository(world: World, repository: Path, tmp_path: Path) -> None:
    name, address = local_name()
    with SSHServer(tmp_path / "named", authorized=[world.key.public], address=address) as server:
        world.declare(server, Hostname=name)
        world.bottle["allow_addresses"] = [address]
        urls = (
            f"{name}:{repository}",
            f"{server.user}@{name}:{repository}",
            f"ssh://{name}{repository}",
            f"ssh://{server.user}@{name}:{server.port}{repository}",
        )
        assert heads(world, *urls) == [git("rev-parse", "main", cwd=repository)] * len(urls)


@pytest.mark.usefixtures("gitconfig")
def test_a_days_work_clone_commit_push_fetch(world: World, forge: SSHServer, repository: Path) -> None:
    done = world.sh(
        f"set -e; git clone -q forge:{repository} app; cd app; echo inside > file; git add file; "
        "git commit -qm inside; git push -q; git push -q origin HEAD:refs/heads/topic; git tag -m tagged v1; "
        "git push -q --tags; git rev-parse HEAD"
    )
    assert done.returncode == 0, done.stderr
    head = done.stdout.strip()
    assert git("rev-parse", "main", "topic", "v1^{commit}", cwd=repository).split() == [head] * 3
    assert git("log", "-1", "--format=%an <%ae>", "main", cwd=repository) == "Inside <inside@example.com>"
    assert git("show", "main:file", cwd=repository) == "inside"
    git("fsck", "--strict", cwd=repository)
    outside = repository.with_suffix(".work")
    git("pull", "-q", repository, "main", cwd=outside)
    git("commit", "-qm", "outside", "--allow-empty", cwd=outside)
    git("push", "-q", repository, "main", cwd=outside)
    done = world.sh("cd app && git pull -q && git log -2 --format=%an")
    assert done.stdout.split() == ["Outside", "Inside"], done.stderr


@pytest.mark.usefixtures("gitconfig")
def test_a_push_that_is_not_a_fast_forward_is_refused_by_git(world: World, forge: SSHServer, repository: Path) -> None:
    assert world.sh(f"git clone -q forge:{repository} app").returncode == 0
    outside = repository.with_suffix(".work")
    git("commit", "-qm", "outside", "--allow-empty", cwd=outside)
    git("push", "-q", repository, "main", cwd=outside)
    done = world.sh("cd app && git commit -qm inside --allow-empty && git push")
    assert done.returncode == 1
    assert "[rejected]" in done.stderr


def test_submodules_are_cloned_over_the_same_gate(
    world: World, forge: SSHServer, repository: Path, tmp_path: Path
) -> None:
    library = make_repository(tmp_path / "remote/library.git", code=b"library\n")
    outside = repository.with_suffix(".work")
    git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library, "library", cwd=outside)
    git("config", "-f", ".gitmodules", "submodule.library.url", "../library.git", cwd=outside)
    git("commit", "-qam", "with a library", cwd=outside)
    git("push", "-q", repository, "main", cwd=outside)
    done = world.run("git", "clone", "-q", "--recurse-submodules", f"forge:{repository}", "app")
    assert done.returncode == 0, done.stderr
    assert (world.work / "app/library/code").read_text() == "library\n"
    targets = [record["entry"] for record in world.audit() if record["event"] == "connect"]
    assert targets == ["forge", "forge"]


def test_git_says_why_a_host_cannot_be_reached(world: World, server: SSHServer) -> None:
    port = free_port()
    world.declare(server, Port=port)
    done = world.run("git", "clone", "forge:app", "app")
    assert done.returncode == 128
    assert f"claude-bottle: forge (127.0.0.1:{port}): connection refused" in done.stderr


def test_git_says_that_a_host_is_not_declared(world: World, forge: SSHServer) -> None:
    done = world.run("git", "clone", "git@github.com:acme/app", "app")
    assert done.returncode == 128
    assert "github.com" in done.stderr
    assert not (world.work / "app").exists()


@pytest.mark.heavy
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("gitconfig")
def test_a_repository_of_100_mb_is_cloned_fetched_and_pushed(world: World, forge: SSHServer, tmp_path: Path) -> None:
    files = {f"file{number:02}": noise(BIG_FILE_BYTES, seed=number) for number in range(BIG_FILES)}
    repository = make_repository(tmp_path / "remote/big.git", **files)
    git("init", "-q", "--bare", "-b", "main", tmp_path / "remote/copy.git", cwd=tmp_path)
    done = world.sh(
        f"set -e; git clone -q forge:{repository} app; cd app; git push -q ssh://forge{tmp_path}/remote/copy.git main; "
        "git fsck --strict",
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name: digest(path) for path in (world.work / "app").glob("file*")} == {
        path.name: digest(path) for path in repository.with_suffix(".work").glob("file*")
    }
    copy = tmp_path / "remote/copy.git"
    assert git("rev-parse", "main", cwd=copy) == git("rev-parse", "main", cwd=repository)
    git("fsck", "--strict", cwd=copy)
    outside = repository.with_suffix(".work")
    (outside / "new").write_bytes(noise(100 << 20, seed=99))
    git("add", "new", cwd=outside)
    git("commit", "-qm", "more", cwd=outside)
    git("push", "-q", repository, "main", cwd=outside)
    done = world.sh(
        f"set -e; cd app; git fetch -q {forge.user}@forge:{repository} main; git rev-parse FETCH_HEAD; "
        "git cat-file blob FETCH_HEAD:new | sha256sum",
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    head, blob = done.stdout.split()[:2]
    assert (head, blob) == (git("rev-parse", "main", cwd=repository), digest(outside / "new"))
    moved = [record["received_bytes"] for record in world.audit() if record["event"] == "close"]
    assert sorted(moved)[-2:][0] > 100 << 20
