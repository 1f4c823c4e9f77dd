"""Recorded readings as a sensor like any other, for demonstrations and tests: `--sensor replay:FILE`.

FILE holds JSON objects, one a line. The first describes the devices:
`{"carbonmon_replay": 1, "devices": [{"id": "GPU-1", "component": "gpu", "name": "…", "methods": ["counter"],
"counter_range_uj": null, "max_power_w": 400, "tdp_w": 400}]}`. Each further line is a moment:
`{"at_s": 0.5, "readings": [{"device": "GPU-1", "energy_uj": 1, "power_w": 1.0, "utilization_ratio": 0.5},
{"device": "GPU-2", "failure": "lost"}]}`, `at_s` counted from the first read and not decreasing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from carbonmon.core.documents import json_value
from carbonmon.core.errors import ConfigError, SensorGone
from carbonmon.core.model import Component, Device, Failure, Method, Reading, SensorState, Spec
from carbonmon.core.ports import SensorSettings
from carbonmon.core.typed import Entry, Source
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
    "module": NVML_UNCERTAINTY,
}
"""A recording is as good as what was recorded: NVML's GPUs and modules, RAPL's packages and memory."""


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
    except OSError as error:
        raise ConfigError(f"--sensor replay:{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"--sensor replay:{path}: no text in UTF-8: {error.reason}") from None
    entries = [_entry(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(entries) < 2:
        raise ConfigError(f"--sensor replay:{path}: needs a line of devices and at least one moment")
    header, *rest = entries
    if header.values.get("carbonmon_replay") != SCHEMA:
        raise header.source.mistake(f"carbonmon_replay must be {SCHEMA}")
    devices = [_device(path, entry) for entry in header.entries("devices")]
    ids = {device.id for device in devices}
    if len(ids) < len(devices):
        raise header.source.mistake("two devices have the same id")
    moments: list[tuple[float, list[Any]]] = []
    for entry in rest:
        at_s = entry.number("at_s")
        if moments and at_s < moments[-1][0]:
            raise entry.source.mistake("at_s must be a number that does not decrease")
        moments.append((at_s, [_reading(item, ids) for item in entry.entries("readings")]))
    return ReplaySensor(path, devices, moments)


def _entry(path: Path, number: int, line: str) -> Entry:
    source = Source(f"--sensor replay:{path}, line {number}")
    try:
        found = json_value(line)
    except ValueError as error:
        raise source.mistake(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise source.mistake("must be a JSON object")
    return Entry(source, found)


def _device(path: Path, entry: Entry) -> Device:
    device_id = entry.text("id")
    if not device_id:
        raise entry.source.mistake(f"{entry.prefix}id must not be empty")
    component = entry.value("component", Component)
    methods = entry.value("methods", tuple[Method, ...], ["counter"])
    range_uj, tdp_w = entry.value("counter_range_uj", float | None), entry.value("tdp_w", float | None)
    if "tdp" in methods and tdp_w is None:
        raise entry.source.mistake(f"{device_id}: method tdp needs tdp_w")
    index = entry.values.get("index")
    return Device(
        id=device_id,
        component=component,
        name=str(entry.values.get("name", device_id)),
        index=index if isinstance(index, int) else None,
        methods=methods,
        counter_range_uj=None if range_uj is None else int(range_uj),
        max_power_w=entry.value("max_power_w", float | None),
        spec=None if tdp_w is None else Spec(tdp_w, TDP_UNCERTAINTY, f"replay file {path.name}"),
        measured_uncertainty=MEASURED_UNCERTAINTY[component],
    )


def _reading(entry: Entry, ids: set[str]) -> Reading | Failure:
    device_id = entry.text("device")
    if device_id not in ids:
        raise entry.source.mistake(f"{entry.prefix}device {device_id!r} is not in the first line")
    if entry.has("failure"):
        return Failure(device_id, str(entry.values["failure"]))
    energy_uj = entry.value("energy_uj", float | None)
    return Reading(
        device_id,
        None if energy_uj is None else int(energy_uj),
        entry.value("power_w", float | None),
        None,
        entry.value("utilization_ratio", float | None, highest=1.0),
    )
