"""`python -m bench`: measure, print the table, keep the samples."""

import argparse
import dataclasses
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import bottles, openssh, traffic
from bench.load import Load, LoadError, build_load
from bench.network import isolate
from bench.report import Row, render_table
from bench.rounds import FAILURES, Samples, show_progress
from bench.scale import FULL, QUICK, Scale

Measurement = Callable[[Load, Path, Scale], Iterator[tuple[Row, Samples]]]

MEASUREMENTS: dict[str, Measurement] = {
    "throughput": traffic.throughput,
    "connections": traffic.connections,
    "latency": traffic.latency,
    "idle": traffic.idle,
    "ssh": openssh.ssh_true,
    "clone": openssh.git_clone,
    "cat": openssh.ssh_cat,
    "start": bottles.start,
    "many": bottles.many,
}

QUIET_LOAD = 0.5
"""load average above which something else runs on the machine"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the gate and the bottle.")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds of each measurement (default: {FULL.rounds})")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that everything runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 when something could not be measured. A missed target is no failure."""
    arguments = build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what runs, as Ctrl-C does
    scale = QUICK if arguments.quick else FULL
    if arguments.rounds:
        scale = dataclasses.replace(scale, rounds=arguments.rounds)
    facts = {**machine(), "network": isolate(), "scale": dataclasses.asdict(scale)}
    with TemporaryDirectory(prefix="claude-bottle-bench-") as folder:
        try:
            load = build_load(Path(folder))
        except LoadError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        rows, failures = measure(arguments.only or tuple(MEASUREMENTS), load, Path(folder), scale)
    print(render(facts, rows, failures))
    if arguments.json:
        result = {"machine": facts, "rows": [row.as_json() for row in rows], "failures": failures}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if failures else 0


def measure(names: Sequence[str], load: Load, folder: Path, scale: Scale) -> tuple[list[Row], list[str]]:
    """Run measurements one after the other; return their rows and what failed."""
    rows: list[Row] = []
    failures: list[str] = []
    for name in names:
        begun = time.monotonic()
        show_progress(f"{name} ")
        own = folder / name
        own.mkdir()
        try:
            for row, samples in MEASUREMENTS[name](load, own, scale):
                rows.append(row)
                failures += [f"{name}: {failure}" for failure in samples.failures]
        except FAILURES as error:
            failures.append(f"{name}: {error}")
        show_progress(f" {time.monotonic() - begun:.0f} s\n")
    return rows, list(dict.fromkeys(failures))


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "user": "root" if os.geteuid() == 0 else "unprivileged",
    }


def render(facts: dict[str, Any], rows: Sequence[Row], failures: Sequence[str]) -> str:
    """Return the whole report as text."""
    lines = [
        f"Linux {facts['kernel']}, {facts['processors']} processors, Python {facts['python']}, {facts['user']}; "
        f"{facts['network']}; medians of {facts['scale']['rounds']} rounds; (0.50x): ours is half of that column's",
        "",
        render_table(rows),
    ]
    if facts["load_average"] > QUIET_LOAD:
        lines += ["", f"the machine was not quiet: load average {facts['load_average']:.1f} before the first round"]
    lines += [f"could not be measured: {failure}" for failure in failures]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
