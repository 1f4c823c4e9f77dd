"""The running totals of a device: what it drew, whoever caused it. Owned by the sampling thread."""

from __future__ import annotations

import math

from carbonmon.core.energy import TOO_SHORT_S, last_power_w
from carbonmon.core.idle_power import IdlePower
from carbonmon.core.model import Device, DeviceState, Interval, Meter, NodeTotal
from carbonmon.monitor.peak_power import PeakPower


class DeviceAccount:
    """Totals of one device for the whole machine, its last power and utilisation, and where it stands.

    `meter` is what its next reading is compared with, None before the first one; `read_s` is when it was read
    last. `ahead_until_s` is the end of the time that the fallback methods were credited with when its counter
    came back and told less.
    """

    __slots__ = (
        "_peak",
        "_settled_utilization",
        "_utilization_s",
        "_utilized_s",
        "ahead_until_s",
        "counter_j",
        "device",
        "emissions_g",
        "gpu_ids",
        "idle",
        "implausible",
        "is_gpu",
        "jumps",
        "meter",
        "observed_s",
        "power_j",
        "power_w",
        "read_s",
        "resets",
        "step_backs",
        "stuck",
        "tdp_j",
        "unattributed_j",
        "unobserved_s",
        "utilization_ratio",
    )

    def __init__(self, device: Device) -> None:
        self.device = device
        self.is_gpu = device.component == "gpu"
        self.gpu_ids = device.gpu_ids
        self.meter: Meter | None = None
        self.ahead_until_s = math.inf
        self.read_s = 0.0
        self.counter_j = self.power_j = self.tdp_j = self.unattributed_j = 0.0
        self.observed_s = self.unobserved_s = 0.0
        self.power_w: float | None = None
        self._peak = PeakPower()
        self.utilization_ratio: float | None = None
        self._utilized_s = self._utilization_s = 0.0
        self._settled_utilization = (0.0, 0.0)
        self.resets = self.jumps = self.step_backs = self.stuck = self.implausible = 0
        self.emissions_g = 0.0
        self.idle = IdlePower()

    def restore(self, state: DeviceState) -> None:
        """Go on from the totals of an earlier monitor."""
        self.counter_j, self.power_j, self.tdp_j = state.counter_j, state.power_j, state.tdp_j
        self.unattributed_j = state.unattributed_j
        self.observed_s, self.unobserved_s = state.observed_s, state.unobserved_s
        self._peak = PeakPower(state.peak_power_w)
        self._utilized_s, self._utilization_s = state.utilized_s, state.utilization_s
        self._settled_utilization = state.utilized_s, state.utilization_s
        self.resets, self.jumps, self.step_backs = state.resets, state.jumps, state.step_backs
        self.stuck, self.implausible = state.stuck, state.implausible
        self.emissions_g = state.emissions_g
        self.idle = IdlePower(state.idle_w)

    def add(self, interval: Interval, attributed_j: float, g_per_j: float = 0.0) -> bool:
        """Add an interval of which `attributed_j` joules belong to runs.

        Returns whether its counter said anything odd.
        """
        _, start_s, end_s, counter_j, power_j, tdp_j, power_w, unobserved_s, resets, jumps, _, back, stuck = (
            interval
        )
        energy_j = counter_j + power_j + tdp_j
        self.counter_j += counter_j
        self.power_j += power_j
        self.tdp_j += tdp_j
        if attributed_j < energy_j:  # else all of it is somebody's, but for rounding
            self.unattributed_j += energy_j - attributed_j
        self.emissions_g += energy_j * g_per_j
        seconds = end_s - start_s
        self.observed_s += seconds - unobserved_s
        self.unobserved_s += unobserved_s
        self.power_w = power_w if seconds >= TOO_SHORT_S else last_power_w(self.power_w, interval)
        self._peak.add(power_w, seconds)
        if not (resets or jumps or back or stuck):
            return False
        self.resets += resets
        self.jumps += jumps
        self.step_backs += back
        self.stuck += stuck
        return True

    def see(self, utilization_ratio: float | None, at_s: float) -> None:
        """Note a reading of `at_s`: the mean utilisation since the one before, None if nobody could tell."""
        self.utilization_ratio = utilization_ratio
        if utilization_ratio is not None:
            elapsed_s = at_s - self.read_s
            self._utilized_s += utilization_ratio * elapsed_s
            self._utilization_s += elapsed_s
        self.read_s = at_s

    def settle_utilization(self) -> float | None:
        """The mean utilisation since this was asked last; None where it was not known."""
        utilized_s, known_s = self._settled_utilization
        self._settled_utilization = self._utilized_s, self._utilization_s
        known_s = self._utilization_s - known_s
        return (self._utilized_s - utilized_s) / known_s if known_s > 0.0 else None

    def state(self) -> DeviceState:
        observed_s = self.observed_s
        utilization_s = self._utilization_s
        energy_j = self.counter_j + self.power_j + self.tdp_j
        return DeviceState(
            device=self.device,
            counter_j=self.counter_j,
            power_j=self.power_j,
            tdp_j=self.tdp_j,
            unattributed_j=self.unattributed_j,
            power_w=self.power_w,
            peak_power_w=self._peak.peak_w,
            mean_power_w=energy_j / observed_s if observed_s > 0.0 else None,
            utilization_ratio=self.utilization_ratio,
            utilization_mean_ratio=self._utilized_s / utilization_s if utilization_s > 0.0 else None,
            unobserved_s=self.unobserved_s,
            resets=self.resets,
            jumps=self.jumps,
            observed_s=observed_s,
            utilized_s=self._utilized_s,
            utilization_s=utilization_s,
            emissions_g=self.emissions_g,
            step_backs=self.step_backs,
            stuck=self.stuck,
            implausible=self.implausible,
            idle_w=self.idle.idle_w,
        )

    def total(self) -> NodeTotal:
        """Everything that it drew, and how it worked, until now."""
        return NodeTotal(
            self.device.id,
            self.counter_j,
            self.power_j,
            self.tdp_j,
            self.emissions_g,
            self._utilized_s,
            self._utilization_s,
            self.resets,
            self.jumps,
            self.step_backs,
            self.stuck,
            self.implausible,
        )
