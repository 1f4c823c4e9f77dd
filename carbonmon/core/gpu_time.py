"""GPU-seconds that a run holds, and those of them in which the GPU did nothing, with their energy; pure."""

from __future__ import annotations

from typing import NamedTuple

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

    def plus(self, seconds: float, energy_j: float, utilization_ratio: float | None) -> GpuTime:
        """With an interval of a GPU, of which the run holds so many GPU-seconds and drew so many joules."""
        held_s, idle_s, unknown_s, idle_j = self
        if utilization_ratio is None:
            unknown_s += seconds
        elif utilization_ratio < IDLE_BELOW_RATIO:
            idle_s += seconds
            idle_j += energy_j
        return GpuTime(held_s + seconds, idle_s, unknown_s, idle_j)


NO_GPU_TIME = GpuTime()
