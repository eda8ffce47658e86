"""The one walk, in trees that an agent arranged."""

import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.workfolder.walk import NO_RULES, Survey, survey
from claude_bottle.workfolder.watched import load_rules


def watched(root: Path) -> set[str]:
    return {os.path.relpath(path, root) for path in survey(str(root), load_rules()).watched}


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_names_anywhere_and_paths_below_folders(tmp_path: Path) -> None:
    expected = (
        ".envrc", "a/b/.envrc", ".vscode/tasks.json", "a/.vscode/settings.json", "x.code-workspace", ".idea/a/b.xml",
        ".github/workflows/ci.yml", "tools/bazel", ".config/mise/config.toml", ".venv/bin/activate", "CLAUDE.md",
        "claude-bottle.toml", ".claude/hooks/x/y.sh", ".yarn/releases/yarn.cjs",
    )  # fmt: skip
    put(tmp_path, *expected)
    put(tmp_path, "file", "tools/other", ".vscode/x.txt", ".venv/lib/.envrc", "node_modules/p/.npmrc", "envrc", "bazel")
    assert watched(tmp_path) == set(expected)


def test_git_folders_everywhere(tmp_path: Path) -> None:
    put(tmp_path, ".git/config", ".git/hooks/pre-commit", ".git/hooks/pre-commit.sample", ".git/info/attributes")
    put(tmp_path, "node_modules/p/.git/config", ".git/modules/a/b/HEAD", ".git/modules/a/b/config", "sub/.git")
    for name in ("objects", "refs"):
        (tmp_path / ".git/modules/a/b" / name).mkdir()
        put(tmp_path, f"bare/{name}/x")
    put(tmp_path, "bare/HEAD", "bare/config", "tree/HEAD", "tree/commondir", "HEAD", "objects/.git/config")
    found = survey(str(tmp_path), load_rules())
    assert {os.path.relpath(path, tmp_path) for path in found.git_dirs} == {
        ".git", "node_modules/p/.git", ".git/modules/a/b", "bare", "tree", "objects/.git",
    }  # fmt: skip
    assert found.git_links == [str(tmp_path / "sub/.git")]
    assert watched(tmp_path) >= {".git/config", ".git/hooks/pre-commit", "node_modules/p/.git/config", "bare/config"}
    assert ".git/hooks/pre-commit.sample" not in watched(tmp_path)


def test_symlinks_are_named_and_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/.envrc", "elsewhere/settings.json", "root/x")
    root = tmp_path / "root"
    (root / "loop").symlink_to(".")
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (root / ".vscode").symlink_to(tmp_path / "elsewhere")
    (root / ".github").mkdir()
    (root / ".github/workflows").symlink_to(tmp_path / "elsewhere")
    (root / ".envrc").symlink_to("/dev/zero")
    (root / ".git").symlink_to(tmp_path / "elsewhere")
    assert watched(root) == {".vscode", ".github/workflows", ".envrc", ".git"}


def test_fifos_sockets_and_folders_without_permission(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".envrc")
    (tmp_path / "shut").mkdir()
    put(tmp_path, "shut/.envrc")
    (tmp_path / "shut").chmod(0)
    found = survey(str(tmp_path), load_rules())
    (tmp_path / "shut").chmod(0o700)
    assert str(tmp_path / ".envrc") in found.watched
    assert found.sockets == []
    if os.geteuid() != 0:
        assert found.unreadable == [str(tmp_path / "shut")]


def test_undecodable_names(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff\n\x1b"
    os.mkdir(folder)
    with open(folder + b"/.envrc", "wb"):
        pass
    (found,) = survey(str(tmp_path), load_rules()).watched
    assert os.fsencode(found) == folder + b"/.envrc"


def test_deep_nesting_ends_and_is_named(tmp_path: Path) -> None:
    """Deeper than a path can be long; made and removed by descriptor."""
    descriptors = [os.open(tmp_path, os.O_PATH)]
    for _ in range(60):
        os.mkdir("d" * 100, dir_fd=descriptors[-1])
        descriptors.append(os.open("d" * 100, os.O_PATH, dir_fd=descriptors[-1]))
    found = survey(str(tmp_path))
    while len(descriptors) > 1:
        os.close(descriptors.pop())
        os.rmdir("d" * 100, dir_fd=descriptors[-1])
    os.close(descriptors[0])
    assert len(found.unreadable) == 1
    assert len(found.unreadable[0]) > 4000


def test_cut_short_keeps_what_is_near_the_top(tmp_path: Path) -> None:
    put(tmp_path, ".git/config", "a/.envrc", *(f"a/deep/er/{number}" for number in range(100)))
    found = survey(str(tmp_path), load_rules(), limit_entries=30)
    assert found.cut == ["more than 30 files and folders"]
    assert str(tmp_path / "a/.envrc") in found.watched
    assert survey(str(tmp_path), load_rules()).cut == []
    assert survey(str(tmp_path), load_rules(), limit_s=-1).cut == ["not done within -1 s"]


def test_set_user_id_since(tmp_path: Path) -> None:
    put(tmp_path, "old", "new", ".git/objects/x/hidden")
    (tmp_path / "old").chmod(0o4755)
    os.utime(tmp_path / "old", (0, 0))
    since_ns = os.stat(tmp_path / "old").st_ctime_ns + 1
    deadline = time.monotonic() + 5
    while os.stat(tmp_path / "new").st_ctime_ns < since_ns and time.monotonic() < deadline:
        (tmp_path / "new").chmod(0o4755)
        os.utime(tmp_path / "new", (0, 0))
    (tmp_path / ".git/objects/x/hidden").chmod(0o2755)
    found = survey(str(tmp_path), privileged_since_ns=since_ns)
    assert {os.path.basename(path) for path in found.privileged} == {"new", "hidden"}
    assert stat.S_IMODE(os.stat(tmp_path / "old").st_mode) == 0o4755


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([".git", "HEAD", "objects", "a", ".vscode", "tasks.json", "refs"]), min_size=1, max_size=6)
)
def test_any_arrangement_of_names_ends(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    root = tmp_path_factory.mktemp("tree")
    (root / Path(*names)).mkdir(parents=True)
    found = survey(str(root), load_rules())
    assert isinstance(found, Survey)
    assert (".git" in names) == any(path.endswith("/.git") for path in found.git_dirs) or "objects" in names


def test_without_rules_nothing_is_watched(tmp_path: Path) -> None:
    put(tmp_path, ".envrc", ".git/config")
    assert survey(str(tmp_path), NO_RULES).watched == {}
