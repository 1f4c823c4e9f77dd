"""Which run holds which GPU: by allocation, by its processes there, and with which SM utilisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from carbonmon.core.model import Device, GpuClaim
from carbonmon.hardware.workload.gpus import GpuProcesses

LISTS_PERIOD_S = 5.0
"""How often NVML is asked for the processes on each GPU: jobs rarely change GPUs."""

UTILIZATION_PERIOD_S = 1.0
PERIOD_JITTER_S = 0.05
"""A tick of a 1 s grid may come a little early; it is still one read a second."""

IN_A_CONTAINER = "GPU processes are not visible in a container: mount the host's /proc and give --procfs"
HIDDEN = (
    "processes of other users on GPUs that NVML does not list are not visible: the monitor needs "
    "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
)
UNKNOWN = "held by every run: its processes are unknown"

Allocations = Mapping[str, Mapping[str, float] | None]
"""The GPUs that each run was given, with fractions; None: those that its processes are on."""

Claims = dict[str, dict[str, GpuClaim]]
"""By run and device."""


class Lister(Protocol):
    """Who is on some GPUs, as a driver tells it.

    `unsupported` are GPUs of which it tells nothing, `hidden` processes of which it does not say where they
    are.
    """

    unsupported: set[str]
    hidden: frozenset[int]

    def processes(self, now_s: float) -> Mapping[str, frozenset[int] | None]: ...

    def utilization(self, uuid: str, now_s: float) -> Mapping[int, float] | None: ...

    def close(self) -> None: ...


class GpuHolders:
    """The claims to `gpus` (by device id). A driver is asked only where its answer can change a claim.

    `visible`: processes are known here by the host's pids, which are also NVML's. `drm` tells of the GPUs
    `drm_gpus`, and each of `others` of its own, by the pids that are known here; NVML tells of the rest.
    """

    def __init__(
        self,
        gpus: Mapping[str, Device],
        visible: bool,
        drm: Lister | None = None,
        drm_gpus: frozenset[str] = frozenset(),
        others: Mapping[str, Lister] | None = None,
    ) -> None:
        """`others` are by the GPU's id."""
        self._gpus = gpus
        here: dict[str, Lister] = dict(others or {})
        if drm is not None:
            here |= dict.fromkeys(drm_gpus, drm)
        own = [gpu for gpu in gpus if gpu not in here]
        self._visible = visible or not own
        nvml = GpuProcesses(own)
        self._listers: dict[str, Lister] = dict.fromkeys(own, nvml) if visible else {}
        self._listers |= here
        self._opened: list[Lister] = [nvml, *dict.fromkeys(here.values())]
        self._lists: dict[str, frozenset[int] | None] = {}
        self._lists_at_s = float("-inf")
        self._busy: dict[str, tuple[float, Mapping[int, float] | None]] = {}
        self._owners: dict[int, str] = {}
        self._needs_lists = False
        self._has_hidden = False
        self._seen_here = frozenset(here)

    def invalidate(self) -> None:
        """Read the lists again at the next poll: there are new processes."""
        self._lists_at_s = float("-inf")

    def poll(self, now_s: float, allocations: Allocations) -> None:
        """List the processes if that is due. To be called before processes are assigned to runs, so that all
        processes on a GPU are assigned."""
        self._needs_lists = bool(self._gpus) and _needs_process_lists(allocations)
        if not self._needs_lists or not self._listers:
            self._lists = {}
            return
        if not 0.0 <= now_s - self._lists_at_s < LISTS_PERIOD_S - PERIOD_JITTER_S:
            self._lists_at_s = now_s
            self._lists = {}
            for lister in dict.fromkeys(self._listers.values()):
                self._lists.update(lister.processes(now_s))
            listed = frozenset().union(*(pids for pids in self._lists.values() if pids))
            self._owners = {pid: run_id for pid, run_id in self._owners.items() if pid in listed}

    def claims(
        self, now_s: float, allocations: Allocations, owner_of: Callable[[int], str | None]
    ) -> tuple[Claims, dict[str, float | None]]:
        """The claims of each run, and by GPU the SM utilisation of processes of no run, None if unknown."""
        claims: Claims = {run_id: {} for run_id in allocations}
        hidden = {owner_of(pid) for lister in self._opened for pid in lister.hidden} if self._lists else set()
        self._has_hidden = not hidden.isdisjoint(claims)
        for run_id, allocation in allocations.items():
            for device_id, device in self._gpus.items():
                if allocation is None:
                    is_hidden = run_id in hidden and device_id in self._seen_here
                    if self._lists.get(device_id) is None or is_hidden:
                        claims[run_id][device_id] = GpuClaim(device.share_ratio, None, UNKNOWN)
                elif device_id in allocation:
                    claims[run_id][device_id] = GpuClaim(allocation[device_id], None, "allocated")
        others: dict[str, float | None] = {}
        for device_id, pids in self._lists.items():
            if pids is None:
                continue
            foreign = False
            present: set[str] = set()
            for pid in pids:
                owner = owner_of(pid)
                if owner is not None:
                    self._owners[pid] = owner
                    present.add(owner)
                    share_ratio = self._gpus[device_id].share_ratio
                    if owner in claims:  # else it has begun since
                        claims[owner].setdefault(device_id, GpuClaim(share_ratio, None, "its processes"))
                elif pid in self._owners:  # a run's process that has ended since the list
                    present.add(self._owners[pid])
                else:
                    foreign = True
            if not present.isdisjoint(claims):
                _leave_to(present, device_id, claims)
            holders = [run_id for run_id, held in claims.items() if device_id in held]
            busy = self._utilization(device_id, now_s) if len(holders) + foreign > 1 else None
            if busy is None:
                if foreign:
                    others[device_id] = None
                continue
            sums: dict[str | None, float] = {}  # None: of no run
            for pid, ratio in busy.items():
                owner = owner_of(pid) or self._owners.get(pid)
                sums[owner] = sums.get(owner, 0.0) + ratio
            for run_id in holders:
                claim = claims[run_id][device_id]
                claims[run_id][device_id] = claim._replace(sm_ratio=min(1.0, sums.get(run_id, 0.0)))
            if foreign or None in sums:
                others[device_id] = min(1.0, sums.get(None, 0.0))
        return claims, others

    def notes(self) -> tuple[str, ...]:
        """Notes for people on GPUs whose processes are unknown now."""
        if not self._needs_lists:
            return ()
        names = {device_id: f"GPU {device.index} {device_id}" for device_id, device in self._gpus.items()}
        unknown = [
            f"{names[device_id]}: its driver lists no processes"
            if device_id in self._listers[device_id].unsupported
            else f"{names[device_id]}: NVML cannot list its processes now"
            for device_id, pids in self._lists.items()
            if pids is None
        ]
        if self._has_hidden:
            unknown.append(HIDDEN)
        return tuple(unknown) if self._visible else (IN_A_CONTAINER, *unknown)

    def close(self) -> None:
        for lister in self._opened:
            lister.close()

    def _utilization(self, device_id: str, now_s: float) -> Mapping[int, float] | None:
        at_s, busy = self._busy.get(device_id, (float("-inf"), None))
        if not 0.0 <= now_s - at_s < UTILIZATION_PERIOD_S - PERIOD_JITTER_S:
            busy = self._listers[device_id].utilization(device_id, now_s)
            self._busy[device_id] = now_s, busy
        return busy


def _leave_to(present: set[str], device_id: str, claims: Claims) -> None:
    """Of runs that claim a whole GPU those with a process there hold it: a list is only its user's word."""
    for run_id, held in claims.items():
        if run_id not in present and device_id in held and held[device_id].fraction >= 1.0:
            del held[device_id]


def _needs_process_lists(allocations: Allocations) -> bool:
    """Whether a run's GPUs are not known, or two runs share one."""
    taken: set[str] = set()
    for allocation in allocations.values():
        if allocation is None or not taken.isdisjoint(allocation):
            return True
        taken.update(allocation)
    return False
