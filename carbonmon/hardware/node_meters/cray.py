"""The node meter `cray`: the counters that blades of HPE Cray EX and Cray XC publish on each node.

Files of `/sys/cray/pm_counters` (HPE, CSM documentation, "User Access to Compute Node Power Data"): `energy`
and `power` are the whole node's, "12345 J 1734000000000000 us" with the time of the sample, ten samples a
second; `freshness` counts the samples, and `startup` and `generation` change when the counters begin anew
or are set up in another way. The energy of CPUs, memory and accelerators is part of the node's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from carbonmon.core.errors import SensorReadError, SensorUnavailable
from carbonmon.core.node_meter import NodeReading
from carbonmon.core.ports import NodeMeter, NodeMeterSettings
from carbonmon.hardware.node_meters.files import optional_text, whole_number
from carbonmon.hardware.pci_devices import is_there

UJ_PER_J = 1_000_000

STALE_S = 3.0
"""So many seconds without a new sample say that nobody refreshes the counters: ten samples come in a second.
The number of reads says nothing: where many runs begin at once, there are as many within milliseconds."""


def open_meter(settings: NodeMeterSettings) -> NodeMeter:
    """Raises `SensorUnavailable` on every other machine."""
    meter = CrayMeter(settings)
    try:
        meter.read()
    except SensorReadError as error:
        if is_there(meter.folder):
            raise SensorUnavailable(str(error)) from None
        raise SensorUnavailable(f"this is no node of a Cray: there is no {meter.folder}") from None
    return meter


class CrayMeter:
    """Reads files that answer at once."""

    name = "cray"
    is_slow = False
    period_s = 0.0

    def __init__(self, settings: NodeMeterSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = settings.sysfs / "cray/pm_counters"
        self._clock = clock
        self._freshness = ""
        self._fresh_s = 0.0

    def read(self) -> NodeReading:
        """Raises `SensorReadError`, also where the counters changed while they were read."""
        before = self._line()
        self._check_freshness()
        energy_j = whole_number(self.folder / "energy", "J")
        power_w = whole_number(self.folder / "power", "W")
        if self._line() != before:
            raise SensorReadError(f"{self.folder}: the counters began anew while they were read")
        return NodeReading(float(power_w), energy_j * UJ_PER_J, before)

    def describe(self) -> str:
        return "Cray pm_counters: energy counter of the node"

    def close(self) -> None:
        pass

    def _check_freshness(self) -> None:
        found = optional_text(self.folder / "freshness")
        now_s = self._clock()
        if not found or found != self._freshness:
            self._freshness, self._fresh_s = found, now_s
        elif now_s - self._fresh_s >= STALE_S:
            raise SensorReadError(f"{self.folder}: the counters are not refreshed any more")

    def _line(self) -> str:
        names = ("startup", "generation")
        return " ".join(optional_text(self.folder / name).partition(" ")[0] for name in names)
