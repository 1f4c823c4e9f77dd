"""Splits a device's energy among the runs of a node; the rest is unattributed; pure.

Shares are ratios of the device's energy between two settlements, from running sums (`Tally`) of what each
run used. For one device they add up to at most 1, so the runs' parts and the unattributed rest are the
whole exactly. With c = CPU time of the run's processes / CPU time of all processes of the node, and
D = the part of the energy above the device's idle power (`idle_power.py`):

    CPU package, memory   proportional   c                 idle energy is split as busy energy is
                          none           c × D             idle energy stays unattributed
                          exclusive      1 − others' c     the run owns the node: also idle energy, daemons
    GPU                   one run on it: all of it; several runs: by SM utilisation, equally where
                          that is unknown or 0; MIG: the slices' part of the whole GPU
    module                as the GPUs in it, in equal parts; while nobody is on them, as a CPU package

docs/use/attribution.md has a worked example.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from carbonmon.core.curves import part_between
from carbonmon.core.idle_power import ALL, DynamicPart
from carbonmon.core.model import Device, GpuClaim, IdlePolicy, Interval, NodeUsage
from carbonmon.core.records import NamedTuple, record

EQUAL_NOTE = "shared: split equally, SM utilisation is unknown or 0"
SM_NOTE = "shared: by SM utilisation"
CPU_NOTES: dict[IdlePolicy, str] = {
    "proportional": "by CPU time, idle energy in proportion",
    "exclusive": "the run owns the node",
}
"""The note of `none` is that of the device's idle power."""


class Share(NamedTuple):
    """A run's part of a device's energy, as a ratio, and a note for people that says how it was found."""

    ratio: float
    note: str


HeldS = Mapping[str, Mapping[str, float]]
"""Seconds by device and run: the time that the run held the GPU × its share of it. GPUs that were held alike
from the first have one mapping together, as far as they stand one after another."""

NEVER: Mapping[str, float] = {}


class Holding(NamedTuple):
    """Who holds which GPU at one moment: the claims by run and device, and the shares by device and run.

    `others` is who else is on a GPU, as in `NodeUsage`.
    """

    claims: Mapping[str, Mapping[str, GpuClaim]] = {}
    others: Mapping[str, float | None] = {}
    shares: Mapping[str, Mapping[str, Share]] = {}


NOBODY = Holding()


class Tally(NamedTuple):
    """Running sums of who used what, at one moment `at_s` of the injected clock.

    `busy_s` and `capacity_s` are CPU seconds of the node, `cpu_s` those of each run, and `begun_s` the node's
    `busy_s` at the first reading of the run. `holding` is who has held the GPUs since the reading before.
    """

    at_s: float
    busy_s: float = 0.0
    capacity_s: float = 0.0
    cpu_s: Mapping[str, float] = {}
    begun_s: Mapping[str, float] = {}
    held_s: Mapping[str, Mapping[str, float]] = {}
    holding: Holding = NOBODY


def advance(tally: Tally, usage: NodeUsage, at_s: float) -> Tally:
    """The sums after one more reading of who used the node. Runs that are no longer in it are dropped."""
    runs = usage.runs
    cpu_s, begun_s = {}, {}
    used_s = 0.0
    for run_id, used in runs.items():
        own_s = used.cpu_s or 0.0
        used_s += own_s
        cpu_s[run_id] = tally.cpu_s.get(run_id, 0.0) + own_s
        begun_s[run_id] = tally.begun_s.get(run_id, tally.busy_s)
    busy_s = tally.busy_s + (used_s if usage.busy_s is None else usage.busy_s)
    capacity_s = tally.capacity_s + usage.capacity_s
    holding = _holding(tally.holding, usage)
    before = tally.held_s
    if not tally.cpu_s.keys() <= runs.keys():
        before = _of_runs(before, runs)
    held_s = _held_s(before, holding.shares, max(0.0, at_s - tally.at_s))
    return Tally(at_s, busy_s, capacity_s, cpu_s, begun_s, held_s, holding)


def _holding(before: Holding, usage: NodeUsage) -> Holding:
    """Who holds the GPUs by a reading: nearly always those of before, and then nothing is split again."""
    claims = {run_id: used.gpus for run_id, used in usage.runs.items()}
    others = usage.others
    if claims == before.claims and others == before.others:
        return before
    by_device: dict[str, dict[str, GpuClaim]] = {}
    for run_id, gpus in claims.items():
        for device_id, claim in gpus.items():
            by_device.setdefault(device_id, {})[run_id] = claim
    shares: dict[str, Mapping[str, Share]] = {}
    split: Mapping[str, Share] = {}
    alike: object = None
    for device_id, claimed in by_device.items():
        others_sm = others.get(device_id, 0.0)
        if (claimed, others_sm) != alike:
            alike = claimed, others_sm
            split = split_gpu(claimed, others_sm)
        shares[device_id] = split
    return Holding(claims, others, shares)


def _held_s(before: HeldS, shares: Mapping[str, Mapping[str, Share]], elapsed_s: float) -> HeldS:
    """The times until now. GPUs one after another that are alike remain so: their time is added once."""
    held_s = dict(before)
    alike = split = None
    now_s: dict[str, float] = {}
    for device_id, by_run in shares.items():
        before_s = before.get(device_id, NEVER)
        if before_s is not alike or by_run is not split:
            alike, split = before_s, by_run
            now_s = {**before_s}
            for run_id, (ratio, _) in by_run.items():
                now_s[run_id] = now_s.get(run_id, 0.0) + ratio * elapsed_s
        held_s[device_id] = now_s
    return held_s


def _of_runs(held_s: HeldS, runs: Collection[str]) -> HeldS:
    """The times of these runs alone; GPUs that are alike remain so."""
    kept = {}
    alike = None
    now_s: dict[str, float] = {}
    for device_id, by_run in held_s.items():
        if by_run is not alike:
            alike = by_run
            now_s = {run_id: seconds for run_id, seconds in by_run.items() if run_id in runs}
        kept[device_id] = now_s
    return kept


class Sharing:
    """Each run's share of what devices drew between two tallies, found once for all devices that are alike.

    `busy_s` and `capacity_s` are the node's CPU seconds meanwhile.
    """

    __slots__ = (
        "_alike_s",
        "_by_cpu_time",
        "_of_alike",
        "after",
        "before",
        "busy_s",
        "capacity_s",
        "policies",
    )

    def __init__(self, before: Tally, after: Tally, policies: Mapping[str, IdlePolicy]) -> None:
        self.before, self.after, self.policies = before, after, policies
        self.busy_s = after.busy_s - before.busy_s
        self.capacity_s = after.capacity_s - before.capacity_s
        self._alike_s: Mapping[str, float] | None = None
        self._of_alike: dict[str, Share] = {}
        self._by_cpu_time: dict[tuple[float, str, DynamicPart], dict[str, Share]] = {}

    def since(self, before: Tally) -> Sharing:
        """The same, since another tally."""
        return Sharing(before, self.after, self.policies)

    def of_gpu(self, device_id: str) -> dict[str, Share]:
        """As `gpu_shares`."""
        held_s = self.after.held_s.get(device_id)
        if held_s is not self._alike_s:
            self._alike_s = held_s
            self._of_alike = gpu_shares(self.before, self.after, device_id, self.policies)
        return self._of_alike

    def by_cpu_time(self, device: Device, dynamic: DynamicPart = ALL) -> dict[str, Share]:
        """As `cpu_shares`, of the part of the device that is this machine's."""
        part_ratio, part_note = device.share_ratio, device.share_note
        alike = part_ratio, part_note, dynamic
        found = self._by_cpu_time.get(alike)
        if found is None:
            found = cpu_shares(self.before, self.after, self.policies, dynamic)
            if part_note:  # of a container or a virtual machine: CPU times are those of its part
                for run_id, (ratio, note) in found.items():
                    found[run_id] = Share(ratio * part_ratio, f"{note}; {part_note}")
            self._by_cpu_time[alike] = found
        return found


def cpu_shares(
    before: Tally, after: Tally, policies: Mapping[str, IdlePolicy], dynamic: DynamicPart = ALL
) -> dict[str, Share]:
    """Each run's share of what CPU packages and memory drew between two tallies.

    It is the same for all of them, but for runs that leave idle energy: `dynamic` is that of the device.
    A run that began between the two is compared with what the node used since that begin.
    """
    ratios = {}
    for run_id, now_s in after.cpu_s.items():
        if run_id in policies:
            own_s = max(0.0, now_s - before.cpu_s.get(run_id, 0.0))
            since_s = max(before.busy_s, after.begun_s.get(run_id, 0.0))
            busy_s = max(after.busy_s - since_s, own_s)
            ratios[run_id] = own_s / busy_s if busy_s > 0.0 else 0.0
    # The node's CPU time comes in steps of 10 ms, that of processes is finer: it may seem the lesser.
    scale = 1.0 / max(1.0, sum(ratios.values()))
    found = {}
    rest = 1.0
    owners = []
    for run_id, ratio in ratios.items():
        policy = policies[run_id]
        ratio *= scale * dynamic.ratio if policy == "none" else scale
        if policy == "exclusive":
            owners.append(run_id)
        rest -= ratio
        found[run_id] = Share(ratio, dynamic.note if policy == "none" else CPU_NOTES[policy])
    for run_id in owners:
        share = found[run_id]
        found[run_id] = share._replace(ratio=share.ratio + max(0.0, rest) / len(owners))
    return found


def gpu_shares(
    before: Tally, after: Tally, device_id: str, policies: Mapping[str, IdlePolicy]
) -> dict[str, Share]:
    """Each run's share of what a GPU drew between two tallies; runs that did not hold it are left out."""
    elapsed_s = after.at_s - before.at_s
    held_s = after.held_s.get(device_id)
    if not held_s or elapsed_s <= 0.0:
        return {}
    before_s = before.held_s.get(device_id, {})
    last = after.holding.shares.get(device_id, {})
    found = {}
    for run_id, now_s in held_s.items():
        ratio = (now_s - before_s.get(run_id, 0.0)) / elapsed_s
        if ratio > 0.0 and run_id in policies:
            note = last[run_id].note if run_id in last else ""
            found[run_id] = Share(ratio if ratio < 1.0 else 1.0, note)
    return found


def module_shares(gpus: Sequence[Mapping[str, Share]], cpu: Mapping[str, Share]) -> dict[str, Share]:
    """Each run's share of a module: as its GPUs are shared, in equal parts; while nobody holds one, as CPUs.

    `gpus` are the shares of each of its GPUs, `cpu` those of a CPU package.
    """
    found: dict[str, Share] = {}
    for shares in gpus:
        for run_id, share in shares.items():
            before = found.get(run_id, Share(0.0, share.note))
            found[run_id] = before._replace(ratio=before.ratio + share.ratio / len(gpus))
    return found or dict(cpu)


def split_gpu(claims: Mapping[str, GpuClaim], others_sm: float | None) -> dict[str, Share]:
    """The shares of the runs that hold a GPU at one moment; they add up to at most 1.

    `others_sm` is the SM utilisation of processes of no run, 0 if there are none, None if it is unknown.
    """
    if len(claims) == 1 and others_sm == 0.0:  # nearly every GPU
        ((run_id, claim),) = claims.items()
        return {run_id: Share(min(1.0, claim.fraction), claim.note)}
    parts = {run_id: claim for run_id, claim in claims.items() if claim.fraction < 1.0}
    whole = {run_id: claim for run_id, claim in claims.items() if claim.fraction >= 1.0}
    taken = sum(claim.fraction for claim in parts.values())
    scale = 1.0 / max(1.0, taken)
    found = {run_id: Share(claim.fraction * scale, claim.note) for run_id, claim in parts.items()}
    rest = max(0.0, 1.0 - taken)
    if not whole:
        return found
    parties = len(whole) + (others_sm is None or others_sm > 0.0)
    if parties == 1:
        ((run_id, claim),) = whole.items()
        found[run_id] = Share(rest, claim.note)
        return found
    known = [claim.sm_ratio for claim in whole.values() if claim.sm_ratio is not None]
    total = sum(known) + (others_sm or 0.0)
    if len(known) < len(whole) or others_sm is None or total <= 0.0:
        for run_id in whole:
            found[run_id] = Share(rest / parties, EQUAL_NOTE)
    else:
        for run_id, claim in whole.items():
            found[run_id] = Share(rest * (claim.sm_ratio or 0.0) / total, SM_NOTE)
    return found


def cut_interval(interval: Interval, moments_s: Sequence[float]) -> list[Interval]:
    """The pieces of an interval between moments inside of it: its energy by its curve, else by time."""
    if not moments_s:
        return [interval]
    start_s, end_s = interval.start_s, interval.end_s
    pieces = []
    for begin_s, until_s in pairwise((start_s, *moments_s, end_s)):
        ratio = part_between(interval.curve, start_s, end_s, begin_s, until_s)
        of_time = (until_s - begin_s) / (end_s - start_s)
        pieces.append(
            scale_interval(interval, ratio)._replace(
                start_s=begin_s,
                end_s=until_s,
                power_w=None if interval.power_w is None else interval.power_w * ratio / of_time,
                unobserved_s=interval.unobserved_s * of_time,
            )
        )
    return pieces


class Divided(NamedTuple):
    """An interval of a device of whose time before it a counter had not told.

    `own` is what was drawn in the interval itself, `late` what the counter told of the time before, None
    where it told nothing. `waits_ratio` is the part of the interval of which it has not told either.
    `is_over`: of the time before, it will tell no more than this.
    """

    own: Interval
    late: Interval | None = None
    waits_ratio: float = 0.0
    is_over: bool = False


def divided(interval: Interval, open_s: float, still_open_s: float) -> Divided:
    """An interval before which the counter had not told of `open_s` seconds, and now of `still_open_s`.

    The energy that it tells at once is divided by time.
    """
    seconds = interval.end_s - interval.start_s
    if 0.0 < open_s <= interval.unobserved_s:  # they are lost
        own = interval._replace(unobserved_s=interval.unobserved_s - open_s)
        return Divided(own, is_over=True)
    if still_open_s >= open_s:
        return Divided(interval, waits_ratio=(still_open_s - open_s) / seconds if seconds > 0.0 else 0.0)
    ratio = seconds / (seconds + open_s)
    own = scale_interval(interval, ratio)._replace(power_w=interval.power_w)
    return Divided(own, scale_interval(interval, 1.0 - ratio), is_over=True)


def scale_interval(interval: Interval, ratio: float) -> Interval:
    """The interval with its energy times `ratio`, by every method; its seconds stay the same."""
    if ratio == 1.0:
        return interval
    (
        device_id,
        start_s,
        end_s,
        counter_j,
        power_j,
        tdp_j,
        power_w,
        lost_s,
        resets,
        jumps,
        curve,
        back,
        stuck,
    ) = interval
    return record(
        Interval,
        (
            device_id,
            start_s,
            end_s,
            counter_j * ratio,
            power_j * ratio,
            tdp_j * ratio,
            None if power_w is None else power_w * ratio,
            lost_s,
            resets,
            jumps,
            curve,
            back,
            stuck,
        ),
    )
