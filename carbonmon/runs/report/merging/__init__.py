"""Merges the summaries of a run's nodes into one summary of the same schema.

Amounts are added, with their lows and highs: the errors are systematic and do not average out. Ratios and
means are computed again from the amounts. A value that is unknown in one part is unknown in the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from carbonmon.core.errors import ConfigError
from carbonmon.runs.report.merging.carbon import carbon, costs, embodied, settled, water
from carbonmon.runs.report.merging.energy import energy
from carbonmon.runs.report.merging.monitor import monitor
from carbonmon.runs.report.merging.node_meters import charge, node_meters
from carbonmon.runs.report.merging.outlook import budgets, forecasts
from carbonmon.runs.report.merging.run import merged_run
from carbonmon.runs.report.merging.sums import listed
from carbonmon.runs.report.merging.times import overlap, span_s
from carbonmon.runs.report.merging.work import gpu_time, work

Summary = Mapping[str, Any]


def merged(summaries: Sequence[Summary]) -> dict[str, Any]:
    """One summary of all, in the order of their starts.

    Raises `ConfigError` where they are not parts of one run, or where energy would count twice.
    """
    check_no_duplicates(summaries)
    _check_is_one_run(summaries)
    if len(summaries) == 1:
        return dict(summaries[0])
    parts = sorted(summaries, key=lambda summary: summary["run"]["started_at"] or "")
    document = {
        "schema": parts[0]["schema"],
        "state": _state(parts),
        "run": _with_note(merged_run([part["run"] for part in parts]), parts),
        "energy": energy(parts),
        "carbon": carbon(parts),
        "monitor": monitor(parts),
    }
    if any("water" in part for part in parts):
        document["water"] = water(parts)
    if any("costs" in part for part in parts):
        document["costs"] = costs(parts)
    if any("forecasts" in part for part in parts):
        document["forecasts"] = forecasts(parts)
    if any("budgets" in part for part in parts):
        document["budgets"] = budgets(parts)
    if any("work" in part for part in parts):
        document["work"] = work(parts)
    if any("gpu_time" in part for part in parts):
        document["gpu_time"] = gpu_time(parts)
    if any("node_meters" in part for part in parts):
        document["node_meters"] = node_meters(parts)
    if all("charge" in part for part in parts):
        document["charge"] = charge(parts)
    if all(part.get("settled") for part in parts):
        document["settled"] = settled(parts)
    if all(part.get("embodied") for part in parts):
        document["embodied"] = embodied([part["embodied"] for part in parts])
    return document


def _with_note(run: dict[str, Any], parts: Sequence[Summary]) -> dict[str, Any]:
    """The run with a note of the hosts of whose energy nothing is known: the sum is without them."""
    unknown = [part["run"]["host"] for part in parts if part["energy"]["total_j"] is None]
    if not unknown or len(unknown) == len(parts):
        return run
    note = f"the energy on {listed(unknown)} is unknown, and in no sum"
    return {**run, "notes": [*(run.get("notes") or ()), note]}


def check_no_duplicates(summaries: Sequence[Summary]) -> None:
    """Raise `ConfigError` if the same part of a run is given twice."""
    seen = set()
    for summary in summaries:
        run = summary["run"]
        key: tuple[Any, ...] = run["id"], run["host"], run["started_at"]
        if summary["state"] == "estimated":  # all of them have one id, and no time
            key = (*key, run["name"], summary["energy"]["total_j"], summary["carbon"]["emissions_g"])
        if key in seen:
            start = run["started_at"] or "at an unknown time"
            raise ConfigError(f"{_named(run)}, started {start}, is given twice: leave one out")
        seen.add(key)


def _check_is_one_run(summaries: Sequence[Summary]) -> None:
    """Raise `ConfigError` unless all have one id, or one name and overlapping times on different hosts."""
    if len(summaries) > 1 and any(summary["state"] == "estimated" for summary in summaries):
        raise ConfigError("--merge: an estimate is no node of a run: report it by itself")
    runs = [summary["run"] for summary in summaries]
    parts = [(run, set(run["host"].split(",")), span_s(run)) for run in runs]
    for (one, hosts, span), (other, other_hosts, other_span) in combinations(parts, 2):
        is_concurrent, is_same_host = overlap(span, other_span), bool(hosts & other_hosts)
        if one["id"] == other["id"]:
            if is_concurrent and is_same_host:
                raise ConfigError(
                    f"--merge: two summaries of {_named(one)} are of the same time: the sum would hold "
                    "the node twice; leave one out"
                )
        elif one["name"] != other["name"] or not one["name"]:
            raise ConfigError(
                f"--merge: {_named(one)} and {_named(other)} are different runs: give the nodes of one, or "
                "leave --merge out"
            )
        elif is_same_host or not is_concurrent:
            raise ConfigError(
                f"--merge: {_named(one)} and {_named(other)} have one name, but were not on different hosts "
                "at the same time: they are different runs; leave --merge out"
            )


def _named(run: Mapping[str, Any]) -> str:
    name = f" ({run['name']:.40})" if run["name"] not in ("", run["id"]) else ""
    return f"run {run['id']:.64}{name} of host {run['host'] or 'unknown':.64}"


def _state(parts: Sequence[Summary]) -> str:
    states = {part["state"] for part in parts}
    return next((state for state in ("running", "recovered") if state in states), "final")
