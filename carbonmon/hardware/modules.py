"""Whose figures hold more than the device itself: superchips, APUs and embedded modules, by their names.

A specification may state one power for GPU, CPU and memory together. Such a device declares what it contains,
so that none of it is counted beside it (`core/scope.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from carbonmon.core.model import Device, Part, Spec, Uncertainty
from carbonmon.core.patterns import pattern
from carbonmon.core.ports import SensorSettings
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.pci_devices import text_of
from carbonmon.hardware.spec_sheets import gpu_spec

_WHOLE_MODULE = pattern(r"\bGH200\b|\bMI300A\b")
"""GPUs whose TDP in the table is the module's, CPU and memory included, as the table's notes say."""

_SUPERCHIP = pattern(r"\b(?:G[HB]|VR)[0-9]00\b")
_TWO_PACKAGES_AND_MEMORY = pattern(r"\bGrace\b.*\bSuperchip\b", re.IGNORECASE)
_EMBEDDED = pattern(r"\b(?:Jetson|Orin|Xavier|Thor|Tegra)\b", re.IGNORECASE)


class _Embedded(NamedTuple):
    """A module of the Jetson line: its name, what says it, and its power modes' least and largest W."""

    name: str
    pattern: re.Pattern[str]
    low_w: float
    high_w: float


def _embedded(name: str, text: str, low_w: float, high_w: float) -> _Embedded:
    return _Embedded(name, pattern(text, re.IGNORECASE), low_w, high_w)


EMBEDDED = (
    _embedded("Jetson AGX Thor", r"\bThor\b", 40.0, 130.0),
    _embedded("Jetson Orin NX", r"\bOrin NX\b", 10.0, 40.0),
    _embedded("Jetson Orin Nano", r"\bOrin Nano\b", 7.0, 25.0),
    _embedded("Jetson AGX Orin", r"\bAGX Orin\b", 15.0, 60.0),
    _embedded("Jetson Xavier NX", r"\bXavier NX\b", 10.0, 20.0),
    _embedded("Jetson AGX Xavier", r"\bAGX Xavier\b|\bJetson-AGX\b", 10.0, 30.0),
    _embedded("Jetson TX2", r"\bTX2\b", 7.5, 15.0),
    _embedded("Jetson Nano", r"\bJetson Nano\b", 5.0, 10.0),
)
"""Power modes by NVIDIA's data sheets of the modules (2025). The figures are the whole module's: GPU, CPU and
memory."""


def is_superchip(gpu_name: str) -> bool:
    """Whether a GPU is sold with a Grace or Vera CPU only: GH200, GB200, GB300, …"""
    return _SUPERCHIP.search(gpu_name) is not None


def is_embedded(gpu_name: str) -> bool:
    """Whether it is the GPU of a Jetson module, from the name that NVML reports or the user gives."""
    return _EMBEDDED.search(gpu_name) is not None


def largest_w(board: str) -> float | None:
    """The power (W) of the largest mode of a Jetson board by its name, None for one that is not known."""
    return next((module.high_w for module in EMBEDDED if module.pattern.search(board)), None)


def is_whole_module(gpu_name: str) -> bool:
    """Whether the table's power of this GPU is that of its module, CPU and memory included."""
    return _WHOLE_MODULE.search(gpu_name) is not None


def figure(gpu_name: str, settings: SensorSettings, stated: Spec | None = None) -> Spec | None:
    """The power of a GPU by its name, or as `stated`; of a Jetson the middle of its module's modes.

    All Orin modules are called "Orin (nvgpu)", so the device tree tells which one this is. Where it does not,
    the power is unknown: None.
    """
    if not is_embedded(gpu_name):
        return stated or gpu_spec(gpu_name)
    board = board_name(settings)
    for text in (gpu_name, board):
        for module in EMBEDDED:
            if module.pattern.search(text):
                return _spec(module)
    return None


def with_gpu_contents(device: Device) -> Device:
    """An estimated GPU as the module that its figure is of; any other device as it is."""
    if device.methods != ("tdp",) or device.spec is None or device.spec.source.startswith("--gpu-tdp"):
        return device
    if is_embedded(device.name):
        rest = Part("cpu"), Part("dram")
    elif is_whole_module(device.name):
        rest = Part("cpu", device.index), Part("dram", device.index)
    else:
        return device
    return device._replace(component="module", contains=(Part("gpu", None, device.id), *rest))


def with_cpu_contents(devices: Sequence[Device]) -> list[Device]:
    """CPU packages with the memory that their figure is of.

    The Grace CPU Superchip's 500 W are those of two packages and of the memory on their board.
    """
    found = []
    for device in devices:
        spec = device.spec
        if spec is not None and spec.source != "--cpu-tdp" and _TWO_PACKAGES_AND_MEMORY.search(device.name):
            # What sees a part of the threads of both packages has that part of the figure already.
            if "hardware threads" not in spec.source:
                text = f"{spec.source}: of two packages and their memory, half of it"
                spec = spec._replace(tdp_w=spec.tdp_w / 2, source=text)
            device = device._replace(spec=spec, contains=(Part("dram", device.index),))
        found.append(device)
    return found


def board_name(settings: SensorSettings) -> str:
    """The board's name by the device tree, "" without one."""
    for path in (
        settings.sysfs / "firmware" / "devicetree" / "base" / "model",
        settings.procfs / "device-tree" / "model",
    ):
        text = text_of(path, 256)
        if text:
            return text
    return ""


def _spec(module: _Embedded) -> Spec:
    middle_w = (module.low_w + module.high_w) / 2.0
    text = f"{module.low_w:g} to {module.high_w:g} W, the power modes of {module.name}"
    ratio = (module.high_w - module.low_w) / (2.0 * middle_w)
    source = f"{text}: the middle, for GPU, CPU and memory together, at any load"
    return Spec(middle_w, Uncertainty(ratio, ratio, text), source, assumed_utilization_ratio=1.0)
