"""GPU-seconds that a run holds, and those of them in which the GPU did nothing, with their energy; pure."""

from __future__ import annotations

from carbonmon.core.records import NamedTuple

IDLE_BELOW_RATIO = 0.01
"""A GPU is idle over an interval in which its mean utilisation is below this. NVML's utilisation is the per
cent of time in which a kernel was executing (nvmlUtilization_t, NVML API reference), in whole per cents: what
is below one reads as none."""


class GpuTime(NamedTuple):
    """Seconds times the run's share of the GPU, of all its GPUs: 60 s on eight whole ones are 480.

    `idle_s` are those in which the GPU did nothing, whosever it was, and `idle_j` the run's joules in them;
    `unknown_s` those in which nobody can tell.
    """

    held_s: float = 0.0
    idle_s: float = 0.0
    unknown_s: float = 0.0
    idle_j: float = 0.0


class GpuClock:
    """Adds up the `GpuTime` of a run, interval by interval: plain sums, as a tick does it for each GPU."""

    __slots__ = ("_held_s", "_idle_j", "_idle_s", "_unknown_s")

    def __init__(self, time: GpuTime | None = None) -> None:
        self._held_s, self._idle_s, self._unknown_s, self._idle_j = time or GpuTime()

    def add(self, seconds: float, energy_j: float, utilization_ratio: float | None) -> None:
        """An interval of a GPU of which the run holds so many GPU-seconds and drew so many joules."""
        self._held_s += seconds
        if utilization_ratio is None:
            self._unknown_s += seconds
        elif utilization_ratio < IDLE_BELOW_RATIO:
            self._idle_s += seconds
            self._idle_j += energy_j

    def time(self) -> GpuTime | None:
        """None where no GPU was held."""
        if not self._held_s and not self._idle_j:
            return None
        return GpuTime(self._held_s, self._idle_s, self._unknown_s, self._idle_j)
