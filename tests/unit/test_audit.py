"""The audit log: whole lines, in order, or an error."""

import json
import os
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.audit import AuditError, AuditLog, render

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines() if line]


@settings(deadline=None)  # the machine may be busy
@given(st.text(), st.dictionaries(st.text().filter(lambda name: name != "event"), VALUES, max_size=5))
def test_what_is_rendered_is_read_back(event: str, fields: dict[str, object]) -> None:
    text = render(event, fields)
    assert json.loads("{" + text) == {"event": event, **fields}
    assert text.isascii()
    assert text.isprintable()


def test_surrogates_of_undecodable_bytes_pass() -> None:
    assert json.loads("{" + render("launch", {"command": [os.fsdecode(b"\xff")]}))["command"] == ["\udcff"]


def test_unknown_values_are_refused() -> None:
    with pytest.raises(TypeError, match="not an audit value"):
        render("x", {"y": object()})


def test_a_record_begins_with_time_bottle_and_event(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path, 'dev\n"1').write({"event": "launch", "agent": "fixer"}, render("stop", {"status": 0}))
    first, second = lines(path)
    assert list(first) == ["time", "bottle", "event", "agent"]
    assert first["bottle"] == 'dev\n"1'
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(first["time"]))
    assert (second["event"], second["status"]) == ("stop", 0)


def test_time_is_the_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path / "a", "b")
    for nanoseconds in (1_700_000_000_999_999_999, 1_700_000_001_000_000_000, 1_700_000_001_007_000_000):
        monkeypatch.setattr("time.time_ns", lambda now=nanoseconds: now)
        log.write({"event": "x"})
    assert [line["time"] for line in lines(tmp_path / "a")] == [
        "2023-11-14T22:13:20.999Z",
        "2023-11-14T22:13:21.000Z",
        "2023-11-14T22:13:21.007Z",
    ]


def test_file_is_private_and_only_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path, "a").write({"event": "one"})
    assert path.stat().st_mode & 0o777 == 0o600
    AuditLog(path, "a").write({"event": "two"})
    assert [line["event"] for line in lines(path)] == ["one", "two"]


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    logs = [AuditLog(tmp_path / "a", name) for name in "xy"]
    for number in range(200):
        logs[number % 2].write({"event": "e", "text": "z" * number})
    assert [line["bottle"] for line in lines(tmp_path / "a")] == ["x", "y"] * 100


def test_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(AuditError):
        AuditLog(tmp_path / "link", "a")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "socket", "missing"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    elif kind == "device":
        path = Path("/dev/null")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    else:
        path = tmp_path / "no" / "log"
    with pytest.raises(AuditError) as caught:
        AuditLog(path, "a")
    assert caught.value.filename == str(path)
    assert caught.value.strerror
    if kind == "fifo":
        os.close(reader)


def test_deleted_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path / "log", "a")
    now = iter(range(0, 100_000_000, 1_000_000))
    monkeypatch.setattr("time.time_ns", lambda: next(now))
    log.write({"event": "one"})
    (tmp_path / "log").unlink()
    with pytest.raises(AuditError, match="deleted"):
        log.write({"event": "two"})


def test_closed_log_does_not_write(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "log", "a")
    log.close()
    log.close()
    with pytest.raises(AuditError):
        log.write({"event": "one"})


def test_torn_line_stays_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes half a record; the next whole one must not be glued to it."""
    path = tmp_path / "log"
    log = AuditLog(path, "a")
    real = os.write
    monkeypatch.setattr("os.write", lambda fd, data: real(fd, data[:20]))
    with pytest.raises(AuditError, match="no room"):
        log.write({"event": "torn"})
    monkeypatch.setattr("os.write", lambda fd, data: 0)
    with pytest.raises(AuditError, match="no room"):
        log.write({"event": "nothing"})
    monkeypatch.undo()
    log.write({"event": "whole"})
    log.write({"event": "next"})
    texts = path.read_text().splitlines()
    assert len(texts) == 3
    assert [json.loads(text)["event"] for text in texts[1:]] == ["whole", "next"]
