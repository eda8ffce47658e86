"""`claude-bottle demo` shows what it promises, tells when a promise is broken, and leaves nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bottle import CLI, ROOT

TIMEOUT_S = 90.0


class Demo:
    """The demo as a user starts it, with a folder for temporary files of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "HOME": str(folder / "nobody-needs-it"),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(folder),
        }

    def start(self, *argv: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            argv, cwd=self.folder, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        """Run the demo; return its exit status, what it printed and its errors."""
        return self.finish(self.start(*CLI, "demo", *words))

    def run_changed(self, change: str) -> tuple[int, str, str]:
        """Run it with something in it changed."""
        script = (
            "from claude_bottle.cli.main import main\nfrom claude_bottle.demo.stage import Stage\n"
            f"{change}\nraise SystemExit(main(['demo']))"
        )
        return self.finish(self.start(sys.executable, "-c", script))

    def finish(self, running: "subprocess.Popen[str]") -> tuple[int, str, str]:
        out, err = running.communicate(timeout=TIMEOUT_S)
        return running.returncode, out, err

    def leftovers(self) -> list[str]:
        """Return the files that are left, and the command lines of processes that come from here."""
        return [*map(str, self.folder.iterdir()), *self._processes()]

    def _processes(self) -> Iterator[str]:
        mark = os.fsencode(self.folder)
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
                if mark in command or mark in (process / "environ").read_bytes():
                    yield command.replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it has ended, or is somebody else's

    def assert_nothing_is_left(self) -> None:
        deadline = time.monotonic() + 5
        while (left := self.leftovers()) and time.monotonic() < deadline:
            os.sched_yield()  # a killed process of sshd's takes a moment to go
        assert left == []


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return Demo(tmp_path)


def test_everything_behaves_as_promised_and_nothing_is_left(demo: Demo) -> None:
    status, out, err = demo.run()
    assert (status, err) == (0, "")
    lines = out.splitlines()
    for act in ("ssh forge", "git clone", "git commit && git push", "rsync", "scp"):
        assert any(line.startswith(f"  ✓ {act}") for line in lines), act
    for act in ("ssh prod", "ssh -p", "TCP to 127.0.0.1:", "DNS query", "ls ~/.ssh", "cat ~/.ssh/id_ed25519"):
        assert any(line.startswith(f"  ✗ {act}") and "✓ works" in line for line in lines), act
    assert "allowed by bottles.dev.ssh[0]" in out
    assert "\x1b" not in out
    demo.assert_nothing_is_left()


def test_kept_on_request(demo: Demo) -> None:
    status, out, _ = demo.run("--keep")
    assert status == 0
    (kept,) = demo.folder.iterdir()
    assert f"Kept for a look: {kept}" in out
    assert "Host = " in (kept / "claude-bottle.toml").read_text()
    assert (kept / "work/reports").is_dir()
    shutil.rmtree(kept)
    demo.assert_nothing_is_left()


DECLARE_PROD = """
honest = Stage._manifest
Stage._manifest = lambda self: honest(self) + f'''
[[bottles.dev.ssh]]
Host = "prod"
Hostname = "127.0.0.2"
Port = {self.prod.port}
User = "{self.user}"
IdentityFile = "~/.ssh/id_ed25519"
'''
"""


def test_what_is_not_refused_is_told(demo: Demo) -> None:
    status, out, _ = demo.run_changed(DECLARE_PROD)
    assert status == 1
    assert [line.split()[1:3] for line in out.splitlines() if "WAS NOT REFUSED" in line] == [
        ["ssh", "prod"],
        ["ssh", "-p"],
    ]
    assert "NOT everything behaved as promised" in out
    demo.assert_nothing_is_left()


def test_what_never_works_proves_nothing(demo: Demo) -> None:
    status, out, _ = demo.run_changed("Stage.outside_environment = Stage.environment")
    assert status == 1
    assert "ssh prod true" in next(line for line in out.splitlines() if "PROVES NOTHING" in line)
    demo.assert_nothing_is_left()


def test_a_bottle_that_does_not_start_is_an_error(demo: Demo) -> None:
    status, _, err = demo.run_changed("Stage._manifest = lambda self: '[bottles.dev]\\ntypo = 1\\n'")
    assert status == 3
    assert "unknown key" in err
    assert "claude-bottle run ended with status 2" in err
    demo.assert_nothing_is_left()


def test_a_step_that_fails_leaves_nothing(demo: Demo) -> None:
    status, _, err = demo.run_changed("Stage.write_configuration = lambda self: 1 / 0")
    assert status == 1
    assert "ZeroDivisionError" in err
    demo.assert_nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing(demo: Demo, number: signal.Signals) -> None:
    running = demo.start(*CLI, "demo")
    assert running.stdout is not None
    for line in running.stdout:
        if "ssh forge" in line:
            break
    running.send_signal(number)
    status, _, err = demo.finish(running)
    assert (status, err) == (128 + number, "")
    demo.assert_nothing_is_left()


def test_a_missing_program_is_named_with_its_package(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> None:
    programs = tmp_path_factory.mktemp("bin")
    for name in ("ssh", "ssh-keygen", "bash", "git"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    demo.env["PATH"] = str(programs)
    status, out, err = demo.run()
    assert (status, out) == (3, "")
    assert "not installed: rsync" in err
    assert "apt-get install -y rsync" in err
    demo.assert_nothing_is_left()
