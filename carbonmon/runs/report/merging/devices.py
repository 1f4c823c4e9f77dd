"""The devices of all nodes in one list, each with an id of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.core.model import METHODS
from carbonmon.runs.report.merging.sums import (
    Part,
    each,
    known_total,
    listed,
    same,
    sum_of_anomalies,
    total,
    weighted,
)


def devices(summaries: Sequence[Part]) -> list[dict[str, Any]]:
    """Node by node. Where two hosts have a device of the same id, it becomes `HOST/package-0`.

    Parts of one host that followed one another have the same devices: their energies are added.
    """
    groups: dict[tuple[str, str], list[tuple[float | None, Part]]] = {}
    for summary in summaries:
        run = summary["run"]
        for device in summary["energy"]["devices"]:
            groups.setdefault((run["host"], device["id"]), []).append((run["duration_s"], device))
    ids = ids_of_all(list(groups))
    return [{**_added(group), "id": ids[key]} for key, group in groups.items()]


def ids_of_all(devices: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The ids that devices, each by its host and its own id, have in the whole."""
    names = _short_names([host for host, _ in devices])
    hosts_with: dict[str, int] = {}
    for _, device_id in dict.fromkeys(devices):
        hosts_with[device_id] = hosts_with.get(device_id, 0) + 1
    return {
        (host, device_id): f"{names[host]}/{device_id}" if hosts_with[device_id] > 1 else device_id
        for host, device_id in devices
    }


def _short_names(hosts: Sequence[str]) -> Mapping[str, str]:
    """Host → its name without the domain, where those names differ."""
    short = {host: host.partition(".")[0] or host for host in hosts}
    return short if len(set(short.values())) == len(short) else {host: host for host in hosts}


def _added(group: Sequence[tuple[float | None, Part]]) -> dict[str, Any]:
    """One device over all its parts; means are weighted by the time that each part observed it."""
    parts = [device for _, device in group]
    if len(parts) == 1:
        return dict(parts[0])
    peaks = each(parts, "peak_power_w")
    anomalies = each(parts, "anomalies")
    device = {
        **parts[0],
        "name": next((name for name in each(parts, "name") if name is not None), None),
        "energy_j": known_total(each(parts, "energy_j")),
        "methods": {
            method: sum(part["methods"].get(method, 0.0) for part in parts)
            for method in METHODS
            if any(method in part["methods"] for part in parts)
        },
        "share_ratio": _share_ratio(parts),
        "share_note": listed(each(parts, "share_note"), "; ") or None,
        "mean_power_w": _mean(group, "mean_power_w"),
        "peak_power_w": None if None in peaks else max(peaks),
        "utilization_ratio": _mean(group, "utilization_ratio"),
        "unobserved_s": total(each(parts, "unobserved_s")),
        "anomalies": None if None in anomalies else sum_of_anomalies(anomalies),
    }
    if "node_energy_j" in device:
        device["node_energy_j"] = total(each(parts, "node_energy_j"))
    return device


def _share_ratio(parts: Sequence[Part]) -> float | None:
    """The run's part of what the device drew; where one file does not say that, what all have in common."""
    if total(each(parts, "node_energy_j")) is None:
        found: float | None = same(each(parts, "share_ratio"))
        return found
    return weighted(parts, "share_ratio", "node_energy_j")


def _mean(group: Sequence[tuple[float | None, Part]], key: str) -> float | None:
    """None where a part does not know the value, or how long it saw the device."""
    seconds, product = 0.0, 0.0
    for duration_s, device in group:
        if duration_s is None or device["unobserved_s"] is None or device[key] is None:
            return None
        observed_s = max(0.0, duration_s - device["unobserved_s"])
        seconds += observed_s
        product += observed_s * device[key]
    return product / seconds if seconds else None
