"""A run's summary from a Prometheus that scraped its monitors, over all nodes.

    start times, sample by sample  →  stretches  →  lineages  →  their last totals  →  summaries

Counters are not summed by `increase()`: that extrapolates, and whatever steps back is a reset to it. Here the
run's start says which totals are one count, however often its monitor, its port or its scraper changed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from carbonmon.analysis.prometheus.charges import charged
from carbonmon.analysis.prometheus.client import TIME_LIMIT_S, Api
from carbonmon.analysis.prometheus.found import Found, Part
from carbonmon.analysis.prometheus.lineage import Comparison, Lineage, lineages
from carbonmon.analysis.prometheus.part import State, summary
from carbonmon.analysis.prometheus.records import Count
from carbonmon.analysis.prometheus.scan import is_same_start, stretches
from carbonmon.analysis.prometheus.selectors import Target, host_of, of_run, target_of
from carbonmon.analysis.prometheus.times import Moment
from carbonmon.analysis.prometheus.totals import totals
from carbonmon.core import metrics as f
from carbonmon.core.errors import ConfigError
from carbonmon.core.hints import nearest_runs

LOOK_BACK_S = 30 * 86400.0
"""How far back a run is looked for if nobody says since when."""
_RECENT_S = 300.0
"""So old may the last sample be of a run that goes on."""


def find(
    url: str,
    run_id: str,
    since: Moment | None = None,
    until: Moment | None = None,
    environ: Mapping[str, str] = os.environ,
    time_limit_s: float = TIME_LIMIT_S,
) -> Found:
    """What the Prometheus at a URL knows of a run between two moments; a run that began before counts whole.

    Raises ConfigError for a URL, a login or times that cannot be, and where there is no such run; FetchError
    where the server does not answer as it should.
    """
    api = Api(url, environ, time_limit_s)
    now_s = api.now_s()
    until_s = round(min(now_s, now_s if until is None else until.unix_s(now_s)), 3)
    since_s = round(until_s - LOOK_BACK_S if since is None else since.unix_s(now_s), 3)
    if since_s >= until_s:
        raise ConfigError("--since: it is not before --until, or not in the past")
    found = lineages(stretches(api, run_id, since_s, until_s), Comparison(api, run_id))
    if not found:
        raise _unknown(api, run_id, since_s, until_s, is_default=since is None)
    counts = [_count(api, run_id, lineage) for lineage in found]
    hosts = _hosts(counts)
    alive = {
        target_of(series.labels): series.values[-1]
        for series in api.at(of_run(f.RUN_START.name, run_id), until_s)
    }
    parts = []
    for count, host in zip(counts, hosts, strict=True):
        named = count._replace(host=host)
        state = _state(count, alive)
        gaps = count.lineage.gaps(count.ended_at_s)
        parts.append(Part(named, state, summary(named, state), gaps))
    return Found(api.host, parts, list(api.notes))


def _count(api: Api, run_id: str, lineage: Lineage) -> Count:
    last = totals(api, run_id, lineage.last)
    end_s = last.one(f.RUN_END)
    intensities = charged(api, run_id, lineage, end_s)
    return Count(run_id, host_of(lineage.instance), end_s, lineage, last, intensities)


def _state(count: Count, alive: Mapping[Target, float]) -> State:
    """A run goes on while its series do: Prometheus ends those of a monitor that does not answer any more.

    A gateway shows them for ever, but with an old last sample.
    """
    if count.ended_at_s is not None:
        return "final"
    last = count.lineage.last
    is_alive = is_same_start(alive.get(last.target, 0.0), last.start_s)
    return "running" if is_alive and last.last_s - count.until_s <= _RECENT_S else "recovered"


def _hosts(counts: Sequence[Count]) -> list[str]:
    """A name for each count's host: with the port where one host had several counts at the same time."""
    names = [count.host for count in counts]
    for number, count in enumerate(counts):
        rivals = [other for other in counts if other.host == count.host and other is not count]
        if any(_together(count, other) for other in rivals):
            names[number] = count.lineage.instance
    for number, count in enumerate(counts):
        name, copy = names[number], 1
        while any(
            names[place] == names[number] and _together(count, other)
            for place, other in enumerate(counts[:number])
        ):
            copy += 1
            names[number] = f"{name} ({copy})"
    return names


def _together(one: Count, other: Count) -> bool:
    begin_s = max(one.lineage.start_s, other.lineage.start_s)
    return begin_s < min(one.until_s, other.until_s)


def _unknown(api: Api, run_id: str, since_s: float, until_s: float, is_default: bool) -> ConfigError:
    known = api.values("run_id", f.RUN_START.name, since_s, until_s)
    hint = nearest_runs(run_id, known)
    days = f"the last {LOOK_BACK_S / 86400:.0f} days" if is_default else "that time"
    more = "; for an older one give --since" if is_default else ""
    return ConfigError(f"--run-id: no run {run_id!r} at {api.host} in {days}; {hint}{more}")
