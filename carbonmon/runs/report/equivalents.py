"""Everyday equivalents of a run's carbon and electricity: sentences, each with the source of its factor.

The factors are those of EPA's greenhouse gas equivalencies calculator (edition of 2024): an average US
petrol car, 0.393 kg CO2e a mile, is 0.244 kg a kilometre; an urban tree seedling takes up 60 kg in its first
ten years. A smartphone's 0.012 kWh a charge are those of an earlier edition; that of 2024 gives grams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.core.records import NamedTuple
from carbonmon.runs.summary.figures import figure

CAR_G_PER_KM = 244.0
SMARTPHONE_KWH_PER_CHARGE = 0.012
SEEDLING_G_PER_YEAR = 6_000.0
HOUSEHOLD_KWH_PER_YEAR = 10_500.0
REFRIGERATOR_KWH_PER_YEAR = 395.0
_SEEDLING_YEARS = 10.0
_HOUSEHOLDS = 2.0
"""From so many years on they are households, or refrigerators, for a year."""

_METRES = {"km": 1e3, "m": 1.0, "cm": 1e-2, "mm": 1e-3}
_YEARS = {
    "years": 1.0,
    "days": 1 / 365.25,
    "hours": 1 / 8766,
    "minutes": 1 / 525_960,
    "seconds": 1 / 31_557_600,
}
_ROUNDS_TO_ONE = 0.9995
"""From so much of a unit on a figure is given in it: 1.00 km, not 1000 m."""
_PERCENT = {"times": 1.0, "%": 1e-2}
_SMALLEST_SHOWN = 0.01
"""In the smallest unit: no equivalent is given for less."""

_WIDE_RATIO = 1.1
"""A range is given where high / low is larger than this."""


class Equivalent(NamedTuple):
    """`sentence` is written after the word "like" and has no full stop; `source` is the factor's source."""

    sentence: str
    source: str


def equivalents(summary: Mapping[str, Any]) -> list[Equivalent]:
    """The equivalents of the run; none for an amount that is unknown, 0 or too small."""
    carbon, energy = known_carbon(summary), summary["energy"]
    if energy["total_j"] is None or carbon["emissions_g"] is None:
        return []
    grams = _Amount(carbon["emissions_g"], carbon["low_g"], carbon["high_g"])
    joules = _Amount(energy["total_j"], energy["low_j"], energy["high_j"])
    # The grid in use is on both sides: grams over the grams of one charge are kWh over the kWh of one charge.
    facility = carbon["pue"] / JOULES_PER_KWH
    charges = joules.times(facility / SMARTPHONE_KWH_PER_CHARGE)
    found = [
        _car(grams.times(1e3 / CAR_G_PER_KM)),
        _smartphone(charges),
        _seedling(grams.times(1 / SEEDLING_G_PER_YEAR)),
        _household(joules.times(facility / HOUSEHOLD_KWH_PER_YEAR)),
        _refrigerator(joules.times(facility / REFRIGERATOR_KWH_PER_YEAR)),
    ]
    return [equivalent for equivalent in found if equivalent is not None]


def known_carbon(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settled carbon of a run if there is one, else the carbon as charged while it ran."""
    carbon: Mapping[str, Any] = summary["carbon"]
    settled: Mapping[str, Any] | None = summary.get("settled")
    return carbon if settled is None else {"pue": carbon["pue"], "low_g": None, "high_g": None, **settled}


class _Amount(NamedTuple):
    value: float
    low: float | None
    high: float | None

    def times(self, factor: float) -> _Amount:
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return _Amount(self.value * factor, low, high)

    def text(self, unit: str = "") -> str:
        """The figure with its unit, and its range where it is wide."""
        value = f"{_grouped(self.value)} {unit}".rstrip()
        if self.low is None or self.high is None or self.high <= self.low * _WIDE_RATIO:
            return value
        return f"{value} ({_grouped(self.low)} to {_grouped(self.high)})"


def _car(metres: _Amount) -> Equivalent | None:
    unit = _unit(metres, _METRES)
    if not unit:
        return None
    distance = metres.times(1 / _METRES[unit]).text(unit)
    return Equivalent(f"driving {distance} in a petrol car", "0.244 kg/km, US average: EPA 2024")


def _smartphone(charges: _Amount) -> Equivalent | None:
    unit = _unit(charges, _PERCENT)
    if not unit:
        return None
    count = charges.times(1 / _PERCENT[unit]).text(unit)
    sentence = f"charging a smartphone {count}" if unit == "times" else f"{count} of a smartphone's charge"
    return Equivalent(sentence, "0.012 kWh a charge: EPA, before 2024")


def _seedling(years: _Amount) -> Equivalent | None:
    unit = _unit(years, _YEARS)
    if not unit:
        return None
    if years.value >= _SEEDLING_YEARS:
        sentence = f"what {years.times(1 / _SEEDLING_YEARS).text()} tree seedlings take up in ten years"
    else:
        sentence = f"what a tree seedling takes up in {years.times(1 / _YEARS[unit]).text(unit)}"
    return Equivalent(sentence, "6 kg a year: EPA 2024")


def _household(years: _Amount) -> Equivalent | None:
    unit = _unit(years, _YEARS)
    if not unit:
        return None
    if years.value >= _HOUSEHOLDS:
        sentence = f"the electricity of {years.text()} US households in a year"
    else:
        sentence = f"the electricity of a US household in {years.times(1 / _YEARS[unit]).text(unit)}"
    return Equivalent(sentence, "10,500 kWh a year: EIA 2020")


def _refrigerator(years: _Amount) -> Equivalent | None:
    unit = _unit(years, _YEARS)
    if not unit:
        return None
    if years.value >= _HOUSEHOLDS:
        sentence = f"running {years.text()} refrigerators for a year"
    else:
        sentence = f"running a refrigerator for {years.times(1 / _YEARS[unit]).text(unit)}"
    return Equivalent(sentence, "395 kWh a year: US limit, 10 CFR 430.32(a)")


def _unit(amount: _Amount, units: Mapping[str, float]) -> str:
    """The largest unit in which the amount is at least 1, else the smallest; "" if it is too small."""
    smallest = list(units)[-1]
    if amount.value < units[smallest] * _SMALLEST_SHOWN:
        return ""
    return next((unit for unit, size in units.items() if amount.value >= _ROUNDS_TO_ONE * size), smallest)


def _grouped(number: float) -> str:
    """About three significant digits, with separators of thousands."""
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.0f}" if rounded >= 1000 else figure(rounded)
