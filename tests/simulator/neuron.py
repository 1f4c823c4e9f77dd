"""A machine with Trainium or Inferentia devices: the driver's tree, and a stand-in for neuron-monitor."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VALID, NO_DATA, INVALID = "POWER_STATUS_VALID", "POWER_STATUS_NO_DATA", "POWER_STATUS_INVALID"


class NeuronTree:
    """The devices below `devices/virtual/neuron_device`. `power` is where each one's file of power is."""

    def __init__(
        self,
        sysfs: Path,
        number: int = 16,
        *,
        model: str = "Trainium1",
        cores: int = 2,
        power: str | None = "stats/power/utilization",
    ) -> None:
        self.sysfs = sysfs
        self.root = sysfs / "devices/virtual/neuron_device"
        self.power = power
        self.stamp = 1_780_000_020
        self.devices = range(number)
        for device in self.devices:
            folder = self.root / f"neuron{device}"
            (folder / "info/architecture").mkdir(parents=True)
            (folder / "core_count").write_text(f"{cores}\n")
            (folder / "info/architecture/device_name").write_text(f"{model}\n")
            (folder / "power").mkdir()  # the kernel's own, of runtime power management
            (folder / "power/runtime_status").write_text("active\n")
            for core in range(cores):
                (folder / f"neuron_core{core}/stats").mkdir(parents=True)
            if power is not None:
                (folder / power).parent.mkdir(parents=True)
                self.say(device, 0.0, status=NO_DATA)

    def file(self, device: int) -> Path:
        assert self.power is not None
        return self.root / f"neuron{device}" / self.power

    def say(self, device: int, percent: float, *, status: str = VALID) -> None:
        """Say the mean of the minute that ends now."""
        self.write(device, f"{status},{self.stamp},0.00,{percent:.2f},{percent:.2f}")

    def write(self, device: int, text: str) -> None:
        """Let the device's file hold this text."""
        self.file(device).write_text(f"{text}\n")

    def minute(self, percents: Sequence[float]) -> None:
        """A minute is over: every device has its mean."""
        self.stamp += 60
        for device, percent in zip(self.devices, percents, strict=True):
            self.say(device, percent)


def monitor_line(
    cores: Mapping[int, float],
    devices: int = 16,
    per_device: int = 2,
    *,
    logical: int | None = None,
    **more: Any,
) -> str:
    """A line of neuron-monitor: the utilisation in percent of the cores that one program uses."""
    used = {str(core): {"neuroncore_utilization": percent} for core, percent in cores.items()}
    hardware: dict[str, Any] = {
        "neuron_device_count": devices,
        "neuroncore_per_device_count": per_device,
        "neuron_device_type": "trainium",
        "error": "",
    }
    if logical is not None:
        hardware["logical_neuroncore_config"] = logical
    program = {
        "pid": 4242,
        "neuron_runtime_tag": "1",
        "error": "",
        "report": {"neuroncore_counters": {"period": 1.0, "neuroncores_in_use": used, "error": ""}},
    }
    document = {
        "neuron_runtime_data": [program] if cores else [],
        "system_data": {},
        "instance_info": {"instance_type": "trn1.32xlarge", "error": ""},
        "neuron_hardware_info": hardware,
    }
    return json.dumps(document | more)


def install_monitor(folder: Path, lines: Sequence[str], *, then: str = "signal.pause()") -> dict[str, str]:
    """A program neuron-monitor that says these lines at once; the environment that finds it."""
    folder.mkdir(exist_ok=True)
    (folder / "lines").write_text("".join(f"{line}\n" for line in lines))
    program = folder / "neuron-monitor"
    program.write_text(
        f"#!{sys.executable}\nimport signal, sys\n"
        f"sys.stdout.write(open({str(folder / 'lines')!r}).read())\nsys.stdout.flush()\n{then}\n"
    )
    program.chmod(0o755)
    return {"PATH": str(folder)}
