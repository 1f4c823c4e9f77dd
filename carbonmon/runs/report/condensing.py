"""Shortens a summary of many devices for a terminal: those of one kind become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.core.model import METHODS
from carbonmon.runs.report.merging.sums import Part, each, known_total, listed, sum_of_anomalies, total

MOST_DEVICES = 24
"""If there are more, they are listed by kind: the devices of many nodes."""


def condensed(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The summary, for a table: of many devices, those of one component and name are one with their sums."""
    devices = summary["energy"]["devices"]
    if len(devices) <= MOST_DEVICES:
        return dict(summary)
    kinds: dict[tuple[str, str | None], list[Part]] = {}
    for device in devices:
        kinds.setdefault((device["component"], device["name"]), []).append(device)
    shown = [group[0] if len(group) == 1 else _kind(group) for group in kinds.values()]
    return {**summary, "energy": {**summary["energy"], "devices": shown}}


def _kind(group: Sequence[Part]) -> dict[str, Any]:
    anomalies = [counts for counts in each(group, "anomalies") if counts]
    return {
        **group[0],
        "id": f"{len(group)} devices",
        "energy_j": known_total(each(group, "energy_j")),
        "methods": {
            method: sum(device["methods"].get(method, 0.0) for device in group)
            for method in METHODS
            if any(method in device["methods"] for device in group)
        },
        "mean_power_w": total(each(group, "mean_power_w")),
        "share_note": listed(each(group, "share_note"), "; ") or None,
        "unobserved_s": sum(seconds or 0.0 for seconds in each(group, "unobserved_s")),
        "anomalies": sum_of_anomalies(anomalies) or {"reset": 0, "jump": 0},
    }
