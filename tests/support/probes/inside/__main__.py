"""Run probes, one forked child each, and print what came of them: `python3 -E -s FOLDER PLAN`.

Unchanged inside a bottle and outside; the standard library only. PLAN is a JSON file: a list of
{"name": ..., "program": "module.function", "arguments": [...]}. Printed is one JSON object: for each name whether the
probe reached what it tried (true is a leak when inside) and what happened, in words.
"""

import importlib
import json
import os
import select
import signal
import sys

TIMEOUT_S = 15


def attempt(program: str, arguments: list[str]) -> tuple[bool, str]:
    """Run one probe here; a probe returns what it reached, or raises what stopped it."""
    module, _, function = program.partition(".")
    try:
        return True, str(getattr(importlib.import_module(module), function)(*arguments))
    except (OSError, LookupError, ValueError) as error:
        return False, f"{type(error).__name__}: {error}"


def isolated(program: str, arguments: list[str]) -> tuple[bool, str]:
    """Run one probe in a child: some are killed for what they try."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            os.close(reading)
            os.write(writing, json.dumps(attempt(program, arguments)).encode())
        except BaseException as error:
            os.write(writing, json.dumps((None, f"probe failed: {error!r}")).encode())
        finally:
            os._exit(0)
    os.close(writing)
    answer = read_until_end(reading)
    os.close(reading)
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if answer:
        reached, detail = json.loads(answer)
        return reached, detail
    return False, f"ended by signal {os.WTERMSIG(status)}"


def read_until_end(descriptor: int) -> bytes:
    """Everything until the end of file, or what came in time."""
    parts = b""
    while select.select([descriptor], [], [], TIMEOUT_S)[0]:
        part = os.read(descriptor, 65536)
        if not part:
            break
        parts += part
    return parts


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    json.dump({item["name"]: isolated(item["program"], item["arguments"]) for item in plan}, sys.stdout)


main()
