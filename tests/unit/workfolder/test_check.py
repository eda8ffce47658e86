"""Which folders may be a work folder."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import claude_bottle
from claude_bottle.errors import UsageError
from claude_bottle.workfolder.check import SECRETS, check_workdir, refusal

HOME = "/home/ada"
STATE = "/home/ada/.local/state/claude-bottle"


@pytest.mark.parametrize(
    "folder",
    [
        *("/", "/home", "/home/ada", "/home/bob", "/home/ada/.ssh", "/home/ada/.ssh/keys", "/home/ada/.config"),
        *("/home/ada/.aws/x", "/home/ada/.local", "/home/ada/.local/state", STATE, f"{STATE}/dev", "/root", "/tmp"),
        *("/etc", "/etc/x", "/usr", "/usr/local/bin", "/proc/self", "/dev/shm", "/sys", "/run/user/1000", "/var"),
        *("/var/lib/docker", "/boot", "/usr/src", "/run/media", "/var/tmp", "/lib64"),
    ],
)
def test_folders_that_open_the_sandbox_are_refused(folder: str) -> None:
    assert refusal(folder, HOME, [STATE]) is not None


@pytest.mark.parametrize(
    "folder",
    [
        *("/home/ada/src", "/home/ada/.dotfiles", "/home/ada/.config/nvim", "/home/ada/.sshx", "/home/bob/shared"),
        *("/srv/x", "/tmp/x", "/work", "/opt/x", "/usr/src/linux", "/run/media/ada/disk", "/var/tmp/x", "/etcetera"),
    ],
)
def test_project_folders_pass(folder: str) -> None:
    assert refusal(folder, HOME, [STATE]) is None


def test_a_home_below_var_is_not_the_systems() -> None:
    assert refusal("/var/home/ada/src", "/var/home/ada") is None
    assert refusal("/var/lib/ci/job", "/") is not None


@given(st.sampled_from(SECRETS), st.lists(st.sampled_from(["a", "b.c", "x y"]), max_size=3))
def test_nothing_in_or_around_a_secret_passes(secret: str, below: list[str]) -> None:
    path = "/".join([HOME, secret, *below])
    while path != "/":
        assert refusal(path, HOME) is not None
        path = os.path.dirname(path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_project_is_accepted(tmp_path: Path, home: Path) -> None:
    (tmp_path / "project").mkdir()
    check_workdir(tmp_path / "project", home, [tmp_path / "state"])


def test_a_symlink_is_judged_by_where_it_leads(tmp_path: Path, home: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    with pytest.raises(UsageError, match="whole home folder"):
        check_workdir(tmp_path / "link", home, [])


def test_missing_file_and_inside_git_are_refused(tmp_path: Path, home: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "x" / ".git" / "hooks").mkdir(parents=True)
    for name, why in (("none", "No such file"), ("file", "not a folder"), ("x/.git/hooks", "inside a .git")):
        with pytest.raises(UsageError, match=why) as caught:
            check_workdir(tmp_path / name, home, [])
        assert name in caught.value.where
        assert caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; run pytest as another user")
def test_a_folder_of_someone_else_is_refused(tmp_path: Path, home: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="not writable"):
        check_workdir(tmp_path / "mine", home, [])


def test_a_name_cannot_write_to_the_terminal(tmp_path: Path, home: Path) -> None:
    with pytest.raises(UsageError) as caught:
        check_workdir(tmp_path / "a\x1b[2J\n", home, [])
    assert str(caught.value).isprintable()


def test_where_claude_bottle_runs_from(home: Path) -> None:
    for folder in (Path(claude_bottle.__file__).parent, Path(claude_bottle.__file__).parent / "workfolder"):
        with pytest.raises(UsageError, match="itself runs from here"):
            check_workdir(folder, home, [])
