"""The metric families of the meters of the whole machine: beside the devices', with no label `component`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from carbonmon.core import metrics as f
from carbonmon.core.model import Snapshot
from carbonmon.runs.summary.strings import encodable
from carbonmon_exporters.families import as_counter, as_gauge
from carbonmon_exporters.starts import Starts


def node_meter_families(snapshot: Snapshot, starts: Starts) -> Iterator[Metric]:
    """An unknown power and coverage stay absent; totals are there from the monitor's start."""
    energy, covered = as_counter(f.NODE_ENERGY), as_counter(f.NODE_COVERED)
    unobserved = as_counter(f.NODE_UNOBSERVED)
    power, coverage = as_gauge(f.NODE_POWER), as_gauge(f.NODE_COVERAGE)
    for state in snapshot.node_meters:
        label = (encodable(state.total.meter),)
        for counter, value in (
            (energy, state.total.energy_j),
            (covered, state.total.covered_j),
            (unobserved, state.total.unobserved_s),
        ):
            starts.add(counter, label, value, snapshot.start_s)
        for gauge, now in ((power, state.power_w), (coverage, state.coverage_ratio)):
            if now is not None:
                gauge.add_metric(label, now)
    yield from (energy, covered, unobserved, power, coverage)
