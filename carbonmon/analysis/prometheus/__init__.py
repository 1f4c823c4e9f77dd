"""A run's summary from a Prometheus that scraped its monitors, over all nodes.

    samples of start times  →  scrapes by target  →  counter histories  →  their last totals  →  summaries

Counters are not summed by `increase()`: that extrapolates, and treats every decrease as a reset. Here the
run's start time says which totals are one counter, however often its monitor, port or scraper changed.
What no scrape saw is not guessed: how much it may be is said beside the total.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import inf

from carbonmon.analysis.prometheus.address import Login
from carbonmon.analysis.prometheus.charged_intensity import charged_intensities
from carbonmon.analysis.prometheus.client import TIME_LIMIT_S, Api
from carbonmon.analysis.prometheus.counter_history import CounterHistory, SameMonitorCheck, counter_histories
from carbonmon.analysis.prometheus.ending import missing
from carbonmon.analysis.prometheus.part import State, summary
from carbonmon.analysis.prometheus.records import RunCounters
from carbonmon.analysis.prometheus.result import Part, PrometheusRun
from carbonmon.analysis.prometheus.scan import is_same_start, target_scrapes
from carbonmon.analysis.prometheus.selectors import Target, host_of, of_run, target_of
from carbonmon.analysis.prometheus.times import Moment
from carbonmon.analysis.prometheus.totals import totals
from carbonmon.core import metrics as f
from carbonmon.core.errors import ConfigError
from carbonmon.core.hints import nearest_runs

LOOK_BACK_S = 30 * 86400.0
"""How far back a run is searched without --since."""
_RECENT_S = 300.0
"""The largest age of the last sample of an active run."""


def find(
    url: str,
    run_id: str,
    since: Moment | None = None,
    until: Moment | None = None,
    environ: Mapping[str, str] = os.environ,
    time_limit_s: float = TIME_LIMIT_S,
    login: Login | None = None,
) -> PrometheusRun:
    """A run between two moments in the Prometheus at a URL; the whole run, if it began before.

    `time_limit_s` is for each answer; the first that does not come in time is an error. Raises ConfigError
    for an invalid URL, login or time, and where there is no such run; FetchError for an invalid answer of
    the server.
    """
    api = Api(url, environ, time_limit_s, given=login)
    now_s = api.now_s()
    until_s = round(min(now_s, now_s if until is None else until.unix_s(now_s)), 3)
    since_s = round(until_s - LOOK_BACK_S if since is None else since.unix_s(now_s), 3)
    if since_s >= until_s:
        raise ConfigError("--since: it is not before --until, or not in the past")
    found = counter_histories(target_scrapes(api, run_id, since_s, until_s), SameMonitorCheck(api, run_id))
    if not found:
        raise _unknown(api, run_id, since_s, until_s, is_default=since is None)
    # A node's clock may be ahead of the server's: what is newest may be of a time to come.
    latest_s = inf if until_s >= now_s else until_s
    all_counters = [_counters_of(api, run_id, history, latest_s) for history in found]
    hosts = _hosts(all_counters)
    alive = {
        target_of(series.labels): series.values[-1]
        for series in api.at(of_run(f.RUN_START.name, run_id), until_s)
    }
    parts = []
    for counters, host in zip(all_counters, hosts, strict=True):
        named = counters._replace(host=host)
        state = _state(counters, alive)
        gaps = counters.history.gaps(counters.ended_at_s)
        lack = missing(api, counters, state, until_s)
        parts.append(Part(named, state, summary(named, state), gaps, lack))
    return PrometheusRun(api.host, parts, list(api.notes))


def _counters_of(api: Api, run_id: str, history: CounterHistory, latest_s: float) -> RunCounters:
    last = totals(api, run_id, history.last_ones, latest_s)
    end_s = last.one(f.RUN_END)
    intensities = charged_intensities(api, run_id, history, end_s)
    return RunCounters(run_id, host_of(history.instance), end_s, history, last, intensities)


def _state(counters: RunCounters, alive: Mapping[Target, float]) -> State:
    """A run is active while its series are: Prometheus ends those of a monitor that no longer answers.

    A gateway shows them without end, but with an old last sample.
    """
    if counters.ended_at_s is not None:
        return "final"
    last = counters.history.last
    is_alive = is_same_start(alive.get(last.target, 0.0), last.start_s)
    return "running" if is_alive and last.last_s - counters.until_s <= _RECENT_S else "recovered"


def _hosts(all_counters: Sequence[RunCounters]) -> list[str]:
    """The host of each, with the port where one host had several counters at the same time."""
    names = [counters.host for counters in all_counters]
    for number, counters in enumerate(all_counters):
        others = [other for other in all_counters if other.host == counters.host and other is not counters]
        if any(_overlap(counters, other) for other in others):
            names[number] = counters.history.instance
    for number, counters in enumerate(all_counters):
        name, copy = names[number], 1
        while any(
            names[index] == names[number] and _overlap(counters, other)
            for index, other in enumerate(all_counters[:number])
        ):
            copy += 1
            names[number] = f"{name} ({copy})"
    return names


def _overlap(one: RunCounters, other: RunCounters) -> bool:
    begin_s = max(one.history.start_s, other.history.start_s)
    return begin_s < min(one.until_s, other.until_s)


def _unknown(api: Api, run_id: str, since_s: float, until_s: float, is_default: bool) -> ConfigError:
    known = api.values("run_id", f.RUN_START.name, since_s, until_s)
    hint = nearest_runs(run_id, known)
    days = f"the last {LOOK_BACK_S / 86400:.0f} days" if is_default else "that time"
    more = "; for an older one give --since" if is_default else ""
    said = "".join(f"; {note}" for note in api.notes)
    return ConfigError(f"--run-id: no run {run_id!r} at {api.host} in {days}; {hint}{more}{said}")
