"""The data file: every rule is of a form the code understands, and says why."""

import json
import re
from importlib.resources import files

import pytest

from claude_bottle.workfolder.watched import key_rule, load_key_rules, load_rules

DATA = json.loads((files("claude_bottle.workfolder") / "watched.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("group", [*DATA["files"], *DATA["git"]], ids=lambda group: group["paths"][0])
def test_paths(group: dict[str, object]) -> None:
    assert set(group) <= {"paths", "why", "format"}
    assert group["why"]
    assert isinstance(group["paths"], list)
    for path in group["paths"]:
        parts = path.split("/")
        assert all(part not in ("", ".", "..") for part in parts)
        assert all("*" not in part for part in parts[1:-1])
        assert "*" not in parts[-1] or parts[-1] in ("*", "**") or (len(parts) == 1 and path.count("*") == 1)


@pytest.mark.parametrize("group", DATA["keys"], ids=lambda group: group["keys"][0])
def test_keys(group: dict[str, object]) -> None:
    assert set(group) <= {"keys", "why", "value", "when"}
    assert group["why"]
    assert group.get("when", "changed") == "changed"
    re.compile(str(group.get("value", "")))
    assert isinstance(group["keys"], list)
    for key in group["keys"]:
        assert key == key.lower()
        assert "*" not in key.partition(".")[0]


def test_no_path_is_listed_twice() -> None:
    paths = [path for group in DATA["files"] for path in group["paths"]]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize(
    ("key", "value", "existed", "counts"),
    [
        ("core.fsmonitor", "!x", False, True),
        ("filter.a.b.c.clean", "x", False, True),
        ("alias.st", "status", False, True),
        ("credential.https://h.helper", "x", False, True),
        ("includeif.gitdir:/x/.path", "x", False, True),
        ("gpg.ssh.program", "x", False, True),
        ("remote.origin.url", "ssh://git@h/x", False, False),
        ("remote.origin.url", "ssh://git@h/x", True, True),
        ("remote.origin.url", "ext::sh -c x", False, True),
        ("branch.main.remote", "ext::sh", False, True),
        ("submodule.a.update", "!x", False, True),
        ("submodule.a.update", "rebase", False, False),
        ("protocol.ext.allow", "always", False, True),
        ("branch.main.merge", "refs/heads/main", True, False),
        ("remote.origin.fetch", "+refs/*:refs/*", False, False),
        ("user.name", "x", True, False),
        ("core.bare", "false", False, False),
    ],
)
def test_key_rules(key: str, value: str, existed: bool, counts: bool) -> None:
    assert (key_rule(key, value, existed=existed) is not None) is counts


def test_rules_are_loaded_once() -> None:
    assert load_rules() is load_rules()
    assert load_key_rules() is load_key_rules()
