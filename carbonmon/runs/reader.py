"""Reads what a run's monitor wrote last: after it was killed, or in another command.

Whatever is in the files, the result is a value or a `RunFileError` that names file and field: never a
guess and never a wrong number. A field that an older version's files lack takes its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

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
)
from carbonmon.runs import checked
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.layout import (
    CHECKPOINT_FILE,
    CHECKPOINT_SCHEMA,
    DEVICE_FIELDS,
    ENDS_WITH_KEY,
    METER_FIELDS,
    RESUME_POINT_KEY,
    RUN_FILE,
    RUN_SCHEMA,
)

_LATER: Mapping[str, Any] = {
    "node": [],
    "node_fields": list(NodeTotal._fields),
    "shares": [],
    "ranks": [],
    "costs": [],
}
"""Lists of a checkpoint that its schema's first version lacked, and their values where they are missing."""


class Checkpoint(NamedTuple):
    """A run as in its last checkpoint; its counters are valid within the boot of the kernel's `boot_id`."""

    snapshot: Snapshot
    boot_id: str


def read_run(folder: Path) -> tuple[RunInfo, list[Device]]:
    """run.json of a folder; raises `RunFileError`."""
    path = folder / RUN_FILE
    document = checked.document(path, RUN_SCHEMA)
    entry = checked.member(path, document, "run", dict)
    info = RunInfo(
        id=checked.member(path, entry, "id", str),
        name=checked.member(path, entry, "name", str),
        command=tuple(checked.texts(path, entry, "command")),
        labels=tuple(_labels(path, entry)),
        host=checked.member(path, entry, "host", str),
        started_at_s=checked.value(path, "run.started_at_s", entry.get("started_at_s"), float),
        scheduler=checked.member(path, entry, "scheduler", str),
        scheduler_job_id=checked.member(path, entry, "scheduler_job_id", str),
        idle_policy=checked.value(path, "run.idle_policy", entry.get("idle_policy", "exclusive"), IdlePolicy),
        uid=checked.value(path, "run.uid", entry.get("uid"), int | None),
        key=checked.value(path, "run.key", entry.get("key"), str | None),
        ends_with=checked.value(path, f"run.{ENDS_WITH_KEY}", entry.get(ENDS_WITH_KEY, "job"), EndsWith),
    )
    devices = [_device(path, item) for item in checked.member(path, document, "devices", list)]
    checked.check_unique(path, "devices", [device.id for device in devices])
    return info, devices


def read_checkpoint(folder: Path) -> Checkpoint:
    """run.json and checkpoint.json of a folder as one snapshot; raises `RunFileError`."""
    info, devices = read_run(folder)
    path = folder / CHECKPOINT_FILE
    document = {**_LATER, **checked.document(path, CHECKPOINT_SCHEMA)}
    run_id = checked.member(path, document, "run", str)
    if run_id != info.id:
        found, expected = checked.short_text(run_id), checked.short_text(info.id)
        raise RunFileError(f"{path}: belongs to run {found}, and {RUN_FILE} to {expected}")
    states = _states(path, document, devices)
    snapshot = Snapshot(
        at_s=_number(path, document, "at_s"),
        version=checked.member(path, document, "version", str),
        interval_s=_number(path, document, "interval_s"),
        samples=checked.value(path, "samples", document.get("samples"), int),
        runs=(_run(path, document, info, states),),
        devices=states,
        sensors=(),
        intensity=checked.record(path, "intensity", document.get("intensity"), Intensity),
        pue_ratio=_number(path, document, "pue_ratio"),
        exporter_errors=(),
        clock_s=_number(path, document, "clock_s"),
        meters=_meters(path, document),
        continued=True,
        pue_source=_text(path, document, "pue_source"),
        wue_l_per_kwh=checked.value(path, "wue_l_per_kwh", document.get("wue_l_per_kwh"), float | None),
        wue_source=_text(path, document, "wue_source"),
        price_source=_text(path, document, "price_source"),
        currency=_text(path, document, "currency"),
    )
    return Checkpoint(snapshot, checked.member(path, document, "boot_id", str))


def _run(path: Path, document: Mapping[str, Any], info: RunInfo, states: tuple[DeviceState, ...]) -> RunState:
    known = _known(path, document, "total_fields", RunTotal, RunTotal._fields)
    totals = [
        checked.record(path, f"totals[{i}]", row, RunTotal, known)
        for i, row in checked.rows(path, document, "totals")
    ]
    checked.check_unique(path, "totals", [(row.phase, row.device_id, row.method) for row in totals])
    known = _known(path, document, "node_fields", NodeTotal, NodeTotal._fields)
    node = [
        checked.record(path, f"node[{i}]", row, NodeTotal, known)
        for i, row in checked.rows(path, document, "node")
    ]
    checked.check_unique(path, "node", [row.device_id for row in node])
    ranks = [
        checked.record(path, f"ranks[{i}]", row, Rank) for i, row in checked.rows(path, document, "ranks")
    ]
    charges = _charges(path, document, totals)
    energy_j = sum(row.energy_j for row in totals)
    water_l = checked.value(path, "water_l", document.get("water_l"), float | None)
    watered_j = checked.value(path, "watered_j", document.get("watered_j"), float | None)
    facility_j = checked.value(path, "facility_j", document.get("facility_j"), float | None)
    if "facility_j" not in document:  # an older version's, in which all of a run was charged alike
        watered_j = None if water_l is None else energy_j
        facility_j = energy_j * _number(path, document, "pue_ratio")
    return RunState(
        info,
        tuple(totals),
        tuple((state.device.id, None) for state in states),
        tuple(checked.pairs_of(path, document, "unobserved_s", float)),
        tuple(checked.pairs_of(path, document, "phases_s", float)),
        _number(path, document, "duration_s"),
        checked.value(path, "ended_at_s", document.get("ended_at_s"), float | None),
        recovered_j=_number(path, document, "recovered_j"),
        node=tuple(node),
        shares=tuple(checked.pairs_of(path, document, "shares", str)),
        cpu_s=checked.value(path, "cpu_s", document.get("cpu_s"), float | None),
        phase=checked.value(path, "phase", document.get("phase", MAIN_PHASE), str),
        progress=_progress(path, document.get("progress")),
        ranks=tuple(ranks),
        resume_point=_resume_point(path, document.get(RESUME_POINT_KEY)),
        charges=tuple(charges),
        costs=_costs(path, document),
        water_l=water_l,
        watered_j=watered_j,
        facility_j=facility_j,
    )


def _charges(path: Path, document: Mapping[str, Any], totals: list[RunTotal]) -> list[Charge]:
    """What the energy was charged with; where an older version did not note it, what was in force at last."""
    if "charges" not in document:
        now = checked.record(path, "intensity", document.get("intensity"), Intensity)
        energy_j = sum(row.energy_j for row in totals)
        grams = sum(row.emissions_g for row in totals)
        origin = now.source, now.zone, now.kind, now.basis, now.accounting, now.year
        return [Charge(*origin, energy_j, grams)] if energy_j else []
    charges = [
        checked.record(path, f"charges[{i}]", row, Charge)
        for i, row in checked.rows(path, document, "charges")
    ]
    checked.check_unique(path, "charges", [charge[:6] for charge in charges])
    return charges


def _costs(path: Path, document: Mapping[str, Any]) -> tuple[Cost, ...]:
    """What was paid, by currency; the only sums of a run that may be negative."""
    costs = []
    for i, row in checked.rows(path, document, "costs"):
        where = f"costs[{i}]"
        if len(checked.items(path, where, row)) != 3:
            raise RunFileError(f"{path}: {where} must be a currency, an amount and joules")
        amount = row[1]
        if type(amount) not in (int, float) or not -checked.LARGEST <= amount <= checked.LARGEST:
            raise RunFileError(f"{path}: {where}.amount cannot be {checked.short_text(amount)}")
        currency = checked.value(path, f"{where}.currency", row[0], str)
        priced_j = checked.value(path, f"{where}.priced_j", row[2], float)
        costs.append(Cost(currency, float(amount), priced_j))
    checked.check_unique(path, "costs", [cost.currency for cost in costs])
    return tuple(costs)


def _states(path: Path, document: Mapping[str, Any], devices: list[Device]) -> tuple[DeviceState, ...]:
    known = _known(path, document, "device_fields", DeviceState, DEVICE_FIELDS)
    by_id = {device.id: device for device in devices}
    states = []
    for i, item in checked.rows(path, document, "devices"):
        where = f"devices[{i}]"
        device_id, found = checked.pair(path, where, item)
        if device_id not in by_id:
            raise RunFileError(f"{path}: {where}: {device_id!r:.60} is not in {RUN_FILE}")
        values = [by_id[device_id], *checked.items(path, where, found)]
        states.append(checked.record(path, where, values, DeviceState, known + 1))
    checked.check_unique(path, "devices", [state.device.id for state in states])
    return tuple(states)


def _meters(path: Path, document: Mapping[str, Any]) -> tuple[tuple[str, Meter], ...]:
    known = _known(path, document, "meter_fields", Meter, METER_FIELDS)
    pairs = [checked.pair(path, f"meters[{i}]", item) for i, item in checked.rows(path, document, "meters")]
    checked.check_unique(path, "meters", [device_id for device_id, _ in pairs])
    return tuple(
        (device_id, checked.record(path, f"meters[{i}]", values, Meter, known))
        for i, (device_id, values) in enumerate(pairs)
    )


def _known(path: Path, document: Mapping[str, Any], key: str, kind: Any, fields: tuple[str, ...]) -> int:
    """How many of a record's fields the file names; an older version's lacks some that have a default."""
    found = document.get(key)
    known = len(found) if isinstance(found, list) else 0
    if found != list(fields[:known]) or set(fields[known:]) - kind._field_defaults.keys():
        raise RunFileError(f"{path}: {key!r} names other fields than this version of carbonmon knows")
    return known


def _number(path: Path, document: Mapping[str, Any], key: str) -> float:
    found: float = checked.value(path, key, document.get(key), float)
    return found


def _text(path: Path, document: Mapping[str, Any], key: str) -> str:
    found: str = checked.value(path, key, document.get(key, ""), str)
    return found


def _labels(path: Path, entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [checked.pair(path, f"run.labels[{i}]", item) for i, item in checked.rows(path, entry, "labels")]
    return [(key, checked.value(path, f"run.labels of {key!r:.40}", found, str)) for key, found in pairs]


def _progress(path: Path, found: Any) -> tuple[float, float | None] | None:
    if found is None:
        return None
    if len(checked.items(path, "progress", found)) != 2:
        raise RunFileError(
            f"{path}: progress must be steps done and steps in all, and has {len(found)} values"
        )
    done = checked.value(path, "progress", found[0], float)
    return done, checked.value(path, "progress", found[1], float | None)


def _resume_point(path: Path, found: Any) -> ResumePoint | None:
    """The workload at the checkpoint: sums, roots as (pid, start, wrapper), cgroups, GPUs with fractions."""
    if found is None:
        return None
    key = RESUME_POINT_KEY
    values = checked.items(path, key, found)
    if len(values) != len(ResumePoint._fields):
        raise RunFileError(
            f"{path}: {key} must have {len(ResumePoint._fields)} values, and has {len(values)}"
        )
    sums = [checked.value(path, f"{key}[{i}]", values[i], float) for i in range(3)]
    roots = []
    for i, root in enumerate(checked.items(path, f"{key}[3]", values[3])):
        where = f"{key}[3][{i}]"
        if len(checked.items(path, where, root)) != 3:
            raise RunFileError(f"{path}: {where} must be a pid, its start, and whether it is a wrapper")
        pid, start = (checked.value(path, where, number, int) for number in root[:2])
        roots.append((pid, start, checked.value(path, where, root[2], bool)))
    last_two = {f"{key}[4]": values[4], f"{key}[5]": values[5]}
    cgroups = checked.texts(path, last_two, f"{key}[4]")
    gpus = None if values[5] is None else tuple(checked.pairs_of(path, last_two, f"{key}[5]", float))
    return ResumePoint(sums[0], sums[1], sums[2], tuple(roots), tuple(cgroups), gpus)


def _device(path: Path, entry: Any) -> Device:
    if not isinstance(entry, dict):
        raise RunFileError(f"{path}: a device must be an object, and is {checked.short_text(entry)}")
    hints = get_type_hints(Device)
    if entry.keys() != hints.keys():
        raise RunFileError(f"{path}: a device has other fields than this version of carbonmon knows")
    return Device(
        **{key: checked.value(path, f"device.{key}", entry[key], hint) for key, hint in hints.items()}
    )
