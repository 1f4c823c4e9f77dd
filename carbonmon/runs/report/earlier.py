"""What earlier releases wrote in another way, as a reader of today's forms understands it."""

from __future__ import annotations

from typing import Any

from carbonmon.runs.summaries import is_unseen


def as_now(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary as its reader expects it.

    Releases until 0.2 wrote 0 for an energy of which nothing was seen; 0.1 wrote the powers of a whole device
    beside the run's energy of it.
    """
    energy, carbon = summary["energy"], summary["carbon"]
    if summary["state"] == "estimated":
        return summary
    if summary["monitor"]["version"].startswith("0.1."):
        devices = [_with_own_power(device, summary["run"]["duration_s"]) for device in energy["devices"]]
        energy = {**energy, "devices": devices}
    if is_unseen(energy):
        energy = {**energy, **dict.fromkeys(("total_j", "total_kwh", "low_j", "high_j"))}
        carbon = {**carbon, **dict.fromkeys(("emissions_g", "low_g", "high_g"))}
    return {**summary, "energy": energy, "carbon": carbon}


def _with_own_power(device: dict[str, Any], duration_s: float | None) -> dict[str, Any]:
    """A device with the run's mean power; the highest one was not noted."""
    observed_s = (duration_s or 0.0) - (device["unobserved_s"] or 0.0)
    mean_w = device["energy_j"] / observed_s if observed_s > 0.0 else None
    return {**device, "mean_power_w": mean_w, "peak_power_w": None}
