"""The loop: at each tick reads every sensor, meters, shares, charges, and publishes one snapshot.

One thread owns everything here but `latest`, which is a reference that anybody may read.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from carbonmon import energy, footprint, sharing
from carbonmon.guard import GuardedSensor
from carbonmon.ledger import DeviceAccount, RunAccount
from carbonmon.model import Device, Failure, Interval, Meter, Reading, SensorState, Snapshot
from carbonmon.ports import Clock, IntensityProvider

log = logging.getLogger(__name__)

PUBLISH_PERIOD_S = 5.0
"""In the loop a snapshot is made when somebody asks for one, and at least this often: making one at
each tick that nobody looks at would be a quarter of the monitor's cost."""

GRID_TOLERANCE = 0.01
"""The part of an interval by which a tick may be early, by rounding or by the system's timer."""

WRAP_MARGIN = 0.5
"""A counter that wraps is read at least twice in the shortest time in which it could wrap."""


class Stop(Protocol):
    """What ends the loop: an alarm that it sleeps by."""

    def wait(self, timeout_s: float) -> bool: ...


class Sampler:
    """Drives sensors to snapshots. `tick` is the whole way of one sample and may be called by tests.

    `interval_s` is shortened where a counter could wrap twice between two ticks; `interval_note` then
    says so.
    """

    def __init__(
        self,
        sensors: Sequence[GuardedSensor],
        devices: Mapping[str, Device],
        unused: Sequence[SensorState],
        provider: IntensityProvider,
        clock: Clock,
        interval_s: float,
        pue_ratio: float,
        version: str,
        exporter_errors: Callable[[], tuple[tuple[str, int], ...]] = tuple,
    ) -> None:
        self._sensors = sensors
        self._unused = tuple(unused)
        self._provider = provider
        self._clock = clock
        self.interval_s, self.interval_note = safe_interval_s(interval_s, devices)
        self._limits = energy.limits_for(self.interval_s)
        self._pue_ratio = pue_ratio
        self._version = version
        self._exporter_errors = exporter_errors
        self._meters: dict[str, Meter] = {}
        self._accounts = {device.id: DeviceAccount(device) for device in devices.values()}
        self._last_s: dict[str, float] = {}
        self._run: RunAccount | None = None
        self._run_start_s = 0.0
        self._samples = 0
        self._wanted = False
        self._published = threading.Event()
        self._published_s = clock.now_s()
        self._continued = False
        self._bridging: set[str] = set()
        self._resumed_s = 0.0
        self._intensity = provider.intensity_at(clock.wall_s())
        self.latest = self._snapshot(clock.wall_s(), clock.now_s())

    def begin(self, run: RunAccount) -> None:
        """Charge what is drawn from now on to a run; called before the loop, after a baseline."""
        self._run = run
        self._run_start_s = self._clock.now_s()
        self.latest = self._snapshot(self._clock.wall_s(), self._run_start_s)

    def resume(self, run: RunAccount, before: Snapshot, outage_s: float, same_boot: bool) -> None:
        """Go on with a run that an earlier monitor left `outage_s` seconds ago; called before any sample.

        On the same boot each counter is compared with its last value, as after any silence: what it
        grew meanwhile is credited exactly and called recovered, unless a reset or a hidden wrap forbids
        it. After another boot no counter knows anything, and the outage is unobserved.
        """
        (state,) = before.runs
        run.restore(state)
        meters = dict(before.meters)
        for old in before.devices:
            account = self._accounts.get(old.device.id)
            if account is None:
                log.warning("%s of the run's earlier part is not here any more", old.device.id)
                if not same_boot:
                    run.lose(old.device.id, outage_s)
                    continue
                # It fell silent, as a device does that is lost while we watch; its counter may come back.
                account = self._accounts[old.device.id] = DeviceAccount(old.device)
            account.restore(old)
            meter = meters.get(old.device.id)
            if same_boot and meter is not None:
                self._meters[old.device.id] = meter
                self._last_s[old.device.id] = self._clock.now_s()
                self._bridging.add(old.device.id)
            else:
                account.unobserved_s += outage_s
                run.lose(old.device.id, outage_s)
        self._samples = before.samples
        self._resumed_s = self._clock.now_s()
        self._continued = True
        self._run = run
        self._run_start_s = self._clock.now_s() - outage_s - state.duration_s
        self.latest = self._snapshot(self._clock.wall_s(), self._clock.now_s())

    def tick(self, edge: bool = False, publish: bool = True) -> None:
        """Read, meter, share, charge, publish; `edge` at the start and the end of a run."""
        clock = self._clock
        wall_s = clock.wall_s()
        said: dict[str, tuple[Reading | Failure, float]] = {}
        for sensor in self._sensors:
            sensor.read(clock, edge, said)
        intensity = self._intensity = self._provider.intensity_at(wall_s)
        grams_per_j = footprint.grams_per_joule(intensity, self._pue_ratio)
        meters = self._meters
        for device_id, account in self._accounts.items():
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
                continue
            meters[device_id], interval = energy.advance(meter, account.device, reading, at_s, self._limits)
            if isinstance(reading, Failure):
                reading = Reading(device_id)
            account.see(reading.utilization_ratio, at_s - self._last_s[device_id])
            self._last_s[device_id] = at_s
            if interval is not None:
                self._book(account, interval, grams_per_j)
            else:
                account.power_w = reading.power_w
                if self._run is not None:
                    self._run.see(account.device, reading.power_w)
        self._samples += 1
        if publish:
            self._wanted = False
            self._published_s = clock.now_s()
            self.latest = self._snapshot(wall_s, self._published_s)
            self._published.set()

    def fresh(self, timeout_s: float) -> Snapshot:
        """Ask for a snapshot of the next tick, and wait for it a while; for the thread that writes."""
        self._published.clear()
        self._wanted = True
        self._published.wait(timeout_s)
        return self.latest

    def finish(self, exit_code: int | None, signal: int | None) -> Snapshot:
        """Settle what is held, close the run, and publish the final snapshot; the loop has ended."""
        now_s = self._clock.now_s()
        grams_per_j = footprint.grams_per_joule(self._intensity, self._pue_ratio)
        for device_id, meter in self._meters.items():
            account = self._accounts[device_id]
            last_s = self._last_s[device_id]
            # After a sample just now nothing is missing; if sampling hung, the time since then is lost.
            end_s = last_s if now_s - last_s < 1.5 * self.interval_s else now_s
            interval = energy.finish(meter, account.device, end_s)
            if interval is not None:
                self._book(account, interval, grams_per_j)
        wall_s = self._clock.wall_s()
        if self._run is not None:
            self._run.ended_at_s = max(wall_s, self._run.info.started_at_s)
            self._run.exit_code, self._run.signal = exit_code, signal
        self.latest = self._snapshot(wall_s, now_s)
        return self.latest

    def run_until(self, stop: Stop) -> None:
        """Tick on a fixed grid until `stop` is set, then once more. Late ticks are skipped, not caught up."""
        clock, interval_s = self._clock, self.interval_s
        origin_s = clock.now_s()
        while True:
            now_s = clock.now_s()
            # A tick may come a hair before its own place on the grid; it is not to be taken twice.
            passed = math.floor((now_s - origin_s) / interval_s + GRID_TOLERANCE)
            next_s = origin_s + interval_s * (passed + 1)
            stopped = stop.wait(next_s - now_s)
            stale = clock.now_s() - self._published_s >= PUBLISH_PERIOD_S
            self.tick(edge=stopped, publish=stopped or self._wanted or stale)
            if stopped:
                return

    def _book(
        self, account: DeviceAccount, interval: Interval, grams_per_j: tuple[float, float, float]
    ) -> None:
        run = self._run
        if run is None:
            account.add(interval, 0.0)
            return
        part = sharing.attribute(interval, account.device)
        account.add(interval, part.counter_j + part.power_j + part.tdp_j)
        run.add(account.device, part, grams_per_j)
        device_id = account.device.id
        if device_id in self._bridging and self._meters[device_id].base_s >= self._resumed_s:
            # The counter has spoken for the first time since the outage, perhaps after a silence of its own.
            self._bridging.remove(device_id)
            run.recovered_j += part.counter_j
        if interval.resets or interval.jumps:
            kind = "was reset" if interval.resets else "jumped"
            log.warning("the counter of %s %s: its difference is not counted", account.device.id, kind)

    def _snapshot(self, wall_s: float, now_s: float) -> Snapshot:
        run = self._run
        return Snapshot(
            wall_s,
            self._version,
            self.interval_s,
            self._samples,
            () if run is None else (run.state(now_s - self._run_start_s),),
            tuple([account.state() for account in self._accounts.values()]),
            tuple([sensor.state() for sensor in self._sensors]) + self._unused,
            self._intensity,
            self._pue_ratio,
            self._exporter_errors(),
            now_s,
            tuple(self._meters.items()),
            self._continued,
        )


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
