"""Reads a run's folder again, after its monitor was killed or by another command.

Whatever is in the files, the outcome is a value or a `JournalError` that names file and field: never a
guess and never a wrong number.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from carbonmon.errors import ConfigError
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
    Meter,
    RunInfo,
    RunState,
    RunTotal,
    Shadow,
    Snapshot,
    Spec,
    Uncertainty,
)

Record = TypeVar("Record")


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
        labels=tuple(
            (str(key), str(value))
            for key, value in (_pair(path, "labels", item) for item in entry.get("labels", []))
        ),
        host=_get(path, entry, "host", str),
        started_at_s=_value(path, "run.started_at_s", entry.get("started_at_s"), float),
        scheduler=_get(path, entry, "scheduler", str),
        scheduler_job_id=_get(path, entry, "scheduler_job_id", str),
    )
    return info, [_device(path, item) for item in _get(path, document, "devices", list)]


def read_checkpoint(folder: Path) -> Checkpoint:
    """run.json and checkpoint.json of a folder as one snapshot; raises `JournalError`."""
    info, devices = read_run(folder)
    by_id = {device.id: device for device in devices}
    path = folder / CHECKPOINT_FILE
    document = _document(path, CHECKPOINT_SCHEMA)
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
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror or error}") from None
    moments: list[dict[str, Any]] = []
    damaged: list[int] = []
    ids: list[str] = []
    lines = data.split(b"\n")
    for position, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError("not an object")
            if "schema" in entry:
                _check_schema(path, entry, SERIES_SCHEMA)
                ids = [str(item) for item in entry["devices"]]
                continue
            entry["energy_j"] = [
                [phase, ids[device] if isinstance(device, int) else device, method, float(joules)]
                for phase, device, method, joules in entry["energy_j"]
            ]
            if not all(math.isfinite(row[3]) and row[3] >= 0 for row in entry["energy_j"]):
                raise ValueError("an energy is no energy")
            entry["at_s"] = float(entry["at_s"])
        except JournalError:
            raise
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            if position < len(lines):
                damaged.append(position)
            continue
        moments.append(entry)
    return moments, damaged


def _document(path: Path, schema: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise JournalError(f"{path}: damaged, not JSON: {error}") from None
    if not isinstance(document, dict):
        raise JournalError(f"{path}: damaged: not a JSON object")
    _check_schema(path, document, schema)
    return document


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _check_schema(path: Path, document: Mapping[str, Any], schema: str) -> None:
    found = document.get("schema")
    if found != schema:
        raise JournalError(
            f"{path}: schema {found!r} is not {schema!r}: written by another version of carbonmon; "
            "read it with that version"
        )


def _get(path: Path, document: Mapping[str, Any], key: str, kind: type[Record]) -> Record:
    value = document.get(key)
    if not isinstance(value, kind):
        raise JournalError(f"{path}: {key!r} must be {kind.__name__}, and is {value!r:.40}")
    return value


def _list(path: Path, where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise JournalError(f"{path}: {where} must be a list, and is {value!r:.40}")
    return value


def _rows(path: Path, document: Mapping[str, Any], key: str) -> enumerate[Any]:
    return enumerate(_list(path, key, document.get(key)))


def _pair(path: Path, where: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
        raise JournalError(f"{path}: {where} must be a name and a value, and is {value!r:.40}")
    return value[0], value[1]


def _strings(path: Path, document: Mapping[str, Any], key: str) -> list[str]:
    values = _list(path, key, document.get(key))
    if not all(isinstance(value, str) for value in values):
        raise JournalError(f"{path}: {key!r} must hold texts")
    return values


def _named_seconds(path: Path, document: Mapping[str, Any], key: str) -> list[tuple[str, float]]:
    pairs = (_pair(path, f"{key}[{i}]", item) for i, item in _rows(path, document, key))
    return [(name, _value(path, f"{key} of {name}", seconds, float)) for name, seconds in pairs]


def _device(path: Path, entry: Any) -> Device:
    if not isinstance(entry, dict):
        raise JournalError(f"{path}: a device must be an object, and is {entry!r:.40}")
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
    """A value that fits its annotation; numbers must be finite and at least 0."""
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
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
    elif hint is int:
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    elif hint in (Spec, Uncertainty, Shadow):
        return _record(path, where, value, hint)
    else:
        fits = isinstance(value, hint)
    if not fits:
        raise JournalError(f"{path}: {where} cannot be {value!r:.40}")
    return value
