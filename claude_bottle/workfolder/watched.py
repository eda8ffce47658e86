"""The data file `watched.json` as rules for the walk and for git's configuration keys.

JSON and not TOML: every start reads it, and it takes 0.1 ms instead of 3.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from claude_bottle.workfolder.walk import Rule, Rules


class KeyRule(NamedTuple):
    """One kind of git configuration key that runs a program or leads git astray."""

    pattern: str
    """key as git prints it; `*` matches anything, dots included"""
    why: str
    """what git does with the value"""
    value: str = ""
    """regular expression that the value must match; empty for any value"""
    only_changed: bool = False
    """whether a key that did not exist before is harmless"""


@cache
def _data() -> dict[str, Any]:
    import json  # 2 ms; the module is also imported where no snapshot is taken

    data: dict[str, Any] = json.loads((Path(__file__).parent / "watched.json").read_text(encoding="utf-8"))
    return data


@cache
def load_rules() -> Rules:
    """Give the rules for the walk."""
    names: dict[str, Rule] = {}
    suffixes: dict[str, Rule] = {}
    folders: dict[str, list[tuple[str, Rule]]] = {}
    for path, rule in _paths("files"):
        head, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(head, []).append((rest, rule))
        elif path.startswith("*"):
            suffixes.setdefault(path[1:], rule)
        else:
            names.setdefault(path, rule)
    below = {name: tuple(rules) for name, rules in folders.items()}
    return Rules(names, suffixes, below, tuple(_paths("git")), frozenset(_data()["quiet"]))


@cache
def load_key_rules() -> dict[str, tuple[KeyRule, ...]]:
    """Give the rules for git's configuration keys by section, in file order: the first that matches counts."""
    rules: dict[str, list[KeyRule]] = {}
    for group in _data()["keys"]:
        for key in group["keys"]:
            rule = KeyRule(key, group["why"], group.get("value", ""), group.get("when") == "changed")
            rules.setdefault(key.partition(".")[0], []).append(rule)
    return {section: tuple(found) for section, found in rules.items()}


def key_rule(key: str, value: str | None, *, existed: bool) -> KeyRule | None:
    """Find the rule for a key that was set to a value; `existed` says whether it had another one before."""
    import re
    from fnmatch import fnmatchcase

    for rule in load_key_rules().get(key.partition(".")[0], ()):
        if fnmatchcase(key, rule.pattern) and re.search(rule.value, value or "") and (existed or not rule.only_changed):
            return rule
    return None


def _paths(section: str) -> list[tuple[str, Rule]]:
    return [
        (path, Rule(group["why"], group.get("format") == "git-config"))
        for group in _data()[section]
        for path in group["paths"]
    ]
