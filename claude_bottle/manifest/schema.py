"""JSON Schema of the manifest, made from the model, so that editors complete and check the file.

    python -m claude_bottle.manifest.schema            print it
    python -m claude_bottle.manifest.schema --write    update claude-bottle.schema.json beside this module

The schema takes everything that `load_manifest` takes and refuses what can be refused without looking at other keys
or at the machine. Field docs come from the model's source, so this runs in a source checkout, never in `run`.
"""

import argparse
import ast
import inspect
import json
import sys
import textwrap
from dataclasses import Field
from pathlib import Path
from typing import Any

from claude_bottle.manifest.model import Agent, Bottle, Manifest, Mount, Resources, SSHEntry
from claude_bottle.manifest.tables import declared_fields, is_required

SCHEMA_FILE = Path(__file__).with_name("claude-bottle.schema.json")
"""the schema as it is kept in the repository"""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TABLES: tuple[type[Any], ...] = (Bottle, SSHEntry, Mount, Resources, Agent)


def manifest_schema() -> dict[str, Any]:
    """The whole schema, as JSON data."""
    top = table_schema(Manifest)
    top["properties"] = {"$schema": {"type": "string", "description": "Where editors find this schema"}} | top[
        "properties"
    ]
    return {
        "$schema": _DIALECT,
        "title": "claude-bottle manifest",
        **top,
        "$defs": {model.__name__: table_schema(model) for model in _TABLES},
    }


def table_schema(model: type[Any]) -> dict[str, Any]:
    """The schema of one table: its declared fields, none other."""
    docs = field_docs(model)
    declared = declared_fields(model)
    schema = {
        "description": _sentence(inspect.getdoc(model) or ""),
        "type": "object",
        "properties": {key: _property(field, docs[field.name]) for key, field in declared.items()},
        "required": [key for key, field in declared.items() if is_required(field)],
        "additionalProperties": False,
    }
    return {key: value for key, value in schema.items() if value != []}


def field_docs(model: type[Any]) -> dict[str, str]:
    """The text that stands below each field of a model class."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101 - the source of a class
    docs = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            docs[statement.target.id] = _text_of(following)
    return docs


def _text_of(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return str(statement.value.value)
    return ""


def _property(field: Field[Any], doc: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": _sentence(doc), **field.metadata["kind"].schema}
    if isinstance(field.default, bool | int | float):
        schema["default"] = field.default
    if field.metadata["examples"]:
        schema["examples"] = list(field.metadata["examples"])
    return schema


def _sentence(doc: str) -> str:
    """A field's doc with a capital letter and without the ends of lines."""
    text = " ".join(doc.split()).removesuffix(".")
    return text[:1].upper() + text[1:]


def render_schema() -> str:
    """The schema as the text of its file."""
    return json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Print the schema, or write it to its file."""
    parser = argparse.ArgumentParser(
        prog="python -m claude_bottle.manifest.schema", description="manifest's JSON Schema"
    )
    parser.add_argument("--write", action="store_true", help=f"update {SCHEMA_FILE.name}")
    if parser.parse_args().write:
        SCHEMA_FILE.write_text(render_schema(), encoding="utf-8")
    else:
        sys.stdout.write(render_schema())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
