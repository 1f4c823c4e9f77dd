"""Who is charged for what a device drew: the living runs and their shares. Owned by the sampling thread.

Without a workload nobody can tell who uses the node: then there is one run, which owns it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping

from carbonmon.core import attribution
from carbonmon.core.attribution import Share, Sharing, Tally
from carbonmon.core.footprint import Rates
from carbonmon.core.idle_power import ALL, dynamic_part, is_idle, observe
from carbonmon.core.model import Curve, IdlePolicy, Interval, NodeUsage, ResumePoint, Usage
from carbonmon.core.ports import Roots, Workload
from carbonmon.monitor.device_account import DeviceAccount
from carbonmon.monitor.guard import GuardedWorkload
from carbonmon.monitor.late_energy import LateEnergy
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.run_span import LEAST_UNREAD_S
from carbonmon.runs.series_rows import Moment

WINDOW_S = 0.25
"""CPU time is compared over at least so long: the kernel tells the node's in steps of 10 ms for each kind."""


class RunAttribution:
    """The living runs by id, and running sums of who used what, from which their shares are computed."""

    def __init__(self, workload: Workload | None, now_s: float) -> None:
        self.runs: dict[str, RunAccount] = {}
        self._policies: dict[str, IdlePolicy] = {}
        self._leaves_idle = False
        self._workload = None if workload is None else GuardedWorkload(workload)
        self._usage = NodeUsage(0.0, 0.0, {})
        self._tally = Tally(now_s)
        self._recent: deque[Tally] = deque([self._tally])
        self._began_s = now_s
        self._settled: dict[str, tuple[float, Tally]] = {}
        self._begun: dict[str, Tally] = {}
        self._newest_begin_s = -math.inf
        self._stopped: set[str] = set()
        self._resumed: set[str] = set()
        self._outage_began: Tally | None = None
        self._sharings: dict[int, Sharing] = {}

    def add(self, run: RunAccount, roots: Roots | None, since: ResumePoint | None = None) -> None:
        """Charge to a run what it causes from now on, or since an earlier monitor looked last."""
        run_id = run.info.id
        self.runs[run_id] = run
        oldest_s = min((at_s for at_s, _ in self._settled.values()), default=-math.inf)
        self._begun = {
            each: made for each, made in self._begun.items() if self.runs[each].span.from_s > oldest_s
        }
        self._begun[run_id] = self._tally
        self._newest_begin_s = max(self._newest_begin_s, run.span.from_s)
        self._policies[run_id] = run.info.idle_policy
        self._leaves_idle = "none" in self._policies.values()
        if self._workload is not None:
            self._workload.add(run_id, roots or Roots(), since)

    def rewind(self, at_s: float, device_ids: Iterable[str]) -> None:
        """Go back to the moment at which an earlier monitor ended; before the first look."""
        self._outage_began = self._tally = Tally(at_s)
        self._recent = deque([self._tally])
        self._sharings = {}
        self._settled = dict.fromkeys(device_ids, (at_s, self._tally))

    def resume(self, run: RunAccount, roots: Roots | None, since: ResumePoint | None) -> None:
        """Go on with a run of an earlier monitor; what counters bridge is recovered.

        The GPUs that it holds now it held meanwhile. Without `since` its CPU time is not known.
        """
        self.add(run, roots, since)
        self._resumed.add(run.info.id)
        if since is not None:
            self._outage_began = None

    def stop(self, run_id: str, at_s: float, wall_s: float) -> None:
        """A run's time ends at a moment; it is charged until then when its devices are read next."""
        run = self.runs.get(run_id)
        if run is not None:
            run.stop(at_s, wall_s)
            self._stopped.add(run_id)

    def remove(self, run_id: str) -> RunAccount | None:
        """Charge nothing more to a run; None if there is no such one."""
        run = self.runs.pop(run_id, None)
        if run is not None:
            del self._policies[run_id]
            self._begun.pop(run_id, None)
            self._stopped.discard(run_id)
            self._leaves_idle = "none" in self._policies.values()
            if self._workload is not None:
                self._workload.remove(run_id)
        return run

    def resume_points(self) -> Mapping[str, ResumePoint]:
        """Where each living run's processes stand, for a monitor that may have to go on with it."""
        return {} if self._workload is None else self._workload.resume_points()

    def look(self, now_s: float) -> None:
        """Note who used what until now."""
        self.note(self.read(now_s), now_s)

    def read(self, now_s: float) -> NodeUsage | None:
        """Who used what since the reading before, to be noted; None if that cannot be told. Once a tick."""
        return None if self._workload is None else self._workload.read(now_s)

    def note(self, usage: NodeUsage | None, now_s: float) -> None:
        """Note who used what until `now_s`, before the energy of that time is charged."""
        if self._workload is None:
            return
        if usage is None:
            self.assume(now_s)
            return
        self._usage = usage
        self._tally = attribution.advance(self._tally, usage, now_s)
        self._recent.append(self._tally)
        while len(self._recent) > 2 and self._recent[1].at_s <= now_s - WINDOW_S:
            self._recent.popleft()
        self._sharings = {}
        for run_id, used in usage.runs.items():
            run = self.runs.get(run_id)
            if run is not None:
                run.processes = used.processes
                if used.cpu_s is not None:
                    run.cpu_s = (run.cpu_s or 0.0) + used.cpu_s
                    if usage.busy_s is not None:
                        run.node_busy_s = (run.node_busy_s or 0.0) + usage.busy_s

    def assume(self, now_s: float) -> None:
        """Instead of a look that failed or could hang: GPUs are held as before, and nobody used a CPU."""
        held = {run_id: Usage(None, used.gpus) for run_id, used in self._usage.runs.items()}
        usage = NodeUsage(None, 0.0, held, self._usage.others)
        self._tally = attribution.advance(self._tally, usage, now_s)
        self._sharings = {}

    def settle(self, device_id: str, at_s: float) -> None:
        """The energy of this device is charged until a moment, the newest tally's or a little before."""
        self._settled[device_id] = at_s, self._tally

    def settle_first(self, account: DeviceAccount, at_s: float) -> None:
        """A device is read for the first time: nobody knows what it drew of the runs that began before."""
        for run in self.runs.values():
            self._lose_unread(run, account, at_s)
        self.settle(account.device.id, at_s)

    def lose_rest(self, run: RunAccount, accounts: Iterable[DeviceAccount]) -> None:
        """A run ends: tell it of the time that no reading of its devices covers."""
        for account in accounts:
            self._lose_unread(run, account, run.span.until_s)
            self._lose_open(run, account.device.id)

    def _lose_unread(self, run: RunAccount, account: DeviceAccount, until_s: float) -> None:
        """What a device drew of a run since it was settled last, or since the run or this monitor began."""
        device_id = account.device.id
        charged_s, _ = self._settled.get(device_id, (self._began_s, None))
        seconds = until_s - max(charged_s, run.span.from_s)
        if seconds > LEAST_UNREAD_S and self._uses(run, account):
            run.lose(device_id, seconds)

    def _lose_open(self, run: RunAccount, device_id: str) -> None:
        """No value of the counter tells a run what the device drew in the seconds that waited for one."""
        seconds = run.span.open_s.pop(device_id, 0.0)
        if seconds:
            run.lose(device_id, seconds)

    def _uses(self, run: RunAccount, account: DeviceAccount) -> bool:
        """Whether a device's energy is the run's, in part at least, as far as anybody knows."""
        if self._workload is None or not account.gpu_ids:
            return True
        used = self._usage.runs.get(run.info.id)
        if used is None:
            return run.uses(account.device.id)
        return not used.gpus.keys().isdisjoint(account.gpu_ids)

    def charge(
        self,
        account: DeviceAccount,
        interval: Interval,
        rates: Rates,
        moment: Moment,
        bridged: bool,
        open_s: float = 0.0,
    ) -> bool:
        """Charge an interval of a device, settled by a sample, to the runs; what is left is unattributed.

        `bridged`: a counter gave back what was drawn while no monitor ran. `open_s` are seconds of before the
        interval of which the counter had not told. Returns whether the device's counter said anything odd.
        """
        device, is_gpu = account.device, account.is_gpu
        sharing = self._since_settled(device.id)
        if not is_gpu and self._workload is not None:
            self._observe_idle(account, interval, sharing)
        utilization_ratio = account.settle_utilization() if is_gpu else None
        attributed_j = 0.0
        meter = account.meter
        late = None
        own = interval
        if meter is not None and (open_s or meter.open_s):  # hardly ever
            late = LateEnergy(device.id, attribution.divided(interval, open_s, meter.open_s), open_s)
            own = late.divided.own
        for piece, runs, found in self._pieces(account, own, sharing):
            for run_id, run in runs.items():
                share = found.get(run_id)
                if share is None:
                    run.see(device.id, None)
                    if self._is_unknown(account):
                        run.lose(device.id, piece.end_s - piece.start_s)
                    continue
                ratio, note = share
                part = piece if ratio == 1.0 else attribution.scale_interval(piece, ratio)
                if late is not None:
                    part = late.added(part, run_id, run.span, ratio)
                energy_j = run.add(device, part, rates, moment, note)
                attributed_j += energy_j
                if is_gpu:
                    run.gpu_clock.add((part.end_s - part.start_s) * ratio, energy_j, utilization_ratio)
                if bridged and run_id in self._resumed:
                    run.recovered_j += part.counter_j
            if runs is not self.runs:
                for run_id in self.runs.keys() - runs.keys():
                    self.runs[run_id].meanwhile.leave_out(piece, rates.grams)
        if late is not None and late.divided.is_over:
            for run_id, run in self.runs.items():
                self._lose_open(run, device.id)
                others = late.of_others(run_id)
                if others is not None:
                    run.meanwhile.leave_out(others, rates.grams)
        self._settled[device.id] = interval.end_s, self._tally
        return account.add(interval, attributed_j, rates.grams)

    def _pieces(
        self, account: DeviceAccount, interval: Interval, sharing: Sharing
    ) -> Iterable[tuple[Interval, Mapping[str, RunAccount], Mapping[str, Share]]]:
        """An interval, split where a run begins or ends: each piece with the runs in it, and their shares.

        They are found by the tallies that were made at its ends; a piece that is too short to have its own is
        shared as the whole interval is.
        """
        power_w = _mean_power_w(interval) if self._leaves_idle else None
        if interval.start_s >= self._newest_begin_s and not self._stopped:  # nearly always
            return [(interval, self.runs, self._shares(account, sharing, power_w))]
        start_s, end_s = interval.start_s, interval.end_s
        made = {self.runs[run_id].span.from_s: tally for run_id, tally in self._begun.items()}
        made |= {self.runs[run_id].span.until_s: self._tally for run_id in self._stopped}
        inside_s = sorted(at_s for at_s in made if start_s < at_s < end_s)
        made |= {start_s: sharing.before, end_s: self._tally}
        pieces = []
        for piece in attribution.cut_interval(interval, inside_s):
            runs = {run_id: run for run_id, run in self.runs.items() if run.span.covers(piece)}
            policies = {run_id: self._policies[run_id] for run_id in runs}
            before, after = made[piece.start_s], made[piece.end_s]
            if after.at_s <= before.at_s:
                before, after = sharing.before, self._tally
            shares = self._shares(account, Sharing(before, after, policies), power_w)
            pieces.append((piece, runs, shares))
        return pieces

    def see(self, account: DeviceAccount, power_w: float | None, shape: Curve | None = None) -> None:
        """Show the runs their part of a device's power while its energy is not settled yet.

        `shape` is its energy since it was settled, by its power samples.
        """
        device = account.device
        sharing = self._since_settled(device.id)
        found = {} if power_w is None else self._shares(account, sharing, power_w)
        for run_id, run in self.runs.items():
            share = found.get(run_id)
            run.see(device.id, None if power_w is None or share is None else power_w * share.ratio)
            if shape is not None and share is not None:
                run.windows.foresee(device.id, shape, share.ratio)

    def _observe_idle(self, account: DeviceAccount, interval: Interval, sharing: Sharing) -> None:
        """Note what a package, or memory, draws while the node's CPUs are idle."""
        idle = is_idle(sharing.busy_s, sharing.capacity_s, interval.end_s - interval.start_s)
        if idle or account.idle.seconds:
            account.idle = observe(account.idle, account.device, interval, idle)

    def _shares(self, account: DeviceAccount, sharing: Sharing, power_w: float | None) -> dict[str, Share]:
        """Each run's share of what a device drew in the time of a sharing, `power_w` in the mean."""
        device, gpu_ids = account.device, account.gpu_ids
        if self._workload is None:
            return {run_id: Share(device.share_ratio, device.share_note) for run_id in sharing.policies}
        if account.is_gpu:
            if not device.contains:
                return sharing.of_gpu(device.id)
            by_die = [sharing.of_gpu(gpu) for gpu in gpu_ids]  # a card of several dies
            return attribution.module_shares(by_die, {})
        if self._is_unknown(account):
            return {}
        by_cpu = self._by_cpu_time(account, sharing, power_w)
        if not gpu_ids:
            return by_cpu
        is_foreign = not self._usage.others.keys().isdisjoint(gpu_ids)
        by_gpu = [sharing.of_gpu(gpu) for gpu in gpu_ids]
        return attribution.module_shares(by_gpu, {} if is_foreign else by_cpu)

    def _by_cpu_time(
        self, account: DeviceAccount, sharing: Sharing, power_w: float | None
    ) -> dict[str, Share]:
        """Each run's share by CPU time, of the part of the device that is this machine's."""
        oldest = self._recent[0]
        if sharing.before.at_s > oldest.at_s:  # too short a time to compare CPU times: a little longer
            sharing = self._since(oldest) if sharing.policies is self._policies else sharing.since(oldest)
        dynamic = dynamic_part(account.idle.idle_w, power_w) if self._leaves_idle else ALL
        return sharing.by_cpu_time(account.device, dynamic)

    def _since_settled(self, device_id: str) -> Sharing:
        """The shares of what a device drew since its energy was settled last."""
        return self._since(self._settled_tally(device_id))

    def _since(self, before: Tally) -> Sharing:
        """The shares since a tally: at nearly each sample it is the same one for all devices."""
        known = self._sharings.get(id(before))
        if known is None:
            known = self._sharings[id(before)] = Sharing(before, self._tally, self._policies)
        return known

    def _settled_tally(self, device_id: str) -> Tally:
        """The tally at which the energy of a device was settled last."""
        settled = self._settled.get(device_id)
        return self._tally if settled is None else settled[1]

    def _is_unknown(self, account: DeviceAccount) -> bool:
        """Whether nobody counted the CPU time since the energy of this device was settled last."""
        if self._outage_began is None or self._workload is None or account.gpu_ids:
            return False
        return self._settled_tally(account.device.id) is self._outage_began


def _mean_power_w(interval: Interval) -> float | None:
    """The mean power of the time whose energy is known; None where there is none."""
    observed_s = interval.end_s - interval.start_s - interval.unobserved_s
    return interval.energy_j / observed_s if observed_s > 0.0 else None
