"""The bottle's own figures: from the command line to the program's first instruction, and many bottles at once."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from bench.load import Load, LoadError, read_line
from bench.processes import name, pss_bytes, tree
from bench.report import Row, Target
from bench.rounds import Figures, Samples, run_rounds, show_progress
from bench.scale import Scale
from tests.support.sshd import make_key

TIMEOUT_S = 60.0
MEGABYTE = 1e6
ONE_KEY, NO_KEY, BARE = "one key", "no key", "bare bwrap"
KEYED, PLAIN = "keyed", "plain"
"""bottles in the manifest"""
MANIFEST = """\
[bottles.plain]
env = {{ EDITOR = "vim" }}

[[bottles.plain.ssh]]
Host = "forge"
Hostname = "127.0.0.1"
KnownHostKey = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIe8YoNJBCIFSu7TvUwzoGOwQMkFkHzJc9Kk5vdVRDlT"]

[bottles.keyed]
env = {{ EDITOR = "vim" }}

[[bottles.keyed.ssh]]
Host = "forge"
Hostname = "127.0.0.1"
User = "git"
IdentityFile = "{key}"
KnownHostKey = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIe8YoNJBCIFSu7TvUwzoGOwQMkFkHzJc9Kk5vdVRDlT"]
"""


class Household:
    """A home, a manifest with a bottle with and one without a key, a work folder with the program that runs inside."""

    def __init__(self, folder: Path, load: Load) -> None:
        self.home = folder / "home"
        self.work = folder / "work"
        self.runtime = folder / "run"
        for path in (self.home / ".ssh", self.work, self.runtime):
            path.mkdir(parents=True, mode=0o700)
        self.program = self.work / "load"
        shutil.copy2(load.program, self.program)
        self._load = load
        self._manifest = folder / "claude-bottle.toml"
        self._manifest.write_text(MANIFEST.format(key=make_key(self.home / ".ssh").private))
        self.env = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        self.env["XDG_RUNTIME_DIR"] = str(self.runtime)

    def run_argv(self, bottle: str, *words: str) -> tuple[str, ...]:
        """Return the command that prints the clock, then prints it again in a bottle as its first act."""
        run = ("run", "--bottle", bottle, "--manifest", str(self._manifest), "--", str(self.program), "clock", *words)
        return (str(self._load.program), "exec", *command_line(), *run)

    def bare_argv(self) -> tuple[str, ...]:
        """Return the same for bubblewrap alone, with what a program needs at least."""
        bwrap = shutil.which("bwrap") or "bwrap"
        view = [word for path in ("/usr", "/bin", "/lib", "/lib64") for word in ("--ro-bind-try", path, path)]
        work = str(self.work)
        sandbox = (bwrap, "--unshare-all", *view, "--proc", "/proc", "--dev", "/dev", "--bind", work, work)
        return (str(self._load.program), "exec", *sandbox, str(self.program), "clock")

    def stop_all(self) -> None:
        """Stop what still runs."""
        argv = (*command_line(), "stop", "--all")
        subprocess.run(argv, env=self.env, cwd=self.work, timeout=TIMEOUT_S, check=False)


def command_line() -> Sequence[str]:
    """Return the command as installed beside this interpreter, or the module when it is not."""
    installed = Path(sys.executable).with_name("claude-bottle")
    return (str(installed),) if installed.exists() else (sys.executable, "-m", "claude_bottle.cli.main")


def first_instruction_ms(before: str, inside: str) -> float:
    """Return the time between two readings of the monotonic clock, which is one for all namespaces used here."""
    return (int(inside) - int(before)) / 1e6


def start(load: Load, folder: Path, scale: Scale) -> Iterator[tuple[Row, Samples]]:
    """From exec of the command line to the first instruction of the program inside."""
    house = Household(folder, load)
    commands = {ONE_KEY: house.run_argv(KEYED), NO_KEY: house.run_argv(PLAIN), BARE: house.bare_argv()}

    def measure(way: str) -> Figures:
        done = subprocess.run(
            commands[way], env=house.env, cwd=house.work, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        clocks = done.stdout.split()
        if len(clocks) != 2:
            raise LoadError(f"the program inside did not run: {done.stderr.strip()}")
        return {"time": first_instruction_ms(*clocks)}

    samples = run_rounds(tuple(commands), scale.rounds * scale.starts, measure, warm_up=scale.warm_up)
    yield Row("start to first instruction", "ms", ONE_KEY, samples.of("time"), (Target(100),)), samples


def many(load: Load, folder: Path, scale: Scale) -> Iterator[tuple[Row, Samples]]:
    """Bottles with one key each, started one after the other until all run at once."""
    house = Household(folder, load)
    ours = f"{scale.bottles} bottles"
    samples = Samples((ours,))
    with ExitStack() as stack:
        stack.callback(house.stop_all)
        starts = []

        def start_all(way: str) -> Figures:
            pids = []
            for _ in range(scale.bottles):
                pid, start_ms = stack.enter_context(running(house))
                pids.append(pid)
                starts.append(start_ms)
                show_progress()
            return {**per_bottle(pids), "first": starts[0], "last": starts[-1], "median": median(starts)}

        samples.take(ours, start_all)
    yield Row("start of the first", "ms", ours, samples.of("first")), samples
    yield Row("start, median", "ms", ours, samples.of("median")), Samples(())
    yield Row("start of the last", "ms", ours, samples.of("last")), Samples(())
    yield Row("processes per bottle beside the agent", "", ours, samples.of("processes"), (Target(6),)), Samples(())
    yield Row("PSS per bottle beside the agent", "MB", ours, samples.of("pss"), (Target(40),)), Samples(())


@contextmanager
def running(house: Household) -> Iterator[tuple[int, float]]:
    """A bottle whose program has begun and stays; yields the command line's pid and the time it took."""
    argv = house.run_argv(KEYED, "hold")
    process = subprocess.Popen(argv, env=house.env, cwd=house.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        before, inside = read_line(process, TIMEOUT_S), read_line(process, TIMEOUT_S)
        yield process.pid, first_instruction_ms(before, inside)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def per_bottle(pids: Sequence[int]) -> Figures:
    """Return the most processes and the mean memory of bottles, without the program that runs inside."""
    bottles = [[one for one in tree(pid) if name(one) != "load"] for pid in pids]
    return {
        "processes": max(map(len, bottles)),
        "pss": sum(pss_bytes(bottle) for bottle in bottles) / len(bottles) / MEGABYTE,
    }
