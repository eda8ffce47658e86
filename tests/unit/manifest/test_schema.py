"""The JSON Schema: fresh, complete, and never stricter than the walker."""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from claude_bottle.manifest import Agent, Bottle, Manifest, Mount, Resources, SSHEntry, schema
from claude_bottle.manifest.tables import declared_fields

from .conftest import KEY
from .test_load import EXAMPLE

jsonschema = pytest.importorskip("jsonschema", reason="pip install jsonschema")

MODELS = (Manifest, Bottle, SSHEntry, Mount, Resources, Agent)


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a schema."""
    if isinstance(value, dict):
        yield value
    for below in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(below)


@pytest.fixture(scope="module")
def validator() -> Any:
    data = json.loads(schema.SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(data)
    return jsonschema.Draft202012Validator(data)


def test_the_file_is_fresh() -> None:
    fresh = schema.SCHEMA_FILE.read_text() == schema.render_schema()
    assert fresh, "stale: run python -m claude_bottle.manifest.schema --write"


def test_every_key_has_a_description() -> None:
    for model in MODELS:
        for key, described in schema.table_schema(model)["properties"].items():
            assert described["description"], f"{model.__name__}.{key}"


def test_every_table_is_closed_and_every_reference_resolves() -> None:
    whole = schema.manifest_schema()
    for part in parts(whole):
        if part.get("type") == "object":
            assert part["additionalProperties"] is False
        if "$ref" in part:
            assert part["$ref"].removeprefix("#/$defs/") in whole["$defs"]
        if "pattern" in part:
            re.compile(part["pattern"])
            assert part["pattern"].startswith("^")
            assert part["pattern"].endswith("$")


def test_examples_validate(validator: Any) -> None:
    for model in MODELS:
        for key, described in schema.table_schema(model)["properties"].items():
            for example in described.get("examples", ()):
                validator.evolve(schema=described | {"$defs": schema.manifest_schema()["$defs"]}).validate(example)
                assert example == declared_fields(model)[key].metadata["examples"][0] or len(described["examples"]) > 1


def test_the_example_manifest_validates(validator: Any) -> None:
    validator.validate(tomllib.loads(EXAMPLE))
    validator.validate({"$schema": "claude-bottle.schema.json", "bottles": {"dev": {}}})


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"bottles": {}},
        {"bottles": {"Dev": {}}},
        {"bottles": {"dev": {"colour": 1}}},
        {"bottles": {"dev": {"ssh": [{"Hostname": "x"}]}}},
        {"bottles": {"dev": {"ssh": [{"Host": "x", "hostname": "y"}]}}},
        {"bottles": {"dev": {"ssh": [{"Host": "-x"}]}}},
        {"bottles": {"dev": {"ssh": [{"Host": "a b"}]}}},
        {"bottles": {"dev": {"ssh": [{"Host": "x", "Port": 70000}]}}},
        {"bottles": {"dev": {"ssh": [{"Host": "x", "Port": True}]}}},
        {"bottles": {"dev": {"ssh": [{"Host": "x", "KnownHostKey": KEY}]}}},
        {"bottles": {"dev": {"env": {"A-B": "x"}}}},
        {"bottles": {"dev": {"mounts": [{"source": "x", "target": "x"}]}}},
        {"bottles": {"dev": {"resources": {"memory": "2GB"}}}},
        {"bottles": {"dev": {}}, "agents": {"a": {"bottle": "dev", "command": []}}},
        {"bottles": {"dev": {}}, "agents": {"a": {"bottle": "dev", "command": "x"}}},
    ],
)
def test_an_editor_would_mark_it(validator: Any, wrong: dict[str, Any]) -> None:
    assert not validator.is_valid(wrong)


def test_it_prints_and_writes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("sys.argv", ["schema"])
    assert schema.main() == 0
    assert capsys.readouterr().out == schema.render_schema()
    monkeypatch.setattr("sys.argv", ["schema", "--write"])
    monkeypatch.setattr(schema, "SCHEMA_FILE", tmp_path / "schema.json")
    assert schema.main() == 0
    assert (tmp_path / "schema.json").read_text() == schema.render_schema()
