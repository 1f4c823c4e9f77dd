"""What is written of a run, in plain files of its folder; `reader.py` reads them again.

    run.json         what the run is, and its devices
    checkpoint.json  totals and counters at one moment, in turn with checkpoint-2.json (`checkpoint_slots.py`)
    summary.json     the result for people and programs (`summary/document.py`)
    series.jsonl     energy, power and emissions over time: a row for each device and phase; append-only

Each holds a schema with a number, a row of the series the number alone; a newer one than ours is an error and
never a guess. Rows of a checkpoint are lists in the order of a record's fields, which the file names once,
because a checkpoint is written often.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.core.model import (
    Device,
    DeviceState,
    IntensityKind,
    Meter,
    NodeTotal,
    RunInfo,
    RunState,
    RunTotal,
    Snapshot,
    Spec,
)
from carbonmon.core.node_meter import NodeEnergy
from carbonmon.core.plain_text import plain_json
from carbonmon.core.work import Work

RUN_SCHEMA = "carbonmon.run/1"
CHECKPOINT_SCHEMA = "carbonmon.checkpoint/2"
NODE_CHECKPOINT_SCHEMA = "carbonmon.node-checkpoint/2"
SERIES_VERSION_KEY, SERIES_VERSION = "series", 2
RUN_FILE, CHECKPOINT_FILE, SERIES_FILE = "run.json", "checkpoint.json", "series.jsonl"
CHECKPOINT_FILES = (CHECKPOINT_FILE, "checkpoint-2.json")
"""The two slots; the first one is written first."""

FILES = (RUN_FILE, *CHECKPOINT_FILES, SERIES_FILE)
SUMMARY_FILE = "summary.json"

DEVICE_FIELDS = DeviceState._fields[1:]  # all but the device itself, which run.json describes

_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))

# Three keys have kept their first names, so that every release reads the files of every other one.
ENDS_WITH_KEY = "lives_by"
RESUME_POINT_KEY = "followed"
METER_FIELDS = tuple("shadow" if field == "fallback" else field for field in Meter._fields)


def run_text(info: RunInfo, devices: Sequence[Device]) -> str:
    """run.json of a run."""
    run = info._asdict()
    run[ENDS_WITH_KEY] = run.pop("ends_with")
    if not info.user:  # so that release 0.2.0 reads the others
        del run["user"]
    document = {"schema": RUN_SCHEMA, "run": run, "devices": [_device(device) for device in devices]}
    return _line(document, indent=1)


def _device(device: Device) -> dict[str, Any]:
    """A device's fields; what it contains only if it does, so that release 0.1.0 reads the others.

    So is a power at no load: releases before it take a specification of four values only.
    """
    fields = device._asdict()
    if not device.contains:
        del fields["contains"]
    if device.spec is not None and device.spec.idle_w is None:
        fields["spec"] = tuple(device.spec)[: Spec._fields.index("idle_w")]
    return fields


def checkpoint_text(snapshot: Snapshot, run: RunState, boot_id: str) -> str:
    """The checkpoint of a run of a snapshot, without what makes it a slot."""
    texts = _texts_of(snapshot, boot_id)
    return f"{texts.node[:-1]},{texts.pop(run)}\n"


def node_checkpoint_parts(
    snapshot: Snapshot, runs: Sequence[tuple[str, RunState]], boot_id: str
) -> list[str]:
    """The checkpoints of several runs, each with the name of its folder, as of one moment: one text in parts.

    Of 100 runs it is a megabyte, and once more in each text or bytes that are made of it as a whole.
    """
    texts = _texts_of(snapshot, boot_id)
    parts = [f'{{"schema":"{NODE_CHECKPOINT_SCHEMA}","node":{texts.node},"runs":[']
    for folder, run in runs:
        parts += f'{"," if len(parts) > 1 else ""}{{"folder":{_compact(folder)},', texts.keep(run)
    return [*parts, "]}"]


class _Texts:
    """The JSON of a snapshot for the checkpoints of its runs: what they share is written out once.

    So is a run that is in the node's file too, until its own is written; of a run without the first brace.
    """

    def __init__(self, snapshot: Snapshot, boot_id: str) -> None:
        self.snapshot = snapshot
        self.boot_id = boot_id
        self.node = _compact(_of_node(snapshot, boot_id))
        self._runs: dict[str, tuple[RunState, str]] = {}

    def keep(self, run: RunState) -> str:
        text = _compact(_of_run(run))[1:]
        self._runs[run.info.id] = run, text
        return text

    def pop(self, run: RunState) -> str:
        kept, text = self._runs.pop(run.info.id, (None, ""))
        return text if kept is run else _compact(_of_run(run))[1:]


_newest: list[_Texts] = []
"""Those of the snapshot that was written last: one, or none yet."""


def _texts_of(snapshot: Snapshot, boot_id: str) -> _Texts:
    for texts in _newest:
        if texts.snapshot is snapshot and texts.boot_id == boot_id:
            return texts
    _newest[:] = [_Texts(snapshot, boot_id)]
    return _newest[0]


def document_text(document: Mapping[str, Any]) -> str:
    """A checkpoint in one line."""
    return f"{_compact(document)}\n"


def _compact(document: object) -> str:
    return plain_json(_ENCODER.encode(document))


def _of_node(snapshot: Snapshot, boot_id: str) -> dict[str, Any]:
    """What the checkpoints of all runs of a snapshot share."""
    return {
        "schema": CHECKPOINT_SCHEMA,
        "boot_id": boot_id,
        "at_s": snapshot.at_s,
        "clock_s": snapshot.clock_s,
        "version": snapshot.version,
        "interval_s": snapshot.interval_s,
        "samples": snapshot.samples,
        "pue_ratio": snapshot.pue_ratio,
        "intensity": snapshot.intensity,
        "start_s": snapshot.start_s,
        "pue_source": snapshot.pue_source,
        "wue_l_per_kwh": snapshot.wue_l_per_kwh,
        "wue_source": snapshot.wue_source,
        "price_source": snapshot.price_source,
        "currency": snapshot.currency,
        "device_fields": DEVICE_FIELDS,
        "devices": [(state.device.id, state[1:]) for state in snapshot.devices],
        "node_energy_fields": NodeEnergy._fields,
        "node_meters": [state.total for state in snapshot.node_meters],
        "meter_fields": METER_FIELDS,
        "meters": snapshot.meters,
    }


def _of_run(run: RunState) -> dict[str, Any]:
    """What a checkpoint says of its run."""
    return {
        "run": run.info.id,
        "run_start_s": run.start_s,
        "duration_s": run.duration_s,
        "ended_at_s": run.ended_at_s,
        "recovered_j": run.recovered_j,
        "cpu_s": run.cpu_s,
        "phase": run.phase,
        "progress": _progress(run.work),
        "gpu_time": run.gpu_time,
        "pauses": run.pauses,
        "work_fields": Work._fields,
        "work": run.work,
        "ranks": run.ranks,
        "notes": run.notes,
        "forecasts": run.forecasts,
        "budgets": run.budgets,
        "shares": run.shares,
        RESUME_POINT_KEY: run.resume_point,
        "charges": run.charges,
        "costs": run.costs,
        "water_l": run.water_l,
        "watered_j": run.watered_j,
        "facility_j": run.facility_j,
        "peaks_w": run.peaks_w,
        "run_samples": run.samples,
        "monitor_cpu_s": run.monitor_cpu_s,
        "phases_s": run.phases_s,
        "doubts_j": run.doubts_j,
        "unobserved_s": run.unobserved_s,
        "total_fields": RunTotal._fields,
        "totals": run.totals,
        "node_fields": NodeTotal._fields,
        "node": run.node,
        "run_node_meters": run.node_meters,
        "node_charges": run.node_charges,
    }


def _progress(work: Work | None) -> tuple[float, float | None] | None:
    """The steps of the work, as release 0.2.0 reads them."""
    return None if work is None or work.steps is None else (work.steps, work.total_steps)


def series_line(
    at: str,
    duration_s: float,
    names: str,
    energy_j: float,
    power: str,
    power_min: str,
    power_max: str,
    emissions_g: float,
    charged: str,
) -> str:
    """A line of series.jsonl. Every line has the same keys with values of the same types, or null.

    It is put together by hand, of texts that are made once where lines share them: a run begins with a row of
    each device each second, and `json` takes three times as long for one.
    """
    if not math.isfinite(duration_s + energy_j + emissions_g):
        raise ValueError(f"not JSON compliant: {duration_s} s, {energy_j} J, {emissions_g} g of {names}")
    return (
        f'{{"at_s":{at},"duration_s":{duration_s!r},{names},"energy_j":{energy_j!r},"power_w":{power},'
        f'"power_min_w":{power_min},"power_max_w":{power_max},"emissions_g":{emissions_g!r},{charged},'
        f'"{SERIES_VERSION_KEY}":{SERIES_VERSION}}}\n'
    )


def series_names(device: str, component: str | None, phase: str, method: str) -> str:
    """What lines of series.jsonl are about."""
    return _compact({"device": device, "component": component, "phase": phase, "method": method})[1:-1]


def series_charged(g_per_kwh: float, kind: IntensityKind) -> str:
    """What the energy of lines of series.jsonl is charged with."""
    return f'"intensity_g_per_kwh":{number(float(g_per_kwh))},"intensity_kind":"{kind}"'


def number(value: float) -> str:
    """A number in JSON; raises ValueError for one that is none."""
    if not math.isfinite(value):
        raise ValueError(f"not JSON compliant: {value}")
    return repr(value)


def _line(document: object, **style: Any) -> str:
    """JSON that UTF-8 can hold and a terminal can show, whatever stands in a name."""
    return plain_json(json.dumps(document, ensure_ascii=False, allow_nan=False, **style)) + "\n"
