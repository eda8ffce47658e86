"""Bottles for tests: the real command line, a home, state and work folder of the test's own.

    def test_something(world):                       # fixture in tests/integration/local/conftest.py
        world.declare(server, Host="forge")          # an [[bottles.dev.ssh]] entry that leads to a real sshd
        done = world.run("ssh", "forge", "true")     # in a real bottle; a subprocess.CompletedProcess

Everything lies below one folder, so two tests never meet, and what a test leaves behind is easy to see.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.support.sshd import KeyPair, SSHServer, make_key

ROOT = Path(__file__).resolve().parents[2]
CLI = (sys.executable, "-m", "claude_bottle.cli.main")
RUN_TIMEOUT_S = 60.0


@dataclass
class World:
    """One test's home, work folder, manifest and bottles."""

    root: Path
    """folder of the test"""
    entries: list[dict[str, Any]] = field(default_factory=list)
    """ssh entries of bottle `dev`, as in the manifest"""
    bottle: dict[str, Any] = field(default_factory=dict)
    """other keys of bottle `dev`"""
    agents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """agents of the manifest"""
    environ: dict[str, str] = field(default_factory=dict)
    """more of the caller's environment"""

    def __post_init__(self) -> None:
        for folder in (self.home, self.work, self.runtime):
            folder.mkdir(parents=True, exist_ok=True)
        self.runtime.chmod(0o700)
        (self.home / ".ssh").mkdir(mode=0o700, exist_ok=True)
        self.key: KeyPair = make_key(self.home / ".ssh")

    @property
    def home(self) -> Path:
        """The caller's home folder."""
        return self.root / "home"

    @property
    def work(self) -> Path:
        """The work folder; `run` starts there."""
        return self.root / "work"

    @property
    def runtime(self) -> Path:
        """The caller's XDG_RUNTIME_DIR."""
        return self.root / "run"

    @property
    def state(self) -> Path:
        """The state folder of all bottles."""
        return self.home / ".local/state/claude-bottle"

    @property
    def manifest(self) -> Path:
        """The manifest; `write` writes it, outside the work folder."""
        return self.root / "claude-bottle.json"

    @property
    def env(self) -> dict[str, str]:
        """The caller's whole environment."""
        return {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PYTHONPATH": str(ROOT),
            **self.environ,
        }

    def declare(self, server: SSHServer, *, key: KeyPair | None = None, **keys: Any) -> dict[str, Any]:
        """Declare a real sshd as an ssh entry of bottle `dev`; the world's own key signs unless another is given."""
        entry = {
            "Host": "forge",
            "Hostname": server.address,
            "Port": server.port,
            "User": server.user,
            "IdentityFile": str((key or self.key).private),
            "KnownHostKey": list(server.known_host_keys),
            **keys,
        }
        self.entries.append({name: value for name, value in entry.items() if value is not None})
        return self.entries[-1]

    def write(self) -> Path:
        """Write the manifest and return its path."""
        text = {"bottles": {"dev": {**self.bottle, "ssh": self.entries}}, "agents": self.agents}
        self.manifest.write_text(json.dumps(text, indent=1))
        return self.manifest

    def cli(self, *words: str, timeout: float = RUN_TIMEOUT_S, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run the command line in the work folder."""
        options = {"stdin": subprocess.DEVNULL, "cwd": self.work, "env": self.env, **options}
        if "input" in options:
            del options["stdin"]
        return subprocess.run([*CLI, *words], capture_output=True, text=True, timeout=timeout, check=False, **options)

    def run(self, *command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run a command in bottle `dev`."""
        return self.cli("run", "--manifest", str(self.write()), "--", *command, **options)

    def sh(self, script: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run a shell script in bottle `dev`."""
        return self.run("bash", "-c", script, **options)

    def outside(self, *command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run the same command without a bottle, with the caller's environment."""
        options = {"stdin": subprocess.DEVNULL, "cwd": self.work, "env": self.env, **options}
        return subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False, **options)

    def start(self, *command: str, stdin: int | IO[Any] = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        """Start a command in bottle `dev` and return the running command line; the caller ends it."""
        argv: Sequence[str] = [*CLI, "run", "--manifest", str(self.write()), "--", *command]
        return subprocess.Popen(
            argv, cwd=self.work, env=self.env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def audit(self, name: str = "dev") -> list[Mapping[str, Any]]:
        """Return the audit records of a bottle."""
        path = self.state / name / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
