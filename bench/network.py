"""A network namespace of the benchmark's own, so that the host's packet filters and settings do not take part."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from claude_bottle.backend.local.process import libc

CLONE_NEWNET = 0x40000000
CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")
WANTED = ("cubic", "reno")
"""the kernel's own choices; bbr paces even on loopback, which costs half of a direct connection's throughput"""


def isolate() -> str:
    """Move this process into a network namespace with nothing but loopback; return what the traffic now runs on.

    Only root can do so here; for others everything runs on the host's loopback.
    """
    where = "the host's loopback"
    if os.geteuid() == 0 and libc.unshare(CLONE_NEWNET) == 0:
        subprocess.run(("ip", "link", "set", "lo", "up"), check=True, timeout=10)
        where = "a network namespace of its own"
        _prefer_plain_congestion_control()
    return f"{where}, {CONGESTION_CONTROL.read_text().strip()}"


def _prefer_plain_congestion_control() -> None:
    for name in WANTED:
        with suppress(OSError):
            CONGESTION_CONTROL.write_text(name)
            return
