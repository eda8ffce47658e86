"""A program inside cannot type for the user: not while the bottle runs, not for the shell that goes on after it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.bottle import CLI, World
from tests.support.probes import PROGRAM

SWITCH = Path("/proc/sys/dev/tty/legacy_tiocsti")
TYPED = b"echo injected\n"
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0);"
    "os.execvp(sys.argv[2], sys.argv[2:])"
)

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and SWITCH.exists() and SWITCH.read_text() == "0\n",
    reason="this kernel lets nobody type, so it proves nothing; run: sudo sysctl -w dev.tty.legacy_tiocsti=1",
)


def run_on_terminal(world: World, streams: Sequence[int], argv: Sequence[str]) -> tuple[dict[str, str], bytes]:
    """Run a program with a terminal as some of its standard streams; what it reports, and what waits to be read."""
    report = world.work / "report.json"
    report.unlink(missing_ok=True)
    master, slave = os.openpty()
    argv = [sys.executable, "-c", TAKE_TERMINAL, str(slave), *argv, str(report)]
    files = {
        name: slave if fd in streams else subprocess.DEVNULL for fd, name in enumerate(("stdin", "stdout", "stderr"))
    }
    try:
        done = subprocess.run(
            argv,
            **files,
            cwd=world.work,
            env=world.env,
            pass_fds=(slave,),
            start_new_session=True,
            timeout=60,
            check=False,
        )  # type: ignore[call-overload]
        os.set_blocking(slave, False)
        try:
            waiting = os.read(slave, 4096)
        except BlockingIOError:
            waiting = b""
        os.set_blocking(master, False)
        said = os.read(master, 4096) if not report.exists() else b""
        assert report.exists(), (done.returncode, said)
        return json.loads(report.read_text()), waiting
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("streams", [(0, 1, 2), (0,), (1,), (2,), (1, 2)], ids=str)
def test_nobody_inside_can_type(world: World, streams: Sequence[int]) -> None:
    world.bottle["mounts"] = [{"source": str(PROGRAM), "target": str(PROGRAM)}]
    program = ["/usr/bin/python3", "-E", "-s", str(PROGRAM / "terminal.py")]
    report, waiting = run_on_terminal(world, streams, program)
    assert report[f"{streams[0]} call"] == report["tty call"] == "typed"
    assert TYPED in waiting
    report, waiting = run_on_terminal(world, streams, [*CLI, "run", "--manifest", str(world.write()), "--", *program])
    assert "typed" not in report.values()
    assert "Operation not permitted" in report[f"{streams[0]} call"]
    assert waiting == b""
