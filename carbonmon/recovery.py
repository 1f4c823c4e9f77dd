"""Reads a run's folder again, after its monitor was killed or by another command.

Whatever is in the files, the outcome is a value or a `JournalError` that names file and field: never a
guess and never a wrong number.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from carbonmon.errors import ConfigError
from carbonmon.files import read_file
from carbonmon.journal import (
    CHECKPOINT_FILE,
    CHECKPOINT_SCHEMA,
    DEVICE_FIELDS,
    RUN_FILE,
    RUN_SCHEMA,
    SERIES_FILE,
    SERIES_SCHEMA,
)
from carbonmon.model import (
    Device,
    DeviceState,
    Intensity,
    IntensityKind,
    Meter,
    Method,
    RunInfo,
    RunState,
    RunTotal,
    Shadow,
    Snapshot,
    Spec,
    Uncertainty,
)

Record = TypeVar("Record")

LARGEST = 1e30
"""No number of a run comes near; with larger ones arithmetic could overflow."""
_AT_MOST_1 = ("low_ratio", "share_ratio", "assumed_utilization_ratio")

_DOCUMENT_LIMIT_BYTES = 64 << 20
_SERIES_LIMIT_BYTES = 256 << 20
"""Years of a large node; a file beyond is not ours, and is not taken into memory."""


class JournalError(ConfigError):
    """A file of a run's folder cannot be read: says which file, where in it, and why."""


class Checkpoint(NamedTuple):
    """A run as its last checkpoint left it; `boot_id` is the kernel's, for which its counters hold."""

    snapshot: Snapshot
    boot_id: str


def read_run(folder: Path) -> tuple[RunInfo, list[Device]]:
    """run.json of a folder; raises `JournalError`."""
    path = folder / RUN_FILE
    document = _document(path, RUN_SCHEMA)
    entry = _get(path, document, "run", dict)
    info = RunInfo(
        id=_get(path, entry, "id", str),
        name=_get(path, entry, "name", str),
        command=tuple(_strings(path, entry, "command")),
        labels=tuple(_labels(path, entry)),
        host=_get(path, entry, "host", str),
        started_at_s=_value(path, "run.started_at_s", entry.get("started_at_s"), float),
        scheduler=_get(path, entry, "scheduler", str),
        scheduler_job_id=_get(path, entry, "scheduler_job_id", str),
    )
    devices = [_device(path, item) for item in _get(path, document, "devices", list)]
    _once(path, "devices", [device.id for device in devices])
    return info, devices


def read_checkpoint(folder: Path) -> Checkpoint:
    """run.json and checkpoint.json of a folder as one snapshot; raises `JournalError`."""
    info, devices = read_run(folder)
    by_id = {device.id: device for device in devices}
    path = folder / CHECKPOINT_FILE
    document = _document(path, CHECKPOINT_SCHEMA)
    run_id = _get(path, document, "run", str)
    if run_id != info.id:
        raise JournalError(f"{path}: belongs to run {_shown(run_id)}, and {RUN_FILE} to {_shown(info.id)}")
    totals = tuple(_record(path, f"totals[{i}]", row, RunTotal) for i, row in _rows(path, document, "totals"))
    states = []
    for i, item in _rows(path, document, "devices"):
        device_id, values = _pair(path, f"devices[{i}]", item)
        if device_id not in by_id:
            raise JournalError(f"{path}: devices[{i}]: {device_id!r} is not in {RUN_FILE}")
        where = f"devices[{i}]"
        states.append(_record(path, where, [by_id[device_id], *_list(path, where, values)], DeviceState))
    meters = []
    for i, item in _rows(path, document, "meters"):
        device_id, values = _pair(path, f"meters[{i}]", item)
        meters.append((str(device_id), _record(path, f"meters[{i}]", values, Meter)))
    for key, fields in (
        ("total_fields", RunTotal._fields),
        ("device_fields", DEVICE_FIELDS),
        ("meter_fields", Meter._fields),
    ):
        if document.get(key) != list(fields):
            raise JournalError(f"{path}: {key!r} names other fields than this version of carbonmon knows")

    _once(path, "totals", [(row.phase, row.device_id, row.method) for row in totals])
    _once(path, "devices", [state.device.id for state in states])
    _once(path, "meters", [device_id for device_id, _ in meters])

    def number(key: str) -> float:
        value: float = _value(path, key, document.get(key), float)
        return value

    run = RunState(
        info,
        totals,
        tuple((state.device.id, None) for state in states),
        tuple(_named_seconds(path, document, "unobserved_s")),
        tuple(_named_seconds(path, document, "phases_s")),
        number("duration_s"),
        _value(path, "ended_at_s", document.get("ended_at_s"), float | None),
        recovered_j=number("recovered_j"),
    )
    snapshot = Snapshot(
        at_s=number("at_s"),
        version=_get(path, document, "version", str),
        interval_s=number("interval_s"),
        samples=_value(path, "samples", document.get("samples"), int),
        runs=(run,),
        devices=tuple(states),
        sensors=(),
        intensity=_record(path, "intensity", document.get("intensity"), Intensity),
        pue_ratio=number("pue_ratio"),
        exporter_errors=(),
        clock_s=number("clock_s"),
        meters=tuple(meters),
        continued=True,
    )
    return Checkpoint(snapshot, _get(path, document, "boot_id", str))


def read_series(folder: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The moments of series.jsonl with device ids filled in, and the numbers of damaged lines.

    A torn last line, which a crash leaves, is dropped silently; a damaged one before it is reported.
    """
    path = folder / SERIES_FILE
    moments: list[dict[str, Any]] = []
    damaged: list[int] = []
    ids: list[str] = []
    lines = _bytes(path, _SERIES_LIMIT_BYTES).split(b"\n")
    for position, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            entry = None
        begins = isinstance(entry, dict) and "schema" in entry
        if begins:
            _check_schema(f"{path}: line {position}", entry, SERIES_SCHEMA)
        try:
            if begins:
                ids = _strings(path, entry, "devices")
            else:
                moments.append(_moment(path, entry, ids))
        except JournalError:
            if not line.startswith(b'{"at_s"'):
                ids = []  # it may have said which devices the numbers below mean
            if position < len(lines):
                damaged.append(position)
    return moments, damaged


_MOMENT = {
    "at_s": float,
    "duration_s": float,
    "emissions_g": float,
    "power_w": tuple[float | None, ...],
    "intensity_g_per_kwh": float,
    "intensity_kind": IntensityKind,
}


def _moment(path: Path, entry: Any, ids: list[str]) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise JournalError(f"{path}: a moment must be an object, and is {_shown(entry)}")
    moment = {key: _value(path, key, entry.get(key), hint) for key, hint in _MOMENT.items()}
    rows = []
    for i, row in _rows(path, entry, "energy_j"):
        where = f"energy_j[{i}]"
        if len(_list(path, where, row)) != 4:
            raise JournalError(f"{path}: {where} must have 4 values, and has {len(row)}")
        phase, device, method, joules = row
        if type(device) is int and 0 <= device < len(ids):
            device = ids[device]
        rows.append(
            [
                _value(path, f"{where}.phase", phase, str),
                _value(path, f"{where}.device", device, str),
                _value(path, f"{where}.method", method, Method),
                _value(path, f"{where}.energy_j", joules, float),
            ]
        )
    return {**moment, "power_w": list(moment["power_w"]), "energy_j": rows}


def _bytes(path: Path, limit_bytes: int) -> bytes:
    try:
        return read_file(path, limit_bytes)
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror or error}") from None


def _document(path: Path, schema: str) -> dict[str, Any]:
    data = _bytes(path, _DOCUMENT_LIMIT_BYTES)
    try:
        document = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise JournalError(f"{path}: damaged, not JSON: {error}") from None
    if not isinstance(document, dict):
        raise JournalError(f"{path}: damaged: not a JSON object")
    _check_schema(path, document, schema)
    return document


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _check_schema(path: Path | str, document: Mapping[str, Any], schema: str) -> None:
    found = document.get("schema")
    if found != schema:
        raise JournalError(
            f"{path}: schema {_shown(found)} is not {schema!r}: written by another version of carbonmon; "
            "read it with that version"
        )


def _get(path: Path, document: Mapping[str, Any], key: str, kind: type[Record]) -> Record:
    value = document.get(key)
    if not isinstance(value, kind):
        raise JournalError(f"{path}: {key!r} must be {kind.__name__}, and is {_shown(value)}")
    return value


def _list(path: Path, where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise JournalError(f"{path}: {where} must be a list, and is {_shown(value)}")
    return value


def _rows(path: Path, document: Mapping[str, Any], key: str) -> enumerate[Any]:
    return enumerate(_list(path, key, document.get(key)))


def _pair(path: Path, where: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
        raise JournalError(f"{path}: {where} must be a name and a value, and is {_shown(value)}")
    return value[0], value[1]


def _labels(path: Path, entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [_pair(path, f"run.labels[{i}]", item) for i, item in _rows(path, entry, "labels")]
    return [(key, _value(path, f"run.labels of {key!r:.40}", value, str)) for key, value in pairs]


def _once(path: Path, key: str, names: Sequence[Any]) -> None:
    if len(set(names)) < len(names):
        raise JournalError(f"{path}: {key!r} holds the same twice")


def _shown(value: Any) -> str:
    """A value for an error message: short, however deep or long it is."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return f"{value!r:.40}"


def _strings(path: Path, document: Mapping[str, Any], key: str) -> list[str]:
    values = _list(path, key, document.get(key))
    if not all(isinstance(value, str) for value in values):
        raise JournalError(f"{path}: {key!r} must hold texts")
    return values


def _named_seconds(path: Path, document: Mapping[str, Any], key: str) -> list[tuple[str, float]]:
    pairs = [_pair(path, f"{key}[{i}]", item) for i, item in _rows(path, document, key)]
    _once(path, key, [name for name, _ in pairs])
    return [(name, _value(path, f"{key} of {name!r:.40}", seconds, float)) for name, seconds in pairs]


def _device(path: Path, entry: Any) -> Device:
    if not isinstance(entry, dict):
        raise JournalError(f"{path}: a device must be an object, and is {_shown(entry)}")
    hints = get_type_hints(Device)
    if entry.keys() != hints.keys():
        raise JournalError(f"{path}: a device has other fields than this version of carbonmon knows")
    return Device(**{key: _value(path, f"device.{key}", entry[key], hint) for key, hint in hints.items()})


def _record(path: Path, where: str, values: Any, kind: type[Record]) -> Record:
    """A named tuple from the list of its values, each checked against its annotation."""
    hints = get_type_hints(kind)
    values = _list(path, where, values)
    if len(values) != len(hints):
        raise JournalError(f"{path}: {where} must have {len(hints)} values, and has {len(values)}")
    checked = (
        _value(path, f"{where}.{key}", value, hint)
        for value, (key, hint) in zip(values, hints.items(), strict=True)
    )
    return kind(*checked)


def _value(path: Path, where: str, value: Any, hint: Any) -> Any:
    """A value that fits its annotation; numbers must be at least 0, and possible."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (hint,) = (option for option in get_args(hint) if option is not type(None))
        return _value(path, where, value, hint)
    if origin is typing.Literal:
        fits = value in get_args(hint)
    elif origin is tuple:
        return tuple(_value(path, where, item, get_args(hint)[0]) for item in _list(path, where, value))
    elif hint is float:
        largest = 1.0 if where.endswith(_AT_MOST_1) else LARGEST
        fits = type(value) in (int, float) and 0 <= value <= largest
        value = float(value) if fits else value
    elif hint is int:
        fits = type(value) is int and 0 <= value <= LARGEST
    elif hint in (Spec, Uncertainty, Shadow):
        return _record(path, where, value, hint)
    else:
        fits = isinstance(value, hint)
    if not fits:
        raise JournalError(f"{path}: {where} cannot be {_shown(value)}")
    return value
