"""Reads the totals of counters, and the other metrics, from their last scrapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from carbonmon.analysis.prometheus.client import Api
from carbonmon.analysis.prometheus.scan import TargetScrapes
from carbonmon.analysis.prometheus.selectors import of_node, own_labels, span
from carbonmon.core import metrics as f
from carbonmon.core.typed import LARGEST

_FAMILIES = (
    *(f.RUN_ENERGY, f.RUN_EMISSIONS, f.RUN_UNOBSERVED, f.RUN_NODE_ENERGY, f.RUN_CPU, f.RUN_WATER),
    *(f.RUN_COST, f.RUN_END, f.RUN_INFO, f.DEVICE_INFO, f.UNCERTAINTY, f.ANOMALIES, f.GRID_INTENSITY),
    *(f.PUE, f.WUE, f.SAMPLE_INTERVAL, f.LAST_SAMPLE, f.BUILD_INFO),
)

_COUNTERS = frozenset(family.name for family in _FAMILIES if family.kind == "counter")
_SLACK_S = 1.0


class Sample(NamedTuple):
    labels: Mapping[str, str]
    value: float


class Totals(NamedTuple):
    """The samples of each family by its name, with carbonmon's own labels."""

    samples: Mapping[str, Sequence[Sample]]

    def of(self, family: f.Family) -> Sequence[Sample]:
        return self.samples.get(family.name, ())

    def one(self, family: f.Family) -> float | None:
        """The value of a family without labels of its own; None where it is absent."""
        return next((sample.value for sample in self.of(family)), None)

    def info(self, family: f.Family) -> Mapping[str, str]:
        """The labels of an info family; none where it is absent."""
        return next((sample.labels for sample in self.of(family)), {})


def totals(api: Api, run_id: str, scraped: TargetScrapes) -> Totals:
    """Of each counter the largest value of the last scrapes, of all other metrics the last value.

    The largest, because a new scraper of a monitor gets each counter at 0 once: that is no reset. Samples of
    scrapes with another start time are left out.
    """
    tail_ms = {_ms(at_s) for at_s in scraped.tail_s}
    end_s = scraped.last_s
    query = of_node([family.name for family in _FAMILIES], run_id, scraped.target)
    answer = api.at(f"{query}[{span(end_s - scraped.tail_s[0] + _SLACK_S)}]", end_s)
    samples: dict[str, list[Sample]] = {}
    gauges: dict[str, list[tuple[int, Sample]]] = {}
    for series in answer:
        name = series.labels.get("__name__", "")
        labels = own_labels(series.labels, scraped.target)
        known = [
            (_ms(at_s), value)
            for at_s, value in zip(series.times_s, series.values, strict=True)
            if abs(value) <= LARGEST and _ms(at_s) in tail_ms  # NaN is not
        ]
        if not known:
            continue
        if name in _COUNTERS:
            samples.setdefault(name, []).append(Sample(labels, max(0.0, *(value for _, value in known))))
        else:
            at_ms, value = known[-1]
            gauges.setdefault(name, []).append((at_ms, Sample(labels, value)))
    newest_ms = {name: max(at_ms for at_ms, _ in found) for name, found in gauges.items()}
    if newest_ms.get(f.RUN_END.name, 0) < newest_ms.get(f.RUN_INFO.name, 0):
        gauges.pop(f.RUN_END.name, None)  # it had ended, and was resumed
    for name, found in gauges.items():
        samples[name] = [sample for at_ms, sample in found if at_ms == newest_ms[name]]
    return Totals(samples)


def _ms(at_s: float) -> int:
    return round(at_s * 1000)
