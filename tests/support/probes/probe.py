"""One way out of a bottle.

Its arguments are texts in which `{...}` are facts about the canaries (`tests.support.planted` has them all). `{token}`
is new for each run, so that what arrives at a canary names the probe and the place it ran in.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """One way out."""

    name: str
    """what it is called, in tests and reports"""
    what: str
    """what a bottle could do if it were open, as a half sentence"""
    program: str
    """`module.function` in the program folder"""
    arguments: tuple[str, ...] = ()
    """its arguments, with facts in braces"""
    effect: str = ""
    """fact that names a file outside; the probe has succeeded when, and only when, its token has come there"""
    needs: str = ""
    """what the machine must have for the probe to succeed outside; where it has not, the probe is skipped"""


ROOT = "root; run: sudo make test"
"""`needs` of what the kernel lets only root do"""
TOKEN = ("{token}",)


CONTROL = Probe(
    "declared host", "reach the declared host", "network.tcp", ("{far}", "{declared_port}", *TOKEN), "far_log"
)
"""what must succeed inside too: else the bottle is sealed because it is broken"""
