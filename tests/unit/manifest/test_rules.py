"""Unknown keys, rules between keys, and that every mistake is shown once, in file order."""

from pathlib import Path
from typing import Any

import pytest

from claude_bottle.manifest.tables import nearest

from .conftest import KEY, Load, Mistakes

EVERYTHING_WRONG = """
bottels = {}

[bottles.dev]
resources = { memory = "1" }
env = { "A B" = 1 }
colour = "red"

[[bottles.dev.ssh]]
Host = "forge"
hostname = "git.example.com"
Port = 70000
IdentityFile = "~/.ssh/missing"

[[bottles.dev.ssh]]
User = "-x"
Host = "FORGE"
Hostname = "unknown.invalid"

[agents.fixer]
bottle = "deb"
"""


def entry(host: str, /, **keys: Any) -> dict[str, Any]:
    return {"Host": host, "KnownHostKey": [KEY], **keys}


def test_every_mistake_at_once_in_file_order(mistakes: Mistakes) -> None:
    found = mistakes(EVERYTHING_WRONG)
    assert [where for where, _, _ in found] == [
        "bottels",
        "bottles.dev.resources.memory",
        "bottles.dev.env.'A B'",
        "bottles.dev.env.'A B'",
        "bottles.dev.colour",
        "bottles.dev.ssh[0].hostname",
        "bottles.dev.ssh[0].Port",
        "bottles.dev.ssh[0].IdentityFile",
        "bottles.dev.ssh[1].User",
        "bottles.dev.ssh[1].Host",
        "bottles.dev.ssh[1].KnownHostKey",
        "agents.fixer.bottle",
        "agents.fixer.command",
    ]


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("hostname", 'did you mean "Hostname"?'),
        ("HostName", 'did you mean "Hostname"?'),
        ("host", 'did you mean "Host"?'),
        ("user", 'did you mean "User"?'),
        ("Identity_File", 'did you mean "IdentityFile"?'),
        ("identity-file", 'did you mean "IdentityFile"?'),
        ("Prot", 'did you mean "Port"?'),
        ("max_connection", 'did you mean "max_connections"?'),
        ("idle_timeout", 'did you mean "idle_timeout_s"?'),
        ("ProxyJump", "known here: Host, Hostname, Port"),
        ("x" * 100_000, "known here: Host, Hostname, Port"),
    ],
)
def test_unknown_keys_name_the_nearest(entry_mistakes: Mistakes, key: str, hint: str) -> None:
    [(path, what, shown)] = entry_mistakes(entry("git.example.com", **{key: 22}))
    assert path.startswith(f"[0].{key[:77]}" if len(key) < 80 else "[0].'xxx")
    assert len(path) < 100
    assert what == "unknown key"
    assert shown.startswith(hint)


@pytest.mark.parametrize("wrong", [{"host": "git.example.com"}, {"Host": "forge", "hostname": "git.example.com"}])
def test_a_misspelt_key_is_not_missed_as_well(entry_mistakes: Mistakes, wrong: dict[str, Any]) -> None:
    assert [what for _, what, _ in entry_mistakes(wrong)] == ["unknown key"]


def test_unknown_keys_of_every_table(mistakes: Mistakes) -> None:
    data = {
        "bottle": {},
        "bottles": {
            "dev": {
                "Env": {},
                "mounts": [{"src": "~/.gitconfig", "target": "/x", "source": "~/.gitconfig"}],
                "resources": {"memory_bytes": 3},
            }
        },
        "agents": {"a": {"bottle": "dev", "command": ["x"], "args": []}},
    }
    assert [(where, hint) for where, _, hint in mistakes(data)] == [
        ("bottle", 'did you mean "bottles"?'),
        ("bottles.dev.Env", 'did you mean "env"?'),
        ("bottles.dev.mounts[0].src", 'did you mean "source"?'),
        ("bottles.dev.resources.memory_bytes", 'did you mean "memory"?'),
        ("agents.a.args", "known here: bottle, command"),
    ]


def test_what_the_machine_fills_is_not_a_key(entry_mistakes: Mistakes) -> None:
    found = entry_mistakes(entry("git.example.com", known_host_key_source="x", revoked_host_keys=[]))
    assert [what for _, what, _ in found] == ["unknown key", "unknown key"]


def test_nearest_prefers_the_same_word() -> None:
    assert nearest("hostname", ["Host", "Hostname"]) == "Hostname"
    assert nearest("zzz", ["Host", "Hostname"]) == ""
    assert nearest("a", []) == ""


def test_keys_written_twice_in_json(mistakes: Mistakes) -> None:
    text = (
        '{"bottles": {"dev": {"env": {"A": "1", "A": "2", "A": "3"}, "ssh": [{"Host": "a.example.com", "Host": "b"}]}}}'
    )
    found = mistakes(text, "claude-bottle.json")
    assert [(where, what) for where, what, _ in found][:2] == [
        ("bottles.dev.env.A", "the key is written twice"),
        ("bottles.dev.ssh[0].Host", "the key is written twice"),
    ]


def test_a_flood_of_mistakes_is_cut(mistakes: Mistakes) -> None:
    found = mistakes({"bottles": {"dev": {"pass_env": [str(number) for number in range(5000)]}}})
    assert len(found) == 101
    assert found[99][0] == "bottles.dev.pass_env[99]"
    assert found[100][1] == "4900 more mistakes"


def test_an_alias_is_declared_once(entry_mistakes: Mistakes) -> None:
    [(path, what, hint)] = entry_mistakes(entry("forge"), entry("other"), entry("Forge"))
    assert (path, what) == ("[2].Host", "'Forge' is declared twice")
    assert "bottles.dev.ssh[0]" in hint


def test_an_alias_is_not_the_real_name_of_elsewhere(entry_mistakes: Mistakes) -> None:
    [(path, what, hint)] = entry_mistakes(
        entry("git.example.com", Hostname="mirror.example.com"), entry("forge", Hostname="GIT.example.com")
    )
    assert path == "[0].Host"
    assert what == "'git.example.com' leads to mirror.example.com, but is also a Hostname"
    assert "bottles.dev.ssh[1] leads to the real git.example.com" in hint


@pytest.mark.parametrize(
    "entries",
    [
        [entry("work", Hostname="git.example.com", User="a"), entry("home", Hostname="git.example.com", User="b")],
        [entry("git.example.com"), entry("alt", Hostname="git.example.com", Port=2222)],
        [entry("git.example.com", Port=2222), entry("alt", Hostname="git.example.com")],
        [entry("192.0.2.1"), entry("two", Hostname="192.0.2.1", Port=2222)],
    ],
)
def test_one_host_may_have_several_aliases(load: Load, entries: list[dict[str, Any]]) -> None:
    assert len(load({"bottles": {"dev": {"ssh": entries}}}).bottles["dev"].ssh) == 2


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("/", "would hide the bottle's own /proc"),
        ("/etc", "would hide the bottle's own /etc/ssh"),
        ("/etc/ssh/ssh_config", "would hide the bottle's own /etc/ssh"),
        ("/etc/hosts", "would hide the bottle's own /etc/hosts"),
        ("//etc/./hosts", "would hide the bottle's own /etc/hosts"),
        ("/proc/self", "would hide the bottle's own /proc"),
        ("/dev", "would hide the bottle's own /dev"),
        ("/sys/kernel", "would hide the bottle's own /sys"),
        ("/run", "would hide the bottle's own /run/claude-bottle"),
        ("/run/claude-bottle/agent.sock", "would hide the bottle's own /run/claude-bottle"),
        ("/usr", "would hide the system's programs"),
        ("/bin", "would hide the system's programs"),
    ],
)
def test_targets_that_are_the_bottles_own(mistakes: Mistakes, target: str, what: str) -> None:
    [(path, found, _)] = mistakes({"bottles": {"dev": {"mounts": [{"source": "~/.gitconfig", "target": target}]}}})
    assert path == "bottles.dev.mounts[0].target"
    assert what in found


def test_mounts_do_not_hide_each_other(mistakes: Mistakes, load: Load, home: Path) -> None:
    def mounts(*targets: str) -> dict[str, Any]:
        return {"bottles": {"dev": {"mounts": [{"source": "~/.gitconfig", "target": target} for target in targets]}}}

    [(path, what, hint)] = mistakes(mounts("~/a", "/opt/x", f"{home}/a"))
    assert (path, what) == ("bottles.dev.mounts[2].target", f"'{home}/a' is mounted twice")
    assert "bottles.dev.mounts[0]" in hint
    [(path, what, hint)] = mistakes(mounts("~/a/b", "~/a"))
    assert (path, what) == ("bottles.dev.mounts[1].target", f"'{home}/a' would hide the earlier mount on '{home}/a/b'")
    assert "before bottles.dev.mounts[0]" in hint
    assert len(load(mounts("~", "~/a", "~/a/b")).bottles["dev"].mounts) == 3


def test_names_in_hints_cannot_draw_on_the_terminal(mistakes: Mistakes) -> None:
    data = {"bottles": {"\x1b[2J": {}, "dev": {}}, "agents": {"a": {"bottle": "zz", "command": ["x"]}}}
    assert mistakes(data)[1][2] == "declared are: \\x1b[2J, dev"


def test_a_misspelt_repeat_does_not_silence_the_right_key(entry_mistakes: Mistakes) -> None:
    found = entry_mistakes({"Host": "forge", "hostname": "x", "Hostname": "unknown.invalid"})
    assert [path for path, _, _ in found] == ["[0].hostname", "[0].KnownHostKey"]
