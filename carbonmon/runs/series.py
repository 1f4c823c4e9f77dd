"""Reads `series.jsonl`, the time series of a run, in which a crash may have left an incomplete line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carbonmon.core.documents import json_value
from carbonmon.core.model import IntensityKind, Method
from carbonmon.core.typed import Entry
from carbonmon.runs.checked import RunFileError, check_schema, entry_of, read_bytes
from carbonmon.runs.layout import SERIES_FILE, SERIES_SCHEMA

_LIMIT_BYTES = 256 << 20
"""Years of a large node; a longer file is not ours, and is not read into memory."""

_MOMENT = {
    "at_s": float,
    "duration_s": float,
    "emissions_g": float,
    "power_w": tuple[float | None, ...],
    "intensity_g_per_kwh": float,
    "intensity_kind": IntensityKind,
}


def read_series(folder: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The moments of series.jsonl with device ids filled in, and the numbers of damaged lines.

    An incomplete last line, which a crash leaves, is dropped silently; a damaged one before it is reported.
    """
    path = folder / SERIES_FILE
    moments: list[dict[str, Any]] = []
    damaged: list[int] = []
    ids: tuple[str, ...] = ()
    lines = read_bytes(path, _LIMIT_BYTES).split(b"\n")
    for position, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json_value(line)
        except ValueError:
            found = None
        entry = entry_of(path, found if isinstance(found, dict) else {})
        is_header = entry.has("schema")
        if is_header:
            check_schema(f"{path}: line {position}", entry.values, SERIES_SCHEMA)
        try:
            if is_header:
                ids = entry.texts("devices")
            else:
                moments.append(_moment(entry, ids))
        except RunFileError:
            if not line.startswith(b'{"at_s"'):
                ids = ()  # it may have been the header of the device numbers below
            if position < len(lines):
                damaged.append(position)
    return moments, damaged


def _moment(entry: Entry, ids: tuple[str, ...]) -> dict[str, Any]:
    moment = {key: entry.value(key, hint) for key, hint in _MOMENT.items()}
    rows = []
    for i, row in enumerate(entry.items("energy_j")):
        field = f"energy_j[{i}]"
        phase, device, method, joules = entry.source.items(field, row, "a phase, a device, a method, joules")
        if type(device) is int and 0 <= device < len(ids):
            device = ids[device]
        rows.append(
            [
                entry.source.value(f"{field}.phase", phase, str),
                entry.source.value(f"{field}.device", device, str),
                entry.source.value(f"{field}.method", method, Method),
                entry.source.value(f"{field}.energy_j", joules, float),
            ]
        )
    return {**moment, "power_w": list(moment["power_w"]), "energy_j": rows}
