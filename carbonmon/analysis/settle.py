"""Recalculates a run's emissions: the energy of each minute with the actual grid intensity of that minute.

A run's series holds running totals at moments. The energy between two of them is taken as drawn evenly: over
a minute that is more precise than any grid's figures, over an outage of the monitor nothing more is known.
The energy itself is not changed: it adds up to the run's summary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.core.timeline import Slot, Timeline
from carbonmon.core.times import known_time
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.series import read_series
from carbonmon.runs.summary.figures import percent_text

Key = tuple[str, str]
"""A phase and a component."""

ROUNDING_J = 0.001
"""A row of the series is rounded to so many joules; a larger difference is no rounding."""


class Stretch(NamedTuple):
    """The energy between two moments (Unix seconds), and the intensity that it was charged with live."""

    start_s: float
    end_s: float
    energy_j: Mapping[Key, float]
    live_g_per_kwh: float


class Settlement(NamedTuple):
    """Grams by phase and component, with PUE; and their sources.

    `origins` is the energy by the (note, kind) of the slots that it was charged with. `filled_j` was charged
    with the live figure, `filled_g` in all, in the `gaps` (start_s, end_s) of the timeline.
    """

    emissions_g: Mapping[Key, float]
    energy_j: float
    origins: Mapping[tuple[str, str], float]
    filled_j: float
    filled_g: float
    gaps: Sequence[tuple[float, float]]


class Origin(NamedTuple):
    """Zone, source, basis and accounting of figures, as in `Intensity`."""

    zone: str
    source: str
    basis: str | None = None
    accounting: str | None = None


def settle(stretches: Iterable[Stretch], timeline: Timeline, pue_ratio: float) -> Settlement:
    """Charge each stretch with the timeline's mean (gCO2e/kWh) over it, gaps with the live figure; pure."""
    grams: dict[Key, float] = {}
    origins: dict[tuple[str, str], float] = {}
    gaps: list[tuple[float, float]] = []
    whole_j = filled_j = filled_g = 0.0
    for stretch in stretches:
        drawn_j = sum(stretch.energy_j.values())
        whole_j += drawn_j
        if not any(stretch.energy_j.values()):
            continue
        start_s, end_s = stretch.start_s, stretch.end_s
        pieces: Iterable[tuple[float, float, Slot | None]] = timeline.pieces(start_s, end_s)
        if end_s <= start_s:
            pieces = [(start_s, start_s, timeline.at(start_s))]
        mean_g_per_kwh = 0.0
        for from_s, to_s, slot in pieces:
            part = (to_s - from_s) / (end_s - start_s) if end_s > start_s else 1.0
            if slot is None:
                filled_j += part * drawn_j
                filled_g += part * drawn_j / JOULES_PER_KWH * pue_ratio * stretch.live_g_per_kwh
                if part * drawn_j > ROUNDING_J:
                    gaps.append((from_s, to_s))
                mean_g_per_kwh += part * stretch.live_g_per_kwh
            else:
                origin = slot.note, slot.kind
                origins[origin] = origins.get(origin, 0.0) + part * drawn_j
                mean_g_per_kwh += part * slot.value
        for key, joules in stretch.energy_j.items():
            grams[key] = grams.get(key, 0.0) + joules / JOULES_PER_KWH * pue_ratio * mean_g_per_kwh
    return Settlement(grams, whole_j, origins, filled_j, filled_g, _joined(gaps))


def read_stretches(
    folder: Path, summary: Mapping[str, Any], end_s: float | None
) -> tuple[list[Stretch], list[str]]:
    """The stretches of a run between its start, the moments of its series, and the totals of its summary.

    `end_s` is the time of the summary's totals. The remarks say what is missing. Raises RunFileError where
    the files do not belong together.
    """
    moments, damaged = read_series(folder)
    remarks = []
    if damaged:
        remarks.append(f"{len(damaged)} damaged lines of the series are left out")
    final = _final(summary)
    has_components = all(component for _, component in final)
    of_device = {device["id"]: device["component"] for device in summary["energy"]["devices"]}
    start_s = known_time(summary["run"]["started_at"])
    if start_s is None:
        start_s = moments[0]["at_s"] - moments[0]["duration_s"] if moments else end_s or 0.0
    before: Mapping[Key, float] = {}
    charged_g = 0.0
    carbon = summary["carbon"]
    stated_g_per_kwh = carbon["intensity"]["mean_g_per_kwh"] or 0.0
    stretches = []
    for moment in moments:
        at_s = max(start_s, moment["at_s"])
        now: Counter[Key] = Counter()
        for phase, device, _, joules in moment["energy_j"]:
            if device not in of_device:
                raise RunFileError(
                    f"{folder}: the series has {device!r:.60}, and the summary does not know it"
                )
            now[phase, of_device[device] if has_components else ""] += joules
        stated_g_per_kwh = moment["intensity_g_per_kwh"]
        drawn = _difference(now, before)
        live_g_per_kwh = _live(drawn, moment["emissions_g"] - charged_g, carbon["pue"], stated_g_per_kwh)
        stretches.append(Stretch(start_s, at_s, drawn, live_g_per_kwh))
        start_s, before, charged_g = at_s, now, moment["emissions_g"]
    rest = _difference(final, before)
    rounding_j = ROUNDING_J * (len(moments[-1]["energy_j"]) if moments else 1)
    if any(joules < -rounding_j for joules in rest.values()):
        surplus_j = -sum(joules for joules in rest.values() if joules < 0)
        raise RunFileError(
            f"{folder}: the series holds {surplus_j:.3f} J more than the summary: they are not of the same "
            "time; finish the run first, or give the folder as its monitor left it"
        )
    if stretches and all(joules <= rounding_j for joules in rest.values()):
        last = stretches.pop()
        drawn = {key: last.energy_j.get(key, 0.0) + joules for key, joules in rest.items()}
        stretches.append(last._replace(energy_j=drawn))
    else:
        live_g_per_kwh = _live(rest, carbon["emissions_g"] - charged_g, carbon["pue"], stated_g_per_kwh)
        stretches.append(Stretch(start_s, max(start_s, end_s or start_s), rest, live_g_per_kwh))
    if not moments:
        remarks.append("the series is empty: all energy is taken to be drawn evenly from start to end")
    lacking_j = summary["energy"]["total_j"] - sum(final.values())
    if abs(lacking_j) > max(10 * ROUNDING_J, 1e-6 * summary["energy"]["total_j"]):
        remarks.append(f"{lacking_j:.3f} J of the total are in no phase, and are not settled")
    return stretches, remarks


def describe(
    result: Settlement,
    summary: Mapping[str, Any],
    origins: Mapping[str, Origin],
    remarks: Sequence[str],
    settled_at: str,
) -> dict[str, Any]:
    """`settled` of summary.json. `origins` has the origin of a slot by its note."""
    energy, live, pue = summary["energy"], summary["carbon"], summary["carbon"]["pue"]
    grams = max(0.0, sum(result.emissions_g.values()))
    drawn_j, filled_g = result.energy_j, min(grams, max(0.0, result.filled_g))
    ends_g = {
        end: _sum_known(
            _scaled(grams - filled_g, energy[f"{end}_j"], energy["total_j"]),
            _scaled(filled_g, live[f"{end}_g"], live["emissions_g"]),
        )
        for end in ("low", "high")
    }
    return {
        "emissions_g": grams,
        "low_g": ends_g["low"],
        "high_g": ends_g["high"],
        "pue": pue,
        "settled_at": settled_at,
        "intensity": {
            "mean_g_per_kwh": grams / (drawn_j / JOULES_PER_KWH * pue) if drawn_j > 0 else None,
            **_intensity(result, origins, remarks),
        },
        "covered_ratio": min(1.0, max(0.0, 1 - result.filled_j / drawn_j)) if drawn_j > 0 else None,
    }


def _intensity(
    result: Settlement, origins: Mapping[str, Origin], remarks: Sequence[str]
) -> dict[str, str | None]:
    """The origin of the figures of most of the energy, and the others in the note."""
    sources: dict[str, float] = {}
    kinds: dict[str, float] = {}
    for (note, kind), joules in sorted(result.origins.items(), key=lambda item: -item[1]):
        sources[note] = sources.get(note, 0.0) + joules
        kinds[kind] = kinds.get(kind, 0.0) + joules
    notes = list(remarks)
    if len(sources) > 1:
        parts = (
            f"{percent_text(part_j / result.energy_j)} {origins[note].source}"
            for note, part_j in sources.items()
        )
        notes.append(f"of the energy: {', '.join(parts)}")
    if len({origins[note].basis for note in sources}) > 1:
        notes.append("figures of different basis are added")
    if "forecast" in kinds:
        part = percent_text(kinds["forecast"] / result.energy_j)
        notes.append(f"{part} of the energy with forecasts: settle again when the grid's figures are known")
    if result.filled_j > ROUNDING_J:
        notes.append(f"{percent_text(result.filled_j / result.energy_j)} of the energy with the live figure")
    origin = origins[next(iter(sources or origins))]
    weakest = "forecast" if "forecast" in kinds else next(iter(kinds), None)
    return {**origin._asdict(), "kind": weakest, "note": "; ".join(notes) or None}


def _scaled(grams: float, end: float | None, whole: float) -> float | None:
    """An end of the grams' range, in the same ratio as the end of another range to its whole.

    For settled grams the range is that of the energy, because the intensity is taken as exact; for grams by
    the live figure it is the live range.
    """
    if not grams or not whole:
        return grams
    return None if end is None else grams * end / whole


def _sum_known(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second


def _final(summary: Mapping[str, Any]) -> Counter[Key]:
    """Joules by phase and component; with "" for the component where an older summary does not have it."""
    phases = summary["energy"]["phases"]
    has_components = all("components" in phase for phase in phases.values())
    final: Counter[Key] = Counter()
    for name, phase in phases.items():
        parts = phase["components"] if has_components else {"": phase}
        for component, part in parts.items():
            final[name, component] += part["energy_j"]
    return final


def _difference(now: Mapping[Key, float], before: Mapping[Key, float]) -> dict[Key, float]:
    return {key: now.get(key, 0.0) - before.get(key, 0.0) for key in {**before, **now}}


def _live(drawn: Mapping[Key, float], charged_g: float, pue_ratio: float, stated_g_per_kwh: float) -> float:
    """The figure that a stretch was charged with; the stated one where there is too little energy to know."""
    drawn_j = sum(drawn.values())
    if drawn_j < 1.0 or pue_ratio <= 0:
        return stated_g_per_kwh
    return max(0.0, charged_g / (drawn_j / JOULES_PER_KWH * pue_ratio))


def _joined(gaps: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Adjacent gaps as one."""
    joined: list[tuple[float, float]] = []
    for start_s, end_s in gaps:
        if joined and start_s <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end_s)
        else:
            joined.append((start_s, end_s))
    return joined
