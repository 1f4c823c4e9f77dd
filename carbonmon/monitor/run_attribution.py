"""The runs of a node: who is charged for what a device drew. Owned by the sampling thread.

Without a workload nobody can tell who uses the node: then there is one run, which owns it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from carbonmon.core import attribution
from carbonmon.core.attribution import Share, Tally
from carbonmon.core.footprint import Rates
from carbonmon.core.model import IdlePolicy, Interval, NodeUsage, ResumePoint, RunState, Usage
from carbonmon.core.ports import Roots, Workload
from carbonmon.monitor.device_totals import DeviceAccount
from carbonmon.monitor.guard import GuardedWorkload
from carbonmon.monitor.run_totals import RunAccount

WINDOW_S = 0.25
"""CPU time is compared over at least so long: the kernel tells the node's in steps of 10 ms for each kind."""


MAX_ENDED = 200
"""Runs that have ended are shown, the newest of them: each has some ten series for each device."""

UNWRITTEN_S = 120.0
"""How long a run that has ended is kept for a disk that fails, at least."""


class Tenants:
    """The runs that live, and for `retain_s` seconds those that have ended, by id."""

    def __init__(self, workload: Workload | None, now_s: float, retain_s: float = 0.0) -> None:
        self.runs: dict[str, RunAccount] = {}
        self.retain_s = retain_s
        self._ended: dict[str, RunAccount] = {}
        self._unwritten: set[str] = set()
        self._policies: dict[str, IdlePolicy] = {}
        self._workload = None if workload is None else GuardedWorkload(workload)
        self._usage = NodeUsage(0.0, 0.0, {})
        self._tally = Tally(now_s)
        self._recent: deque[Tally] = deque([self._tally])
        self._resumed: set[str] = set()
        self._left: Tally | None = None
        self._cpu_shares: dict[int, dict[str, Share]] = {}

    def add(self, run: RunAccount, roots: Roots | None, since: ResumePoint | None = None) -> None:
        """Charge to a run what it causes from now on, or since an earlier monitor looked last."""
        run_id = run.info.id
        self._ended.pop(run_id, None)
        self.runs[run_id] = run
        self._policies[run_id] = run.info.idle_policy
        if self._workload is not None:
            self._workload.add(run_id, roots or Roots(), since)

    def rewind(self, at_s: float, accounts: Mapping[str, DeviceAccount]) -> None:
        """Go back to the moment at which an earlier monitor ended; before the first look."""
        self._left = self._tally = Tally(at_s)
        self._recent = deque([self._left])
        for account in accounts.values():
            account.mark = self._left

    def resume(self, run: RunAccount, roots: Roots | None, since: ResumePoint | None) -> None:
        """Go on with a run of an earlier monitor; what counters bridge is recovered.

        The GPUs that it holds now it held meanwhile. Without `since` its CPU time is not known.
        """
        self.add(run, roots, since)
        self._resumed.add(run.info.id)
        if since is not None:
            self._left = None

    def end(
        self,
        run_id: str,
        now_s: float,
        wall_s: float,
        exit_code: int | None,
        signal: int | None,
        accounts: Mapping[str, DeviceAccount],
    ) -> RunAccount | None:
        """Close a run; None if there is no such one."""
        run = self.runs.pop(run_id, None)
        if run is None:
            return None
        del self._policies[run_id]
        if self._workload is not None:
            self._workload.remove(run_id)
        run.end(now_s, wall_s, exit_code, signal, accounts)
        self._ended[run_id] = run
        self._unwritten.add(run_id)
        return run

    def forget(self, run_id: str) -> None:
        """A run that has ended is written: it may go when it has been shown for long enough."""
        self._unwritten.discard(run_id)

    def states(self, now_s: float, accounts: Mapping[str, DeviceAccount]) -> tuple[RunState, ...]:
        """Every run that may be shown, the living ones first."""
        for run_id, run in list(self._ended.items()):
            least_s = UNWRITTEN_S if run_id in self._unwritten else 0.0
            if run.end_s is not None and now_s - run.end_s > max(self.retain_s, least_s):
                del self._ended[run_id]
                self._unwritten.discard(run_id)
        written = [run_id for run_id in self._ended if run_id not in self._unwritten]
        for run_id in written[: max(0, len(self._ended) - MAX_ENDED)]:
            del self._ended[run_id]
        points = {} if self._workload is None else self._workload.resume_points()
        living = [
            run.state(now_s, accounts)._replace(resume_point=points.get(run_id))
            for run_id, run in self.runs.items()
        ]
        return (*living, *[run.state(now_s, accounts) for run in self._ended.values()])

    def look(self, now_s: float) -> None:
        """Note who used what until now; once a tick, before energy is booked."""
        if self._workload is None:
            return
        usage = self._workload.read(now_s)
        if usage is None:
            self.assume(now_s)
            return
        self._usage = usage
        self._tally = attribution.advance(self._tally, usage, now_s)
        self._recent.append(self._tally)
        while len(self._recent) > 2 and self._recent[1].at_s <= now_s - WINDOW_S:
            self._recent.popleft()
        self._cpu_shares = {}
        for run_id, used in usage.runs.items():
            run = self.runs.get(run_id)
            if run is not None:
                run.processes = used.processes
                if used.cpu_s is not None:
                    run.cpu_s = (run.cpu_s or 0.0) + used.cpu_s

    def assume(self, now_s: float) -> None:
        """Instead of a look that failed or could hang: GPUs are held as before, and nobody used a CPU."""
        held = {run_id: Usage(None, used.gpus) for run_id, used in self._usage.runs.items()}
        usage = NodeUsage(None, 0.0, held, self._usage.others)
        self._tally = attribution.advance(self._tally, usage, now_s)
        self._cpu_shares = {}

    def mark(self, account: DeviceAccount) -> None:
        """The energy of this device is settled until now."""
        account.mark = self._tally

    def book(self, account: DeviceAccount, interval: Interval, rates: Rates, bridged: bool) -> None:
        """Charge an interval of a device to the runs, and what is left to nobody.

        `bridged`: a counter gave back what was drawn while no monitor ran.
        """
        device = account.device
        attributed_j = 0.0
        found = self._shares(account)
        for run_id, run in self.runs.items():
            share = found.get(run_id)
            if share is None:
                run.see(device.id, None)
                if self._is_unknown(account):
                    run.lose(device.id, interval.end_s - interval.start_s)
                continue
            part = attribution.scale_interval(interval, share.ratio)
            attributed_j += part.counter_j + part.power_j + part.tdp_j
            run.add(device, part, rates, share.note)
            if bridged and run_id in self._resumed:
                run.recovered_j += part.counter_j
        account.add(interval, attributed_j, rates.grams)
        self.mark(account)

    def see(self, account: DeviceAccount, power_w: float | None) -> None:
        """Show the runs their part of a device's power while its energy is not settled yet."""
        found = {} if power_w is None else self._shares(account)
        for run_id, run in self.runs.items():
            share = found.get(run_id)
            run.see(account.device.id, None if power_w is None or share is None else power_w * share.ratio)

    def _shares(self, account: DeviceAccount) -> dict[str, Share]:
        """Each run's share of what a device drew since its energy was settled last."""
        device = account.device
        if self._workload is None:
            return {run_id: Share(device.share_ratio, device.share_note) for run_id in self.runs}
        before = account.mark or self._tally
        if self._is_unknown(account):
            return {}
        if device.component == "gpu":
            return attribution.gpu_shares(before, self._tally, device.id, self._policies)
        if before.at_s > self._recent[0].at_s:  # too short a time to compare CPU times: a little longer
            before = self._recent[0]
        found = self._cpu_shares.get(id(before))
        if found is None:  # packages and memory are settled at the same ticks: one answer serves them all
            found = self._cpu_shares[id(before)] = attribution.cpu_shares(before, self._tally, self._policies)
        return found

    def _is_unknown(self, account: DeviceAccount) -> bool:
        """Whether nobody counted the CPU time since the energy of this device was settled last."""
        is_left = self._left is not None and account.mark is self._left
        return is_left and self._workload is not None and account.device.component != "gpu"
