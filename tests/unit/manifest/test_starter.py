"""The starter manifest: whatever the facts are, its text loads and says the same."""

import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.manifest import Bottle, SSHEntry
from claude_bottle.manifest.starter import Remote, quote, render_starter

from .conftest import KEY, Load

HOME = Path("/home/me")


def test_facts_come_back(load: Load, home: Path) -> None:
    entry = SSHEntry(
        Host="forge",
        Hostname="git.example.com",
        Port=2222,
        User="git",
        IdentityFile=home / ".ssh/id_ed25519",
        KnownHostKey=(KEY, f"@cert-authority {KEY}"),
    )
    plain = SSHEntry(Host="git.example.com", KnownHostKey=(KEY,))
    text = render_starter([Remote(entry, "remote origin"), Remote(plain, "remote b")], home=home, git_config=True)
    assert 'IdentityFile = "~/.ssh/id_ed25519"' in text
    manifest = load(text)
    assert manifest.bottles["dev"].ssh == (entry, plain)
    assert manifest.bottles["dev"].mounts[0].source == home / ".gitconfig"
    assert manifest.agents["claude"].command == ("claude",)


def test_nothing_found_still_loads(load: Load) -> None:
    text = render_starter([], home=HOME)
    assert "# [[bottles.dev.ssh]]" in text
    assert load(text).bottles["dev"] == Bottle()


def test_the_comments_are_a_manifest_too(load: Load, home: Path) -> None:
    text = render_starter([], home=home)
    keys = [line.removeprefix("# ") for line in text.splitlines() if " = " in line and not line.startswith("#  ")]
    settings, entry = keys[:4], [line for line in keys[4:] if line[0].isupper()]
    loaded = load("\n".join(["[bottles.dev]", *settings, "[[bottles.dev.ssh]]", *entry]))
    assert loaded.bottles["dev"].env == {"EDITOR": "vim"}
    assert loaded.bottles["dev"].ssh[0].Host == "forge"


def test_what_cannot_be_declared_is_a_comment(load: Load) -> None:
    remote = Remote(SSHEntry(Host="x\n[bottles.evil]"), "remote \n[a]", problem="because\n[b]")
    text = render_starter([remote], home=HOME)
    assert "is left out: 'because\\n[b]'" in text
    assert list(load(text).bottles) == ["dev"]


@given(st.text(), st.lists(st.text()))
def test_hostile_facts_stay_comments(used_by: str, notes: list[str]) -> None:
    remote = Remote(SSHEntry(Host="forge"), used_by, notes=tuple(notes), problem="")
    parsed = tomllib.loads(
        render_starter([remote, Remote(SSHEntry(Host=used_by), used_by, problem=f"because {used_by}")], home=HOME)
    )
    assert parsed == {
        "bottles": {"dev": {"ssh": [{"Host": "forge"}]}},
        "agents": {"claude": {"bottle": "dev", "command": ["claude"]}},
    }


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_quoted_text_is_read_back(text: str) -> None:
    assert tomllib.loads(f"a = {quote(text)}") == {"a": text}
