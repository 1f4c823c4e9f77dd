"""The loop: at each tick reads every sensor, meters, shares, charges, and publishes one snapshot.

One thread owns everything here but `latest`, which is a reference that anybody may read.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from carbonmon.core import energy, footprint
from carbonmon.core.footprint import Overheads, Rates
from carbonmon.core.model import Device, Failure, Interval, Meter, Reading, RunState, SensorState, Snapshot
from carbonmon.core.ports import Clock, IntensityProvider, Roots, Workload
from carbonmon.monitor.device_totals import DeviceAccount
from carbonmon.monitor.guard import GuardedIntensity, GuardedSensor
from carbonmon.monitor.run_attribution import Tenants
from carbonmon.monitor.run_totals import RunAccount

log = logging.getLogger(__name__)

PUBLISH_PERIOD_S = 5.0
"""In the loop a snapshot is made when somebody asks for one, and at least this often: making one at
each tick that nobody looks at would be a quarter of the monitor's cost."""

GRID_TOLERANCE = 0.01
"""The part of an interval by which a tick may be early, by rounding or by the system's timer."""

LONG_INTERVALS = 1.5
"""An interval longer than so many of the grid's is charged with the mean of what was in force meanwhile."""

WRAP_MARGIN = 0.5
"""A counter that wraps is read at least twice in the shortest time in which it could wrap."""


EXTRA_RATE_HZ, EXTRA_BURST = 10.0, 20.0
"""How often requests may make samples between two ticks; what comes faster is split by time."""


FetchErrors = tuple[tuple[str, str, int], ...]
"""What could not be fetched: the source, the reason, how often."""

When = Literal["", "edge", "before", "after"]
"""Whether a request wants a sample, and on which side of it. An `edge`, where a run begins or ends, gets one
before it in any case, with every counter; the others one of what may be read so often, if there were not too
many."""


class Stop(Protocol):
    """What ends the loop: an alarm that it sleeps by, and that may wake it for a request."""

    def wait(self, timeout_s: float) -> bool: ...


class Sampler:
    """Drives sensors to snapshots. `tick` is the whole way of one sample and may be called by tests.

    `interval_s` is shortened where a counter could wrap twice between two ticks; `interval_note` then
    says so. Everything but `latest`, `fresh` and `post` is for the sampling thread, or for before it begins.
    """

    def __init__(
        self,
        sensors: Sequence[GuardedSensor],
        devices: Mapping[str, Device],
        unused: Sequence[SensorState],
        provider: IntensityProvider,
        clock: Clock,
        interval_s: float,
        overheads: Overheads,
        version: str,
        exporter_errors: Callable[[], tuple[tuple[str, int], ...]] = tuple,
        workload: Workload | None = None,
        retain_s: float = 0.0,
    ) -> None:
        self._sensors = sensors
        self._unused = tuple(unused)
        self._provider = GuardedIntensity(provider)
        self._fetch_errors: FetchErrors = ()
        self._clock = clock
        self.interval_s, self.interval_note = safe_interval_s(interval_s, devices)
        self._limits = energy.limits_for(self.interval_s)
        self._overheads = overheads
        self._version = version
        self._exporter_errors = exporter_errors
        self._meters: dict[str, Meter] = {}
        self.accounts = {device.id: DeviceAccount(device) for device in devices.values()}
        self._last_s: dict[str, float] = {}
        self.tenants = Tenants(workload, clock.now_s(), retain_s)
        self._samples = 0
        self._wanted = False
        self._published = threading.Event()
        self._published_s = clock.now_s()
        self._continued = False
        self._bridging: set[str] = set()
        self._resumed_s = 0.0
        self._requests: deque[tuple[Callable[[], object], When]] = deque()
        self._wake: Callable[[], object] | None = None
        self._extra = EXTRA_BURST
        self._extra_s = clock.now_s()
        self._rates = self._rates_at(clock.wall_s())
        self.latest = self._snapshot(clock.wall_s(), clock.now_s())

    def begin(self, run: RunAccount, roots: Roots | None = None) -> None:
        """Charge to a run what it causes from now on; called after a sample, which is its baseline."""
        now_s = self._clock.now_s()
        run.begin(now_s, self.accounts)
        self.tenants.add(run, roots)
        self.latest = self._snapshot(self._clock.wall_s(), now_s)

    def end(self, run_id: str, exit_code: int | None, signal: int | None) -> RunState | None:
        """Close a run; called after a sample, which is its last. It stays in the snapshots for a while."""
        now_s, wall_s = self._clock.now_s(), self._clock.wall_s()
        run = self.tenants.end(run_id, now_s, wall_s, exit_code, signal, self.accounts)
        if run is None:
            return None
        self.latest = self._snapshot(wall_s, now_s)
        return run.state(now_s, self.accounts)

    def charge_with(self, provider: IntensityProvider, overheads: Overheads) -> GuardedIntensity:
        """Take another source of intensity, PUE, WUE and price from now on; returns the old source."""
        new, old = GuardedIntensity(provider), self._provider
        new.intensity_at(self._clock.wall_s())  # if its very first question fails, the old one stays
        self._fetch_errors = _added(self._fetch_errors, old.fetch_errors())
        self._provider, self._overheads = new, overheads
        self._rates = self._rates_at(self._clock.wall_s())
        return old

    def close_provider(self) -> None:
        """Let go of the source of intensity."""
        self._provider.close()

    def resume(
        self,
        run: RunAccount,
        before: Snapshot,
        outage_s: float,
        same_boot: bool,
        roots: Roots | None = None,
    ) -> None:
        """Go on with a run that an earlier monitor left `outage_s` seconds ago; called before any sample."""
        (state,) = before.runs
        lost = self.restore(before, outage_s, same_boot)
        self.readmit(run, state, outage_s, lost, same_boot, roots)

    def restore(self, before: Snapshot, outage_s: float, same_boot: bool) -> list[str]:
        """Go on with the devices of an earlier monitor; returns those whose outage nobody can know.

        On the same boot each counter is compared with its last value, as after any silence: what it
        grew meanwhile is credited exactly and called recovered, unless a reset or a hidden wrap forbids
        it. After another boot no counter knows anything, and the outage is unobserved.
        """
        now_s = self._clock.now_s()
        meters = dict(before.meters)
        lost = []
        if same_boot:
            self.tenants.rewind(before.clock_s, self.accounts)
        for old in before.devices:
            account = self.accounts.get(old.device.id)
            if account is None:
                log.warning("%s of the run's earlier part is not here any more", old.device.id)
                if not same_boot:
                    lost.append(old.device.id)
                    continue
                # It fell silent, as a device does that is lost while we watch; its counter may come back.
                account = self.accounts[old.device.id] = DeviceAccount(old.device)
            account.restore(old)
            meter = meters.get(old.device.id)
            if same_boot and meter is not None:
                self._meters[old.device.id] = meter
                self._last_s[old.device.id] = now_s
                self._bridging.add(old.device.id)
                self.tenants.mark(account)
            else:
                account.unobserved_s += outage_s
                lost.append(old.device.id)
        self._samples = before.samples
        self._resumed_s = now_s
        self._continued = True
        return lost

    def readmit(
        self,
        run: RunAccount,
        state: RunState,
        outage_s: float,
        lost: Sequence[str],
        same_boot: bool,
        roots: Roots | None = None,
    ) -> None:
        """Go on with one run, once the devices are restored."""
        now_s, wall_s = self._clock.now_s(), self._clock.wall_s()
        run.restore(state, now_s, outage_s)
        for device_id in lost:
            run.lose(device_id, outage_s)
        run.restore_node(state.node, self.accounts)
        self.tenants.resume(run, roots, state.resume_point if same_boot else None)
        self.latest = self._snapshot(wall_s, now_s)

    def tick(self, edge: bool = False, publish: bool = True) -> None:
        """Read, meter, share, charge, publish; `edge` at the start and the end of a run."""
        clock = self._clock
        wall_s = clock.wall_s()
        offset_s = wall_s - clock.now_s()
        said: dict[str, tuple[Reading | Failure, float]] = {}
        for sensor in self._sensors:
            sensor.read(clock, edge, said)
        rates = self._rates = self._rates_at(wall_s)
        tenants = self.tenants
        tenants.look(clock.now_s())
        meters = self._meters
        for device_id, account in self.accounts.items():
            entry = said.get(device_id)
            if entry is None:
                reading: Reading | Failure = Failure(device_id, "silent")
                at_s = clock.now_s()
            else:
                reading, at_s = entry
            meter = meters.get(device_id)
            if meter is None:
                meters[device_id] = energy.start(account.device, reading, at_s)
                self._last_s[device_id] = at_s
                tenants.mark(account)
                continue
            meters[device_id], interval = energy.advance(meter, account.device, reading, at_s, self._limits)
            if isinstance(reading, Failure):
                reading = Reading(device_id)
            account.see(reading.utilization_ratio, at_s - self._last_s[device_id])
            self._last_s[device_id] = at_s
            if interval is not None:
                if reading.shape is not None:
                    shape = energy.curve(reading.shape, offset_s, interval.start_s, interval.end_s)
                    interval = interval._replace(curve=shape)
                self._book(account, interval, rates, offset_s)
            else:
                account.power_w = reading.power_w
                tenants.see(account, reading.power_w)
        self._samples += 1
        if publish:
            self._wanted = False
            self._published_s = clock.now_s()
            self.latest = self._snapshot(wall_s, self._published_s)
            self._published.set()

    def post(self, request: Callable[[], object], sample: When = "") -> None:
        """Have something done by the sampling thread, soon; for any thread.

        `sample`: one is taken right before it, or right after it, so that what was drawn until then is
        settled. Samples of many requests at once are one.
        """
        self._requests.append((request, sample))
        if self._wake is not None:
            self._wake()

    def fresh(self, timeout_s: float) -> Snapshot:
        """Ask for a snapshot of the next tick, and wait for it a while; for the thread that writes."""
        self._published.clear()
        self._wanted = True
        self._published.wait(timeout_s)
        return self.latest

    def finish(self, exit_code: int | None, signal: int | None, hangs: bool = False) -> Snapshot:
        """Settle what is held, close the runs, and publish the final snapshot; the loop has ended.

        `hangs`: it has not, a driver's call does not return: then nothing of the hardware is asked.
        """
        now_s = self._clock.now_s()
        wall_s = self._clock.wall_s()
        if hangs:
            self.tenants.assume(now_s)
        else:
            self.tenants.look(now_s)
        for device_id, meter in self._meters.items():
            account = self.accounts[device_id]
            last_s = self._last_s[device_id]
            # After a sample just now nothing is missing; if sampling hung, the time since then is lost.
            end_s = last_s if now_s - last_s < 1.5 * self.interval_s else now_s
            interval = energy.finish(meter, account.device, end_s)
            if interval is not None:
                self._book(account, interval, self._rates, wall_s - now_s)
        for run_id in list(self.tenants.runs):
            self.tenants.end(run_id, now_s, wall_s, exit_code, signal, self.accounts)
        self.latest = self._snapshot(wall_s, now_s)
        return self.latest

    def run_until(self, stop: Stop, wake: Callable[[], object] | None = None) -> None:
        """Tick on a fixed grid until `stop` is set, then once more. Late ticks are skipped, not caught up.

        `wake` ends a wait of `stop` early, for requests.
        """
        clock, interval_s = self._clock, self.interval_s
        self._wake = wake
        origin_s = clock.now_s()
        while True:
            now_s = clock.now_s()
            # A tick may come a hair before its own place on the grid; it is not to be taken twice.
            passed = math.floor((now_s - origin_s) / interval_s + GRID_TOLERANCE)
            next_s = origin_s + interval_s * (passed + 1)
            stopped = stop.wait(next_s - now_s)
            if self._requests:
                self._obey()
            # A request's bell may also ring late, when it was carried out already.
            if not stopped and clock.now_s() < next_s - GRID_TOLERANCE * interval_s:
                continue
            stale = clock.now_s() - self._published_s >= PUBLISH_PERIOD_S
            self.tick(edge=stopped, publish=stopped or self._wanted or stale)
            if stopped:
                self._obey(sample=False)
                return

    def _obey(self, sample: bool = True) -> None:
        """Do what was asked for, with a sample where somebody wants one and there were not too many."""
        requests = [self._requests.popleft() for _ in range(len(self._requests))]
        for request, when in requests:
            if when == "after":
                _carry_out(request)
        if sample and any(when for _, when in requests):
            now_s = self._clock.now_s()
            self._extra = min(EXTRA_BURST, self._extra + (now_s - self._extra_s) * EXTRA_RATE_HZ)
            self._extra_s = now_s
            edge = any(when == "edge" for _, when in requests)
            if edge or self._extra >= 1.0:
                self._extra = max(0.0, self._extra - 1.0)
                self.tick(edge=edge, publish=False)
        for request, when in requests:
            if when != "after":
                _carry_out(request)

    def _rates_at(self, wall_s: float) -> Rates:
        """What a joule costs at a Unix time."""
        overheads = self._overheads
        price = None if overheads.tariff is None else overheads.tariff.at(wall_s)
        return footprint.rates(self._provider.intensity_at(wall_s), overheads, price)

    def _rates_over(self, start_s: float, end_s: float) -> Rates:
        """What a joule costs in the mean over a stretch of Unix time."""
        overheads = self._overheads
        price = None if overheads.tariff is None else overheads.tariff.over(start_s, end_s)
        return footprint.rates(self._provider.mean_at(start_s, end_s), overheads, price)

    def _book(self, account: DeviceAccount, interval: Interval, rates: Rates, offset_s: float) -> None:
        """Charge an interval; `offset_s` leads from the injected clock to Unix time."""
        if interval.end_s - interval.start_s > LONG_INTERVALS * self.interval_s:
            rates = self._rates_over(interval.start_s + offset_s, interval.end_s + offset_s)
        device_id = account.device.id
        bridged = device_id in self._bridging and self._meters[device_id].base_s >= self._resumed_s
        if bridged:
            # The counter has spoken for the first time since the outage, perhaps after a silence of its own.
            self._bridging.remove(device_id)
        self.tenants.book(account, interval, rates, bridged)
        if self.tenants.runs and (interval.resets or interval.jumps):
            kind = "was reset" if interval.resets else "jumped"
            log.warning("the counter of %s %s: its difference is not counted", device_id, kind)

    def _snapshot(self, wall_s: float, now_s: float) -> Snapshot:
        overheads = self._overheads
        tariff = overheads.tariff
        return Snapshot(
            wall_s,
            self._version,
            self.interval_s,
            self._samples,
            self.tenants.states(now_s, self.accounts),
            tuple([account.state() for account in self.accounts.values()]),
            tuple([sensor.state() for sensor in self._sensors]) + self._unused,
            self._rates.intensity,
            overheads.pue_ratio,
            self._exporter_errors(),
            now_s,
            tuple(self._meters.items()),
            self._continued,
            overheads.pue_source,
            overheads.wue_l_per_kwh,
            overheads.wue_source,
            None if tariff is None else tariff.at(wall_s),
            "" if tariff is None else tariff.source,
            "" if tariff is None else tariff.currency,
            _added(self._fetch_errors, self._provider.fetch_errors()),
        )


def _added(first: FetchErrors, second: FetchErrors) -> FetchErrors:
    """The errors of two sources one after the other: a counter never steps back."""
    if not first:
        return second
    counts = {(source, reason): count for source, reason, count in first}
    for source, reason, count in second:
        counts[source, reason] = counts.get((source, reason), 0) + count
    return tuple([(*key, count) for key, count in counts.items()])


def _carry_out(request: Callable[[], object]) -> None:
    try:
        request()
    except Exception:  # a fault of ours in one run's request must not end the sampling of all
        log.exception("a request was not carried out")


def safe_interval_s(interval_s: float, devices: Mapping[str, Device]) -> tuple[float, str]:
    """The interval (s) at which no counter can wrap unseen, and a note if it is shorter than asked for."""
    note = ""
    for device in devices.values():
        if device.counter_range_uj and device.max_power_w:
            wrap_s = device.counter_range_uj / energy.UJ_PER_J / device.max_power_w * WRAP_MARGIN
            if wrap_s < interval_s:
                interval_s = wrap_s
                note = f"sampling every {wrap_s:.3g} s: the counter of {device.id} could wrap unseen"
    return interval_s, note
