"""The mean powers of an earlier run, which an estimate may use instead of the spec sheets'."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import MEASURED_METHODS, Component, Spec, Uncertainty
from carbonmon.core.records import NamedTuple
from carbonmon.core.uncertainty import TDP_UNCERTAINTY
from carbonmon.runs.report.merging.sums import total
from carbonmon.runs.summary.figures import figure, percent_text

_WHOLE = 0.999
"""A run has all of its hardware from this part on: the rest is rounding."""


class Group(NamedTuple):
    """Devices of one name in an earlier run: the mean power of each, W, with its source."""

    component: Component
    name: str
    number: int
    spec: Spec
    utilization: float | None


class Fit(NamedTuple):
    """The mean powers of an earlier run, to be used instead of the spec sheets'."""

    run_id: str
    groups: tuple[Group, ...]


def fit_of(summary: Mapping[str, Any]) -> Fit:
    """The mean power of each kind of device of a run; raises ConfigError where its summary has none.

    W = energy / observed time of the devices; the range is that of the run's methods.
    """
    run, energy = summary["run"], summary["energy"]
    if summary["state"] == "estimated":
        raise ConfigError(f"{run['id']} is an estimate itself; give the summary of a run that was monitored")
    if not run["duration_s"]:
        raise ConfigError(f"it is unknown how long the run {run['id']} lasted")
    kinds: dict[tuple[Component, str], list[Mapping[str, Any]]] = {}
    for device in energy["devices"]:
        kinds.setdefault((device["component"], device["name"] or device["id"]), []).append(device)
    groups = [_group(summary, *kind, devices) for kind, devices in kinds.items()]
    found = tuple(group for group in groups if group is not None)
    if not found:
        raise ConfigError(f"the run {run['id']} holds no energy of any device")
    return Fit(run["id"], found)


def _group(
    summary: Mapping[str, Any], component: Component, name: str, devices: Sequence[Mapping[str, Any]]
) -> Group | None:
    run = summary["run"]
    observed_s = sum(max(0.0, run["duration_s"] - (device["unobserved_s"] or 0.0)) for device in devices)
    joules = _by_method(devices)
    total_j = sum(joules.values())
    if not observed_s or not total_j:
        return None
    watts = total_j / observed_s
    seen = [ratio for device in devices if (ratio := device["utilization_ratio"]) is not None]
    utilization = sum(seen) / len(seen) if seen else None
    measured = sum(joules.get(method, 0.0) for method in MEASURED_METHODS) / total_j
    at = "unknown utilisation" if utilization is None else f"utilisation {utilization:.2f}"
    part = _part_text(total_j, devices)
    source = (
        f"fitted to run {run['id']} on {run['host'] or 'an unknown host'}: {figure(watts)} W{part} at {at}, "
        f"measured {percent_text(measured).replace('100.0', '100')}"
    )
    return Group(
        *(component, name, len(devices)),
        Spec(watts, _uncertainty(joules, summary["energy"]["methods"]), source),
        utilization,
    )


def _part_text(own_j: float, devices: Iterable[Mapping[str, Any]]) -> str:
    """The run's part of the hardware's energy, if it shared that: the utilisation is everybody's."""
    drawn_j = total([device.get("node_energy_j") for device in devices])
    if not drawn_j or own_j >= _WHOLE * drawn_j:
        return ""
    return f" ({percent_text(own_j / drawn_j)} of what the hardware drew)"


def _by_method(devices: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    joules: dict[str, float] = {}
    for device in devices:
        for method, amount in device["methods"].items():
            joules[method] = joules.get(method, 0.0) + amount
    return joules


def _uncertainty(joules: Mapping[str, float], methods: Mapping[str, Any]) -> Uncertainty:
    """The range of the run's own figures, as its methods state it; that of a TDP where one states none."""
    total_j = sum(joules.values())
    low = high = 0.0
    sources: dict[str, None] = {}
    for method, amount in joules.items():
        stated = methods.get(method) or {}
        if stated.get("low_ratio") is None or stated.get("high_ratio") is None:
            stated = {
                "low_ratio": TDP_UNCERTAINTY.low_ratio,
                "high_ratio": TDP_UNCERTAINTY.high_ratio,
                "sources": [TDP_UNCERTAINTY.source],
            }
        low += amount / total_j * stated["low_ratio"]
        high += amount / total_j * stated["high_ratio"]
        sources.update(dict.fromkeys(stated["sources"]))
    return Uncertainty(low, high, "; and ".join(sources))
