"""Configuration text read by git itself, with nothing of the surroundings."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.workfolder.gitconfig import read_config


def test_keys_and_values() -> None:
    text = b'[core]\n\tBare = false\n[remote "Or.igin"]\n url = a\\nb\n url = "x;y"\n[alias]\nempty =\nnone\n'
    assert read_config(text, ()) == (
        ("core.bare", "false"),
        ("remote.Or.igin.url", "a\nb"),
        ("remote.Or.igin.url", "x;y"),
        ("alias.empty", ""),
        ("alias.none", None),
    )


@pytest.mark.parametrize("text", [b"[core\n", b"\0", b"[a]\nb = \\q\n"])
def test_what_git_refuses(text: bytes) -> None:
    assert read_config(text, ()) is None


def test_includes_and_surroundings_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".gitconfig").write_text("[user]\nname = surroundings\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "surroundings")
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    assert read_config(f"[include]\npath = {tmp_path}/.gitconfig\n".encode(), ()) == (
        ("include.path", f"{tmp_path}/.gitconfig"),
    )
    assert not (tmp_path / "trace").exists()


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_config(b"", ()) is None


@settings(max_examples=20, deadline=None)
@given(value=st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=30))
def test_what_git_writes_is_read(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    import subprocess

    file = tmp_path_factory.mktemp("c") / "config"
    subprocess.run(("git", "config", "--file", file, "a.B c.d", value), check=True, env={"PATH": os.environ["PATH"]})
    assert read_config(file.read_bytes(), ()) == (("a.B c.d", value),)


def test_a_program_named_git_in_the_work_folder_is_not_run(
    work: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An activated virtual environment puts the work folder's own `bin` first in PATH; `.` does, too."""
    for folder in (work, work / "bin"):
        folder.mkdir(exist_ok=True)
        (folder / "git").write_text(f"#!/bin/sh\ntouch {tmp_path}/owned\n")
        (folder / "git").chmod(0o755)
    (tmp_path / "link").symlink_to(work / "bin")
    monkeypatch.setenv("PATH", f"{work}/bin:{tmp_path}/link:.::{os.environ['PATH']}")
    monkeypatch.chdir(work)
    assert read_config(b"[a]\nb = c\n", (str(work),)) == (("a.b", "c"),)
    assert not (tmp_path / "owned").exists()
    read_config(b"[a]\nb = c\n", ())
    assert (tmp_path / "owned").exists()
