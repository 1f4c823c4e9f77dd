"""The energy of a run from that of its nodes: added by method, component, device and phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbonmon.core.model import JOULES_PER_KWH, MAIN_PHASE, METHODS
from carbonmon.runs.report.merging.devices import devices
from carbonmon.runs.report.merging.sums import Part, each, known_total, measured, total, weighted
from carbonmon.runs.report.merging.times import longest_s


def energy(summaries: Sequence[Part]) -> dict[str, Any]:
    """`energy` of the whole, from whole summaries, because host names are needed."""
    parts = [summary["energy"] for summary in summaries]
    total_j = known_total(each(parts, "total_j"))
    document = {
        "total_j": total_j,
        "total_kwh": None if total_j is None else total_j / JOULES_PER_KWH,
        "low_j": total(each(parts, "low_j")),
        "high_j": total(each(parts, "high_j")),
        "measured_ratio": measured(parts, "total_j"),
        "recovered_j": total(each(parts, "recovered_j")),
        "methods": _methods(each(parts, "methods")),
        "components": _components(each(parts, "components")),
        "devices": devices(summaries),
        "phases": _phases(summaries),
    }
    return {**document, "node": _node(parts)} if any("node" in part for part in parts) else document


def _methods(parts: Sequence[Part]) -> dict[str, Any]:
    groups = {method: [part[method] for part in parts if method in part] for method in METHODS}
    return {
        method: {
            "energy_j": sum(part["energy_j"] for part in group),
            "low_ratio": weighted(group, "low_ratio", "energy_j"),
            "high_ratio": weighted(group, "high_ratio", "energy_j"),
            "sources": sorted({source for part in group for source in part["sources"]}),
        }
        for method, group in groups.items()
        if group
    }


def _components(parts: Sequence[Part]) -> dict[str, Any]:
    groups: dict[str, list[Part]] = {}
    for part in parts:
        for component, amount in part.items():
            groups.setdefault(component, []).append(amount)
    return {
        component: {
            "energy_j": sum(amount["energy_j"] for amount in group),
            "measured_ratio": measured(group),
        }
        for component, group in groups.items()
    }


def _node(parts: Sequence[Part]) -> dict[str, Any] | None:
    """The energy of all nodes; unknown where that of one was not recorded."""
    nodes = [node for node in each(parts, "node") if node is not None]
    if len(nodes) < len(parts):
        return None
    total_j = sum(node["total_j"] for node in nodes)
    is_known = total_j and all(node["share_ratio"] is not None for node in nodes if node["total_j"])
    run_j = known_total(each(parts, "total_j"))
    return {
        "total_j": total_j,
        "emissions_g": sum(node["emissions_g"] for node in nodes),
        "measured_ratio": measured(nodes, "total_j"),
        "share_ratio": min(1.0, run_j / total_j) if is_known and run_j is not None else None,
        "components": _components(each(nodes, "components")),
    }


def _phases(summaries: Sequence[Part]) -> dict[str, Any]:
    """`main` first, then in order of first appearance."""
    groups: dict[str, list[tuple[str, Part]]] = {}
    for summary in summaries:
        for name, phase in summary["energy"]["phases"].items():
            groups.setdefault(name, []).append((summary["run"]["host"], phase))
    return {name: _phase(groups[name]) for name in sorted(groups, key=lambda name: name != MAIN_PHASE)}


def _phase(group: Sequence[tuple[str, Part]]) -> dict[str, Any]:
    parts = [part for _, part in group]
    phase: dict[str, Any] = {
        "energy_j": known_total(each(parts, "energy_j")),
        "emissions_g": known_total(each(parts, "emissions_g")),
        "duration_s": longest_s((host, part["duration_s"]) for host, part in group),
    }
    if all("measured_ratio" in part for part in parts):
        phase["measured_ratio"] = measured(parts)
    if all(part.get("interpolated_ratio") is not None or not part["energy_j"] for part in parts):
        doubt_j = sum((part["energy_j"] or 0.0) * (part.get("interpolated_ratio") or 0.0) for part in parts)
        phase["interpolated_ratio"] = doubt_j / phase["energy_j"] if phase["energy_j"] else None
    if all("components" in part for part in parts):
        phase["components"] = _components(each(parts, "components"))
    return phase
