"""Compares two runs by their summaries: what differs by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from carbonmon.analysis.comparison.shared_errors import Part, common_sources, ratio_range
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import MEASURED_METHODS
from carbonmon.core.records import NamedTuple
from carbonmon.runs.summaries import is_unseen

Summary = Mapping[str, Any]
Ends = tuple["float | None", "float | None"]

_ORIGIN = ("zone", "source", "kind", "basis", "accounting", "year")
PER_WORK = ("step", "sample", "token", "epoch")
"""Of what training code tells: joules for each of these, between the first and the last report."""

_GLOBAL_IDS = ("GPU-", "MIG-")
"""NVML's UUIDs are of one device in the world; other ids are of one in a machine."""


class Difference(NamedTuple):
    """An amount of both runs, and other over base − 1 with its ends; None is unknown."""

    base: float | None
    other: float | None
    ratio: float | None
    low: float | None = None
    high: float | None = None


class Comparison(NamedTuple):
    """A run compared with a base.

    `common_ratio` is the part of both energies whose errors cancel, because the same sensor of the same
    device measured it, or the same specification gave it. `has_common_intensity`: the emissions were
    charged with the same intensity, whose error cancels as well. `per_work_j` are joules a step, sample,
    token and epoch, where both runs told how many.
    """

    base: Summary
    other: Summary
    energy_j: Difference
    duration_s: Difference
    power_w: Difference
    emissions_g: Difference
    per_work_j: Mapping[str, Difference]
    phases: Mapping[str, tuple[Difference, Difference]]
    common_ratio: float | None
    has_common_intensity: bool


def compare(base: Summary, other: Summary) -> Comparison:
    """The differences of a run to a base. Raises `ConfigError` where the base has no energy."""
    base_j, other_j = energy_j(base), energy_j(other)
    if not base_j:
        raise ConfigError(f"{without_energy(base)}: there is nothing to compare with")
    parts, others = _parts(base), _parts(other)
    ends = ratio_range(parts, others)
    common = common_sources(parts, others)
    all_j = sum(part.energy_j for part in (*parts, *others))
    common_j = sum(part.energy_j for part in (*parts, *others) if part.source in common)
    is_common = _origin(base) == _origin(other) is not None
    return Comparison(
        base,
        other,
        _difference(base_j, other_j, *ends),
        _difference(base["run"]["duration_s"], other["run"]["duration_s"]),
        _difference(mean_power_w(base), mean_power_w(other)),
        _emissions(base, other, ends, is_common),
        _per_work(base, other),
        _phases(base, other),
        common_j / all_j if all_j else None,
        is_common,
    )


def energy_j(summary: Summary) -> float | None:
    """The joules of a run, None where no energy was seen."""
    energy = summary["energy"]
    if energy["total_j"] is None or (summary["state"] != "estimated" and is_unseen(energy)):
        return None
    return float(energy["total_j"])


def without_energy(summary: Summary) -> str:
    """What is said of a run that cannot be compared: its energy is unknown, or 0 J."""
    what = "seen in" if energy_j(summary) is None else "drawn by"
    return f"compare: no energy was {what} run {summary['run']['id']!r:.70}"


def _parts(summary: Summary) -> list[Part]:
    """The energy of each device by each method, with the range of the method."""
    methods = summary["energy"]["methods"]
    return [
        Part(
            _source(summary, device, method),
            joules,
            methods.get(method, {}).get("low_ratio"),
            methods.get(method, {}).get("high_ratio"),
        )
        for device in summary["energy"]["devices"]
        for method, joules in device["methods"].items()
    ]


def _source(summary: Summary, device: Mapping[str, Any], method: str) -> Hashable:
    """What the error of a device's energy comes from: its own sensor, or the specification of its model."""
    if method not in MEASURED_METHODS:
        return device["component"], device["name"] or device["id"], method
    host = "" if device["id"].startswith(_GLOBAL_IDS) else summary["run"]["host"]
    return host, device["id"], method


def _origin(summary: Summary) -> tuple[Any, ...] | None:
    """Where the intensity comes from; None where it changed during the run."""
    carbon = summary["carbon"]
    if len(carbon.get("sources") or ()) > 1:
        return None
    return tuple(carbon["intensity"].get(key) for key in _ORIGIN)


def mean_power_w(summary: Summary) -> float | None:
    """The joules by the seconds of a run."""
    joules, seconds = energy_j(summary), summary["run"]["duration_s"]
    return joules / seconds if joules is not None and seconds else None


def _emissions(base: Summary, other: Summary, ends: Ends, is_common: bool) -> Difference:
    """The range of the energies' ratio, and that of the intensities where they are not the same one."""
    base_j, other_j = energy_j(base), energy_j(other)
    base_g, other_g = base["carbon"]["emissions_g"], other["carbon"]["emissions_g"]
    if not base_j or not other_j:
        return _difference(base_g if base_j else None, other_g if other_j else None)
    base_ends, other_ends = _rate_ends(base), _rate_ends(other)
    low, high = ends
    if low is None or high is None or base_ends is None or other_ends is None:
        return _difference(base_g, other_g)
    if not is_common:
        low, high = low * other_ends[0] / base_ends[1], high * other_ends[1] / base_ends[0]
    rates = (other_g / base_g) / (other_j / base_j)  # where there are ends, there are grams
    return _difference(base_g, other_g, low * rates, high * rates)


def _per_work(base: Summary, other: Summary) -> dict[str, Difference]:
    ours, theirs = base.get("work") or {}, other.get("work") or {}
    found = {
        unit: _difference(ours.get(f"energy_per_{unit}_j"), theirs.get(f"energy_per_{unit}_j"))
        for unit in PER_WORK
    }
    return {unit: each for unit, each in found.items() if each.ratio is not None}


def _rate_ends(summary: Summary) -> tuple[float, float] | None:
    """How far the intensity may be off, as ratios of it: the range of the grams without that of joules."""
    energy, carbon = summary["energy"], summary["carbon"]
    ends = []
    for end in ("low", "high"):
        joules, grams = energy[f"{end}_j"], carbon[f"{end}_g"]
        if not joules or grams is None or not energy["total_j"] or not carbon["emissions_g"]:
            return None
        ends.append((grams / carbon["emissions_g"]) / (joules / energy["total_j"]))
    return ends[0], ends[1]


def _phases(base: Summary, other: Summary) -> dict[str, tuple[Difference, Difference]]:
    """Energy and seconds of each phase of either run, in the order of the base."""
    ours, theirs = base["energy"]["phases"], other["energy"]["phases"]
    return {
        name: (
            _difference(ours.get(name, {}).get("energy_j"), theirs.get(name, {}).get("energy_j")),
            _difference(ours.get(name, {}).get("duration_s"), theirs.get(name, {}).get("duration_s")),
        )
        for name in (*ours, *(each for each in theirs if each not in ours))
    }


def _difference(
    base: float | None, other: float | None, low: float | None = None, high: float | None = None
) -> Difference:
    """`low` and `high` are ends of other over base."""
    if base is None or other is None or not base:
        return Difference(base, other, None)
    if low is None or high is None:
        return Difference(base, other, other / base - 1.0)
    return Difference(base, other, other / base - 1.0, low - 1.0, high - 1.0)
