"""Software Carbon Intensity of a run: ISO/IEC 21031:2024, SCI = ((E × I) + M) per R.

E is the energy in kWh, here with the PUE; I the location-based intensity in g/kWh; M the embodied emissions
that belong to the run, as a range of published figures; R the functional unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.analysis.embodied import of_summary
from carbonmon.core.errors import ConfigError
from carbonmon.runs.report.equivalents import known_carbon
from carbonmon.runs.summary.figures import figure, fine_mass_text

UNITS = {"step": "steps", "epoch": "epochs", "sample": "samples", "token": "tokens", "request": None}
"""The functional units, and the count of the run's work that each is; requests are told with the command."""


def sci_document(summary: Mapping[str, Any], per: str, units: float | None = None) -> dict[str, Any]:
    """The parts of the formula and the score; `units` in place of what the run's code told.

    Raises ConfigError where nobody told how many units there were, or nothing is known of the energy.
    """
    carbon, total_kwh = known_carbon(summary), summary["energy"]["total_kwh"]
    number = _number(summary, per) if units is None else units
    if not number:
        told = f"run.progress({UNITS[per]}=…)" if UNITS[per] else "nothing counts them"
        raise ConfigError(
            f"--per {per}: how many {per}s run {summary['run']['id']!r:.70} did is unknown ({told}): give "
            "--units N"
        )
    if total_kwh is None or carbon["emissions_g"] is None:
        raise ConfigError(f"--per {per}: nothing is known of the energy of run {summary['run']['id']!r:.70}")
    made = of_summary(summary)
    low_m, high_m = made.low_g, made.high_g
    operational_g, ends = carbon["emissions_g"], (carbon["low_g"], carbon["high_g"])
    has_range = None not in (*ends, low_m, high_m)
    return {
        "functional_unit": per,
        "units": number,
        "energy_kwh": total_kwh * carbon["pue"],
        "intensity_g_per_kwh": (carbon.get("intensity") or {}).get("mean_g_per_kwh"),
        "operational_g": operational_g,
        "embodied_low_g": low_m,
        "embodied_high_g": high_m,
        "embodied_unknown": list(made.unknown),
        "sci_g": None if low_m is None or high_m is None else (operational_g + (low_m + high_m) / 2) / number,
        "sci_low_g": (ends[0] + low_m) / number if has_range else None,
        "sci_high_g": (ends[1] + high_m) / number if has_range else None,
        "operational_per_unit_g": operational_g / number,
    }


def _number(summary: Mapping[str, Any], per: str) -> float | None:
    key = UNITS[per]
    count: float | None = None if key is None else (summary.get("work") or {}).get(key)
    return count


def sci_text(summary: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The score and its parts for people, ending in a newline."""
    per, rate = found["functional_unit"], found["intensity_g_per_kwh"]
    if found["sci_g"] is None:
        operational = fine_mass_text(found["operational_per_unit_g"])
        score = f"unknown: no embodied figure is known; E × I alone is {operational}"
    else:
        span = (
            "range unknown"
            if found["sci_low_g"] is None
            else f"{fine_mass_text(found['sci_low_g'])} to {fine_mass_text(found['sci_high_g'])}"
        )
        score = f"{fine_mass_text(found['sci_g'])} CO2e per {per} ({span})"
    unknown = f"; unknown of {', '.join(found['embodied_unknown'])}" if found["embodied_unknown"] else ""
    embodied = (
        "unknown"
        if found["embodied_low_g"] is None
        else f"{fine_mass_text(found['embodied_low_g'])} to {fine_mass_text(found['embodied_high_g'])} "
        f"of published figures, the score has the middle{unknown}"
    )
    lines = [
        f"SCI of run {summary['run']['id']}, ISO/IEC 21031:2024: ((E × I) + M) per R",
        f"  SCI  {score}",
        f"  E    {found['energy_kwh']:.6g} kWh, PUE included",
        f"  I    {'unknown' if rate is None else f'{figure(rate)} g CO2e/kWh'}, location-based",
        f"  M    {embodied}",
        f"  R    {found['units']:,.15g} {per}s",
        "  The boundary is the metered devices and the building by its PUE: no network, no clients.",
    ]
    return "\n".join(lines) + "\n"
