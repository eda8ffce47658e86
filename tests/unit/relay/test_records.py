"""The gate's records are the log's records, only rendered in parts."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.relay.config import Entry
from claude_bottle.relay.records import Records

WHERE = {"conn": 7, "entry": 'fo"rge', "host": "git\n.example", "port": 22, "listen": "127.0.0.1:30000"}


def records() -> Records:
    entry = Entry({"alias": 'fo"rge', "host": "git\n.example", "port": 22, "rule": "bottles.t.ssh[0]"})
    return Records(entry, "127.0.0.1:30000")


def read(text: str) -> dict[str, object]:
    found = json.loads("{" + text)
    assert isinstance(found, dict)
    return found


def test_connect() -> None:
    found = read(records().connect(7))
    assert found == {"event": "connect", **WHERE, "verdict": "allow", "rule": "bottles.t.ssh[0]"}
    assert list(found) == ["event", *WHERE, "verdict", "rule"]


def test_connected() -> None:
    assert read(records().connected(7, "::1")) == {"event": "connected", "conn": 7, "address": "::1"}


def test_close() -> None:
    assert read(records().close(7, 1, 2, 0.0004, "eof")) == {
        "event": "close",
        "conn": 7,
        "entry": 'fo"rge',
        "sent_bytes": 1,
        "received_bytes": 2,
        "duration_s": 0.0,
        "reason": "eof",
    }


@settings(deadline=None)
@given(st.text(), st.text(), st.text())
def test_refuse(rule: str, reason: str, address: str) -> None:
    found = read(records().refuse(7, rule, reason, address))
    why = {"verdict": "refuse", "rule": rule, "reason": reason} | ({"address": address} if address else {})
    assert found == {"event": "refuse", **WHERE, **why}
