"""Reads the totals of counters, and the other metrics, from their last scrapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from carbonmon.analysis.prometheus.client import Api
from carbonmon.analysis.prometheus.scan import SAME_TIME_S, TargetScrapes
from carbonmon.analysis.prometheus.selectors import RUN_ID, of_node, own_labels, span
from carbonmon.core import metrics as f
from carbonmon.core.records import NamedTuple
from carbonmon.core.typed import LARGEST

_FAMILIES = (
    *(f.RUN_ENERGY, f.RUN_EMISSIONS, f.RUN_UNOBSERVED, f.RUN_NODE_ENERGY, f.RUN_CPU, f.RUN_WATER),
    *(
        f.RUN_COST,
        f.RUN_END,
        f.RUN_INFO,
        f.RUN_POWER,
        f.DEVICE_INFO,
        f.UNCERTAINTY,
        f.ANOMALIES,
        f.GRID_INTENSITY,
    ),
    *(f.RUN_CHARGED_ENERGY, f.RUN_CHARGED_EMISSIONS),
    *(f.RUN_METER_ENERGY, f.RUN_METER_COVERED, f.RUN_METER_UNOBSERVED),
    *(f.PUE, f.WUE, f.SAMPLE_INTERVAL, f.LAST_SAMPLE, f.BUILD_INFO),
)

_COUNTERS = frozenset(family.name for family in _FAMILIES if family.kind == "counter")
_SLACK_S = 1.0
_CLOCK_SLACK_S = 60.0
"""So much may a node's clock differ from the server's: new counters come with the node's times."""
_SAME_LOOK_RATIO = 0.9
"""Samples are of one scrape that are less than this part of a scrape interval apart."""

Labels = Mapping[str, str]
_Key = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    labels: Labels
    value: float


class Totals(NamedTuple):
    """The samples of each family by its name, with carbonmon's own labels.

    `only_zeros` are the labels of the energies of which nothing but one 0 is known.
    """

    samples: Mapping[str, Sequence[Sample]]
    only_zeros: Sequence[Labels] = ()

    def of(self, family: f.Family) -> Sequence[Sample]:
        return self.samples.get(family.name, ())

    def one(self, family: f.Family) -> float | None:
        """The value of a family without labels of its own; None where it is absent."""
        return next((sample.value for sample in self.of(family)), None)

    def info(self, family: f.Family) -> Labels:
        """The labels of an info family; none where it is absent."""
        return next((sample.labels for sample in self.of(family)), {})


class _Known(NamedTuple):
    """The samples of one series, Unix times in s and values, with carbonmon's own labels."""

    name: str
    labels: Labels
    samples: Sequence[tuple[float, float]]

    @property
    def key(self) -> _Key:
        return tuple(sorted(self.labels.items()))


def totals(api: Api, run_id: str, all_scraped: Sequence[TargetScrapes], latest_s: float) -> Totals:
    """Of each counter the largest value of the last scrapes, of all other metrics the last value.

    The targets are those of one counter that were scraped to the end; what is newer than `latest_s` does not
    count. The largest value, because one of them may be behind, and because monitors up to version 0.2.0 show
    each counter at 0 once to a new scraper: that is no reset. Samples of scrapes with another start time are
    left out.
    """
    counters: dict[str, dict[_Key, list[_Known]]] = {}
    gauges: dict[str, list[_Known]] = {}
    for scraped in all_scraped:
        for known in _last_samples(api, run_id, scraped, latest_s):
            if known.name in _COUNTERS:
                counters.setdefault(known.name, {}).setdefault(known.key, []).append(known)
            else:
                gauges.setdefault(known.name, []).append(known)
    samples: dict[str, list[Sample]] = {}
    only_zeros = []
    for name, by_labels in counters.items():
        for same in by_labels.values():
            values = [value for known in same for _, value in known.samples]
            samples.setdefault(name, []).append(Sample(same[0].labels, max(0.0, *values)))
            if name == f.RUN_ENERGY.name and values == [0.0]:
                only_zeros.append(same[0].labels)
    look_s = _SAME_LOOK_RATIO * max((scraped.step_s or 0.0) for scraped in all_scraped) + SAME_TIME_S
    newest_s = {name: max(known.samples[-1][0] for known in found) for name, found in gauges.items()}
    if newest_s.get(f.RUN_END.name, 0.0) < newest_s.get(f.RUN_INFO.name, 0.0) - look_s:
        gauges.pop(f.RUN_END.name, None)  # it had ended, and was resumed
    for name, found in gauges.items():
        newest_first = sorted(found, key=lambda known: -known.samples[-1][0])
        last: dict[_Key, Sample] = {}
        for known in newest_first:
            at_s, value = known.samples[-1]
            if at_s > newest_s[name] - look_s:
                last.setdefault(known.key, Sample(known.labels, value))
        samples[name] = list(last.values())
    return Totals(samples, only_zeros)


def _last_samples(api: Api, run_id: str, scraped: TargetScrapes, latest_s: float) -> Iterator[_Known]:
    """The samples of the target's last scrapes, series by series.

    Counters of the run may have a time of their own, by the node's clock; what is the node's own goes on
    after the run, and counts as of the run's last scrape.
    """
    end_s = max(scraped.last_s, min(scraped.last_s + _CLOCK_SLACK_S, latest_s))
    begin_s = min(scraped.tail_s[0], scraped.last_s - _CLOCK_SLACK_S) - _SLACK_S
    query = of_node([family.name for family in _FAMILIES], run_id, scraped.target)
    for series in api.at(f"{query}[{span(end_s - begin_s)}]", end_s):
        if not scraped.has(series.labels):
            continue
        name = series.labels.get("__name__", "")
        labels = own_labels(series.labels, scraped.target)
        has_own_times = name in _COUNTERS and RUN_ID in labels
        most_s = (end_s if has_own_times else scraped.last_s) + SAME_TIME_S
        known = [
            (at_s, value)
            for at_s, value in zip(series.times_s, series.values, strict=True)
            if abs(value) <= LARGEST and at_s <= most_s and scraped.owns(at_s)  # NaN is not
        ]
        if known:
            yield _Known(name, labels, known)
