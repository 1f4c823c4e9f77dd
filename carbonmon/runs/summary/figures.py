"""Formats numbers for people: about three digits, in a unit by their size."""

from __future__ import annotations

import time

ENERGY_UNITS = ((3.6e9, "MWh"), (3.6e6, "kWh"), (3.6e4, "Wh"), (1e3, "kJ"), (0.0, "J"))
JOULES = {"MWh": 3.6e9, "kWh": 3.6e6, "Wh": 3.6e3, "kJ": 1e3, "J": 1.0}
MASS_UNITS = ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-12, "mg"), (0.0, "g"))
POWER_UNITS = ((1e6, "MW"), (1e3, "kW"), (0.0, "W"))
WATTS = {"MW": 1e6, "kW": 1e3, "W": 1.0}
GRAMS = {"t": 1e6, "kg": 1e3, "g": 1.0, "mg": 1e-3}


UNKNOWN = "unknown"


def energy_text(joules: float | None, unit: str = "") -> str:
    """Joules in a unit by their size, or in the given one; `unknown` for None."""
    if joules is None:
        return UNKNOWN
    unit = unit or unit_of(joules, ENERGY_UNITS)
    return f"{figure(joules / JOULES[unit])} {unit}"


def mass_text(grams: float | None, unit: str = "") -> str:
    """Grams in a unit by their size, or in the given one; `unknown` for None."""
    if grams is None:
        return UNKNOWN
    unit = unit or unit_of(grams, MASS_UNITS)
    return f"{figure(grams / GRAMS[unit])} {unit}"


def fine_mass_text(grams: float) -> str:
    """Grams of one token or one request: in micrograms and nanograms too."""
    if grams >= 1e-3 or grams == 0:
        return mass_text(grams)
    factor, unit = (1e-6, "µg") if grams >= 1e-6 else (1e-9, "ng")
    return f"{figure(grams / factor)} {unit}"


def co2e_text(grams: float | None, unit: str = "") -> str:
    """The same with what it is of: `4.16 mg CO2e`."""
    return UNKNOWN if grams is None else f"{mass_text(grams, unit)} CO2e"


def power_text(power_w: float, largest_w: float | None = None) -> str:
    """Watts in a unit by their size, or by that of `largest_w`: all of a column or an axis have one unit."""
    unit = unit_of(power_w if largest_w is None else largest_w, POWER_UNITS)
    return f"{figure(power_w / WATTS[unit])} {unit}"


def duration_text(seconds: float) -> str:
    """Seconds as days, hours, minutes and seconds; what is not quite nothing is not called so."""
    if 0.0 < seconds < 0.05:
        return "<0.1 s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def clock_text(at_s: float, seconds: bool = False) -> str:
    """A Unix time by the clock of this machine, with its date if that is not today's."""
    try:
        at, today = time.localtime(at_s), time.localtime()
    except (OverflowError, ValueError, OSError):
        return "unknown"
    clock = time.strftime("%H:%M:%S" if seconds else "%H:%M", at)
    return clock if at[:3] == today[:3] else f"{time.strftime('%Y-%m-%d', at)} {clock}"


def percent_text(ratio: float) -> str:
    """A ratio as a percentage that never rounds a part to all or to nothing."""
    if 0 < ratio < 0.001:
        return "<0.1 %"
    if 0.999 < ratio < 1:
        return ">99.9 %"
    return f"{100 * ratio:.1f} %"


def range_text(low: float | None, high: float | None, divisor: float) -> str:
    if low is None or high is None:
        return "range unknown"
    return f"{figure(low / divisor)} to {figure(high / divisor)}"


def unit_of(amount: float | None, units: tuple[tuple[float, str], ...]) -> str:
    """The first unit whose threshold the amount reaches; the last one is for 0 and for what is unknown."""
    return next(unit for threshold, unit in units if abs(amount or 0.0) >= threshold)


def figure(number: float) -> str:
    """About three significant digits, never in powers of ten."""
    size = abs(number)
    if size >= 100 or size == 0:
        return f"{number:.0f}"
    if size >= 10:
        return f"{number:.1f}"
    if size >= 1:
        return f"{number:.2f}"
    return f"{number:.3f}" if size >= 0.0005 else "<0.001"
