"""Memory power where RAPL has no dram domain: watts by the modules, labelled an estimate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Device, Failure, Part, Reading, SensorState
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.memory_power import memory_spec
from carbonmon.hardware.smbios import MemoryModule, memory_modules


class DramSensor:
    """The machine's memory as one device of constant estimated power."""

    name = "dram"

    def __init__(self, total_bytes: int, modules: Sequence[MemoryModule] = ()) -> None:
        self._spec = memory_spec(total_bytes, modules)
        self._total_bytes = total_bytes

    def devices(self) -> Sequence[Device]:
        return [
            Device(
                "dram-0",
                "dram",
                f"{self._total_bytes / 2**30:.1f} GiB of memory",
                0,
                ("tdp",),
                spec=self._spec,
                contains=(Part("dram"),),  # of all packages
            )
        ]

    def sources(self) -> Sequence[SensorState]:
        return [SensorState(self.name, "used", f"{self._spec.tdp_w:.3g} W = {self._spec.source}", "", True)]

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        yield Reading("dram-0")

    def close(self) -> None:
        pass


def open_sensor(settings: SensorSettings) -> DramSensor:
    """Open the estimate; raises `SensorUnavailable` where memory is measured or the user turned this off."""
    if not settings.dram_estimate:
        raise SensorUnavailable("left out by --no-dram-estimate")
    if any(device.component == "dram" for device in settings.known.values()):
        raise SensorUnavailable("not needed: RAPL meters the memory")
    return DramSensor(_total_bytes(settings.procfs / "meminfo"), memory_modules(settings.sysfs))


def _total_bytes(meminfo: Path) -> int:
    """Installed memory as the kernel counts it (proc(5): MemTotal, in units of 1024 bytes)."""
    try:
        total = re.search(
            r"^MemTotal:[ \t]+0*([1-9][0-9]{0,14}) kB$", meminfo.read_text(encoding="ascii"), re.MULTILINE
        )
    except (OSError, ValueError) as error:
        raise SensorUnavailable(
            f"{meminfo} cannot be read: {error}", "carbonmon doctor --procfs /proc"
        ) from None
    if total is None:
        raise SensorUnavailable(
            f"{meminfo} does not say how much memory there is", "carbonmon doctor --procfs /proc"
        )
    return int(total[1]) * 1024
