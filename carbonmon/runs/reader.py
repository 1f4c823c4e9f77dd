"""Reads what a run's monitor wrote last: after it was killed, or in another command.

Whatever is in the files, the result is a value or a `RunFileError` that names file and field: never a
guess and never a wrong number. A field that an older version's files lack takes its default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from carbonmon.core.budgets import BudgetState
from carbonmon.core.config import parse_run_id
from carbonmon.core.errors import ConfigError
from carbonmon.core.forecast import Forecast
from carbonmon.core.gpu_time import GpuTime
from carbonmon.core.model import (
    MAIN_PHASE,
    Charge,
    Cost,
    Device,
    DeviceState,
    EndsWith,
    IdlePolicy,
    Intensity,
    Meter,
    NodeTotal,
    Rank,
    ResumePoint,
    RunInfo,
    RunState,
    RunTotal,
    Snapshot,
    Spec,
)
from carbonmon.core.node_meter import NodeCharge, NodeEnergy, NodeMeterState
from carbonmon.core.pauses import Pauses
from carbonmon.core.records import NamedTuple
from carbonmon.core.typed import LARGEST, Entry, short_text
from carbonmon.core.work import Work
from carbonmon.runs.checked import RunFileError, document
from carbonmon.runs.checkpoint_slots import newest
from carbonmon.runs.layout import (
    DEVICE_FIELDS,
    ENDS_WITH_KEY,
    METER_FIELDS,
    RESUME_POINT_KEY,
    RUN_FILE,
    RUN_SCHEMA,
)

_LATER_DEVICE_FIELDS = frozenset(("contains",))
"""Fields of a device that files of earlier releases lack: they take their defaults."""

_LATER: Mapping[str, Any] = {
    "node": [],
    "node_fields": list(NodeTotal._fields),
    "shares": [],
    "ranks": [],
    "costs": [],
    "forecasts": [],
    "budgets": [],
    "node_energy_fields": list(NodeEnergy._fields),
    "node_meters": [],
    "run_node_meters": [],
    "node_charges": [],
}
"""Lists of a checkpoint that its schema's first version lacked, and their values where they are missing."""


class Checkpoint(NamedTuple):
    """A run as in its last checkpoint; its counters are valid within the boot of the kernel's `boot_id`."""

    snapshot: Snapshot
    boot_id: str


def read_run(folder: Path) -> tuple[RunInfo, list[Device]]:
    """run.json of a folder; raises `RunFileError`."""
    kept = document(folder / RUN_FILE, RUN_SCHEMA)
    run = kept.entry("run")
    try:
        run_id = parse_run_id(run.text("id"))
    except RunFileError:
        raise
    except ConfigError:  # of an id there are files and folders
        raise run.source.mistake("run.id is no id of a run") from None
    info = RunInfo(
        id=run_id,
        name=run.text("name"),
        command=run.texts("command"),
        labels=tuple(
            (key, run.source.value(f"run.labels of {key!r:.40}", text, str)) for key, text in _labels(run)
        ),
        host=run.text("host"),
        started_at_s=run.number("started_at_s"),
        scheduler=run.text("scheduler"),
        scheduler_job_id=run.text("scheduler_job_id"),
        idle_policy=run.value("idle_policy", IdlePolicy, "exclusive"),
        uid=run.value("uid", int | None),
        key=run.value("key", str | None),
        ends_with=run.value(ENDS_WITH_KEY, EndsWith, "job"),
        user=run.text("user", ""),
    )
    devices = [_device(entry) for entry in kept.entries("devices")]
    kept.source.check_unique("devices", [device.id for device in devices])
    return info, devices


def read_checkpoint(folder: Path) -> Checkpoint:
    """run.json and the newest whole checkpoint of a folder as one snapshot; raises `RunFileError`."""
    return checkpoint_of(folder, newest(folder))


def checkpoint_of(folder: Path, kept: Entry) -> Checkpoint:
    """run.json of a folder and what a checkpoint holds, as one snapshot; raises `RunFileError`."""
    info, devices = read_run(folder)
    kept = kept._replace(values={**_LATER, **kept.values})
    run_id = kept.text("run")
    if run_id != info.id:
        raise kept.source.mistake(
            f"belongs to run {short_text(run_id)}, and {RUN_FILE} to {short_text(info.id)}"
        )
    states = _states(kept, devices)
    return Checkpoint(_snapshot(kept, (_run(kept, info, states),), states), kept.text("boot_id"))


def devices_of(kept: Entry, devices: Iterable[Device]) -> Checkpoint:
    """Those of these devices that a checkpoint holds, as a snapshot without runs; raises `RunFileError`."""
    kept = kept._replace(values={**_LATER, **kept.values})
    known = {device.id: device for device in devices}
    found = [[device_id, values] for device_id, values in kept.pairs("devices") if device_id in known]
    here = kept._replace(values={**kept.values, "devices": found})
    return Checkpoint(_snapshot(kept, (), _states(here, list(known.values()))), kept.text("boot_id"))


def _snapshot(kept: Entry, runs: tuple[RunState, ...], states: tuple[DeviceState, ...]) -> Snapshot:
    return Snapshot(
        at_s=kept.number("at_s"),
        version=kept.text("version"),
        interval_s=kept.number("interval_s"),
        samples=kept.value("samples", int),
        runs=runs,
        devices=states,
        sensors=(),
        intensity=kept.value("intensity", Intensity),
        pue_ratio=kept.number("pue_ratio"),
        exporter_errors=(),
        clock_s=kept.number("clock_s"),
        meters=_meters(kept),
        continued=True,
        pue_source=kept.text("pue_source", ""),
        wue_l_per_kwh=kept.value("wue_l_per_kwh", float | None),
        wue_source=kept.text("wue_source", ""),
        price_source=kept.text("price_source", ""),
        currency=kept.text("currency", ""),
        start_s=kept.value("start_s", float | None),
        node_meters=tuple(NodeMeterState(total) for total in _node_meters(kept, "node_meters")),
    )


def _run(kept: Entry, info: RunInfo, states: tuple[DeviceState, ...]) -> RunState:
    totals = kept.records("totals", RunTotal, _known(kept, "total_fields", RunTotal, RunTotal._fields))
    kept.source.check_unique("totals", [(row.phase, row.device_id, row.method) for row in totals])
    node = _node(kept, states)
    energy_j = sum(row.energy_j for row in totals)
    water_l, watered_j = kept.value("water_l", float | None), kept.value("watered_j", float | None)
    facility_j = kept.value("facility_j", float | None)
    if not kept.has("facility_j"):  # an older version's, in which all of a run was charged alike
        watered_j = None if water_l is None else energy_j
        facility_j = energy_j * kept.number("pue_ratio")
    return RunState(
        info,
        totals,
        tuple((state.device.id, None) for state in states),
        kept.pairs_of("unobserved_s", float),
        kept.pairs_of("phases_s", float),
        kept.number("duration_s"),
        kept.value("ended_at_s", float | None),
        recovered_j=kept.number("recovered_j"),
        node=node,
        shares=kept.pairs_of("shares", str),
        cpu_s=kept.value("cpu_s", float | None),
        phase=kept.text("phase", MAIN_PHASE),
        work=_work(kept),
        ranks=kept.records("ranks", Rank),
        resume_point=_resume_point(kept),
        charges=_charges(kept, totals),
        costs=_costs(kept),
        water_l=water_l,
        watered_j=watered_j,
        facility_j=facility_j,
        peaks_w=_peaks(kept, states),
        samples=kept.value("run_samples" if kept.has("run_samples") else "samples", int | None),
        monitor_cpu_s=kept.value("monitor_cpu_s", float | None),
        doubts_j=None if kept.values.get("doubts_j") is None else kept.pairs_of("doubts_j", float),
        notes=kept.texts("notes") if kept.has("notes") else (),
        forecasts=kept.records("forecasts", Forecast),
        budgets=kept.records("budgets", BudgetState),
        start_s=kept.value("run_start_s", float | None),
        gpu_time=kept.value("gpu_time", GpuTime | None),
        pauses=kept.value("pauses", Pauses | None),
        node_meters=_node_meters(kept, "run_node_meters"),
        node_charges=_node_charges(kept),
    )


def _node(kept: Entry, states: tuple[DeviceState, ...]) -> tuple[NodeTotal, ...]:
    """What each device did while the run lasted; of an older version what it showed: since its start."""
    known = _known(kept, "node_fields", NodeTotal, NodeTotal._fields)
    node = kept.records("node", NodeTotal, known)
    kept.source.check_unique("node", [row.device_id for row in node])
    missing = NodeTotal._fields[known:]
    if not missing:
        return node
    by_id = {state.device.id: state for state in states}
    return tuple(
        row._replace(**{field: getattr(by_id[row.device_id], field) for field in missing})
        if row.device_id in by_id
        else row
        for row in node
    )


def _node_meters(kept: Entry, key: str) -> tuple[NodeEnergy, ...]:
    known = _known(kept, "node_energy_fields", NodeEnergy, NodeEnergy._fields)
    totals = kept.records(key, NodeEnergy, known)
    kept.source.check_unique(key, [total.meter for total in totals])
    return totals


def _node_charges(kept: Entry) -> tuple[NodeCharge, ...]:
    charges = kept.records("node_charges", NodeCharge)
    kept.source.check_unique("node_charges", [charge.meter for charge in charges])
    return charges


def _peaks(kept: Entry, states: tuple[DeviceState, ...]) -> tuple[tuple[str, float | None], ...]:
    """The run's highest powers; an older version noted the devices' own."""
    if not kept.has("peaks_w"):
        return tuple((state.device.id, state.peak_power_w) for state in states)
    return kept.pairs_of("peaks_w", float | None)


def _charges(kept: Entry, totals: tuple[RunTotal, ...]) -> tuple[Charge, ...]:
    """What the energy was charged with; where an older version did not note it, what was in force at last."""
    if not kept.has("charges"):
        now = kept.value("intensity", Intensity)
        energy_j = sum(row.energy_j for row in totals)
        grams = sum(row.emissions_g for row in totals)
        origin = now.source, now.zone, now.kind, now.basis, now.accounting, now.year
        return (Charge(*origin, energy_j, grams),) if energy_j else ()
    charges = kept.records("charges", Charge)
    kept.source.check_unique("charges", [charge[:6] for charge in charges])
    return charges


def _costs(kept: Entry) -> tuple[Cost, ...]:
    """What was paid, by currency; the only sums of a run that may be negative."""
    source, costs = kept.source, []
    for i, row in enumerate(kept.items("costs")):
        field = f"costs[{i}]"
        currency, amount, priced_j = source.items(field, row, "a currency, an amount, joules")
        if type(amount) not in (int, float) or not -LARGEST <= amount <= LARGEST:
            raise source.unlike(f"{field}.amount", "a possible number", amount)
        currency = source.value(f"{field}.currency", currency, str)
        costs.append(Cost(currency, float(amount), source.value(f"{field}.priced_j", priced_j, float)))
    source.check_unique("costs", [cost.currency for cost in costs])
    return tuple(costs)


def _states(kept: Entry, devices: list[Device]) -> tuple[DeviceState, ...]:
    known = _known(kept, "device_fields", DeviceState, DEVICE_FIELDS)
    by_id = {device.id: device for device in devices}
    states = []
    for device_id, found in kept.pairs("devices"):
        field = f"devices of {device_id!r:.60}"
        if device_id not in by_id:
            raise kept.source.mistake(f"{field}: it is not in {RUN_FILE}")
        values = [by_id[device_id], *kept.source.items(field, found)]
        states.append(kept.source.record(field, values, DeviceState, known + 1))
    return tuple(states)


def _meters(kept: Entry) -> tuple[tuple[str, Meter], ...]:
    known = _known(kept, "meter_fields", Meter, METER_FIELDS)
    return tuple(
        (device_id, kept.source.record(f"meters of {device_id!r:.60}", values, Meter, known))
        for device_id, values in kept.pairs("meters")
    )


def _known(kept: Entry, key: str, kind: Any, fields: tuple[str, ...]) -> int:
    """How many of a record's fields the file names; an older version's lacks some that have a default."""
    found = kept.values.get(key)
    known = len(found) if isinstance(found, list) else 0
    if found != list(fields[:known]) or set(fields[known:]) - kind._field_defaults.keys():
        raise kept.source.mistake(f"{key} names other fields than this version of carbonmon knows")
    return known


def _labels(run: Entry) -> list[tuple[str, Any]]:
    return [run.source.pair(f"run.labels[{i}]", item) for i, item in enumerate(run.items("labels"))]


def _work(kept: Entry) -> Work | None:
    """What the training code said; an older version noted the steps alone."""
    if kept.has("work"):
        found = kept.values["work"]
        known = _known(kept, "work_fields", Work, Work._fields)
        return None if found is None else kept.source.record("work", found, Work, known)
    found = kept.values.get("progress")
    if found is None:
        return None
    done, steps = kept.source.items("progress", found, "steps done, steps in all")
    return Work(
        kept.source.value("progress", done, float), kept.source.value("progress", steps, float | None)
    )


def _resume_point(kept: Entry) -> ResumePoint | None:
    """The workload at the checkpoint: sums, roots as (pid, start, wrapper), cgroups, GPUs with fractions."""
    key = RESUME_POINT_KEY
    found, source = kept.values.get(key), kept.source
    if found is None:
        return None
    *sums, found_roots, cgroups, gpus = source.items(key, found, ", ".join(ResumePoint._fields))
    busy_s, capacity_s, tree_s = (
        source.value(f"{key}.{field}", value, float)
        for field, value in zip(ResumePoint._fields, sums, strict=False)
    )
    roots = []
    for i, root in enumerate(source.items(f"{key}.roots", found_roots)):
        field = f"{key}.roots[{i}]"
        pid, start, is_wrapper = source.items(field, root, "a pid, its start, whether it is a wrapper")
        numbers = source.value(field, pid, int), source.value(field, start, int)
        roots.append((*numbers, source.value(field, is_wrapper, bool)))
    holder = Entry(source, {"cgroups": cgroups, "gpus": gpus}, f"{key}.")
    return ResumePoint(
        *(busy_s, capacity_s, tree_s, tuple(roots)),
        holder.texts("cgroups"),
        None if gpus is None else holder.pairs_of("gpus", float),
    )


def _device(entry: Entry) -> Device:
    hints = get_type_hints(Device)
    if not hints.keys() - _LATER_DEVICE_FIELDS <= entry.values.keys() <= hints.keys():
        raise entry.source.mistake("a device has other fields than this version of carbonmon knows")
    values = {
        key: entry.value(key, hint) for key, hint in hints.items() if key in entry.values and key != "spec"
    }
    return Device(**values, spec=_spec(entry))


def _spec(entry: Entry) -> Spec | None:
    """What a specification states; releases until 0.2.0 knew no power at no load."""
    found = entry.values["spec"]
    if isinstance(found, list) and len(found) == len(Spec._fields) - 1:
        return entry.source.record(f"{entry.prefix}spec", found, Spec, len(found))
    spec: Spec | None = entry.value("spec", Spec | None)
    return spec
