"""A run as a BoAmps report, Boavizta's exchange format for the energy of AI tasks.

Fields are those of model/report_schema.json of github.com/Boavizta/BoAmps at commit 01f4c8ea (2025), with its
parts algorithm (5546e7f6), dataset (40801933) and hardware (20c9a980); of a measure the fields that the
project's examples have. What only the user knows comes from the run's labels `task_stage`, `task_family` and
`model`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from carbonmon.analysis.required.place import where_of
from carbonmon.core.errors import ConfigError
from carbonmon.core.times import known_time, utc_text
from carbonmon.runs.report.equivalents import known_carbon
from carbonmon.runs.summary.strings import numbered

SPECIFICATION = "https://github.com/Boavizta/BoAmps/tree/01f4c8eac5293f656790ac0ee5f52b87a789dbc5/model"
_TIME = "%Y-%m-%d %H:%M:%S"
_QUALITY = ((0.10, "high"), (0.25, "medium"))
_TYPES = {"gpu": "gpu", "cpu": "cpu", "dram": "ram", "module": "gpu"}
_MODES = {"counter": "energy counter", "power": "power sensor", "tdp": "TDP × utilisation"}


def boamps_document(summary: Mapping[str, Any], now_s: float) -> dict[str, Any]:
    """The report, published at a Unix time; raises ConfigError for a run of whose energy nothing is known."""
    run, energy = summary["run"], summary["energy"]
    if energy["total_kwh"] is None:
        raise ConfigError(f"--format boamps: nothing is known of the energy of run {run['id']!r:.70}")
    where = where_of(summary)
    infrastructure: dict[str, Any] = {
        "infraType": "publicCloud" if where.provider else "other",
        "components": list(_components(energy)),
    }
    if where.provider:
        infrastructure["cloudProvider"] = where.provider
    document: dict[str, Any] = {
        "header": {
            "formatVersionSpecificationUri": SPECIFICATION,
            "reportId": _report_id(summary),
            "reportDatetime": utc_text(now_s, _TIME),
            "reportStatus": "final" if summary["state"] == "final" else "draft",
        },
        "task": _task(summary),
        "measures": [_measure(summary)],
        "infrastructure": infrastructure,
    }
    if not energy.get("stated_j"):  # of a figure that the user gave nobody knows the error
        document["quality"] = _quality(energy)
    if summary["state"] != "estimated":
        document["system"] = {"os": "linux"}
    rate = known_carbon(summary).get("intensity", {}).get("mean_g_per_kwh")
    if where.country:
        document["environment"] = {"country": where.country}
        if where.region or where.cloud_region:
            document["environment"]["location"] = where.region or where.cloud_region
        if rate is not None:
            document["environment"]["powerSourceCarbonIntensity"] = rate
    return document


def _report_id(summary: Mapping[str, Any]) -> str:
    """The same for the same run; of an estimate, which has no id of its own, for the same figures."""
    run = summary["run"]
    name = f"{run['id']}@{run['host']}"
    if summary["state"] == "estimated":
        figures = {key: summary[key] for key in ("run", "energy", "carbon")}
        name = json.dumps(figures, sort_keys=True)
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"carbonmon:{name}"))


def _task(summary: Mapping[str, Any]) -> dict[str, Any]:
    run, work = summary["run"], summary.get("work") or {}
    labels = run["labels"]
    algorithm: dict[str, Any] = {}
    if labels.get("model"):
        algorithm["algorithmName"] = labels["model"]
    if work.get("epochs"):
        algorithm["epochsNumber"] = work["epochs"]
    if work.get("precision"):
        algorithm["quantization"] = work["precision"]
    dataset: dict[str, Any] = {"dataUsage": "input", "dataType": "other"}
    for key, kind in (("tokens", "token"), ("samples", "other")):
        if work.get(key):
            dataset = {"dataUsage": "input", "dataType": kind, "dataQuantity": work[key]}
            break
    return {
        "taskStage": labels.get("task_stage") or "training",
        "taskFamily": labels.get("task_family") or "unknown",
        "algorithms": [algorithm],
        "dataset": [dataset],
        "taskDescription": run["name"] or run["id"],
    }


def _measure(summary: Mapping[str, Any]) -> dict[str, Any]:
    run, energy = summary["run"], summary["energy"]
    measure: dict[str, Any] = {
        "measurementMethod": "carbonmon",
        "version": summary["monitor"]["version"],
        "powerConsumption": energy["total_kwh"],  # in kWh, in spite of its name
    }
    for component, key in (("cpu", "cpuTrackingMode"), ("gpu", "gpuTrackingMode")):
        methods = {
            method: None
            for device in energy["devices"]
            if device["component"] == component
            for method in device["methods"]
        }
        if methods:
            measure[key] = ", ".join(_MODES[method] for method in methods)
    if run["duration_s"] is not None:
        measure["measurementDuration"] = run["duration_s"]
    began = known_time(run["started_at"])
    if began is not None:
        measure["measurementDateTime"] = utc_text(began, _TIME)
    return measure


def _components(energy: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The hardware by name; a part of it that the run had as its share."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for device in energy["devices"]:
        number, name = numbered(device)
        # All that an estimate has of a host or of a power that was given, or a node's module.
        is_rest = number is None and device["component"] == "module"
        kind = "other" if is_rest else _TYPES[device["component"]]
        groups.setdefault((kind, name if device["name"] else ""), []).append(device)
    for (kind, name), devices in groups.items():
        shares = [device["share_ratio"] for device in devices if device["share_ratio"] is not None]
        numbers = [numbered(device)[0] for device in devices]
        # The format wants a number: 1 stands for one that nobody knows, and the name says so.
        component: dict[str, Any] = {"componentType": kind, "nbComponent": sum(n or 1 for n in numbers)}
        if name:
            component["componentName"] = f"{name} (number not known)" if None in numbers else name
        if shares:
            component["share"] = min(1.0, sum(shares) / len(shares))
        yield component
    if not groups:
        yield {"componentType": "other", "nbComponent": 1}


def _quality(energy: Mapping[str, Any]) -> str:
    """By the range of the energy: within 10 %, within 25 %, or worse; as the format defines the words."""
    total_j, low_j, high_j = energy["total_j"], energy["low_j"], energy["high_j"]
    if not total_j or low_j is None or high_j is None:
        return "low"
    error = max(1.0 - low_j / total_j, high_j / total_j - 1.0)
    return next((word for most, word in _QUALITY if error <= most + 1e-9), "low")
