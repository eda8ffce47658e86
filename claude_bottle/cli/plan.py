"""`claude-bottle plan`: everything a run would do, and nothing done."""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from typing import Any

from claude_bottle.cli import context, run
from claude_bottle.workfolder.files import show

EXAMPLE = "claude-bottle plan fixer\n  claude-bottle plan fixer --json | jq .listeners"
PROGRAM = "[-- CMD ...]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    run.add_choice(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def call(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    from claude_bottle.plan import describe_plan, plan_bottle

    plan = plan_bottle(
        context.read_manifest(arguments.manifest),
        agent=arguments.agent,
        bottle=arguments.bottle,
        command=arguments.program,
        workdir=run.checked_workdir(arguments),
        caller=context.caller(),
    )
    backend = context.backend()
    facts = describe_plan(plan) | {"backend": backend.name, **backend.describe(plan)}
    if arguments.json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        lines = "\n".join(render(facts)).split("\n")
        sys.stdout.writelines(f"{show(line)}\n" for line in lines)
    return 0


def render(facts: dict[str, Any]) -> Iterator[str]:
    """Yield the plan as text."""
    for name in ("bottle", "agent", "manifest", "backend", "workdir"):
        yield f"{name + ':':10}{facts[name] or '-'}"
    yield f"{'command:':10}{json.dumps(facts['command'])}"
    yield "\nSSH hosts, as the program inside sees them:"
    for host in facts["ssh"]:
        known = f"{host['host_keys']} host key{'s' * (host['host_keys'] != 1)}"
        key = f"signs with {host['identity_file']}" if host["identity_file"] else "no key"
        yield f"  {host['alias']}: {', '.join(host['listens'])} -> {host['host']}:{host['port']} ({known}; {key})"
    yield "\nenvironment:"
    yield from (f"  {name}={value}" for name, value in facts["env"].items())
    yield "\nmounts:"
    yield from (f"  {item}" for item in facts["mounts"] or ["none"])
    for path, text in facts["files"].items():
        yield f"\n{path}:"
        yield from (f"  {line}" for line in text.splitlines())
    yield "\nbwrap arguments:"
    yield f"  {shlex.join(facts['bwrap'])}"
