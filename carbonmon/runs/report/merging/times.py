"""Start, end and duration of the parts of a run.

Nodes work at the same time: a run lasted as long as at least one of them ran, and a phase as long as on the
node that was longest in it. Parts of one node follow one another, so their times are added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from carbonmon.core.times import known_time

Span = tuple[float, float]


def span_s(run: Mapping[str, Any]) -> Span | None:
    """Start and end of a run as Unix times; None where one is unknown."""
    start_s, duration_s = known_time(run["started_at"]), run["duration_s"]
    return None if start_s is None or duration_s is None else (start_s, start_s + duration_s)


def overlap(one: Span | None, other: Span | None) -> bool:
    """Whether two spans have a moment in common; unknown ones may have."""
    if one is None or other is None:
        return True
    return max(one[0], other[0]) < min(one[1], other[1])


def duration_s(runs: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds in which at least one part ran; without its times, those of the host that ran longest."""
    spans = [span_s(run) for run in runs]
    known = sorted(span for span in spans if span is not None)
    if len(known) < len(spans):
        return longest_s((run["host"], run["duration_s"]) for run in runs)
    seconds, until_s = 0.0, known[0][0]
    for start_s, end_s in known:
        seconds += max(0.0, end_s - max(start_s, until_s))
        until_s = max(until_s, end_s)
    return seconds


def longest_s(durations: Iterable[tuple[str, float | None]]) -> float | None:
    """The largest of the hosts' sums; None where a part of one is unknown."""
    sums: dict[str, float] = {}
    for host, seconds in durations:
        if seconds is None:
            return None
        sums[host] = sums.get(host, 0.0) + seconds
    return max(sums.values(), default=None)
