"""The benchmark runs and measures every figure it promises; how fast things are is no test's business."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

FIGURES = {
    "throughput": ("throughput, one stream", "gate CPU, one stream", "throughput, eight streams", "gate CPU, eight"),
    "connections": ("new connections, 8 clients",),
    "latency": ("64 bytes round trip, p50", "64 bytes round trip, p99"),
    "idle": (
        "at rest, PSS",
        "20 idle connections, PSS",
        "50 idle connections, PSS",
        "50 idle connections, with kernel",
    ),
    "ssh": ("ssh host true", "ssh host true, curve25519"),
    "clone": ("git clone, 1 MiB",),
    "cat": ("ssh host cat, 4 MiB",),
    "start": ("start to first instruction",),
    "many": ("start of the last", "processes per bottle beside the agent", "PSS per bottle beside the agent"),
}
PROGRAMS = {"cc": "gcc libc6-dev", "socat": "socat", "haproxy": "haproxy"}


@pytest.mark.heavy
@pytest.mark.parametrize("name", FIGURES)
def test_a_quick_run_measures_every_way(name: str, tmp_path: Path) -> None:
    for program, package in PROGRAMS.items():
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            pytest.skip(f"needs {program}: apt-get install {package}")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--only", name, "--json", str(tmp_path / "result.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for figure in FIGURES[name]:
        assert figure in done.stdout
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    unmeasured = [
        (row["figure"], way)
        for row in rows
        for way, value in row["medians"].items()
        # control groups are root's to make
        if value is None and not row["figure"].endswith("with kernel")
    ]
    assert unmeasured == []
