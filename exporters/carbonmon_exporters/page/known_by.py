"""Whether what a device draws now is measured or estimated: by the joules that it gained last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from carbonmon.core.model import DeviceState

Knowledge = Literal["measured", "estimated"]


class KnownBy:
    """Follows the devices from snapshot to snapshot. A device whose sensor is lost becomes estimated."""

    def __init__(self) -> None:
        self._joules: dict[str, tuple[float, float]] = {}
        self._known: dict[str, Knowledge | None] = {}

    def look(self, devices: Iterable[DeviceState]) -> None:
        """See what each device gained since the last look."""
        for state in devices:
            device_id = state.device.id
            measured_j, estimated_j = state.counter_j + state.power_j, state.tdp_j
            before = self._joules.get(device_id)
            self._joules[device_id] = measured_j, estimated_j
            gained = (
                (measured_j, estimated_j)
                if before is None
                else (measured_j - before[0], estimated_j - before[1])
            )
            if gained[1] > 0.0:  # at the first look perhaps long ago: never more certain than it is
                self._known[device_id] = "estimated"
            elif gained[0] > 0.0 or device_id not in self._known:
                self._known[device_id] = "measured" if state.device.is_measured else self._estimated(state)

    def of(self, device_id: str) -> Knowledge | None:
        """None for a device of which nothing can be known."""
        return self._known.get(device_id)

    @staticmethod
    def _estimated(state: DeviceState) -> Knowledge | None:
        return "estimated" if "tdp" in state.device.methods else None
