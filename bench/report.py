"""Rows of figures, the targets beside them, and how both are shown. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Target:
    """A bound on our figure: on its ratio to another way's, or on the figure itself."""

    bound: float
    """the bound"""
    peer: str = ""
    """way that the ratio is to; empty: the figure itself is bounded"""
    at_least: bool = False
    """whether the bound is the lowest allowed; else the highest"""

    def met(self, figures: Mapping[str, float | None], ours: str) -> bool | None:
        """Return whether the bound holds; None when a figure is missing."""
        own, other = figures.get(ours), figures.get(self.peer) if self.peer else 1.0
        if own is None or not other:
            return None
        value = own / other
        return value >= self.bound if self.at_least else value <= self.bound

    def show(self, figures: Mapping[str, float | None], ours: str) -> str:
        """Return the bound and the verdict as text."""
        verdict = {True: "met", False: "MISSED", None: "not measured"}[self.met(figures, ours)]
        peer = f"x {self.peer}" if self.peer else ""
        return f"{'>=' if self.at_least else '<='} {self.bound:g}{peer}: {verdict}"


@dataclass(frozen=True)
class Row:
    """One figure, measured for several ways."""

    title: str
    """what it is"""
    unit: str
    """its unit"""
    ours: str
    """the way that is this project's and that the others are compared with"""
    samples: Mapping[str, Sequence[float]]
    """samples by way, in the order of the columns; a way without any could not be measured"""
    targets: tuple[Target, ...] = ()
    """what was to be reached"""

    @property
    def medians(self) -> Mapping[str, float | None]:
        """Median by way."""
        return {way: median(values) if values else None for way, values in self.samples.items()}

    def ratio(self, way: str) -> float | None:
        """Our median as a multiple of another way's."""
        own, other = self.medians[self.ours], self.medians[way]
        return None if own is None or not other or way == self.ours else own / other

    def as_json(self) -> dict[str, Any]:
        """Return everything known about the row."""
        medians = self.medians
        return {
            "figure": self.title,
            "unit": self.unit,
            "ours": self.ours,
            "medians": medians,
            "ratios": {way: self.ratio(way) for way in medians if way != self.ours},
            "samples": {way: list(values) for way, values in self.samples.items()},
            "targets": [
                {"text": target.show(medians, self.ours), "met": target.met(medians, self.ours)}
                for target in self.targets
            ],
        }


def render_table(rows: Sequence[Row]) -> str:
    """Return rows as text; those that compare the same ways stand in one table, in the order of their first."""
    tables: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        tables.setdefault(tuple(row.samples), []).append(row)
    return "\n\n".join(_render_one(ways, found) for ways, found in tables.items())


def _render_one(ways: Sequence[str], rows: Sequence[Row]) -> str:
    lines = [["figure", "unit", *ways, "target"]]
    lines += [[row.title, row.unit, *(_cell(row, way) for way in ways), _targets(row)] for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    texts = [_justify(line, widths) for line in lines]
    return "\n".join([texts[0], "-" * len(texts[0]), *texts[1:]])


def _justify(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, figures to the right."""
    words = {0, 1, len(cells) - 1}
    return "  ".join(
        text.ljust(width) if column in words else text.rjust(width)
        for column, (text, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()


def _cell(row: Row, way: str) -> str:
    """A median and, for the ways that are not ours, how many times that ours is."""
    value, ratio = row.medians[way], row.ratio(way)
    if value is None:
        return "-"
    return f"{_number(value)}" + (f" ({_number(ratio)}x)" if ratio is not None else "")


def _targets(row: Row) -> str:
    return ", ".join(target.show(row.medians, row.ours) for target in row.targets)


def _number(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
