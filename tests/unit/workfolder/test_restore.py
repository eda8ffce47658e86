"""Old texts kept, put back without following a symlink, and let go."""

import os
import stat
from pathlib import Path

import pytest

from claude_bottle.errors import BottleError, UsageError
from claude_bottle.workfolder.restore import forget, keep, pending, restore
from claude_bottle.workfolder.snapshot import compare, take
from claude_bottle.workfolder.store import load_snapshot, save_snapshot

from .conftest import Git


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "state/kept"


def mode(path: Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_everything_is_as_it_was(work: Path, git: Git, kept: Path) -> None:
    (work / ".envrc").write_text("old")
    (work / ".husky").mkdir()
    (work / ".husky/pre-commit").write_bytes(b"\xff\0\n")
    (work / ".husky/pre-commit").chmod(0o755)
    (work / ".exrc").symlink_to("some/where")
    before = take(work)

    git(work, "config", "core.fsmonitor", "evil")
    git(work, "config", "alias.x", "!evil")
    (work / ".envrc").unlink()
    (work / ".envrc").symlink_to("file")
    (work / ".husky/pre-commit").unlink()
    (work / ".husky").rmdir()
    (work / ".exrc").unlink()
    (work / ".npmrc").write_text("planted")
    changes = compare(before)
    keep(changes, kept)

    assert len(pending(kept)) == 5
    assert restore(kept) == tuple(
        work / name for name in (".npmrc", ".envrc", ".exrc", ".git/config", ".husky/pre-commit")
    )
    assert compare(before) == ()
    assert (work / "file").read_text() == "text\n"
    assert mode(work / ".husky/pre-commit") == 0o755
    assert pending(kept) == ()
    assert sorted(path.name for path in kept.iterdir()) == ["index.json", "replaced"]
    assert {path.read_bytes() for path in (kept / "replaced").iterdir() if "npmrc" in path.name} == {b"planted"}


def test_what_is_kept_is_private(work: Path, kept: Path) -> None:
    (work / ".env").write_text("SECRET=1")
    before = take(work)
    (work / ".env").write_text("")
    keep(compare(before), kept)
    restore(kept)
    assert mode(kept) == mode(kept / "replaced") == 0o700
    assert {mode(path) for path in kept.rglob("*") if path.is_file()} == {0o600}


def test_one_path(work: Path, kept: Path) -> None:
    before = take(work)
    (work / ".envrc").touch()
    (work / ".npmrc").touch()
    keep(compare(before), kept)
    assert restore(kept, [work / ".envrc"]) == (work / ".envrc",)
    assert not (work / ".envrc").exists()
    assert (work / ".npmrc").exists()
    assert [item.path for item in pending(kept)] == [work / ".npmrc"]
    with pytest.raises(UsageError, match=r"\.envrc is not among"):
        restore(kept, [work / ".envrc"])
    with pytest.raises(UsageError):
        forget(kept, [work / ".envrc"])
    forget(kept)
    assert pending(kept) == ()


def test_the_oldest_text_stays(work: Path, kept: Path) -> None:
    """A second bottle's starting point is what the first one planted."""
    (work / ".envrc").write_text("users own")
    for planted in ("first", "second"):
        before = take(work)
        (work / ".envrc").write_text(planted)
        keep(compare(before), kept)
    restore(kept)
    assert (work / ".envrc").read_text() == "users own"


def test_a_file_added_by_one_bottle_and_changed_by_the_next_is_removed(work: Path, kept: Path) -> None:
    for planted in ("first", "second"):
        before = take(work)
        (work / ".envrc").write_text(planted)
        keep(compare(before), kept)
    restore(kept)
    assert not (work / ".envrc").exists()


def test_never_through_a_symlink(work: Path, kept: Path, tmp_path: Path) -> None:
    (work / ".vscode").mkdir()
    (work / ".vscode/tasks.json").write_text("old")
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/tasks.json").write_text("precious")
    before = take(work)
    (work / ".vscode/tasks.json").write_text("new")
    keep(compare(before), kept)
    os.rename(work / ".vscode", work / "moved")
    (work / ".vscode").symlink_to(tmp_path / "victim")
    with pytest.raises(BottleError, match="Not a directory"):
        restore(kept)
    assert (tmp_path / "victim/tasks.json").read_text() == "precious"
    assert len(pending(kept)) == 1


def test_a_symlinked_folder_that_was_planted_makes_room(work: Path, kept: Path, tmp_path: Path) -> None:
    (work / ".vscode").mkdir()
    (work / ".vscode/tasks.json").write_text("old")
    before = take(work)
    os.rename(work / ".vscode", work / "moved")
    (work / ".vscode").symlink_to(tmp_path)
    keep(compare(before), kept)
    restore(kept)
    assert (work / ".vscode/tasks.json").read_text() == "old"
    assert not (work / ".vscode").is_symlink()


@pytest.mark.parametrize("obstacle", ["folder", "fifo", "long"])
def test_what_stands_there_now(work: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str) -> None:
    monkeypatch.setattr("claude_bottle.workfolder.putback.SAVED_BYTES", 10)
    (work / ".envrc").write_text("old")
    before = take(work)
    (work / ".envrc").unlink()
    keep(compare(before), kept)
    if obstacle == "fifo":
        os.mkfifo(work / ".envrc")
        restore(kept)
        assert (work / ".envrc").read_text() == "old"
        return
    if obstacle == "folder":
        (work / ".envrc").mkdir()
    else:
        (work / ".envrc").write_text("longer than ten bytes")
    with pytest.raises(BottleError, match="stands there now"):
        restore(kept)
    assert len(pending(kept)) == 1


def test_what_cannot_be_put_back_is_said(work: Path, kept: Path) -> None:
    (work / ".pnp.cjs").write_bytes(b"a" * 300_000)
    before = take(work)
    (work / ".pnp.cjs").write_bytes(b"b")
    keep(compare(before), kept)
    assert restore(kept) == ()
    with pytest.raises(BottleError, match="too long to keep"):
        restore(kept, [work / ".pnp.cjs"])


def test_a_damaged_list_is_an_error(kept: Path) -> None:
    kept.mkdir(parents=True)
    for text in ("", "[]", '{"items": [{}]}', '{"items": 3}'):
        (kept / "index.json").write_text(text)
        with pytest.raises(BottleError, match="not a list"):
            pending(kept)


def test_undecodable_names(work: Path, kept: Path) -> None:
    folder = work / os.fsdecode(b"\xff\n")
    folder.mkdir()
    before = take(work)
    (folder / ".envrc").touch()
    keep(compare(before), kept)
    assert restore(kept) == (folder / ".envrc",)
    assert not (folder / ".envrc").exists()


def test_a_snapshot_survives_on_disk(work: Path, tmp_path: Path, git: Git) -> None:
    (work / ".envrc").write_bytes(b"\xff\0")
    (work / ".exrc").symlink_to(os.fsdecode(b"\xfe"))
    (work / ".pnp.cjs").write_bytes(b"a" * 300_000)
    (work / os.fsdecode(b"\xff")).mkdir()
    (work / os.fsdecode(b"\xff") / ".npmrc").touch()
    git(work, "config", "include.path", "../more")
    (work / "more").touch()
    snapshot = take(work)
    save_snapshot(snapshot, tmp_path / "snapshot.json")
    assert load_snapshot(tmp_path / "snapshot.json") == snapshot
    assert mode(tmp_path / "snapshot.json") == 0o600
    for text in ("", "{}", '{"look": {"entries": []}}'):
        (tmp_path / "snapshot.json").write_text(text)
        with pytest.raises(BottleError, match="not a snapshot"):
            load_snapshot(tmp_path / "snapshot.json")
