"""Careful reading, and text that cannot touch the terminal."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.workfolder.files import is_inside, read_line, read_regular, show


@given(st.text() | st.binary().map(os.fsdecode))
def test_shown_text_is_printable_and_tells_texts_apart_that_differ(text: str) -> None:
    assert show(text).isprintable()
    if text.isprintable():
        assert show(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\x1b[2Jb", "a\\x1b[2Jb"), ("a\nb", "a\\nb"), ("\udcff", "\\xff"), ("\u202etxt", "\\u202etxt"), ("é", "é")],
)
def test_escapes(text: str, shown: str) -> None:
    assert show(text) == shown


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text\n")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    assert read_regular(str(tmp_path / "file"), 3) == b"tex"
    assert read_line(str(tmp_path / "file")) == "text"
    for name in ("link", "fifo", "socket", "none", "."):
        assert read_regular(str(tmp_path / name), 10) is None


def test_inside() -> None:
    assert is_inside("/a", "/a")
    assert is_inside("/a/b", "/a")
    assert is_inside("/a", "/")
    assert not is_inside("/ab", "/a")
