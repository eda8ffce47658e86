"""Start, feed and stop the gate process of one bottle."""

import json
import os
import select
import socket
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from claude_bottle.backend.local.process import spawn
from claude_bottle.errors import BackendError

CONTROL_FD = 3
READY_TIMEOUT_S = 10.0
STOP_GRACE_S = 2.0
LAST_WORDS = 2000
"""characters of a dead gate's log that are shown"""

PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from claude_bottle.relay.main import main; raise SystemExit(main(3))"
)
"""the whole command of the gate: isolated from site-packages, the environment and the current folder"""


class Gate:
    """A gate process and the control socket that keeps it alive."""

    def __init__(self, log: Path) -> None:
        """Start the process.

        Raises:
            OSError: the log cannot be opened.
        """
        self._log = log
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        root = str(Path(__file__).parents[3])
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self.process = spawn(
                (sys.executable, "-I", "-S", "-c", PROGRAM, root),
                env={"LC_ALL": "C.UTF-8"},
                fds={2: log_fd, CONTROL_FD: theirs.fileno()},
            )
        finally:
            theirs.close()
            os.close(log_fd)

    def configure(self, config: Mapping[str, object]) -> None:
        """Send the configuration; the listeners follow on the same socket."""
        text = json.dumps(config).encode()
        with suppress(BrokenPipeError):  # `wait_ready` says that it has ended
            self.control.sendall(struct.pack(">I", len(text)) + text)

    def wait_ready(self) -> None:
        """Return once the gate serves.

        Raises:
            BackendError: it said why not, ended, or did not answer in time.
        """
        self.process.require()
        answer = b""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        while not answer.endswith(b"\n"):
            if not poll.poll(READY_TIMEOUT_S * 1000):
                raise BackendError(f"the gate did not answer within {READY_TIMEOUT_S:g} s", where="gate")
            part = b""
            with suppress(ConnectionResetError):
                part = self.control.recv(65536)
            if not part:
                raise BackendError(f"the gate ended while it started{self.last_words()}", where="gate")
            answer += part
        said = json.loads(answer)
        if not said.get("ready"):
            raise BackendError(str(said.get("error", "no reason given")), where="gate")

    def last_words(self) -> str:
        """Return what the gate wrote to its log in the end, to be put behind a sentence."""
        text = self._log.read_text(errors="replace").strip()[-LAST_WORDS:]
        return f": {text}" if text else ""

    def stop(self) -> None:
        """End the gate in good order: its open connections get their last records; idempotent."""
        self.process.stop(STOP_GRACE_S)
        self.control.close()
