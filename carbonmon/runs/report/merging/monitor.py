"""The monitors of a run's nodes as one: what they used, and which sources they had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbonmon.runs.report.merging.sums import Part, each, listed, total


def monitor(summaries: Sequence[Part]) -> dict[str, Any]:
    """`monitor` of the whole: the longest interval, the largest memory, the sum of samples and CPU time."""
    parts = [summary["monitor"] for summary in summaries]
    peaks = each(parts, "own_peak_rss_bytes")
    return {
        "version": listed(each(parts, "version")),
        "interval_s": max(each(parts, "interval_s")),
        "samples": total(each(parts, "samples")),
        "own_cpu_s": total(each(parts, "own_cpu_s")),
        "own_peak_rss_bytes": None if None in peaks else max(peaks),
        "sources": _sources(summaries),
    }


def _sources(summaries: Sequence[Part]) -> list[dict[str, Any]]:
    """Each source once; where its state differs between nodes, with the hosts of each state."""
    hosts: dict[tuple[str, str, str | None], list[str]] = {}
    for summary in summaries:
        for source in summary["monitor"]["sources"]:
            of_state = hosts.setdefault((source["sensor"], source["state"], source["reason"]), [])
            of_state.append(summary["run"]["host"])
    all_hosts = {summary["run"]["host"] for summary in summaries}
    sources = []
    for (sensor, state, reason), of_state in hosts.items():
        if set(of_state) != all_hosts:
            reason = ": ".join(filter(None, (f"on {listed(of_state)}", reason)))
        sources.append({"sensor": sensor, "state": state, "reason": reason})
    return sources
