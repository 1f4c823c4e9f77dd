"""The paragraph on energy that reproducibility checklists ask of a paper, in several languages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.analysis.compare_regions import zones_of
from carbonmon.analysis.required.languages import LANGUAGES, Language
from carbonmon.runs.report.equivalents import known_carbon
from carbonmon.runs.report.impact import hardware
from carbonmon.runs.summary.figures import (
    ENERGY_UNITS,
    GRAMS,
    JOULES,
    MASS_UNITS,
    energy_text,
    figure,
    mass_text,
    unit_of,
)
from carbonmon.runs.summary.strings import one_line

_ORDER = ("token", "sample", "step")
_WHOLE = 1.0 - 1e-9


def paragraph(summary: Mapping[str, Any], language: str = "en") -> str:
    """Plain text on one line, ending in a newline; `language` is one of `LANGUAGES`."""
    words = LANGUAGES[language]
    return words.gap.join(_sentences(summary, words)) + "\n"


def _sentences(summary: Mapping[str, Any], words: Language) -> list[str]:
    run, energy, carbon = summary["run"], summary["energy"], known_carbon(summary)
    used = one_line(hardware(summary["energy"]["devices"]), 400) or words.no_device
    ran = words.ran_for_unknown if run["duration_s"] is None else words.ran
    found = [ran.format(duration=_duration(run["duration_s"], words), hardware=used)]
    total_j = energy["total_j"]
    scope = words.scope_of_estimate if summary["state"] == "estimated" else words.scope
    scope = scope.format(version=summary["monitor"]["version"])
    if total_j is None:
        return [*found, words.energy_unknown, scope]
    unit = unit_of(total_j, ENERGY_UNITS)
    low, high = (
        None if end is None else _local(figure(end / JOULES[unit]), words)
        for end in (energy["low_j"], energy["high_j"])
    )
    is_stated = (energy.get("stated_j") or 0.0) >= total_j * _WHOLE > 0
    text = words.energy_without_range if is_stated or low is None or high is None else words.energy
    found.append(text.format(energy=_local(energy_text(total_j, unit), words), low=low, high=high))
    if total_j:
        found.append(words.stated if is_stated else _known(energy, words))
    found += _emissions(carbon, words, _source(summary))
    found += _work(summary.get("work"), words)
    return [*found, scope]


def _duration(seconds: float | None, words: Language) -> str:
    """Hours, minutes or seconds, with the signs that all languages have."""
    if seconds is None:
        return ""
    size, sign = next(
        each for each in ((3600.0, "h"), (60.0, "min"), (1.0, "s")) if seconds >= each[0] or each[0] == 1
    )
    return f"{_local(figure(seconds / size), words)} {sign}"


def _known(energy: Mapping[str, Any], words: Language) -> str:
    """How much of it was measured, estimated or given; both shares of what is mixed."""
    measured, stated_j = energy["measured_ratio"], energy.get("stated_j")
    if measured is None:
        return words.how_unknown
    if measured == 1:
        return words.measured
    if measured == 0 and not stated_j:
        return words.estimated
    text, ratio = (
        (words.partly, measured) if measured else (words.partly_stated, stated_j / energy["total_j"])
    )
    share = min(99.9, max(0.1, round(100.0 * ratio, 1)))
    return text.format(share=_local(f"{share:.1f}", words), rest=_local(f"{100.0 - share:.1f}", words))


def _source(summary: Mapping[str, Any]) -> str:
    """Zone, source, year and basis of the intensity; of an estimate at several places those of each."""
    carbon = known_carbon(summary)
    parts = [carbon.get("intensity") or {}]
    if len(zones_of(summary)) > 1:
        parts = sorted(carbon["sources"], key=lambda part: -part["energy_j"])
    texts = (
        ", ".join(str(part[key]) for key in ("zone", "source", "year", "basis") if part.get(key))
        for part in parts
    )
    return one_line("; ".join(dict.fromkeys(texts)), 300)


def _emissions(carbon: Mapping[str, Any], words: Language, source: str) -> list[str]:
    grams, intensity = carbon["emissions_g"], carbon.get("intensity") or {}
    rate = intensity.get("mean_g_per_kwh")
    if grams is None or rate is None:
        return [words.emissions_unknown]
    unit = unit_of(grams, MASS_UNITS)
    low, high = (
        None if end is None else _local(figure(end / GRAMS[unit]), words)
        for end in (carbon["low_g"], carbon["high_g"])
    )
    has_range = low is not None and high is not None and (low != high or grams == 0)
    text = words.emissions if has_range else words.emissions_without_range
    return [
        text.format(
            rate=_local(figure(rate), words),
            source=source,
            mass=_local(mass_text(grams, unit), words),
            low=low,
            high=high,
        ),
        words.no_pue if carbon["pue"] == 1 else words.pue.format(pue=_local(f"{carbon['pue']:.3g}", words)),
    ]


def _work(work: Mapping[str, Any] | None, words: Language) -> list[str]:
    """Joules of the finest unit that the training code told."""
    for unit in _ORDER:
        joules = (work or {}).get(f"energy_per_{unit}_j")
        if joules is not None:
            energy = _local(f"{float(f'{joules:.3g}'):g} J", words)
            return [words.work.format(unit=words.units[unit], energy=energy)]
    return []


def _local(text: str, words: Language) -> str:
    """A figure with the language's decimal sign."""
    return text.replace(".", words.decimal)
