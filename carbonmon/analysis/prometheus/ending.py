"""By how much the total of a part may be low, above all where its end was not scraped.

Nobody knows what was drawn then. What is given is the power at the last scrape times the seconds until the
next one, which found the run no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carbonmon.analysis.prometheus.client import Api
from carbonmon.analysis.prometheus.part import State
from carbonmon.analysis.prometheus.records import RunCounters
from carbonmon.analysis.prometheus.scan import SAME_TIME_S
from carbonmon.analysis.prometheus.selectors import of_run, of_target, span
from carbonmon.core import metrics as f
from carbonmon.core.records import NamedTuple

_PUSHED_AFTER_S = 60.0
"""Of a last sample that is so much older than the last scrape a file or a gateway told."""
_PUSH_PERIOD_S = 15.0
"""How often our exporters write such a file, or push."""
_NEXT_SCRAPE_WITHIN_S = 600.0
_STALE_AFTER_STEPS = 1.5
_LOOK_BACK_S = 300.0
"""For so long a server shows the last sample of a series that it has not ended itself."""
_ZERO_ONCE_UNTIL = (0, 2)
"""Versions (major, minor) up to this one show each new counter at 0 instead of its value once."""


class Missing(NamedTuple):
    """What a part may lack: so many seconds at that power, each None where it is unknown.

    `after_s` are those after the last sample, `before_s` those before the last scrape of which it showed only
    zeros; `phases` are those of which a 0 is all that was scraped.
    """

    power_w: float | None
    after_s: float | None
    before_s: float | None = 0.0
    phases: Sequence[str] = ()

    @property
    def after_j(self) -> float | None:
        return _joules(self.power_w, self.after_s)

    @property
    def before_j(self) -> float | None:
        return _joules(self.power_w, self.before_s)

    @property
    def up_to_j(self) -> float | None:
        """Of both; None where one is unknown."""
        after_j, before_j = self.after_j, self.before_j
        return None if after_j is None or before_j is None else after_j + before_j


def _joules(power_w: float | None, seconds: float | None) -> float | None:
    if seconds == 0.0:
        return 0.0
    return None if power_w is None or seconds is None else power_w * seconds


def missing(api: Api, counters: RunCounters, state: State, until_s: float) -> Missing:
    """What may be missing in the total of a part as of a Unix time in s."""
    phases = _phases_at_zero(counters)
    after_s = {"final": 0.0, "running": max(0.0, until_s - counters.until_s)}.get(state)
    if after_s is None:
        after_s = _unseen_s(api, counters, until_s)
    before_s: float | None = 0.0
    if not any(sample.value for sample in counters.totals.of(f.RUN_ENERGY)):
        before_s = max(0.0, counters.until_s - counters.history.start_s)
    elif phases:
        before_s = counters.history.step_s
    return Missing(_power_w(counters), after_s, before_s, phases)


def _power_w(counters: RunCounters) -> float | None:
    """The run's power at the last scrape, else its mean."""
    powers = counters.totals.of(f.RUN_POWER)
    if powers:
        return sum(sample.value for sample in powers)
    joules = sum(sample.value for sample in counters.totals.of(f.RUN_ENERGY))
    lasted_s = counters.until_s - counters.history.start_s
    return joules / lasted_s if joules and lasted_s > 0.0 else None


def _unseen_s(api: Api, counters: RunCounters, until_s: float) -> float | None:
    """Seconds from the last sample to the next look at the node; None where nobody looked."""
    history, last = counters.history, counters.history.last
    if history.last_s - counters.until_s > _PUSHED_AFTER_S:
        return _PUSH_PERIOD_S
    end_s = min(until_s, last.last_s + _NEXT_SCRAPE_WITHIN_S)
    if last.target and end_s > last.last_s:
        query = f"{of_target('up', last.target)}[{span(end_s - last.last_s)}]"
        looks = [at_s for series in api.at(query, end_s) for at_s in series.times_s]
        later = [at_s for at_s in looks if at_s > last.last_s + SAME_TIME_S]
        if later:
            return min(later) - counters.until_s
    step_s = history.step_s
    if step_s is None:
        return None
    probe_s = last.last_s + _STALE_AFTER_STEPS * step_s
    if probe_s < min(until_s, last.last_s + _LOOK_BACK_S):
        query = of_run(f.RUN_START.name, counters.run_id, last.target)
        if api.at(query, probe_s):  # the series was not ended, so the server itself stood still
            return None
    return last.last_s + step_s - counters.until_s


def _phases_at_zero(counters: RunCounters) -> list[str]:
    """The phases, of a monitor that shows new counters at 0 once, of which nothing but that is known."""
    if not _shows_zero_once(counters.totals.info(f.BUILD_INFO)):
        return []
    zeros = counters.totals.only_zeros
    known = {sample.labels.get("phase", "") for sample in counters.totals.of(f.RUN_ENERGY) if sample.value}
    return sorted({labels.get("phase", "") for labels in zeros} - known)


def _shows_zero_once(build: Mapping[str, str]) -> bool:
    words = build.get("version", "").split(".")[:2]
    if len(words) < 2 or not all(word.isdecimal() for word in words):
        return True
    return (int(words[0]), int(words[1])) <= _ZERO_ONCE_UNTIL
