"""Runs as CodeCarbon's `emissions.csv`, for programs that read that.

Columns and units are those of CodeCarbon 3.3.2 (codecarbon/output_methods/emissions_data.py, MIT): kg, kWh,
W, seconds; energies and powers hold the PUE, as there. Its `cpu_count` are threads of the machine, which no
summary holds: that cell is empty. What is unknown is an empty cell, where that program
writes 0. A module that one meter measures as a whole is in `energy_consumed` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.analysis.required.place import where_of
from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.core.times import known_time, utc_text
from carbonmon.runs.report.csv_table import cell
from carbonmon.runs.report.equivalents import known_carbon
from carbonmon.runs.report.impact import hardware
from carbonmon.runs.summary.strings import numbered

VERSION = "3.3.2"
COLUMNS = (
    *("timestamp", "project_name", "run_id", "experiment_id", "duration", "emissions", "emissions_rate"),
    *("cpu_power", "gpu_power", "ram_power", "cpu_energy", "gpu_energy", "ram_energy", "energy_consumed"),
    *("water_consumed", "country_name", "country_iso_code", "region", "cloud_provider", "cloud_region"),
    *("os", "python_version", "codecarbon_version", "cpu_count", "cpu_model", "gpu_count", "gpu_model"),
    *("longitude", "latitude", "ram_total_size", "tracking_mode", "cpu_utilization_percent"),
    *("gpu_utilization_percent", "ram_utilization_percent", "ram_used_gb", "on_cloud", "pue", "wue"),
)
_PARTS = {"cpu": "cpu", "gpu": "gpu", "ram": "dram"}


def codecarbon_csv(summaries: Sequence[Mapping[str, Any]]) -> str:
    """The table with its head, a row a run."""
    lines = [",".join(COLUMNS)]
    for summary in summaries:
        row = _row(summary)
        lines.append(",".join(_cell(row.get(column)) for column in COLUMNS))
    return "\n".join(lines) + "\n"


def _number(devices: Sequence[Mapping[str, Any]]) -> int | None:
    """How many devices the run had; None where nobody said it, or none was seen."""
    numbers = [numbered(device)[0] for device in devices]
    known = [number for number in numbers if number is not None]
    return sum(known) if known and len(known) == len(numbers) else None


def _cell(value: Any) -> str:
    return repr(value) if isinstance(value, float) else cell(value)


def _row(summary: Mapping[str, Any]) -> dict[str, Any]:
    run, energy, carbon = summary["run"], summary["energy"], known_carbon(summary)
    where, pue, duration_s = where_of(summary), carbon["pue"], run["duration_s"]
    ended, grams = known_time(run["ended_at"]), carbon["emissions_g"]
    kg = None if grams is None else grams / 1e3
    total_j = energy["total_j"]
    water = summary.get("water")
    row: dict[str, Any] = {
        "timestamp": None if ended is None else utc_text(ended, "%Y-%m-%dT%H:%M:%S"),
        "project_name": run["name"] or run["id"],
        "run_id": run["id"],
        "experiment_id": run.get("scheduler_job_id"),
        "duration": duration_s,
        "emissions": kg,
        "emissions_rate": kg / duration_s if kg is not None and duration_s else None,
        "energy_consumed": None if total_j is None else total_j / JOULES_PER_KWH * pue,
        "water_consumed": None if water is None else water["litres"],
        "country_name": where.country,
        "country_iso_code": where.alpha3,
        "region": where.region,
        "cloud_provider": where.provider,
        "cloud_region": where.cloud_region,
        "os": "Linux" if summary["state"] != "estimated" else None,
        "codecarbon_version": VERSION,
        "tracking_mode": "process",
        "on_cloud": "Y" if where.provider else "N",
        "pue": pue,
        "wue": None if water is None else water["wue_l_per_kwh"],
    }
    for word, component in _PARTS.items():
        devices = [device for device in energy["devices"] if device["component"] == component]
        joules = (energy["components"].get(component) or {}).get("energy_j")
        known = None if joules is None else joules / JOULES_PER_KWH * pue
        row[f"{word}_energy"] = known
        row[f"{word}_power"] = joules / duration_s * pue if known is not None and duration_s else None
        used = [device["utilization_ratio"] for device in devices if device["utilization_ratio"] is not None]
        if word != "ram":
            row[f"{word}_model"] = hardware(devices, (component,))
        if word == "gpu":
            row["gpu_count"] = _number(devices)
        row[f"{word}_utilization_percent"] = 100.0 * sum(used) / len(used) if used else None
    return row
