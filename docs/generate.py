"""Write the generated parts of the documentation; a test fails when one is stale.

    python docs/generate.py            list what is stale
    python docs/generate.py --write    update it

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`; the text around it is written by hand.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from claude_bottle import errors
from claude_bottle.cli.main import VERBS, build_parser
from claude_bottle.manifest.schema import manifest_schema

FOLDER = Path(__file__).parent
FILES = (FOLDER / "manifest.md", FOLDER / "command-line.md")
LONGEST_TEXT = 24
"""characters of an example that are shown"""
PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """Return a document with its generated parts as they should be."""
    return PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n\n{part[3]}", text)


def keys_of(table: str) -> str:
    """Return the keys of one of the manifest's tables."""
    schema = manifest_schema()["$defs"][table]
    required = schema.get("required", ())
    rows = [
        (f"`{key}`", type_of(facts), default_of(facts, key in required), facts["description"], example_of(facts))
        for key, facts in schema["properties"].items()
    ]
    return markdown_table(("key", "type", "default", "meaning", "example"), rows)


def type_of(facts: Mapping[str, Any]) -> str:
    """Return what may stand there, in words."""
    if "oneOf" in facts:
        return " or ".join(type_of(each) for each in facts["oneOf"])
    if "$ref" in facts:
        name = facts["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    match facts["type"]:
        case "array":
            return f"list of {type_of(facts['items'])}"
        case "object":
            return "table of text"
        case "integer" if facts["maximum"] < 1 << 62:
            return f"whole number, {facts['minimum']} to {facts['maximum']}"
        case kind:
            return {"string": "text", "boolean": "true or false", "integer": "whole number", "number": "number"}[kind]


def default_of(facts: Mapping[str, Any], required: bool) -> str:
    """Return what holds when the key is missing."""
    return "required" if required else f"`{toml(facts['default'])}`" if "default" in facts else ""


def example_of(facts: Mapping[str, Any]) -> str:
    """Return the first example."""
    return f"`{toml(facts['examples'][0])}`" if "examples" in facts else ""


def toml(value: object) -> str:
    """Return a value as it stands in a manifest."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"' if len(value) <= LONGEST_TEXT else f'"{value[:LONGEST_TEXT]}..."'
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {toml(each)}' for key, each in value.items())} }}"
        case _:
            return str(value)


def verbs() -> str:
    """Return a section per verb."""
    return "\n\n".join("\n".join(verb(name)) for name in VERBS)


def verb(name: str) -> Iterator[str]:
    """Yield the lines of a verb's section."""
    module = import_module(f"claude_bottle.cli.{name}")
    yield f"### {name}\n"
    yield f"{VERBS[name][0].upper()}{VERBS[name][1:]}.\n"
    rows = [(f"`{argument}`", text) for argument, text in arguments_of(name)]
    program = getattr(module, "PROGRAM", "")
    if program:
        rows.append((f"`{program.strip('[]')}`", "program to run inside, with its arguments"))
    if rows:
        yield f"{markdown_table(('argument', 'meaning'), rows)}\n"
    yield f"```sh\n{inspect.cleandoc(module.EXAMPLE)}\n```"


def arguments_of(name: str) -> Iterator[tuple[str, str]]:
    """Yield how each argument of a verb is spelled, and its help."""
    (choice,) = (action for action in build_parser(name)._actions if isinstance(action, argparse._SubParsersAction))
    for action in choice.choices[name]._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        values = " or ".join(map(str, action.choices)) if action.choices else action.metavar
        spelling = ", ".join(action.option_strings)
        yield f"{spelling} {values or ''}".strip(), action.help or ""


def exit_statuses() -> str:
    """Return what each exit status means; those of errors come from their classes."""
    classes: list[type[errors.BottleError]] = [errors.BottleError, *errors.BottleError.__subclasses__()]
    causes = {each.exit_code: (inspect.getdoc(each) or "").split("\n")[0].rstrip(".") for each in classes}
    causes[errors.BottleError.exit_code] = "Another error"
    rows = [
        ("the program's own", "It ran. 128+*n* when signal *n* ended it"),
        ("0", "The verb did what it should; `run --detach`: the program runs"),
        *((str(status), causes[status]) for status in sorted(causes)),
        ("126", "The program inside cannot be executed"),
        ("127", "The program inside does not exist"),
        ("130", "Interrupted by Ctrl-C before or beside the program"),
        ("141", "Whoever read the output has gone (a closed pipe)"),
    ]
    return markdown_table(("status", "meaning"), rows)


def markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


PARTS: dict[str, Callable[[], str]] = {
    "bottle": lambda: keys_of("Bottle"),
    "ssh": lambda: keys_of("SSHEntry"),
    "mount": lambda: keys_of("Mount"),
    "resources": lambda: keys_of("Resources"),
    "agent": lambda: keys_of("Agent"),
    "verbs": verbs,
    "exit-statuses": exit_statuses,
}


def main() -> int:
    """List what is stale, or update it."""
    parser = argparse.ArgumentParser(prog="python docs/generate.py", description="generated parts of the documentation")
    parser.add_argument("--write", action="store_true", help="update them")
    write = parser.parse_args().write
    stale = [file for file in FILES if render(file.read_text(encoding="utf-8")) != file.read_text(encoding="utf-8")]
    for file in stale:
        if write:
            file.write_text(render(file.read_text(encoding="utf-8")), encoding="utf-8")
        sys.stdout.write(f"{file.name} {'updated' if write else 'is stale'}\n")
    return 0 if write or not stale else 1


if __name__ == "__main__":
    raise SystemExit(main())
