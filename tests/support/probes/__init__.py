"""Every way out of a bottle that is tried, as data: what it is, the program that tries it, what must stand outside.

A probe is run unchanged outside, where it must succeed, and inside, where it must not: one that fails in both places
proves nothing. The programs are in `inside/`, which a bottle mounts and runs with the system's Python.
"""

from pathlib import Path

from tests.support.probes.calls import CALLS
from tests.support.probes.look import FILES, PROCESSES
from tests.support.probes.probe import CONTROL, Probe
from tests.support.probes.reach import LOCAL, NETWORK

PROGRAM = Path(__file__).with_name("inside")
"""folder to be run by Python"""

PROBES = (*NETWORK, *LOCAL, *FILES, *PROCESSES, *CALLS)
"""all of them"""

__all__ = ["CONTROL", "PROBES", "PROGRAM", "Probe"]
