"""A comparison for a terminal, in Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from carbonmon.analysis.comparison import Comparison, Difference
from carbonmon.analysis.comparison.rounds import Medians, Rounds, least_chance
from carbonmon.runs.report.details import Section
from carbonmon.runs.summary.figures import duration_text, energy_text, figure, mass_text, percent_text
from carbonmon.runs.summary.strings import phase_text
from carbonmon.runs.summary.work_text import joules_text

SCHEMA = "carbonmon.comparison/1"
MOST_PHASES = 12
_UNKNOWN = "unknown"


def section(comparison: Comparison, *, is_short: bool = False) -> Section:
    """The comparison as a table with notes; `is_short` cuts the ids in its head, for a terminal."""
    base, other = (_name(summary["run"]) for summary in (comparison.base, comparison.other))
    return Section(
        f"{other} compared with {base}",
        ("", *(_head(each, is_short) for each in (comparison.base, comparison.other)), "difference", "range"),
        list(_rows(comparison)),
        list(_notes(comparison)),
        numbers=(1, 2, 3),
        cuts=0,
    )


def document(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON; ratios are other over base − 1, unknown is null."""
    return {
        "base": _run(comparison.base),
        "run": _run(comparison.other),
        "energy_j": comparison.energy_j._asdict(),
        "duration_s": comparison.duration_s._asdict(),
        "mean_power_w": comparison.power_w._asdict(),
        "emissions_g": comparison.emissions_g._asdict(),
        "energy_per_work_j": {unit: each._asdict() for unit, each in comparison.per_work_j.items()},
        "phases": {
            name: {"energy_j": energy._asdict(), "duration_s": seconds._asdict()}
            for name, (energy, seconds) in comparison.phases.items()
        },
        "common_ratio": comparison.common_ratio,
        "has_common_intensity": comparison.has_common_intensity,
        "notes": list(_notes(comparison)),
    }


def difference_text(ratio: float | None) -> str:
    """A difference in per cent, with its sign."""
    if ratio is None:
        return _UNKNOWN
    percent = 100.0 * ratio
    digits = f"{abs(percent):.1f}" if abs(percent) >= 1.0 else f"{abs(percent):.2f}"
    return "none" if float(digits) == 0.0 else f"{'−' if percent < 0 else '+'}{digits} %"


def _rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    yield _row("energy", comparison.energy_j, energy_text)
    yield _row("duration", comparison.duration_s, duration_text)
    yield _row("mean power", comparison.power_w, lambda watts: f"{figure(watts)} W")
    yield _row("emissions", comparison.emissions_g, mass_text)
    for unit, each in comparison.per_work_j.items():
        yield _row(f"energy {'an' if unit == 'epoch' else 'a'} {unit}", each, joules_text)
    if len(comparison.phases) < 2:
        return
    phases = list(comparison.phases.items())
    for name, (energy, seconds) in phases[:MOST_PHASES]:
        yield _row(f"phase {phase_text(name)}", energy, energy_text)
        yield _row("  duration", seconds, duration_text)
    if len(phases) > MOST_PHASES:
        yield f"and {len(phases) - MOST_PHASES} phases more", "", "", "", ""


def _row(name: str, difference: Difference, shown: Any) -> tuple[str, ...]:
    amounts = [_UNKNOWN if each is None else shown(each) for each in (difference.base, difference.other)]
    span = ""
    if difference.low is not None and difference.high is not None:
        ends = f"{difference_text(difference.low)} to {difference_text(difference.high)}"
        span = "errors cancel" if _cancels(difference) else ends
    return name, *amounts, difference_text(difference.ratio), span


def _cancels(difference: Difference) -> bool:
    """Whether nothing is left of a range, as it is shown."""
    return difference_text(difference.low) == difference_text(difference.high)


def _notes(comparison: Comparison) -> Iterator[str]:
    common = comparison.common_ratio
    if common is not None:
        how = "the same devices by the same methods"
        if common == 1 and comparison.energy_j.low is not None and not _cancels(comparison.energy_j):
            yield (
                f"All energy is of {how}: the error of each cancels. The parts that they have in it differ, "
                "and that is in the range."
            )
        elif common == 1:
            yield f"All energy is of {how}: their errors cancel in the difference."
        elif common == 0:
            yield f"No energy is of {how}: the errors of both runs are in the range."
        else:
            yield (
                f"{percent_text(common)} of the energy is of {how}: those errors cancel, and the others are "
                "in the range."
            )
    if comparison.energy_j.low is None:
        yield "The range is unknown, as that of a part of the energy is."
    if not comparison.has_common_intensity:
        yield "The runs had different intensities: the ranges of both are in that of the emissions."
    for summary in (comparison.base, comparison.other):
        if summary["state"] not in ("final", "estimated"):
            yield f"Run {summary['run']['id']} is {summary['state']}: that is not the whole run."
    yield (
        "Two single runs may also differ by chance: repeat each, and see their standard deviation with "
        "carbonmon runs --by name."
    )


def _run(summary: Mapping[str, Any]) -> dict[str, Any]:
    run = summary["run"]
    return {"id": run["id"], "name": run["name"], "host": run["host"], "state": summary["state"]}


def _name(run: Mapping[str, Any]) -> str:
    return run["id"] if run["name"] in ("", run["id"]) else f"{run['id']} ({run['name']})"


def _head(summary: Mapping[str, Any], is_short: bool) -> str:
    """The head of a column: an id, of which the end tells runs of one name apart."""
    run_id: str = summary["run"]["id"]
    return run_id if len(run_id) <= 20 or not is_short else f"..{run_id[-18:]}"


def section_of_rounds(found: Rounds, base: str, other: str) -> Section:
    """The medians of two commands as a table with notes."""
    amounts: tuple[tuple[str, Medians | None, Any], ...] = (
        ("energy", found.energy_j, energy_text),
        ("duration", found.duration_s, duration_text),
        ("mean power", found.power_w, lambda watts: f"{figure(watts)} W"),
        ("emissions", found.emissions_g, mass_text),
    )
    rows = [
        (*_row(name, medians.difference, shown)[:4], f"{medians.chance:.2g}")
        for name, medians, shown in amounts
        if medians is not None
    ]
    notes = (
        "The chance is that of ranks so far apart if both commands were alike (Mann-Whitney, two-sided, "
        f"exact). With {found.rounds} rounds it is never below {least_chance(found.rounds):.2g}.",
    )
    title = f"b ({other}) compared with a ({base}): medians of {found.rounds} runs each, in turn"
    return Section(title, ("", "a", "b", "difference", "chance"), rows, notes, numbers=(1, 2, 3, 4))


def document_of_rounds(found: Rounds, base: str, other: str) -> dict[str, Any]:
    """The same as JSON: medians, their difference (other over base − 1), and the chance."""
    return {
        "base": {"command": base},
        "run": {"command": other},
        "rounds": found.rounds,
        **{
            name: None if medians is None else {**medians.difference._asdict(), "chance": medians.chance}
            for name, medians in (
                ("energy_j", found.energy_j),
                ("duration_s", found.duration_s),
                ("mean_power_w", found.power_w),
                ("emissions_g", found.emissions_g),
            )
        },
    }
