"""`node_meters` of the whole: each meter that every part has, added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbonmon.runs.report.merging.sums import Part, each, listed, same, total

_SUMS = ("energy_j", "devices_energy_j", "rest_energy_j", "observed_s", "unobserved_s", "rejected")


def node_meters(summaries: Sequence[Part]) -> list[dict[str, Any]]:
    """A meter that one of the nodes lacks is left out: its sum would be that of fewer nodes."""
    parts = [{row["meter"]: row for row in summary.get("node_meters") or ()} for summary in summaries]
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return [_meter(name, [part[name] for part in parts]) for name in names]


def charge(summaries: Sequence[Part]) -> dict[str, Any]:
    """The parts' charges; by devices unless all parts were charged by the node."""
    parts = each(summaries, "charge")
    amounts = ("energy_j", "emissions_g", "low_g", "high_g")
    if any(part["by"] != "node" for part in parts):
        return {"by": "devices", "meter": None, **dict.fromkeys(amounts)}
    sums = {key: total(each(parts, key)) for key in amounts}
    return {"by": "node", "meter": listed(each(parts, "meter")), **sums}


def _meter(name: str, rows: Sequence[Part]) -> dict[str, Any]:
    sums = {key: total(each(rows, key)) for key in _SUMS}
    energy_j, covered_j = sums["energy_j"], sums["devices_energy_j"]
    methods = {method: sum(row["methods"][method] for row in rows) for method in ("counter", "power")}
    return {
        "meter": name,
        **sums,
        "methods": methods,
        "mean_power_w": None,
        "coverage_ratio": covered_j / energy_j if energy_j and covered_j is not None else None,
        "counter_step_j": same(each(rows, "counter_step_j")),
    }
