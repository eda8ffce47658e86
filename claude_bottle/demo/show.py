"""Run the demo from beginning to end, and print what happens as it happens."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from claude_bottle.demo.acts import Act, allowed_acts, refused_acts
from claude_bottle.demo.servers import require_programs
from claude_bottle.demo.services import network_address, services
from claude_bottle.demo.stage import AGENT, Stage, cli
from claude_bottle.demo.transcript import Transcript
from claude_bottle.errors import BackendError

RUN_TIMEOUT_S = 60.0
STOP_GRACE_S = 8.0
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_demo(*, keep: bool) -> int:
    """Show the main job; return 0 when everything behaved as promised, else 1.

    With `keep` the demo's folder stays for a look.

    Raises:
        BackendError: a program is missing, or this machine cannot make bottles.
    """
    require_programs()
    began = time.monotonic()
    transcript = Transcript(sys.stdout, os.environ)
    with _until_signalled(), ExitStack() as undo:
        root = Path(tempfile.mkdtemp(prefix="claude-bottle-demo-")).resolve()
        if not keep:
            undo.callback(shutil.rmtree, root)
        try:
            as_promised = _play(Stage(root), transcript, undo)
        finally:
            _ignore_signals()
    transcript.end(as_promised, time.monotonic() - began, root if keep else None)
    return 0 if as_promised else 1


def _play(stage: Stage, transcript: Transcript, undo: ExitStack) -> bool:
    """Run everything; tell whether all of it behaved as promised."""
    for server in (stage.forge, stage.prod):
        undo.callback(server.stop)
        server.start()
    addresses = [stage.forge.address, *filter(None, [network_address()])]
    ports = undo.enter_context(services(addresses))
    transcript.introduce(stage.write_configuration())
    allowed, refused = allowed_acts(stage), refused_acts(stage, ports)
    _write_acts(stage, (*allowed, *refused))
    without = [status for status, _ in _without_bottle(stage, range(len(allowed), len(allowed) + len(refused)))]
    results = _in_bottle(stage, undo)
    transcript.command(f"claude-bottle run {AGENT}")
    transcript.head("Declared, so it works with plain tools:")
    good = [transcript.allowed(act, *result) for act, result in zip(allowed, results, strict=False)]
    transcript.head("Not declared, so it is refused:", "without a bottle")
    tried = zip(refused, without, results, strict=False)
    good += [transcript.refused(act, status == 0, *result) for act, status, result in tried]
    for _ in results:  # there is nothing more to come; this waits until the bottle has ended
        good.append(False)
    transcript.log(f"claude-bottle logs {AGENT}", _audit_log(stage))
    return len(good) == len(allowed) + len(refused) and all(good)


def _write_acts(stage: Stage, acts: Sequence[Act]) -> None:
    for number, act in enumerate(acts):
        (stage.work / _file_name(number)).write_text(f"{act.script}\n")


def _file_name(number: int) -> str:
    return f"acts/{number:02}.sh"


def _without_bottle(stage: Stage, numbers: range) -> Iterator[tuple[int, str]]:
    """Run acts as they are, by the same script, without a bottle; yield their results in order."""
    argv = ["bash", "agent.sh", *map(_file_name, numbers)]
    done = subprocess.run(
        argv,
        cwd=stage.work,
        env=stage.outside_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=True,
    )
    return (_result(stage, line) for line in done.stdout.splitlines())


def _in_bottle(stage: Stage, undo: ExitStack) -> Iterator[tuple[int, str]]:
    """Run the agent in its bottle, as a user would; yield the result of each act as it ends.

    Raises:
        BackendError: the command line failed; what it said is on stderr.
    """
    with (stage.root / "run.log").open("w+") as log:
        running = subprocess.Popen(
            cli("run", AGENT),
            cwd=stage.work,
            env=stage.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C is for us: we end it in good order
        )
        undo.callback(_end, running, stage)
        watchdog = threading.Timer(RUN_TIMEOUT_S, running.terminate)
        undo.callback(watchdog.cancel)
        watchdog.start()
        for line in running.stdout or ():
            yield _result(stage, line)
        status = running.wait()
        watchdog.cancel()
        log.seek(0)
        sys.stderr.write(log.read())
    if status:
        raise BackendError(f"claude-bottle run ended with status {status}", where="demo")


def _end(running: "subprocess.Popen[str]", stage: Stage) -> None:
    """End a run that was interrupted, and whatever it could not end itself; nothing to do after a whole one."""
    if running.returncode is None:
        running.terminate()
        with suppress(subprocess.TimeoutExpired):
            running.wait(STOP_GRACE_S)
        subprocess.run(cli("stop", "--all"), env=stage.environment(), timeout=RUN_TIMEOUT_S, check=False)
        running.kill()
        running.wait()
    if running.stdout:
        running.stdout.close()


def _result(stage: Stage, line: str) -> tuple[int, str]:
    """Return an act's exit status and what it printed, from the line that the agent's script prints."""
    name, status = line.split()
    printed = (stage.work / f"{name}.out").read_text(errors="replace")
    return int(status), re.sub(r"(?m)^acts/\d+\.sh: (line \d+: )?", "bash: ", printed)


def _audit_log(stage: Stage) -> str:
    done = subprocess.run(
        cli("logs", AGENT), env=stage.environment(), capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=True
    )
    return done.stdout


def _ignore_signals() -> None:
    """Let nothing interrupt the cleaning up."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _until_signalled() -> Iterator[None]:
    """Make the signals that would end us at once an exception, so that everything is cleaned up."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
