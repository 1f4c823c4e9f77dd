"""Finds sensors, node meters, sources of intensity and exporters by name: our own, others by entry point."""

from __future__ import annotations

import importlib
from typing import Any, Literal

from carbonmon.core.errors import ConfigError

Group = Literal[
    "carbonmon.sensors",
    "carbonmon.node_meters",
    "carbonmon.intensity",
    "carbonmon.grid",
    "carbonmon.exporters",
]

OWN: dict[Group, dict[str, str]] = {
    "carbonmon.sensors": {
        "nvml": "carbonmon.hardware.sensors.nvml:open_sensor",
        "rapl": "carbonmon.hardware.sensors.rapl:open_sensor",
        "amdsmi": "carbonmon.hardware.sensors.amdsmi:open_sensor",
        "hwmon": "carbonmon.hardware.sensors.hwmon:open_sensor",
        "gaudi": "carbonmon.hardware.sensors.gaudi:open_sensor",
        "levelzero": "carbonmon.hardware.sensors.levelzero:open_sensor",
        "tpu": "carbonmon.hardware.sensors.tpu:open_sensor",
        "neuron": "carbonmon.hardware.sensors.neuron:open_sensor",
        "tdp": "carbonmon.hardware.sensors.tdp:open_sensor",
        "dram": "carbonmon.hardware.sensors.dram:open_sensor",
        "replay": "carbonmon.hardware.sensors.replay:open_sensor",
    },
    "carbonmon.node_meters": {
        "acpi": "carbonmon.hardware.node_meters.acpi:open_meter",
        "cray": "carbonmon.hardware.node_meters.cray:open_meter",
        "ipmi": "carbonmon.hardware.node_meters.ipmi:open_meter",
        "redfish": "carbonmon.hardware.node_meters.redfish:open_meter",
    },
    "carbonmon.intensity": {
        "fixed": "carbonmon.grid.fixed:open_provider",
        "table": "carbonmon.grid.table:open_provider",
        "file": "carbonmon.grid.file:open_provider",
        "live": "carbonmon.grid.live:open_provider",
    },
    "carbonmon.grid": {
        "electricitymaps": "carbonmon.grid.electricitymaps:open_source",
        "uk": "carbonmon.grid.uk:open_source",
        "rte": "carbonmon.grid.rte:open_source",
        "dk": "carbonmon.grid.dk:open_source",
        "watttime": "carbonmon.grid.watttime:open_source",
    },
    "carbonmon.exporters": {
        "prometheus": "carbonmon_exporters.prometheus:open_exporter",
        "summary": "carbonmon_exporters.summary:open_exporter",
        "textfile": "carbonmon_exporters.textfile:open_exporter",
        "pushgateway": "carbonmon_exporters.pushgateway:open_exporter",
        "otlp": "carbonmon_exporters.otlp:open_exporter",
    },
}
"""Our own entry points, as pyproject.toml registers them (a test compares the two). Reading them from
the package's metadata would cost more memory and time than the whole monitor has to spare."""


def load(group: Group, name: str) -> Any:
    """What the entry point `name` of `group` names; raises `ConfigError` that lists what there is."""
    target = OWN[group].get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        return getattr(importlib.import_module(module), attribute)
    from importlib.metadata import entry_points

    others = {point.name: point for point in entry_points(group=group)}
    if name not in others:
        import difflib

        names = sorted({*others, *OWN[group]})
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        option = group.partition(".")[2].removesuffix("s").replace("_", "-")
        raise ConfigError(f"--{option}: there is no {name!r}; {hint}there are {', '.join(names)}")
    try:
        return others[name].load()
    except Exception as error:  # a third party's module may raise anything while it is imported
        raise ConfigError(f"{group}: {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
