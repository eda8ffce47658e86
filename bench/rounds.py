"""Take turns: rounds in which every way is measured once, each round in another order."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.load import LoadError

Figures = Mapping[str, float]
"""what one measurement yields: figure by name"""

FAILURES = (LoadError, OSError, subprocess.SubprocessError, ValueError)
"""what a measurement may end with without ending the benchmark"""


def rotated(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Yield every name once per round; round i begins with the i-th name, every other round runs backwards."""
    for number in range(rounds):
        start = number % len(names)
        order = [*names[start:], *names[:start]]
        yield from order if number % 2 == 0 else reversed(order)


class Samples:
    """Figures of several ways, by figure and way, in the order of the rounds."""

    def __init__(self, ways: Sequence[str]) -> None:
        self.ways = tuple(ways)
        self.failures: list[str] = []
        """one line for each measurement that failed"""
        self._values: dict[str, dict[str, list[float]]] = {}

    def of(self, figure: str) -> dict[str, list[float]]:
        """Return one figure's samples by way; a way without any has failed in every round."""
        found = self._values.get(figure, {})
        return {way: found.get(way, []) for way in self.ways}

    def take(self, way: str, measure: Callable[[str], Figures]) -> None:
        """Measure one way once."""
        try:
            for figure, value in measure(way).items():
                self._values.setdefault(figure, {}).setdefault(way, []).append(value)
        except FAILURES as error:
            self.failures.append(f"{way}: {error}")


def run_rounds(ways: Sequence[str], rounds: int, measure: Callable[[str], Figures], *, warm_up: bool = True) -> Samples:
    """Measure all ways in turns; `warm_up` runs one round before that does not count."""
    if warm_up:
        ignored = Samples(ways)
        for way in ways:
            ignored.take(way, measure)
    samples = Samples(ways)
    for way in rotated(ways, rounds):
        samples.take(way, measure)
        show_progress()
    return samples


def show_progress(text: str = ".") -> None:
    """One dot per measurement, for people."""
    if sys.stderr.isatty():
        sys.stderr.write(text)
        sys.stderr.flush()
