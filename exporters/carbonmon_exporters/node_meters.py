"""The metric families of the meters of the whole machine: beside the devices', with no label `component`."""

from __future__ import annotations

from collections.abc import Iterator

from carbonmon.core import metrics as f
from carbonmon.core.model import Snapshot
from carbonmon.runs.summary.node_meters import lost_s
from carbonmon.runs.summary.ranges import is_seen
from carbonmon.runs.summary.strings import encodable
from carbonmon_exporters.families import RowFamily, as_counter, as_gauge
from carbonmon_exporters.starts import Starts


def node_meter_families(snapshot: Snapshot, starts: Starts) -> Iterator[RowFamily]:
    """An unknown power, coverage and charge stay absent; totals are there from the monitor's start."""
    if not snapshot.node_meters and not any(run.node_meters or run.node_charges for run in snapshot.runs):
        return
    energy, covered = as_counter(f.NODE_ENERGY), as_counter(f.NODE_COVERED)
    unobserved = as_counter(f.NODE_UNOBSERVED)
    power, coverage = as_gauge(f.NODE_POWER), as_gauge(f.NODE_COVERAGE)
    unattributed = as_counter(f.NODE_UNATTRIBUTED)
    charged, grams = as_counter(f.RUN_CHARGED_ENERGY), as_counter(f.RUN_CHARGED_EMISSIONS)
    for state in snapshot.node_meters:
        label = (encodable(state.total.meter),)
        for counter, value in (
            (energy, state.total.energy_j),
            (covered, state.total.covered_j),
            (unobserved, state.total.unobserved_s),
        ):
            starts.add(counter, label, value, snapshot.start_s)
        if state.charges or state.total.unattributed_j:
            starts.add(unattributed, label, state.total.unattributed_j, snapshot.start_s)
        for gauge, now in ((power, state.power_w), (coverage, state.coverage_ratio)):
            if now is not None:
                gauge.add_metric(label, now)
    measured, own_covered = as_counter(f.RUN_METER_ENERGY), as_counter(f.RUN_METER_COVERED)
    lost = as_counter(f.RUN_METER_UNOBSERVED)
    for run in snapshot.runs:
        for total in run.node_meters:
            labels = encodable(run.info.id), encodable(total.meter)
            starts.add(lost, labels, lost_s(run, total), run.start_s)
            if not total.observed_s:
                continue
            starts.add_late(own_covered, labels, total.covered_j, run.start_s)
            for method, energy_j in (("counter", total.counter_j), ("power", total.power_j)):
                if energy_j:
                    starts.add_late(measured, (*labels, method), energy_j, run.start_s)
        for charge in run.node_charges:
            if not charge.energy_j and not is_seen(run):
                continue
            labels = encodable(run.info.id), encodable(charge.meter)
            starts.add_late(charged, labels, charge.energy_j, run.start_s)
            starts.add_late(grams, labels, charge.emissions_g, run.start_s)
    yield from (energy, covered, unobserved, unattributed, power, coverage, charged, grams)
    yield from (measured, own_covered, lost)
