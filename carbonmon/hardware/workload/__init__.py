"""Which run uses the hardware: CPU time and GPUs of the runs, and of the node as a whole."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from carbonmon.core.model import Device, NodeUsage, ResumePoint, Usage
from carbonmon.core.patterns import pattern
from carbonmon.core.ports import Roots
from carbonmon.hardware.found_gpus import NO_GPU, FoundGpu
from carbonmon.hardware.gpu_selection import VARIABLES, allocate, check_present, own_entries
from carbonmon.hardware.pci_devices import AMD
from carbonmon.hardware.workload.cgroup import Cgroup, cpu_seconds, find_cgroup
from carbonmon.hardware.workload.gpus import inventory_in_time
from carbonmon.hardware.workload.holders import GpuHolders, Lister
from carbonmon.hardware.workload.namespaces import host_pid, shows_host_pids
from carbonmon.hardware.workload.node_cpu import NodeCpu
from carbonmon.hardware.workload.proc import Processes, with_parents
from carbonmon.hardware.workload.processes import ProcessTable

if TYPE_CHECKING:
    from carbonmon.hardware.drm_gpus import DrmGpu
    from carbonmon.hardware.gaudi_cards import GaudiCard

_NVML_UUID = pattern(r"GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_below(pid: int, tops: Collection[int]) -> bool:
    """Whether a process is one of these, or one of its parents is."""
    stat_of = Processes(Path("/proc")).stat
    return any(each in tops for each, _ in with_parents(stat_of, pid))


class _Run:
    """A run: the GPUs allocated to it (None: unknown), its cgroups, and CPU seconds not reported yet."""

    __slots__ = ("cgroups", "gpus", "unreported_s")

    def __init__(self) -> None:
        self.gpus: dict[str, float] | None = None
        self.cgroups: list[Cgroup] = []
        self.unreported_s = 0.0


class NodeWorkload:
    """The runs of one node. `procfs` may be the host's, mounted at another path. `devices` are metered.

    Pids in `Roots` are those of our own PID namespace; one that does not exist there is taken as one of
    `procfs`. Only `allocation`, `find_cgroup`, `run_around`, `user_of` and `notes` may be called outside the
    sampling thread.
    """

    def __init__(self, procfs: Path, sysfs: Path, devices: Mapping[str, Device]) -> None:
        self._procfs = procfs
        self._sysfs = sysfs
        self._gpus = {gpu: device for device in devices.values() for gpu in device.gpu_ids}
        myself = host_pid(procfs, os.getpid())
        self._table = ProcessTable(procfs, frozenset(() if myself is None else (myself,)))
        self._node = NodeCpu(procfs)
        self._drm = self._drm_gpus()
        own = {each.gpu.uuid: each.device.address for each in self._drm if each.gpu.uuid in self._gpus}
        drm = self._drm_processes(own) if own else None
        self._gaudi = self._gaudi_cards()
        self._holders = GpuHolders(
            self._gpus, shows_host_pids(procfs), drm, frozenset(own), self._by_device_files()
        )
        self._runs: dict[str, _Run] = {}
        self._allocation_notes: tuple[str, ...] = ()

    def add(self, run_id: str, roots: Roots, since: ResumePoint | None = None) -> None:
        self._runs[run_id] = run = _Run()
        run.gpus = None if roots.gpus is None else dict(roots.gpus)
        self.join(run_id, roots)
        if since is not None:
            self._node.rewind(since.busy_s, since.capacity_s)
            used_s = max(0.0, self.resume_points()[run_id].tree_s - since.tree_s)
            self._runs[run_id].unreported_s = used_s

    def resume_points(self) -> dict[str, ResumePoint]:
        totals = self._table.totals_and_roots()
        busy_s, capacity_s = self._node.sums_s
        found = {}
        for run_id, run in self._runs.items():
            used_s, roots = totals.get(run_id, (0.0, []))
            if run.cgroups:
                used_s = sum(cpu_seconds(group.path) or 0.0 for group in run.cgroups)
            found[run_id] = ResumePoint(
                busy_s,
                capacity_s,
                used_s,
                tuple(roots),
                tuple(str(group.path) for group in run.cgroups),
                None if run.gpus is None else tuple(run.gpus.items()),
            )
        return found

    def has_process(self, pid: int, start: int) -> bool:
        """Whether the process with this pid in `procfs` and this start is still alive."""
        stat = self._table.stat(pid)
        return stat is not None and stat.start == start and not stat.ended

    def join(self, run_id: str, roots: Roots) -> None:
        run = self._runs.get(run_id)
        if run is None:
            return
        if roots.gpus is not None and run.gpus is not None:  # else it also holds what its processes are on
            run.gpus = {**run.gpus, **roots.gpus}
        if roots.cgroup is not None and all(group.path != roots.cgroup for group in run.cgroups):
            run.cgroups.append(Cgroup(roots.cgroup))
        self._table.add(run_id, map(self._pid_here, roots.pids), map(self._pid_here, roots.wrappers))
        self._holders.invalidate()

    def remove(self, run_id: str) -> None:
        self._runs.pop(run_id, None)
        self._table.remove(run_id)

    def read(self, now_s: float) -> NodeUsage:
        # A run may begin in another thread meanwhile, where this one is slow: it is in the next reading.
        followed = dict(self._runs)
        allocations = {run_id: run.gpus for run_id, run in followed.items()}
        self._holders.poll(now_s, allocations)
        used_s = self._table.scan()
        busy_s, capacity_s = self._node.read(now_s)
        cpu_s = {
            run_id: self._cpu_s(run, used_s[run_id]) for run_id, run in followed.items() if run_id in used_s
        }
        claims, others = self._holders.claims(now_s, allocations, self._owner_of)
        runs = {run_id: Usage(used, claims[run_id], self.alive(run_id)) for run_id, used in cpu_s.items()}
        return NodeUsage(busy_s, capacity_s, runs, others)

    def alive(self, run_id: str) -> int:
        """How many of its processes were alive at the last read, without wrappers; of a cgroup: all in it."""
        run = self._runs.get(run_id)
        if run is None:
            return 0
        if run.cgroups:
            return sum(group.processes for group in run.cgroups)
        return self._table.count(run_id)

    def allocation(
        self, gpus: tuple[str, ...] | None, environ: Mapping[str, str]
    ) -> Mapping[str, float] | None:
        """The metered GPUs allocated to a job, and the fraction of each; None if no allocation is known.

        Raises `ConfigError` where `gpus` names one that is not there.
        """
        if not self._gpus:
            return None
        from carbonmon.hardware.gaudi_selection import HABANA_VARIABLES
        from carbonmon.hardware.rocm_selection import ROCM_VARIABLES
        from carbonmon.hardware.rocm_selection import select as select_rocm

        if gpus is None and environ.keys().isdisjoint(VARIABLES | ROCM_VARIABLES | HABANA_VARIABLES):
            return None
        is_drm_only = self._gpus.keys() <= {each.gpu.uuid for each in self._drm} | self._gaudi.keys()
        given: dict[str, float] | None = None
        notes: list[str] = []
        # CUDA's lists say nothing of TPUs and of AWS's devices; `--gpus` names them by their numbers.
        if not is_drm_only and (gpus is not None or self._may_be_nvidia()):
            given, notes = self._given_by_nvidia(gpus, environ)
        if gpus is not None and is_drm_only:
            numbered = self._of_drm() or self._of_gaudi()
            own = own_entries(gpus, numbered, self._of_gaudi)
            check_present(own, numbered, lister="carbonmon doctor")
        if self._drm:
            from carbonmon.hardware.drm_gpus import in_hip_order

            selection = select_rocm(
                self._of_drm(),
                in_hip_order(self._sysfs, self._drm),
                gpus,
                environ,
                has_nvidia=not is_drm_only,
            )
            notes += selection.notes
            if selection.by:
                given = {**(given or {}), **{pick.gpu.uuid: pick.share_ratio for pick in selection.chosen}}
        if self._gaudi:
            from carbonmon.hardware.drm_gpus import list_drm_gpus
            from carbonmon.hardware.gaudi_selection import select as select_gaudi

            modules = {name: card.module for name, card in self._gaudi.items() if card.module is not None}
            has_others = bool(self._gpus.keys() - self._gaudi.keys() or list_drm_gpus(self._sysfs))
            selection = select_gaudi(self._of_gaudi(), modules, gpus, environ, has_other_gpus=has_others)
            notes += selection.notes
            if selection.by:
                given = {**(given or {}), **{pick.gpu.uuid: pick.share_ratio for pick in selection.chosen}}
        self._allocation_notes = tuple(notes)
        if given is None:
            return None
        return {device_id: ratio for device_id, ratio in given.items() if device_id in self._gpus}

    def _may_be_nvidia(self) -> bool:
        """Whether a metered GPU is not told by its id to be an accelerator of another kind."""
        known = {each.gpu.uuid for each in self._drm} | self._gaudi.keys()
        return any(gpu not in known and not NO_GPU.match(gpu) for gpu in self._gpus)

    def _given_by_nvidia(
        self, gpus: tuple[str, ...] | None, environ: Mapping[str, str]
    ) -> tuple[dict[str, float] | None, list[str]]:
        """The GPUs of NVML that a job was given, None if that is not known; and notes."""
        inventory = inventory_in_time()
        found = inventory.found or [
            FoundGpu(gpu, place if device.index is None else device.index, device.name, f"{place:08d}")
            for place, (gpu, device) in enumerate(self._gpus.items())
        ]
        if gpus is not None:
            unreadable = [index for index, _ in inventory.unreadable]
            gpus = own_entries(gpus, found, lambda: [*self._of_drm(), *self._of_gaudi()])
            check_present(gpus, found, unreadable)
        return allocate(found, gpus, environ)

    def _drm_processes(self, addresses: Mapping[str, str]) -> Lister:
        """Who tells of the processes on GPUs of AMD and Intel: fdinfo, and where its pids are ours the
        library that the sensor uses. `addresses` are by the GPUs' ids."""
        from carbonmon.hardware.amdsmi import library
        from carbonmon.hardware.workload.drm_clients import DrmProcesses  # most machines have none of them

        drm = DrmProcesses(self._procfs, {address: gpu for gpu, address in addresses.items()})
        amd = frozenset(each.gpu.uuid for each in self._drm if each.device.vendor == AMD) & addresses.keys()
        is_own_view = self._procfs == Path("/proc") and shows_host_pids(self._procfs)
        used = library.acquire_if_used() if amd and is_own_view else None
        if used is None:
            return drm
        from carbonmon.hardware.workload.amd_processes import AmdProcesses

        return AmdProcesses(used, self._sysfs, amd, drm)

    def _of_drm(self) -> list[FoundGpu]:
        return [each.gpu for each in self._drm]

    def _drm_gpus(self) -> list[DrmGpu]:
        """The GPUs of AMD and Intel that are here, none where all that is metered is of NVML."""
        if all(_NVML_UUID.fullmatch(gpu) for gpu in self._gpus):
            return []
        from carbonmon.hardware.drm_gpus import list_drm_gpus

        found = list_drm_gpus(self._sysfs)
        return found if any(each.gpu.uuid in self._gpus for each in found) else []

    def _of_gaudi(self) -> list[FoundGpu]:
        """Gaudi accelerators by the indices that HLML has given them."""
        devices = {name: self._gpus[name] for name in self._gaudi}
        return [
            FoundGpu(name, place if device.index is None else device.index, device.name, name)
            for place, (name, device) in enumerate(devices.items())
        ]

    def _gaudi_cards(self) -> dict[str, GaudiCard]:
        """The Gaudi accelerators that are metered, by id, none where all that is metered is of NVML."""
        if all(_NVML_UUID.fullmatch(gpu) for gpu in self._gpus):
            return {}
        from carbonmon.hardware.gaudi_cards import device_id, list_gaudi_cards

        found = {device_id(card.address): card for card in list_gaudi_cards(self._sysfs)}
        return {name: card for name, card in found.items() if name in self._gpus}

    def _by_device_files(self) -> Mapping[str, Lister]:
        """Who tells of the processes on metered Gaudi accelerators, TPUs and Neuron devices, by their ids."""
        if all(_NVML_UUID.fullmatch(gpu) for gpu in self._gpus):
            return {}
        from carbonmon.hardware.neuron_devices import find_neuron_devices
        from carbonmon.hardware.tpu_chips import find_tpu_chips

        files = {card.node: name for name, card in self._gaudi.items()}
        numbers = {card.numbers: name for name, card in self._gaudi.items() if card.numbers}
        files |= {chip.file: chip.id for chip in find_tpu_chips(self._sysfs) if chip.file}
        files |= {device.file: device.id for device in find_neuron_devices(self._sysfs)}
        files = {file: name for file, name in files.items() if name in self._gpus}
        if not files:
            return {}
        from carbonmon.hardware.workload.device_files import DeviceFileProcesses

        return dict.fromkeys(files.values(), DeviceFileProcesses(self._procfs, files, numbers))

    def run_around(self, pid: int) -> str | None:
        """The run that a process of our own PID namespace, or one of its parents, belongs to."""
        return self._table.owner_around(self._pid_here(pid))

    def find_cgroup(self, path: str | Path) -> Path:
        """See `cgroup.find_cgroup`."""
        return find_cgroup(self._sysfs, path)

    def user_of(self, pid: int) -> int:
        """The effective user id of a process; raises OSError if there is none."""
        return (self._procfs / str(self._pid_here(pid))).stat().st_uid

    def notes(self) -> tuple[str, ...]:
        """Notes for people on what is unknown, and why."""
        return (*self._holders.notes(), *self._allocation_notes)

    def close(self) -> None:
        self._holders.close()
        self._node.close()
        self._table.close()

    def _pid_here(self, pid: int) -> int:
        here = host_pid(self._procfs, pid)
        return pid if here is None else here

    def _cpu_s(self, run: _Run, processes_s: float) -> float | None:
        unreported_s, run.unreported_s = run.unreported_s, 0.0
        if not run.cgroups:
            return processes_s + unreported_s
        total_s: float | None = unreported_s
        for group in run.cgroups:
            used_s = group.read()
            total_s = None if used_s is None or total_s is None else total_s + used_s
        return total_s

    def _owner_of(self, pid: int) -> str | None:
        for run_id, run in self._runs.items():
            for group in run.cgroups:
                if pid in group.pids:
                    return run_id
        return self._table.owner_of(pid)
