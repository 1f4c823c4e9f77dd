"""One measured figure with its expectation, and the book that collects them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

AS_EXPECTED, NOT_AS_EXPECTED = "as expected", "NOT as expected"
NOT_AVAILABLE, NOTED = "not available", "noted"


@dataclass(frozen=True)
class Figure:
    """`value` is None where it could not be measured; then `note` says why. `verdict` is one of four words.

    `source` is where the expectation is from; a figure that is only noted has none. `parts` are the numbers
    of a value that is a text, with their units in their names.
    """

    group: str
    name: str
    value: float | str | None
    unit: str
    expected: str
    verdict: str
    source: str = ""
    note: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Book:
    """The figures in the order in which they were measured; `group` is that of the next ones."""

    group: str = ""
    figures: list[Figure] = field(default_factory=list)

    def between(
        self,
        name: str,
        value: float | None,
        low: float | None,
        high: float | None,
        unit: str,
        source: str,
        note: str = "",
        why: str = "NVML does not say it",
    ) -> None:
        """A number that is to lie in a range; None leaves one end open. `why` a value is missing."""
        if low is None:
            expected = f"at most {number(high)} {unit}"
        elif high is None:
            expected = f"at least {number(low)} {unit}"
        elif low == -high:
            expected = f"±{number(high)} {unit}"
        else:
            expected = f"{number(low)} to {number(high)} {unit}"
        if value is None:
            verdict, note = NOT_AVAILABLE, why
        else:
            is_in = (low is None or value >= low) and (high is None or value <= high)
            verdict = AS_EXPECTED if is_in else NOT_AS_EXPECTED
        self._add(name, value, unit, expected.strip(), verdict, source, note)

    def holds(
        self,
        name: str,
        value: float | str | None,
        is_right: bool,
        expected: str,
        source: str,
        note: str = "",
        parts: Mapping[str, float] | None = None,
    ) -> None:
        """A value that was judged by the caller; `expected` says by what."""
        verdict = NOT_AVAILABLE if value is None else AS_EXPECTED if is_right else NOT_AS_EXPECTED
        figure = Figure(self.group, name, value, "", expected, verdict, source, note, parts or {})
        self.figures.append(figure)

    def note(
        self,
        name: str,
        value: float | str | None,
        unit: str = "",
        note: str = "",
        why: str = "NVML does not say it",
    ) -> None:
        """A value of which nothing is expected."""
        is_there = value is not None
        self._add(name, value, unit, "", NOTED if is_there else NOT_AVAILABLE, "", note if is_there else why)

    def missing(self, name: str, why: str) -> None:
        """What could not be measured at all."""
        self._add(name, None, "", "", NOT_AVAILABLE, "", why)

    def _add(
        self,
        name: str,
        value: float | str | None,
        unit: str,
        expected: str,
        verdict: str,
        source: str,
        note: str,
    ) -> None:
        self.figures.append(Figure(self.group, name, value, unit, expected, verdict, source, note))

    def count(self, verdict: str) -> int:
        return sum(figure.verdict == verdict for figure in self.figures)


def number(value: float | None) -> str:
    """Three significant digits, without an exponent for what people measure here."""
    if value is None:
        return ""
    if abs(value) < 0.0005:
        return "0"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent_off(value: float | None, reference: float | None) -> float | None:
    """How far a value is from its reference, in percent of the reference."""
    if value is None or not reference:
        return None
    return (value / reference - 1.0) * 100.0
