"""Reads quantities as publications print them: `433MWh`, `1.3M`, `7B`, `3.14e23`; pure."""

from __future__ import annotations

import math
import re
from typing import Any

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import JOULES_PER_KWH

SCALES = {
    "": 1.0,
    "k": 1e3,
    "K": 1e3,
    "M": 1e6,
    "B": 1e9,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    "Z": 1e21,
}
"""B is the billion of English texts; the others are SI prefixes."""
JOULES = {
    **{"Wh": JOULES_PER_KWH / 1e3, "kWh": JOULES_PER_KWH, "MWh": JOULES_PER_KWH * 1e3},
    **{"GWh": JOULES_PER_KWH * 1e6, "TWh": JOULES_PER_KWH * 1e9},
    **{"J": 1.0, "kJ": 1e3, "MJ": 1e6, "GJ": 1e9, "TJ": 1e12},
}
WATTS = {"W": 1.0, "kW": 1e3, "MW": 1e6}

_PARTS = re.compile(r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(\S*)")
_GROUPS = re.compile(r"[0-9]{1,3}(?:[, _][0-9]{3})+(?=\D|$)")


def number_of(value: Any, place: str, what: str, low: float, high: float, example: str) -> float:
    """A number that may end in a scale, from `low` to `high`; raises ConfigError that begins with `place`."""
    number, scale = _split(value, place, what, example)
    if scale not in SCALES:
        raise _wrong(value, place, what, f"{scale!r:.20} is no scale: k, M, B, T or P", example)
    return _within(number * SCALES[scale], value, place, what, low, high, example)


def energy_j_of(value: Any, place: str) -> float:
    """An energy with its unit, in joules; raises ConfigError that begins with `place`."""
    return _with_unit(value, place, "an energy", JOULES, "", 1e-3, 1e21, "433MWh")


def power_w_of(value: Any, place: str) -> float:
    """A power in watts, or with its unit; raises ConfigError that begins with `place`."""
    return _with_unit(value, place, "a power", WATTS, "W", 1e-3, 1e12, "1415.78W")


def _with_unit(
    value: Any,
    place: str,
    what: str,
    units: dict[str, float],
    default: str,
    low: float,
    high: float,
    example: str,
) -> float:
    number, unit = _split(value, place, what, example)
    unit = unit or default
    if unit not in units:
        fault = f"{unit!r:.20} is no unit of it{_meant(unit, units)}" if unit else "its unit is missing"
        raise _wrong(value, place, what, fault, example)
    return _within(number * units[unit], value, place, what, low, high, example)


def _meant(unit: str, units: dict[str, float]) -> str:
    """The unit that differs by capitals only, else all; where several do (mW, MW) nobody is guessed for."""
    like = [known for known in units if known.lower() == unit.lower()]
    return f"; did you mean {like[0]!r}?" if len(like) == 1 else f": {', '.join(units)}"


def _split(value: Any, place: str, what: str, example: str) -> tuple[float, str]:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ConfigError(f"{place} must be a number, or a text such as {example!r}")
    if isinstance(value, int) and value.bit_length() > 128:
        raise ConfigError(f"{place} is too large a number")
    text = " ".join(str(value).split())[:60]
    if grouped := _GROUPS.match(text):
        plain = re.sub(r"[, _]", "", grouped[0]) + text[grouped.end() :]
        raise _wrong(value, place, what, "digits are grouped", plain)
    hit = _PARTS.fullmatch(text)
    if hit is None:
        has_unit = re.fullmatch(r"[A-Za-z]+", text) is not None
        raise _wrong(value, place, what, "a unit without a number" if has_unit else "no number", example)
    return float(hit[1]), hit[2]


def _within(number: float, value: Any, place: str, what: str, low: float, high: float, example: str) -> float:
    if not (math.isfinite(number) and low <= number <= high):
        raise _wrong(value, place, what, "it is out of range", example)
    return number


def _wrong(value: Any, place: str, what: str, fault: str, example: str) -> ConfigError:
    return ConfigError(f"{place}: {str(value)!r:.60} is not {what}: {fault}; give for example {example}")
