"""The running totals: what each device drew, and what each run is charged. Owned by the sampling thread."""

from __future__ import annotations

from collections.abc import Iterable

from carbonmon.model import (
    MAIN_PHASE,
    Component,
    Device,
    DeviceState,
    Interval,
    Method,
    RunInfo,
    RunState,
    RunTotal,
)


class DeviceAccount:
    """Totals of one device for the whole machine, and its last power and utilisation."""

    __slots__ = (
        "_utilization_s",
        "_utilized_s",
        "counter_j",
        "device",
        "jumps",
        "observed_s",
        "peak_power_w",
        "power_j",
        "power_w",
        "resets",
        "tdp_j",
        "unattributed_j",
        "unobserved_s",
        "utilization_ratio",
    )

    def __init__(self, device: Device) -> None:
        self.device = device
        self.counter_j = self.power_j = self.tdp_j = self.unattributed_j = 0.0
        self.observed_s = self.unobserved_s = 0.0
        self.power_w: float | None = None
        self.peak_power_w: float | None = None
        self.utilization_ratio: float | None = None
        self._utilized_s = self._utilization_s = 0.0
        self.resets = self.jumps = 0

    def restore(self, state: DeviceState) -> None:
        """Go on from the totals of an earlier monitor."""
        self.counter_j, self.power_j, self.tdp_j = state.counter_j, state.power_j, state.tdp_j
        self.unattributed_j = state.unattributed_j
        self.observed_s, self.unobserved_s = state.observed_s, state.unobserved_s
        self.peak_power_w = state.peak_power_w
        self._utilized_s, self._utilization_s = state.utilized_s, state.utilization_s
        self.resets, self.jumps = state.resets, state.jumps

    def add(self, interval: Interval, attributed_j: float) -> None:
        """Add an interval of which `attributed_j` joules belong to runs."""
        energy_j = interval.counter_j + interval.power_j + interval.tdp_j
        self.counter_j += interval.counter_j
        self.power_j += interval.power_j
        self.tdp_j += interval.tdp_j
        self.unattributed_j += energy_j - attributed_j
        self.observed_s += interval.end_s - interval.start_s - interval.unobserved_s
        self.unobserved_s += interval.unobserved_s
        self.resets += interval.resets
        self.jumps += interval.jumps
        power_w = self.power_w = interval.power_w
        if power_w is not None and (self.peak_power_w is None or power_w > self.peak_power_w):
            self.peak_power_w = power_w

    def see(self, utilization_ratio: float | None, elapsed_s: float) -> None:
        """Note the mean utilisation of the last `elapsed_s` seconds, None if nobody could tell."""
        self.utilization_ratio = utilization_ratio
        if utilization_ratio is not None:
            self._utilized_s += utilization_ratio * elapsed_s
            self._utilization_s += elapsed_s

    def state(self) -> DeviceState:
        observed_s = self.observed_s
        utilization_s = self._utilization_s
        return DeviceState(
            self.device,
            self.counter_j,
            self.power_j,
            self.tdp_j,
            self.unattributed_j,
            self.power_w,
            self.peak_power_w,
            (self.counter_j + self.power_j + self.tdp_j) / observed_s if observed_s > 0.0 else None,
            self.utilization_ratio,
            self._utilized_s / utilization_s if utilization_s > 0.0 else None,
            self.unobserved_s,
            self.resets,
            self.jumps,
            observed_s,
            self._utilized_s,
            utilization_s,
        )


class _Amounts:
    """Joules and grams of one row of a run's totals."""

    __slots__ = ("component", "emissions_g", "emissions_high_g", "emissions_low_g", "energy_j")

    def __init__(self, component: Component) -> None:
        self.component = component
        self.energy_j = self.emissions_g = self.emissions_low_g = self.emissions_high_g = 0.0


class RunAccount:
    """Totals of one run. A row is born at 0 for each method that a device may use, so that the first
    joules of a series are not lost to Prometheus' `increase()`."""

    __slots__ = (
        "_phase",
        "_power_w",
        "_rows",
        "_unobserved_s",
        "ended_at_s",
        "exit_code",
        "info",
        "recovered_j",
        "signal",
    )

    def __init__(self, info: RunInfo, devices: Iterable[Device]) -> None:
        self.info = info
        self.ended_at_s: float | None = None
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.recovered_j = 0.0
        self._phase = MAIN_PHASE
        self._rows: dict[tuple[str, str, Method], _Amounts] = {}
        self._power_w: dict[str, float | None] = {}
        self._unobserved_s: dict[str, float] = {}
        for device in devices:
            self._power_w[device.id] = None
            self._unobserved_s[device.id] = 0.0
            for method in device.methods:
                self._rows[self._phase, device.id, method] = _Amounts(device.component)

    def restore(self, state: RunState) -> None:
        """Go on from the totals of an earlier monitor, also of devices that are gone."""
        self.recovered_j = state.recovered_j
        for row in state.totals:
            amounts = self._rows[row.phase, row.device_id, row.method] = _Amounts(row.component)
            amounts.energy_j, amounts.emissions_g = row.energy_j, row.emissions_g
            amounts.emissions_low_g, amounts.emissions_high_g = row.emissions_low_g, row.emissions_high_g
        self._unobserved_s.update(state.unobserved_s)

    def add(self, device: Device, part: Interval, grams_per_j: tuple[float, float, float]) -> None:
        """Add the run's part of an interval, at (figure, low, high) grams for each joule."""
        if part.counter_j:
            self._charge(device, "counter", part.counter_j, grams_per_j)
        if part.power_j:
            self._charge(device, "power", part.power_j, grams_per_j)
        if part.tdp_j:
            self._charge(device, "tdp", part.tdp_j, grams_per_j)
        self._power_w[device.id] = part.power_w
        if part.unobserved_s:
            self.lose(device.id, part.unobserved_s)

    def lose(self, device_id: str, seconds: float) -> None:
        """Note seconds of a device's energy that nobody can know."""
        self._unobserved_s[device_id] = self._unobserved_s.get(device_id, 0.0) + seconds

    def see(self, device: Device, power_w: float | None) -> None:
        """Note the power of a device while its energy is not settled yet."""
        self._power_w[device.id] = None if power_w is None else power_w * device.share_ratio

    def _charge(
        self, device: Device, method: Method, energy_j: float, grams_per_j: tuple[float, float, float]
    ) -> None:
        amounts = self._rows.get((self._phase, device.id, method))
        if amounts is None:
            amounts = self._rows[self._phase, device.id, method] = _Amounts(device.component)
        grams, low, high = grams_per_j
        amounts.energy_j += energy_j
        amounts.emissions_g += energy_j * grams
        amounts.emissions_low_g += energy_j * low
        amounts.emissions_high_g += energy_j * high

    def state(self, duration_s: float) -> RunState:
        return RunState(
            self.info,
            tuple(
                [
                    RunTotal(
                        phase,
                        amounts.component,
                        device_id,
                        method,
                        amounts.energy_j,
                        amounts.emissions_g,
                        amounts.emissions_low_g,
                        amounts.emissions_high_g,
                    )
                    for (phase, device_id, method), amounts in self._rows.items()
                ]
            ),
            tuple(self._power_w.items()),
            tuple(self._unobserved_s.items()),
            ((self._phase, duration_s),),
            duration_s,
            self.ended_at_s,
            self.exit_code,
            self.signal,
            self.recovered_j,
        )
