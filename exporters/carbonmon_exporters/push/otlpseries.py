"""From one snapshot to the series of OTLP: the same families as a scrape, and hw.* of each device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import inf

from prometheus_client.samples import Sample

from carbonmon.core import metrics as f
from carbonmon.core.model import Component, Snapshot
from carbonmon.core.records import NamedTuple
from carbonmon.runs.summary.strings import encodable
from carbonmon_exporters.collector import families as collected
from carbonmon_exporters.push.otlpnames import otlp_name
from carbonmon_exporters.starts import Starts

HW_ENERGY, HW_POWER = "hw.energy", "hw.power"
HW_TYPES: dict[Component, str] = {"gpu": "gpu", "cpu": "cpu", "dram": "memory", "module": "module"}
"""The well-known values of hw.type in the semantic conventions for hardware, and one of ours: they have none
for a meter of several."""

OF_RUNS_TOO = (f.UNCERTAINTY, f.PUE, f.GRID_INTENSITY, f.DEVICE_INFO)
"""What is the node's, and a run's figures are joined with it by their instance: so it is told of each run as
well, as in a file."""

OF_THE_MOMENT = (
    *(f.RUN_POWER, f.RUN_PROCESSES, f.DEVICE_POWER, f.DEVICE_UTILIZATION, f.SENSOR_UP, f.SENSOR_SECONDS),
)
"""What is true only while it is measured."""

_FAMILIES = {family.family_name: family for family in f.FAMILIES}

Labels = Mapping[str, str]


class Row(NamedTuple):
    """One sample; `start_s` is the Unix time since when a counter counts, where the snapshot knows it."""

    labels: Labels
    value: float
    start_s: float | None = None


class Series(NamedTuple):
    """The samples of one metric."""

    name: str
    unit: str
    text: str
    is_counter: bool
    of_runs: bool
    rows: list[Row]


def all_series(snapshot: Snapshot, is_last: bool) -> Iterator[Series]:
    """All that is told of a snapshot; with the last of all nothing of the moment is."""
    ended = {encodable(run.info.id) for run in snapshot.runs if run.ended_at_s is not None}
    yield _power(snapshot, is_last)
    # All counters with their starts, whoever has been told what.
    starts = Starts(snapshot, since_s=-inf, at_s=snapshot.at_s)
    shown = {family.name: family for family in collected(snapshot, starts)}
    for name, family in _FAMILIES.items():
        samples = shown[name].samples if name in shown else []
        if family in OF_THE_MOMENT:
            samples = [s for s in samples if not is_last and s.labels.get("run_id") not in ended]
        if samples or family.kind != "counter":
            yield _series(family, samples, "run_id" in family.labels)
        if family in OF_RUNS_TOO:
            yield _series(family, _of_each_run(samples, snapshot), of_runs=True)
        if family is f.DEVICE_ENERGY and samples:
            yield _energy(samples, snapshot)


def _series(family: f.Family, samples: Iterable[Sample], of_runs: bool) -> Series:
    name, unit = otlp_name(family)
    return Series(name, unit, family.help, family.kind == "counter", of_runs, _rows(samples))


def _rows(samples: Iterable[Sample]) -> list[Row]:
    """One of each sample; of the two that a counter has, the first says since when it counts."""
    rows = []
    start_s: float | None = None
    for sample in samples:
        if sample.timestamp is not None and start_s is None:
            start_s = float(sample.timestamp)
            continue
        rows.append(Row(sample.labels, sample.value, start_s))
        start_s = None
    return rows


def _of_each_run(samples: Iterable[Sample], snapshot: Snapshot) -> list[Sample]:
    run_ids = [encodable(run.info.id) for run in snapshot.runs]
    return [s._replace(labels={**s.labels, "run_id": run_id}) for run_id in run_ids for s in samples]


def _power(snapshot: Snapshot, is_last: bool) -> Series:
    """hw.power; how the device may be known is told along, because nobody says by which method a power is."""
    labels = _hardware_labels(snapshot)
    rows = []
    for state in snapshot.devices:
        if state.power_w is not None and not is_last:
            methods = {"carbonmon.methods": ",".join(state.device.methods)}
            rows.append(Row({**labels[encodable(state.device.id)], **methods}, state.power_w))
    text = "Power of the component over the last interval."
    return Series(HW_POWER, "W", text, is_counter=False, of_runs=False, rows=rows)


def _energy(samples: Iterable[Sample], snapshot: Snapshot) -> Series:
    labels = _hardware_labels(snapshot)
    rows = [
        row._replace(labels={**labels[row.labels["device"]], "carbonmon.method": row.labels["method"]})
        for row in _rows(samples)
    ]
    text = "Energy consumed by the component."
    return Series(HW_ENERGY, "J", text, is_counter=True, of_runs=False, rows=rows)


def _hardware_labels(snapshot: Snapshot) -> dict[str, dict[str, str]]:
    """The attributes that the conventions ask for, by our name of the device."""
    return {
        encodable(state.device.id): {
            "hw.id": encodable(state.device.id),
            "hw.type": HW_TYPES[state.device.component],
            "hw.name": encodable(state.device.name),
        }
        for state in snapshot.devices
    }
