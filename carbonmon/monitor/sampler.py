"""The way of one sample: read every sensor, meter, share, charge, publish. The tick, and nothing else.

A tick of a monitor at rest costs what it touches, because nothing of it is in a cache any more. So a plain
tick reads (`sample`), and what was read is metered, shared and charged a few ticks at a time (`settle`): in
the same order, with the times of each, before anybody sees or changes a total.

One thread owns everything here but `snapshots.latest`, which is a reference that anybody may read.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from carbonmon.core import energy
from carbonmon.core.footprint import Rates
from carbonmon.core.model import Device, Failure, Interval, Meter, NodeUsage, Reading, SensorState, Snapshot
from carbonmon.core.plausibility import is_plain
from carbonmon.core.ports import Clock, Roots
from carbonmon.core.records import NamedTuple
from carbonmon.monitor.clock import same_moment
from carbonmon.monitor.device_account import DeviceAccount
from carbonmon.monitor.gate import Gate
from carbonmon.monitor.grid_rates import GridRates
from carbonmon.monitor.guard import Guard, GuardedSensor
from carbonmon.monitor.meanwhile import NodeTotals
from carbonmon.monitor.node_charge import charge_runs
from carbonmon.monitor.node_meter_reader import NodeMeterReader
from carbonmon.monitor.node_meters import NodeMeters
from carbonmon.monitor.relief import Relief
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.run_lifetimes import RunLifetimes
from carbonmon.monitor.safe_interval import safe_interval_s
from carbonmon.monitor.snapshots import Snapshots
from carbonmon.runs.series_rows import Moment

log = logging.getLogger(__name__)

LONG_INTERVALS = 1.5
"""An interval longer than so many of the grid's is charged with the mean of what was in force meanwhile."""

LONG_NODE_S = 60.0
"""The same for a meter of the whole machine, which answers every few seconds."""

MOST_UNSETTLED = 16
"""After so many samples they are settled, whatever else happens: each holds a reading of every device."""


class _Sample(NamedTuple):
    """What one tick read, at `wall_s` (Unix time) and with which number; `offset_s` leads from the injected
    clock to Unix time. `said` holds readings with their times by device, `usage` who used the node until
    `used_s`; `silent_s` is the time for a device that said nothing."""

    wall_s: float
    offset_s: float
    number: int
    said: Mapping[str, tuple[Reading | Failure, float]]
    usage: NodeUsage | None
    used_s: float
    silent_s: float


class Sampler:
    """Drives sensors to snapshots. `tick` is the whole way of one sample, `sample` the first part of it.

    `interval_s` is shortened where a counter could wrap twice between two ticks; `interval_note` then
    says so. `guards` are those whose errors the snapshots show. For the sampling thread, or for before it
    begins. `wants_shape`, for any thread: the next tick also asks when the energy was drawn that no counter
    has told yet. `sampled_s`, for any thread, is when the newest sample was taken. `note_changes` is called
    before samples are settled: a phase that began while a slow driver was read has its part of that time, and
    a run that ended then has no more.
    """

    def __init__(
        self,
        sensors: Sequence[GuardedSensor],
        devices: Mapping[str, Device],
        unused: Sequence[SensorState],
        rates: GridRates,
        runs: RunLifetimes,
        clock: Clock,
        interval_s: float,
        version: str,
        guards: Sequence[Guard] = (),
        node_meters: Sequence[NodeMeterReader] = (),
        charges_node: bool = False,
    ) -> None:
        self._sensors = sensors
        self._unused = tuple(unused)
        self.rates = rates
        self.runs = runs
        self.clock = clock
        self.interval_s, self.interval_note = safe_interval_s(interval_s, devices)
        self._limits = energy.limits_for(self.interval_s)
        self._version = version
        self._guards = guards
        self.accounts = {device.id: DeviceAccount(device) for device in devices.values()}
        charge = self._charge_node if charges_node else None
        self.node_meters = NodeMeters(
            *(node_meters, self._devices_j, clock.now_s(), self.interval_s, runs.meter_grew, charge)
        )
        self._gate = Gate()
        self.wants_shape = self._asks_shape = self._asked_shape = False
        self.sampled_s = -math.inf
        self._edge_s: float | None = None
        self._samples = 0
        self._unsettled: deque[_Sample] = deque()
        self.note_changes: Callable[[], object] | None = None
        self._continued = False
        self._start_s: float | None = clock.now_s()
        self._resumed_s = 0.0
        self._bridging: set[str] = set()
        self.snapshots = Snapshots(clock, self._snapshot(clock.wall_s(), clock.now_s()))

    @property
    def may_hang(self) -> bool:
        """Whether a driver may hang in a sample."""
        return any(sensor.may_hang for sensor in self._sensors)

    def read_in_place(self, relief: Relief) -> None:
        """Read drivers that may hang in the sampling thread, which `relief` stands by for. At the start."""
        for sensor in self._sensors:
            sensor.read_in_place(relief)

    @property
    def latest(self) -> Snapshot:
        """The newest snapshot; for any thread."""
        return self.snapshots.latest

    def node_totals(self) -> NodeTotals:
        """What the devices and this process did until now; a run's figures are differences of two of them."""
        self.settle()
        devices = {device_id: account.total() for device_id, account in self.accounts.items()}
        return NodeTotals(devices, self._samples, time.process_time(), self.node_meters.totals())

    def _devices_j(self) -> float:
        """What all devices drew until now."""
        return sum(
            [account.counter_j + account.power_j + account.tdp_j for account in self.accounts.values()]
        )

    def begin(self, run: RunAccount, roots: Roots | None = None) -> None:
        """Charge to a run what it causes from now on; called after a sample, which is its baseline.

        It begins when the last device of that sample was read: so nothing of it is unread, and as little as
        can be of an interval is split.
        """
        self.settle()
        now_s, wall_s = same_moment(self.clock)
        start_s = now_s if self._edge_s is None else self._edge_s
        self.node_meters.settle(start_s)
        run.info = run.info._replace(started_at_s=wall_s - (now_s - start_s))
        self.runs.begin(run, roots, start_s, self.node_totals())
        self.show()

    def end(self, run_id: str, exit_code: int | None, signal: int | None) -> None:
        """End a run; called after a sample, which is its last. It stays in the snapshots for a while."""
        self.settle()
        now_s, wall_s = same_moment(self.clock)
        self.node_meters.settle(now_s)
        self._end(run_id, now_s, wall_s, exit_code, signal)
        self.show()

    def _end(
        self,
        run_id: str,
        now_s: float,
        wall_s: float,
        exit_code: int | None,
        signal: int | None,
    ) -> None:
        """End a run now, or when it was stopped; what nobody has read of it is unobserved."""
        attribution = self.runs.attribution
        attribution.stop(run_id, now_s, wall_s)
        run = self.runs.living.get(run_id)
        if run is not None:
            attribution.lose_rest(run, self.accounts.values())
            self.runs.end(run_id, now_s, wall_s, exit_code, signal, self.node_totals())

    def go_on_from(self, account: DeviceAccount, meter: Meter) -> None:
        """Compare a device's first reading with the last one of an earlier monitor."""
        account.meter = meter
        self._resumed_s = account.read_s = self.clock.now_s()
        self._bridging.add(account.device.id)
        self.runs.attribution.settle(account.device.id, meter.settled_s)

    def count_on_from(self, samples: int, start_s: float | None) -> None:
        """The totals began under an earlier monitor at `start_s`, which took so many samples."""
        self._samples = samples
        self._start_s = start_s
        self._continued = True

    def tick(self, edge: bool = False, publish: bool = True) -> None:
        """Read, meter, share, charge, publish; `edge` at the start and the end of a run."""
        self.sample(edge)
        self.settle()
        if publish:
            self.show()

    def sample(self, edge: bool = False) -> None:
        """Read everything, to be settled later: soon, but for those who wait for each sample."""
        self._edge_s = None
        clock = self.clock
        now_s, wall_s = same_moment(clock)
        offset_s = wall_s - now_s
        said: dict[str, tuple[Reading | Failure, float]] = {}
        if self.wants_shape:
            self.wants_shape, self._asks_shape = False, True
        if self._asks_shape is not self._asked_shape:
            for sensor in self._sensors:
                sensor.want_shape(self._asks_shape)
            self._asked_shape = self._asks_shape
        for sensor in self._sensors:
            sensor.read(clock, edge, said)  # may end this thread (`Relieved`): the next one asks all again
        self._asks_shape = False
        used_s = clock.now_s()
        self._edge_s = used_s if edge else None  # when the run may begin of which this is the baseline
        usage = self.runs.attribution.read(used_s)
        self.sampled_s = silent_s = clock.now_s()
        self._unsettled.append(_Sample(wall_s, offset_s, self._samples, said, usage, used_s, silent_s))
        self._samples += 1
        if self.node_meters or len(self._unsettled) >= MOST_UNSETTLED or self._is_watched():
            self.settle()

    def settle(self) -> None:
        """Meter, share and charge what was read and is not settled yet, in the order of the samples."""
        if self._unsettled and self.note_changes is not None:
            self.note_changes()
        try:
            while self._unsettled:
                self._settle(self._unsettled.popleft())
        except Exception:  # our own bug ends the sampling; whoever sums up the run must not meet it again
            self._unsettled.clear()
            raise

    def _without_former_runs(self, account: DeviceAccount, meter: Meter) -> Meter:
        """The meter without what the fallback methods had credited too much, if nobody lives who had that.

        Else those who began later would pay for it.
        """
        if meter.base_s < meter.settled_s:  # the counter is away
            account.ahead_until_s = meter.settled_s
            return meter
        began_s = min((run.span.from_s for run in self.runs.living.values()), default=-math.inf)
        return meter if began_s < account.ahead_until_s else meter._replace(ahead_j=0.0)

    def _is_watched(self) -> bool:
        """Whether a run's budgets or its forecast look at each sample."""
        return any(run.outlook.is_wanted for run in self.runs.living.values())

    def _settle(self, sample: _Sample) -> None:
        wall_s, offset_s, number, said, usage, used_s, silent_s = sample
        moment = Moment(number, wall_s)
        rates = self.rates.look(wall_s)
        attribution = self.runs.attribution
        attribution.note(usage, used_s)
        gate, limits = self._gate, self._limits
        for device_id, account in self.accounts.items():
            reading, at_s = said.get(device_id) or (Failure(device_id, "silent"), silent_s)
            if type(reading) is Reading and (gate.rejecting or not is_plain(account.device, reading)):
                reading = gate.passed(account, reading)
            meter = account.meter
            if meter is None:
                account.meter = energy.start(account.device, reading, at_s)
                account.read_s = at_s
                attribution.settle_first(account, at_s)
                continue
            if meter.ahead_j:  # hardly ever
                meter = self._without_former_runs(account, meter)
            if at_s < account.read_s:  # said in time, and heard after a tick that waited no longer
                at_s = account.read_s
            account.meter, interval = energy.advance(meter, account.device, reading, at_s, limits)
            if isinstance(reading, Failure):
                reading = Reading(device_id)
            account.see(reading.utilization_ratio, at_s)
            if interval is not None:
                if reading.shape is not None:
                    shape = energy.curve(reading.shape, offset_s, interval.start_s, interval.end_s)
                    interval = interval._replace(curve=shape)
                self._charge(account, interval, rates, moment, offset_s, meter.open_s)
            else:
                account.power_w = reading.power_w
                shape = None
                if reading.shape is not None:
                    shape = energy.curve(reading.shape, offset_s, account.meter.settled_s, at_s)
                attribution.see(account, reading.power_w, shape)
        if self.node_meters:
            self.node_meters.look(self.clock)
        self.runs.look_ahead(silent_s, wall_s, rates)

    def show(self) -> None:
        """Replace the newest snapshot, after a sample or between two: a run has begun or ended."""
        self.settle()
        now_s, wall_s = self.clock.now_s(), self.clock.wall_s()
        self.runs.drop_old(now_s)
        self.snapshots.publish(self._snapshot(wall_s, now_s))

    def finish(self, exit_code: int | None, signal: int | None, hangs: bool = False) -> Snapshot:
        """Settle what is held, end the runs, and show the final snapshot; the loop has ended.

        `hangs`: it has not, a driver's call does not return: then nothing of the hardware is asked.
        """
        self.settle()
        now_s, wall_s = same_moment(self.clock)
        if hangs:
            self.runs.attribution.assume(now_s)
        else:
            self.runs.attribution.look(now_s)
        moment = Moment(self._samples - 1, wall_s)
        for account in self.accounts.values():
            if account.meter is None:
                continue
            # After a sample just now nothing is missing; if sampling hung, the time since then is lost.
            end_s = account.read_s if now_s - account.read_s < 1.5 * self.interval_s else now_s
            interval = energy.finish(account.meter, account.device, end_s)
            if interval is not None:
                open_s = account.meter.open_s
                self._charge(account, interval, self.rates.now, moment, wall_s - now_s, open_s)
        self.node_meters.finish(now_s)
        for run_id in list(self.runs.living):
            self._end(run_id, now_s, wall_s, exit_code, signal)
        self.snapshots.latest = self._snapshot(wall_s, now_s)
        return self.latest

    def _charge(
        self,
        account: DeviceAccount,
        interval: Interval,
        rates: Rates,
        moment: Moment,
        offset_s: float,
        open_s: float,
    ) -> None:
        """Charge an interval that a sample settled; `offset_s` leads from the injected clock to Unix time.

        `open_s` are the seconds of before it of which the counter had not told.
        """
        start_s, end_s = interval.start_s, interval.end_s
        if end_s - start_s > LONG_INTERVALS * self.interval_s:
            rates = self.rates.over(start_s + offset_s, end_s + offset_s)
        bridged = self._bridges(account, interval) if self._bridging else False
        is_odd = self.runs.attribution.charge(account, interval, rates, moment, bridged, open_s)
        if is_odd and self.runs.living:
            log.warning("the counter of %s %s", account.device.id, _anomaly_text(interval))

    def _bridges(self, account: DeviceAccount, interval: Interval) -> bool:
        """Whether an interval spans the outage between an earlier monitor and this one.

        The counter has spoken for the first time since then, perhaps after a silence of its own.
        """
        device_id, meter = account.device.id, account.meter
        if device_id not in self._bridging or meter is None or meter.base_s < self._resumed_s:
            return False
        self._bridging.remove(device_id)
        return not (interval.resets or interval.jumps)

    def _charge_node(
        self, meter: str, energy_j: float, devices_j: float, start_s: float, end_s: float
    ) -> float:
        """Charge the runs with what a meter of the whole machine measured; returns what they have of it."""
        rates = self.rates.now
        if end_s - start_s > LONG_NODE_S:
            offset_s = self.clock.wall_s() - self.clock.now_s()
            rates = self.rates.over(start_s + offset_s, end_s + offset_s)
        return charge_runs(self.runs.living.values(), meter, energy_j, devices_j, rates)

    def _snapshot(self, wall_s: float, now_s: float) -> Snapshot:
        overheads = self.rates.overheads
        tariff = overheads.tariff
        return Snapshot(
            at_s=wall_s,
            version=self._version,
            interval_s=self.interval_s,
            samples=self._samples,
            runs=self.runs.states(now_s, self.node_totals()),
            devices=tuple([account.state() for account in self.accounts.values()]),
            sensors=tuple([sensor.state() for sensor in self._sensors])
            + self.node_meters.sources()
            + self._unused,
            intensity=self.rates.now.intensity,
            pue_ratio=overheads.pue_ratio,
            exporter_errors=tuple([(guard.name, guard.errors) for guard in self._guards]),
            clock_s=now_s,
            meters=tuple(
                [(each.device.id, each.meter) for each in self.accounts.values() if each.meter is not None]
            )
            + self.node_meters.meters(),
            continued=self._continued,
            pue_source=overheads.pue_source,
            wue_l_per_kwh=overheads.wue_l_per_kwh,
            wue_source=overheads.wue_source,
            price_per_kwh=None if tariff is None else tariff.at(wall_s),
            price_source="" if tariff is None else tariff.source,
            currency="" if tariff is None else tariff.currency,
            fetch_errors=self.rates.fetch_errors(),
            start_s=self._start_s,
            node_meters=self.node_meters.states(),
        )


def _anomaly_text(interval: Interval) -> str:
    if interval.resets:
        return "was reset: its difference is not counted"
    if interval.stuck:
        return "stands still while the device works: the next method stands in"
    if interval.step_backs:
        return "stepped back for a moment: what it said then is not counted"
    return "jumped: its difference is not counted"
