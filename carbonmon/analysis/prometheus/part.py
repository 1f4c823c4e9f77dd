"""The summary of one part of a run, with the schema of summary.json; what is not in the metrics is null."""

from __future__ import annotations

from typing import Any, Literal, get_args

from carbonmon.analysis.prometheus.records import RunCounters, snapshot
from carbonmon.core import metrics as f
from carbonmon.core.model import IDLE_POLICIES, Component
from carbonmon.runs.summary.document import summarize

State = Literal["running", "final", "recovered"]

_ROUNDING = 1e-3
"""The sums of a run and of its node are separate sums."""


def summary(counters: RunCounters, state: State) -> dict[str, Any]:
    """The document; raises ConfigError for labels that are unknown to this version of carbonmon."""
    node = snapshot(counters)
    (run,) = node.runs
    document = summarize(node, run, state)
    document["run"].pop("ranks")
    if run.node_meters or run.node_charges:
        for row in document["node_meters"]:
            row["rejected"] = None
    else:  # an older monitor's metrics do not tell them by run
        document.pop("node_meters")
        document.pop("charge")
    if counters.totals.info(f.RUN_INFO).get("idle_policy") not in IDLE_POLICIES:
        document["run"].pop("idle_policy")
    energy, carbon = document["energy"], document["carbon"]
    energy["recovered_j"] = None
    document["monitor"]["samples"] = None
    energy["node"] = _node(counters, energy["total_j"], carbon["emissions_g"])
    counted = {labels.get("device") for labels, _ in counters.totals.of(f.ANOMALIES)}
    for device in energy["devices"]:
        device["name"] = device["name"] or None
        device["share_ratio"] = None
        if device["id"] not in counted:
            device["anomalies"] = None
    charged = counters.charged_intensities
    if not charged:
        carbon["intensity"]["mean_g_per_kwh"] = carbon["intensity"]["mean_g_per_kwh"] or None
    if not charged or not all(part.has_range for part in charged if part.emissions_ratio):
        carbon["low_g"] = carbon["high_g"] = None
        if "charge" in document:
            document["charge"]["low_g"] = document["charge"]["high_g"] = None
    for cost in document["costs"]:
        cost["priced_ratio"] = None
    return document


def _node(counters: RunCounters, run_j: float | None, grams: float | None) -> dict[str, Any] | None:
    """The node's energy meanwhile; its emissions are calculated with the mean intensity of the run."""
    drawn = {labels.get("component", ""): value for labels, value in counters.totals.of(f.RUN_NODE_ENERGY)}
    total_j = sum(drawn.values())
    if not drawn or not run_j or grams is None:
        return None
    return {
        "total_j": total_j,
        "emissions_g": total_j / run_j * grams,
        "measured_ratio": None,
        "share_ratio": min(1.0, run_j / total_j) if run_j <= total_j * (1 + _ROUNDING) else None,
        "components": {
            component: {"energy_j": drawn[component], "measured_ratio": None}
            for component in get_args(Component)
            if component in drawn
        },
    }
