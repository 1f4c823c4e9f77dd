"""Recorded readings as a sensor like any other, for demonstrations and tests: `--sensor replay:FILE`.

FILE holds JSON objects, one a line. The first describes the devices:
`{"carbonmon_replay": 1, "devices": [{"id": "GPU-1", "component": "gpu", "name": "…", "methods": ["counter"],
"counter_range_uj": null, "max_power_w": 400, "tdp_w": 400}]}`. Each further line is a moment:
`{"at_s": 0.5, "readings": [{"device": "GPU-1", "energy_uj": 1, "power_w": 1.0, "utilization_ratio": 0.5},
{"device": "GPU-2", "failure": "lost"}]}`, `at_s` counted from the first read and not decreasing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from carbonmon.core.errors import ConfigError, SensorGone
from carbonmon.core.model import METHODS, Device, Failure, Reading, SensorState, Spec
from carbonmon.core.ports import SensorSettings
from carbonmon.core.uncertainty import (
    NVML_UNCERTAINTY,
    RAPL_DRAM_UNCERTAINTY,
    RAPL_PACKAGE_UNCERTAINTY,
    TDP_UNCERTAINTY,
)

SCHEMA = 1

MEASURED_UNCERTAINTY = {
    "gpu": NVML_UNCERTAINTY,
    "cpu": RAPL_PACKAGE_UNCERTAINTY,
    "dram": RAPL_DRAM_UNCERTAINTY,
}
"""A recording is as good as what was recorded: NVML's GPUs, RAPL's packages and memory."""

LARGEST = 2.0**64
"""No value of hardware is larger: its counters have 64 bits."""


class ReplaySensor:
    """Gives, at each read, the last recorded moment whose time has passed; ends after the last one."""

    name = "replay"

    def __init__(
        self, path: Path, devices: Sequence[Device], moments: Sequence[tuple[float, list[Any]]]
    ) -> None:
        self._path = path
        self._devices = devices
        self._moments = moments
        self._position = -1
        self._origin_s: float | None = None

    def devices(self) -> Sequence[Device]:
        return self._devices

    def sources(self) -> Sequence[SensorState]:
        text = f"{self._path}: {len(self._devices)} recorded devices, not this machine's"
        return [SensorState(self.name, "used", text, "", True)]

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        if self._origin_s is None:
            self._origin_s = now_s
        elapsed_s = now_s - self._origin_s
        last = len(self._moments) - 1
        if self._position == last:
            raise SensorGone(f"{self._path} has ended")
        while self._position < last and self._moments[self._position + 1][0] <= elapsed_s:
            self._position += 1
        if self._position >= 0:
            yield from self._moments[self._position][1]

    def close(self) -> None:
        pass


def open_sensor(settings: SensorSettings) -> ReplaySensor:
    """Open the recording that `settings.argument` names; raises `ConfigError` with file, line and field."""
    if not settings.argument:
        raise ConfigError("replay needs a file: --sensor replay:FILE")
    path = Path(settings.argument)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"replay file {path}: {error}") from None
    parsed = [(number, _parse(path, number, line)) for number, line in enumerate(lines, 1) if line.strip()]
    if len(parsed) < 2:
        raise ConfigError(f"replay file {path}: needs a line of devices and at least one moment")
    first, header = parsed[0]
    if header.get("carbonmon_replay") != SCHEMA:
        raise ConfigError(f"replay file {path}, line {first}: 'carbonmon_replay' must be {SCHEMA}")
    devices = [_device(path, first, entry) for entry in _list(path, first, header, "devices")]
    ids = {device.id for device in devices}
    if len(ids) < len(devices):
        raise ConfigError(f"replay file {path}, line {first}: two devices have the same 'id'")
    moments: list[tuple[float, list[Any]]] = []
    for number, entry in parsed[1:]:
        at_s = _number(path, number, entry, "at_s")
        if at_s is None or (moments and at_s < moments[-1][0]):
            raise ConfigError(
                f"replay file {path}, line {number}: 'at_s' must be a number that does not decrease"
            )
        readings = [_reading(path, number, item, ids) for item in _list(path, number, entry, "readings")]
        moments.append((at_s, readings))
    return ReplaySensor(path, devices, moments)


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"replay file {path}, line {number}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"replay file {path}, line {number}: must be a JSON object")
    return value


def _list(path: Path, number: int, entry: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = entry.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ConfigError(f"replay file {path}, line {number}: {key!r} must be a list of objects")
    return value


def _number(
    path: Path, number: int, entry: dict[str, Any], key: str, largest: float = LARGEST
) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= largest:
        span = "of at least 0" if largest == LARGEST else f"from 0 to {largest:g}"
        raise ConfigError(f"replay file {path}, line {number}: {key!r} must be a number {span}")
    return value


def _device(path: Path, number: int, entry: dict[str, Any]) -> Device:
    where = f"replay file {path}, line {number}"
    device_id, component = entry.get("id"), entry.get("component")
    methods = entry.get("methods", ["counter"])
    if not isinstance(device_id, str) or not device_id:
        raise ConfigError(f"{where}: a device needs an 'id'")
    if component not in ("gpu", "cpu", "dram"):
        raise ConfigError(f"{where}: {device_id}: 'component' must be gpu, cpu or dram")
    if not isinstance(methods, list) or not all(method in METHODS for method in methods):
        raise ConfigError(f"{where}: {device_id}: 'methods' may hold {', '.join(METHODS)}")
    range_uj = _number(path, number, entry, "counter_range_uj")
    tdp_w = _number(path, number, entry, "tdp_w")
    if "tdp" in methods and tdp_w is None:
        raise ConfigError(f"{where}: {device_id}: method tdp needs 'tdp_w'")
    return Device(
        id=device_id,
        component=component,
        name=str(entry.get("name", device_id)),
        index=entry["index"] if isinstance(entry.get("index"), int) else None,
        methods=tuple(methods),
        counter_range_uj=None if range_uj is None else int(range_uj),
        max_power_w=_number(path, number, entry, "max_power_w"),
        spec=None if tdp_w is None else Spec(tdp_w, TDP_UNCERTAINTY, f"replay file {path.name}"),
        measured_uncertainty=MEASURED_UNCERTAINTY[component],
    )


def _reading(path: Path, number: int, entry: dict[str, Any], ids: set[str]) -> Reading | Failure:
    device_id = entry.get("device")
    if not isinstance(device_id, str) or device_id not in ids:
        raise ConfigError(
            f"replay file {path}, line {number}: 'device' {device_id!r} is not in the first line"
        )
    if "failure" in entry:
        return Failure(device_id, str(entry["failure"]))
    energy_uj = _number(path, number, entry, "energy_uj")
    return Reading(
        device_id,
        None if energy_uj is None else int(energy_uj),
        _number(path, number, entry, "power_w"),
        None,
        _number(path, number, entry, "utilization_ratio", 1.0),
    )
