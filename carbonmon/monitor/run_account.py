"""The running totals of a run: what it is charged, by phase, device and method. For the sampling thread."""

from __future__ import annotations

import math
from collections.abc import Iterable
from operator import itemgetter

from carbonmon.core.energy import TOO_SHORT_S, last_power_w
from carbonmon.core.footprint import Rates
from carbonmon.core.forecast import Spent
from carbonmon.core.gpu_time import GpuClock
from carbonmon.core.idle_power import joined_note
from carbonmon.core.model import (
    MAIN_PHASE,
    Charge,
    Cost,
    Device,
    Intensity,
    Interval,
    Method,
    Rank,
    RunInfo,
    RunState,
)
from carbonmon.core.pauses import PAUSED_PHASE, PauseClock
from carbonmon.core.phases import Phases
from carbonmon.core.windows import REFRESH_S, Key, Windows
from carbonmon.core.work_meter import WorkMeter
from carbonmon.monitor.amounts import Amounts
from carbonmon.monitor.idle_run import idle_note
from carbonmon.monitor.meanwhile import Meanwhile, NodeTotals
from carbonmon.monitor.node_charge import NodeChargeAccount
from carbonmon.monitor.outlook import Outlook
from carbonmon.monitor.peak_power import PeakPower
from carbonmon.monitor.run_span import RunSpan
from carbonmon.runs.series_rows import Moment, Parts

MAX_UNSETTLED_S = 5.0
"""The last power of a device stands for so long at most: counters are read at least once a second, and one
that says nothing for longer may have been lost."""


class RunAccount:
    """Totals of one run. The best method of each device of its own has a row at 0 from the start, so that its
    series are there when the first joules come; lower rungs get theirs if they are used.

    `start_s` is its start on the injected clock, of which phases and durations are reckoned, and `span` the
    time of which it is charged. `devices` are those that it is expected to use; others get their rows when it
    does. `parts` takes what is added, for the run's series.
    """

    __slots__ = (
        "_charged",
        "_charged_with",
        "_charges",
        "_costs",
        "_counts_since_s",
        "_doubts_j",
        "_parts",
        "_peaks",
        "_power_w",
        "_rows",
        "_settled_s",
        "_shares",
        "_told_s",
        "_unobserved_s",
        "cpu_s",
        "ended_at_s",
        "exit_code",
        "facility_j",
        "gpu_clock",
        "info",
        "meanwhile",
        "node_busy_s",
        "node_charge",
        "notes",
        "outlook",
        "pauses",
        "phases",
        "processes",
        "ranks",
        "recovered_j",
        "signal",
        "span",
        "start_s",
        "water_l",
        "watered_j",
        "windows",
        "work",
    )

    def __init__(
        self, info: RunInfo, devices: Iterable[Device], start_s: float = 0.0, parts: Parts | None = None
    ) -> None:
        self.info = info
        self._parts = parts
        self.start_s = start_s
        self.span = RunSpan()
        self.ended_at_s: float | None = None
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.recovered_j = 0.0
        self.cpu_s: float | None = None
        self.processes: int | None = None
        self.ranks: tuple[Rank, ...] = ()
        self.node_busy_s: float | None = None
        self.notes: tuple[str, ...] = ()
        self.phases = Phases(start_s)
        self.windows = Windows()
        self.work = WorkMeter()
        self.outlook = Outlook()
        self.gpu_clock = GpuClock()
        self.pauses = PauseClock()
        self.node_charge = NodeChargeAccount()
        self._doubts_j: dict[str, float] = {}
        self.water_l: float | None = None
        self.watered_j = self.facility_j = 0.0
        self._charges: dict[Charge, list[float]] = {}
        self._charged_with: Intensity | None = None
        self._charged = [0.0, 0.0]
        self._costs: dict[str, list[float]] = {}
        self._rows: dict[tuple[str, str, Method], Amounts] = {}
        self._power_w: dict[str, float | None] = {}
        self._unobserved_s: dict[str, float] = {}
        self._settled_s: dict[str, float] = {}
        self._shares: dict[str, str] = {}
        self._peaks: dict[str, PeakPower] = {}
        self.meanwhile = Meanwhile()
        self._told_s = start_s
        self._counts_since_s: float | None = start_s
        for device in devices:
            self._touch(device)

    def begin(self, start_s: float, node: NodeTotals) -> None:
        """Start after a sample: what the devices and the monitor did before is not of its time.

        That sample is its first. A monitor that was started for its own job has cost it from its start on.
        """
        self.start_s = self.span.from_s = self._told_s = self._counts_since_s = start_s
        self.phases = Phases(start_s)
        cpu_s = 0.0 if self.info.ends_with == "job" else node.cpu_s
        self.meanwhile.begin(node._replace(samples=max(0, node.samples - 1), cpu_s=cpu_s))

    def restore(self, state: RunState, now_s: float, outage_s: float, same_boot: bool) -> None:
        """Go on from the totals that a monitor left `outage_s` seconds ago, also of devices that are gone.

        `same_boot`: its clock was this one, and the run went on until then.
        """
        self.start_s = now_s - outage_s - state.duration_s
        self._told_s = now_s - outage_s
        # Not the start of which durations are reckoned: a run that is resumed after its end began earlier.
        self._counts_since_s = state.start_s if same_boot else None
        self.span.from_s = (state.start_s or -math.inf) if same_boot else now_s  # no counter knows more
        self.recovered_j = state.recovered_j
        self.cpu_s, self.ranks = state.cpu_s, state.ranks
        self.work.restore(state.work, sum(row.energy_j for row in state.totals), self.start_s)
        self.notes = state.notes
        self.outlook.restore(state.forecasts, state.budgets)
        self.gpu_clock = GpuClock(state.gpu_time)
        self.node_charge = NodeChargeAccount(state.node_charges, self.work.total_j)
        self.pauses = PauseClock(state.pauses)
        is_paused = state.pauses is not None and state.pauses.is_paused  # by a monitor that is gone
        self.phases = Phases(now_s - outage_s, MAIN_PHASE if is_paused else state.phase)
        self.phases.restore(state.phases_s)
        self._doubts_j.update(state.doubts_j or ())
        self._shares.update(state.shares)
        self.water_l = state.water_l
        self.watered_j, self.facility_j = state.watered_j or 0.0, state.facility_j or 0.0
        for charge in state.charges:
            key = charge._replace(energy_j=0.0, emissions_g=0.0)
            self._charges[key] = [charge.energy_j, charge.emissions_g]
        self._charged_with = None
        self._costs = {cost.currency: [cost.amount, cost.priced_j] for cost in state.costs}
        for row in state.totals:
            amounts = Amounts(row.component, row.start_s if same_boot else None)
            amounts.is_new = False
            self._rows[row.phase, row.device_id, row.method] = amounts
            amounts.energy_j, amounts.emissions_g = row.energy_j, row.emissions_g
            amounts.emissions_low_g, amounts.emissions_high_g = row.emissions_low_g, row.emissions_high_g
        self._unobserved_s.update(state.unobserved_s)
        self._peaks = {device_id: PeakPower(peak_w) for device_id, peak_w in state.peaks_w}

    def restore_meanwhile(self, state: RunState, node: NodeTotals) -> None:
        """Go on from what the devices, restored before, and the earlier monitor did while the run lasted."""
        if self.info.ends_with == "job":
            node = node._replace(cpu_s=0.0)  # this monitor has cost it from its own start on
        self.meanwhile.restore(state.node, state.samples or 0, state.monitor_cpu_s, state.node_meters, node)

    def stop(self, at_s: float, wall_s: float) -> None:
        """Its time ends at a moment, of which the next sample will tell; the first word counts.

        What is charged to it already is not taken back: then its time ends with that.
        """
        until_s = max(at_s, self.start_s, *self._settled_s.values())
        self.span.end(until_s, wall_s + until_s - at_s)

    def end(
        self,
        now_s: float,
        wall_s: float,
        exit_code: int | None,
        signal: int | None,
        node: NodeTotals,
    ) -> None:
        """The run has ended, now or when it was stopped; nothing is added to it from now on."""
        self.meanwhile.end(node)
        self.stop(now_s, wall_s)
        now_s = self.span.until_s
        grams = sum(grams for _, grams in self._charges.values())
        costs = {currency: amount for currency, (amount, _) in self._costs.items()}
        self.outlook.end(now_s - self.start_s, self.work.total_j, grams, costs)
        idle = idle_note(now_s - self.start_s - self.pauses.seconds(now_s), self.cpu_s, self.node_busy_s)
        if idle and idle not in self.notes:
            self.notes = (*self.notes, idle)
        self.ended_at_s = max(self.span.until_wall_s, self.info.started_at_s)
        self.exit_code, self.signal = exit_code, signal
        self.processes = None

    def add(self, device: Device, part: Interval, rates: Rates, moment: Moment, note: str = "") -> float:
        """Add the run's part of an interval that a sample settled; `note` says how the part was found.

        Returns its joules.
        """
        device_id = device.id
        if device_id not in self._power_w:
            self._touch(device)
        _, start_s, end_s, counter_j, power_j, tdp_j, power_w, unobserved_s, _, _, curve, _, _ = part
        seconds = end_s - start_s
        energy_j = counter_j + power_j + tdp_j
        self._pay(energy_j, rates)
        is_whole = start_s >= self.phases.since_s
        phases = self.phases.now if is_whole else self.phases.split(start_s, end_s, curve)
        for phase, ratio in phases:
            if counter_j:
                self._charge(phase, device, "counter", counter_j * ratio, rates, start_s)
            if power_j:
                self._charge(phase, device, "power", power_j * ratio, rates, start_s)
            if tdp_j:
                self._charge(phase, device, "tdp", tdp_j * ratio, rates, start_s)
        if self._parts is not None:
            self._parts.append(
                (moment, device, seconds - unobserved_s, counter_j, power_j, tdp_j, phases, rates)
            )
        if not is_whole:
            refresh_s = REFRESH_S[device.component] if counter_j else 0.0
            for phase, ratio in self.phases.doubts(start_s, end_s, curve, refresh_s):
                self._doubts_j[phase] = self._doubts_j.get(phase, 0.0) + energy_j * ratio
        self.windows.add(device, part)
        self.work.add(start_s, end_s, energy_j, curve)
        self._power_w[device_id] = (
            power_w if seconds >= TOO_SHORT_S else last_power_w(self._power_w[device_id], part)
        )
        self._settled_s[device_id] = end_s
        self._peaks[device_id].add(power_w, seconds)
        if unobserved_s:
            self.lose(device_id, unobserved_s)
        if note:
            known = self._shares.get(device_id)
            if note != known:
                self._shares[device_id] = joined_note(known, note)
        return energy_j

    def spent(self, now_s: float, rates: Rates) -> Spent:
        """What the run has drawn until now; what no counter has told yet by the devices' last power."""
        settled_s = self._settled_s
        unsettled_j = sum(
            watts * min(now_s - settled_s[device_id], MAX_UNSETTLED_S)
            for device_id, watts in self._power_w.items()
            if watts is not None and device_id in settled_s
        )
        paid = self._costs.get(rates.currency)
        return Spent(
            now_s - self.start_s,
            self.work.total_j + unsettled_j,
            sum(grams for _, grams in self._charges.values()) + unsettled_j * rates.grams,
            rates.grams,
            None if paid is None else paid[0] + unsettled_j * (rates.cost or 0.0),
            rates.cost,
            rates.currency,
        )

    def pause(self, at_s: float, is_paused: bool) -> None:
        """The job stands still from `at_s` on, or goes on: its phases, its forecast and its pauses know."""
        at_s = self.span.within(at_s)
        self.phases.hold(at_s, PAUSED_PHASE if is_paused else None)
        self.pauses.change(at_s, is_paused)
        self.outlook.pause(is_paused)

    def uses(self, device_id: str) -> bool:
        """Whether it was expected to use a device, or has."""
        return device_id in self._unobserved_s

    def lose(self, device_id: str, seconds: float) -> None:
        """Note seconds of a device's energy that nobody can know."""
        self._unobserved_s[device_id] = self._unobserved_s.get(device_id, 0.0) + seconds

    def see(self, device_id: str, power_w: float | None) -> None:
        """Note the power of the run's part of a device while its energy is not settled yet."""
        if device_id in self._power_w:
            self._power_w[device_id] = power_w

    def _touch(self, device: Device) -> None:
        self._power_w[device.id] = None
        self._peaks.setdefault(device.id, PeakPower())
        self._unobserved_s.setdefault(device.id, 0.0)
        phase = self.phases.now[0][0]
        for method in device.methods[:1]:
            self._rows.setdefault((phase, device.id, method), Amounts(device.component, self._told_s))

    def _pay(self, energy_j: float, rates: Rates) -> None:
        """Note what energy was charged with, and what it cost beside carbon."""
        now = rates.intensity
        if now is not self._charged_with:
            key = Charge(now.source, now.zone, now.kind, now.basis, now.accounting, now.year)
            self._charged = self._charges.setdefault(key, [0.0, 0.0])
            self._charged_with = now
        charged = self._charged
        charged[0] += energy_j
        charged[1] += energy_j * rates.grams
        self.facility_j += energy_j * rates.pue_ratio
        if rates.litres is not None:
            self.water_l = (self.water_l or 0.0) + energy_j * rates.litres
            self.watered_j += energy_j
        if rates.cost is not None:
            paid = self._costs.setdefault(rates.currency, [0.0, 0.0])
            paid[0] += energy_j * rates.cost
            paid[1] += energy_j

    def _charge(
        self, phase: str, device: Device, method: Method, energy_j: float, rates: Rates, start_s: float
    ) -> None:
        amounts = self._rows.get((phase, device.id, method))
        if amounts is None:
            amounts = self._rows[phase, device.id, method] = Amounts(device.component, start_s)
        amounts.energy_j += energy_j
        amounts.emissions_g += energy_j * rates.grams
        amounts.emissions_low_g += energy_j * rates.low_grams
        amounts.emissions_high_g += energy_j * rates.high_grams

    def state(self, now_s: float, node: NodeTotals) -> RunState:
        now_s = self.span.within(now_s)
        found = self.meanwhile.until(node)
        duration_s = now_s - self.start_s
        self._tell_starts(now_s)
        return RunState(
            info=self.info,
            totals=tuple([amounts.total(*key) for key, amounts in self._rows.items()]),
            power_w=tuple(self._power_w.items()),
            unobserved_s=tuple(self._unobserved_s.items()),
            phases_s=self.phases.seconds(now_s),
            duration_s=duration_s,
            ended_at_s=self.ended_at_s,
            exit_code=self.exit_code,
            signal=self.signal,
            recovered_j=self.recovered_j,
            node=found.devices,
            shares=tuple(self._shares.items()),
            cpu_s=self.cpu_s,
            processes=self.processes,
            phase=max(self.phases.now, key=itemgetter(1))[0],
            work=self.work.state(self.start_s),
            ranks=self.ranks,
            notes=self.notes,
            charges=tuple(
                [
                    key._replace(energy_j=energy_j, emissions_g=grams)
                    for key, (energy_j, grams) in self._charges.items()
                ]
            ),
            costs=tuple([Cost(currency, *paid) for currency, paid in self._costs.items()]),
            water_l=self.water_l,
            watered_j=None if self.water_l is None else self.watered_j,
            facility_j=self.facility_j,
            peaks_w=tuple([(device_id, peak.peak_w) for device_id, peak in self._peaks.items()]),
            samples=found.samples,
            monitor_cpu_s=found.cpu_s,
            doubts_j=tuple(self._doubts_j.items()),
            start_s=self._counts_since_s,
            forecast=self.outlook.forecast() if self.ended_at_s is None else None,
            forecasts=self.outlook.marks,
            budgets=self.outlook.budgets(),
            gpu_time=self.gpu_clock.time(),
            pauses=self.pauses.state(now_s),
            node_meters=found.meters,
            node_charges=self.node_charge.state(),
        )

    def window(self, key: Key, now_s: float) -> dict[str, float | bool] | None:
        """What is known of one of its windows; None of one that is not kept."""
        return self.windows.figures(key, self.span.within(now_s), self._power_w)

    def _tell_starts(self, now_s: float) -> None:
        """A row that is told now for the first time was 0 when the totals were told last.

        Whoever saw them then knows by its start that it is new, whatever the devices told late.
        """
        for amounts in self._rows.values():
            if amounts.is_new:
                amounts.start_s = max(amounts.start_s or 0.0, self._told_s)
                amounts.is_new = False
        self._told_s = now_s
