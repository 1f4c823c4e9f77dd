"""Recalculates a run's emissions: the energy of each stretch of time with the actual grid intensity then.

The energy itself is not changed: it adds up to the run's summary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from carbonmon.analysis.stretches import ROUNDING_J, Key, Stretch
from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.core.records import NamedTuple
from carbonmon.core.timeline import Slot, Timeline
from carbonmon.runs.summary.figures import percent_text


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
    """Zone, source, basis, accounting and year of figures, as in `Intensity`."""

    zone: str
    source: str
    basis: str | None = None
    accounting: str | None = None
    year: int | None = None


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


def _intensity(result: Settlement, origins: Mapping[str, Origin], remarks: Sequence[str]) -> dict[str, Any]:
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


def _joined(gaps: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Adjacent gaps as one."""
    joined: list[tuple[float, float]] = []
    for start_s, end_s in gaps:
        if joined and start_s <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end_s)
        else:
            joined.append((start_s, end_s))
    return joined
