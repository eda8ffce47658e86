"""Generated manifests: valid ones come back unchanged, hostile and random ones meet nothing but ManifestError."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_bottle.errors import BottleError, ManifestError, UsageError
from claude_bottle.manifest import Manifest, SSHEntry, load_manifest
from claude_bottle.manifest.load import parse, read_manifest
from claude_bottle.manifest.model import Agent, Bottle, Mount, Resources
from claude_bottle.manifest.reading import Reading
from claude_bottle.manifest.rules import check_rules
from claude_bottle.manifest.schema import manifest_schema
from claude_bottle.manifest.starter import quote
from claude_bottle.manifest.tables import declared_fields

from .conftest import blob, ed25519

HOME = Path("/home/me")
FILE = Path("/project/claude-bottle.toml")

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True)
labels = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True)
hosts = st.one_of(
    st.lists(labels, min_size=1, max_size=3).map(".".join),
    st.ip_addresses(v=4).map(str).filter(lambda text: text[0] not in "02" and not text.startswith("127.")),
    st.ip_addresses(v=6, network="2001:db8::/32").map(str),
)
keys = st.one_of(
    st.integers(0, 255).map(ed25519),
    st.just("@cert-authority " + ed25519(1)),
    st.just("ssh-rsa " + blob(b"ssh-rsa", b"\1\0\1", b"\0" + b"\x80" * 256)),
)
whole = st.integers(1, 2**31)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
paths = st.from_regex(r"(/|~/)[a-z][a-z0-9 .é]{0,9}", fullmatch=True)
variables = st.from_regex(r"[A-Z_][A-Z0-9_]{0,9}", fullmatch=True).filter(lambda name: name != "HOME")
entries: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"Host": labels.map("x-{}".format)},
    optional={
        "Hostname": hosts,
        "Port": st.integers(1, 65535),
        "User": st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,9}", fullmatch=True),
        "IdentityFile": paths,
        "KnownHostKey": st.lists(keys, min_size=1, max_size=3),
        "max_connections": st.integers(1, 1_000_000),
        "idle_timeout_s": st.floats(0.001, 1000),
        "connect_timeout_s": st.floats(0.001, 1000),
        "upload_limit_bytes": whole,
        "download_limit_bytes": whole,
    },
)
mounts: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"source": paths, "target": st.integers(0, 99).map("/opt/m{}".format)}, optional={"writable": st.booleans()}
)
bottles = st.fixed_dictionaries(
    {},
    optional={
        "ssh": st.lists(entries, max_size=4, unique_by=lambda entry: entry["Host"]),
        "env": st.dictionaries(variables.map("E_{}".format), texts, max_size=3),
        "pass_env": st.lists(variables.map("P_{}".format), max_size=3, unique=True),
        "allow_addresses": st.lists(st.ip_addresses(v=4).map("{}/32".format), max_size=3, unique=True),
        "mounts": st.lists(
            mounts,
            max_size=3,
            unique_by=lambda mount: mount["target"],
        ),
        "resources": st.fixed_dictionaries(
            {}, optional={"memory": st.integers(1 << 24, 1 << 40), "pids": st.integers(16, 4096)}
        ),
    },
)


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    declared = draw(st.dictionaries(names, bottles, min_size=1, max_size=3))
    command = st.lists(texts, max_size=2).map(lambda rest: ["claude", *rest])
    agent = st.fixed_dictionaries({"bottle": st.sampled_from(sorted(declared)), "command": command})
    return {"bottles": declared, "agents": draw(st.dictionaries(names, agent, max_size=2))}


def read(data: Any) -> tuple[Any, tuple[UsageError, ...]]:
    """The pure part of loading: parsed data in, model and mistakes out."""
    reading = Reading(FILE.parent, HOME)
    manifest = read_manifest(data, FILE, reading)
    check_rules(manifest, reading)
    return manifest, reading.errors("file", data)


def data_of(value: Any) -> Any:
    """The manifest data that says what a model value says."""
    if is_dataclass(value) and not isinstance(value, type):
        items = {key: getattr(value, field.name) for key, field in declared_fields(type(value)).items()}
        return {key: data_of(item) for key, item in items.items() if item is not None and item != () and item != {}}
    if isinstance(value, dict):
        return {key: data_of(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [data_of(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def toml(value: Any) -> str:
    """One TOML value, tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quote(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return quote(value) if isinstance(value, str) else json.dumps(value)


@given(manifests())
@settings(max_examples=50)
def test_what_parses_re_renders_to_the_same(data: dict[str, Any]) -> None:
    manifest, mistakes = read(data)
    assert mistakes == ()
    assert read(data_of(manifest)) == (manifest, ())


@given(manifests())
@settings(max_examples=30)
def test_toml_and_json_say_the_same(data: dict[str, Any]) -> None:
    text = "".join(f"{key} = {toml(value)}\n" for key, value in data.items())
    assert parse("f", text, is_json=False) == parse("f", json.dumps(data), is_json=True) == data


@given(manifests())
@settings(max_examples=20)
def test_what_loads_validates_under_the_schema(data: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="pip install jsonschema")
    validator = jsonschema.Draft202012Validator(manifest_schema())
    validator.validate(data)
    validator.validate(data_of(read(data)[0]))


SCALARS: Any = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), texts, st.just("~"), st.just("/"), hosts
)
KNOWN_KEYS = [key for model in (Manifest, Bottle, SSHEntry, Mount, Resources, Agent) for key in declared_fields(model)]
junk = st.recursive(
    SCALARS,
    lambda below: st.one_of(
        st.lists(below, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KNOWN_KEYS), st.text()), below, max_size=4),
    ),
    max_leaves=20,
)


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A valid manifest in which some values are something else."""

    def damage(value: Any) -> Any:
        if draw(st.integers(0, 9)) == 0:
            return draw(junk)
        if isinstance(value, dict):
            return {key: damage(item) for key, item in value.items()}
        return [damage(item) for item in value] if isinstance(value, list) else value

    return {key: damage(item) for key, item in draw(manifests()).items()}


def check_mistakes(mistakes: tuple[BottleError, ...]) -> None:
    for mistake in mistakes:
        assert mistake.where
        assert mistake.what
        assert mistake.hint
        shown = f"{mistake} {mistake.hint}"
        assert shown.isprintable()
        shown.encode()


@given(st.one_of(st.dictionaries(st.one_of(st.sampled_from(["bottles", "agents"]), st.text()), junk), damaged()))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_junk_meets_mistakes_only(data: dict[str, Any]) -> None:
    manifest, mistakes = read(data)
    check_mistakes(mistakes)
    if not mistakes:
        assert read(data_of(manifest)) == (manifest, ())


@given(content=st.one_of(st.binary(), st.text().map(str.encode), damaged().map(json.dumps).map(str.encode)))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_file_loads_or_is_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("claude-bottle.toml", "claude-bottle.json"):
        path = tmp_path / name
        path.write_bytes(content)
        try:
            load_manifest(path, home=tmp_path)
        except ManifestError as error:
            check_mistakes(error.problems)


HOSTILE = st.one_of(
    st.text(),
    st.text(alphabet="aZ09._-: $;%[]\n\r\t\0/\\'\"`|&<>(){}*?!,#~=@é", max_size=12),
    st.sampled_from(["-oProxyCommand=id", "a\nProxyCommand id", "$(id)", "a b", "::1%eth0", "a\u2028b", "a\u200bb"]),
)
SAFE = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:")


@given(HOSTILE, st.sampled_from(["Host", "Hostname", "User"]))
@settings(max_examples=300)
def test_no_hostile_name_passes(text: str, key: str) -> None:
    manifest, mistakes = read({"bottles": {"dev": {"ssh": [{"Host": "forge"} | {key: text}]}}})
    check_mistakes(mistakes)
    if not mistakes:
        stored = getattr(manifest.bottles["dev"].ssh[0], key)
        assert set(stored) <= (SAFE | set("@+") if key == "User" else SAFE)
        assert not stored.startswith("-")


def test_every_field_is_declared_or_filled_by_the_machine() -> None:
    filled = {"path", "known_host_key_source", "revoked_host_keys"}
    for model in (Manifest, Bottle, SSHEntry, Mount, Resources, Agent):
        declared = {field.name for field in declared_fields(model).values()}
        assert {field.name for field in fields(model)} - declared <= filled
