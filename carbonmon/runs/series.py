"""Reads `series.jsonl`, the time series of a run, in which a crash may have left an incomplete line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carbonmon.core.model import IntensityKind, Method
from carbonmon.runs import checked
from carbonmon.runs.checked import RunFileError
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
    ids: list[str] = []
    lines = checked.read_bytes(path, _LIMIT_BYTES).split(b"\n")
    for position, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = checked.parse(line)
        except (ValueError, RecursionError):
            entry = None
        is_header = isinstance(entry, dict) and "schema" in entry
        if is_header:
            checked.check_schema(f"{path}: line {position}", entry, SERIES_SCHEMA)
        try:
            if is_header:
                ids = checked.texts(path, entry, "devices")
            else:
                moments.append(_moment(path, entry, ids))
        except RunFileError:
            if not line.startswith(b'{"at_s"'):
                ids = []  # it may have been the header of the device numbers below
            if position < len(lines):
                damaged.append(position)
    return moments, damaged


def _moment(path: Path, entry: Any, ids: list[str]) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise RunFileError(f"{path}: a moment must be an object, and is {checked.short_text(entry)}")
    moment = {key: checked.value(path, key, entry.get(key), hint) for key, hint in _MOMENT.items()}
    rows = []
    for i, row in checked.rows(path, entry, "energy_j"):
        where = f"energy_j[{i}]"
        if len(checked.items(path, where, row)) != 4:
            raise RunFileError(f"{path}: {where} must have 4 values, and has {len(row)}")
        phase, device, method, joules = row
        if type(device) is int and 0 <= device < len(ids):
            device = ids[device]
        rows.append(
            [
                checked.value(path, f"{where}.phase", phase, str),
                checked.value(path, f"{where}.device", device, str),
                checked.value(path, f"{where}.method", method, Method),
                checked.value(path, f"{where}.energy_j", joules, float),
            ]
        )
    return {**moment, "power_w": list(moment["power_w"]), "energy_j": rows}
