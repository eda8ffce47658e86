"""Run every probe outside, in a bottle's program, and in a program that `exec` put into a bottle.

    python -m tests.support.lab FOLDER       in the namespaces that `run_lab` makes

An unprivileged user gets a user namespace, in which the probes outside may do what root may; the command line never has
these rights.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.bottle import CLI, ROOT
from tests.support.planted import DECLARED_PORT, FAR, SECRET, PlantedWorld
from tests.support.probes import CONTROL, PROBES, PROGRAM, Probe

PYTHON = "/usr/bin/python3"
"""the system's: a bottle sees no other"""
RESULT = "results.json"
WITHOUT_RIGHTS: Sequence[str] = () if os.geteuid() == 0 else ("setpriv", "--ambient-caps=-all", "--inh-caps=-all")

Outcome = tuple[bool | None, str]
"""whether a probe reached what it tried (None: it broke), and what happened"""


def run_lab(folder: Path) -> dict[str, dict[str, Outcome]]:
    """Run all probes in namespaces of their own; outcomes by place (`outside`, `run`, `exec`) and probe."""
    own_user = () if os.geteuid() == 0 else ("--user", "--map-current-user", "--keep-caps")
    argv = ["unshare", *own_user, "--net", "--mount", sys.executable, "-m", "tests.support.lab", str(folder)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, env=env, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the lab broke with status {done.returncode}:\n{done.stdout}\n{done.stderr}")
    results: dict[str, dict[str, Outcome]] = json.loads((folder / RESULT).read_text())
    return results


class Lab:
    """A planted world, and the three places in which probes run."""

    def __init__(self, planted: PlantedWorld) -> None:
        self.world, self.facts, self.fds = planted.world, planted.facts, planted.fds
        self._declare()

    def _declare(self) -> None:
        world = self.world
        world.environ |= {
            "CANARY_SECRET": SECRET,
            "SSH_AUTH_SOCK": self.facts["agent"],
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.facts['bus_socket']}",
            "DOCKER_HOST": "unix:///run/docker.sock",
        }
        entry = {"Host": "forge", "Hostname": FAR, "Port": DECLARED_PORT, "KnownHostKey": [world.key.public]}
        world.entries.append(entry)
        shown = (str(PROGRAM), self.facts["mount"])
        world.bottle["mounts"] = [{"source": path, "target": path} for path in shown]
        planned = json.loads(self.cli("plan", "--manifest", str(world.write()), "--json", "--", "true").stdout)
        self.facts["listeners"] = ",".join(f"{item['address']}:{item['port']}" for item in planned["listeners"])

    def cli(self, *words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run the command line as its user would: without the lab's rights, with what the caller left open."""
        return subprocess.run(
            [*WITHOUT_RIGHTS, *CLI, *words],
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
            cwd=self.world.work, env=self.world.env, pass_fds=self.fds, **options,
        )  # fmt: skip

    def outside(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a program without a bottle, with everything that the lab may do."""
        return subprocess.run(
            words, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
            cwd=self.world.work, env=self.world.env, pass_fds=self.fds,
        )  # fmt: skip

    def probe(self, place: str) -> dict[str, Outcome]:
        """Run every probe in a place and look at what came of it, there and at the canaries."""
        plan = self.world.work / "plan.json"
        asked = {probe.name: self._asked(probe, place, number) for number, probe in enumerate((CONTROL, *PROBES))}
        plan.write_text(json.dumps(list(asked.values())))
        self._reset()
        command = (PYTHON, "-E", "-s", str(PROGRAM), str(plan))
        if place == "outside":
            done = self.outside(*command)
        elif place == "run":
            done = self.cli("run", "--manifest", str(self.world.manifest), "--", *command)
        else:
            with self._running():
                done = self.cli("exec", "dev", "--", *command)
        if done.returncode != 0:
            raise RuntimeError(f"{place}: status {done.returncode}: {done.stdout}{done.stderr}")
        outcomes: dict[str, Outcome] = json.loads(done.stdout)
        return {probe.name: self._judge(probe, asked, outcomes[probe.name]) for probe in (CONTROL, *PROBES)}

    @contextmanager
    def _running(self) -> Iterator[None]:
        """A bottle that waits for its standard input to end."""
        argv = [*WITHOUT_RIGHTS, *CLI, "run", "--manifest", str(self.world.manifest), "--", "sh", "-c", "echo on; cat"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        holder = subprocess.Popen(argv, cwd=self.world.work, env=self.world.env, **pipes)  # type: ignore[call-overload]
        try:
            assert holder.stdout.readline() == "on\n"
            yield
        finally:
            holder.communicate(timeout=30)

    def _asked(self, probe: Probe, place: str, number: int) -> dict[str, Any]:
        facts = {**self.facts, "token": f"{place}-{number}-token"}
        return {
            "name": probe.name,
            "program": probe.program,
            "arguments": [argument.format(**facts) for argument in probe.arguments],
            "effect": probe.effect.format(**facts).removeprefix("file "),
            "token": facts["token"],
        }

    def _reset(self) -> None:
        """Undo what probes in the last place have done."""
        subprocess.run(["umount", self.world.work / "point"], capture_output=True, check=False)
        mount = Path(self.facts["mount"])
        for name in ("file", "removable"):
            (mount / name).write_text("text")
            (mount / name).chmod(0o644)
        for path in (Path("/written"), self.world.work / "linked", Path(self.facts["signals"])):
            path.unlink(missing_ok=True)

    def _judge(self, probe: Probe, asked: dict[str, dict[str, Any]], outcome: Outcome) -> Outcome:
        reached, detail = outcome
        if not probe.effect:
            return reached, detail
        mark = "came" if probe.effect == "signals" else asked[probe.name]["token"]
        path = Path(self.facts.get(probe.effect, asked[probe.name]["effect"]))
        came = path.exists() and mark in path.read_text()
        return came if reached is not None else None, f"{detail}; {'came' if came else 'did not come'} to {path}"


def main() -> None:
    folder = Path(sys.argv[1])
    with ExitStack() as closing:
        planted = PlantedWorld(folder, closing)
        planted.build()
        lab = Lab(planted)
        results = {place: lab.probe(place) for place in ("outside", "run", "exec")}
    (folder / RESULT).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
