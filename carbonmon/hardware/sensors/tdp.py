"""The fallback for what has no sensor: spec-sheet TDP × utilisation, labelled an estimate.

CPU packages by the kernel's CPU times, and GPUs that NVML does not list but that the driver's /proc or the
user names. A package that another sensor meters gets its utilisation and its TDP from here, as the fallback
for its counter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Device, Failure, Reading, SensorState, Spec
from carbonmon.core.ports import SensorSettings
from carbonmon.core.records import NamedTuple
from carbonmon.core.uncertainty import TDP_UNCERTAINTY
from carbonmon.hardware import modules
from carbonmon.hardware.cpu_packages import estimated_packages
from carbonmon.hardware.cpu_times import close_cpu_times, read_cpu_times
from carbonmon.hardware.found_gpus import FoundGpu
from carbonmon.hardware.gpu_selection import select

GPU_ASSUMED_UTILIZATION = 1.0
"""A GPU whose utilisation is unknown is taken as fully used, as Green Algorithms does
(Lannelongue et al. 2021, doi:10.1002/advs.202100707: usage factor 1 unless known)."""


FALLBACK_PERIOD_S = 4.5
"""Where every package has a counter, utilisation is read about every 5 s and kept meanwhile: /proc/stat costs
the kernel more than all other reads of a tick together, the more so with many CPUs."""


TIMES_STEP_S = 0.1
"""CPU times increase in steps of 10 ms: two readings closer together may show no increase at all."""


class TdpSensor:
    """Utilisation for every CPU package, and the estimated devices that no other sensor reads."""

    name = "tdp"

    def __init__(
        self,
        cpus: Sequence[Device],
        gpus: Sequence[Device],
        sources: Sequence[SensorState],
        is_fallback_only: bool = False,
        gpus_are_given: bool = False,
        procfs: Path = Path("/proc"),
    ) -> None:
        self.gpus_are_given = gpus_are_given
        self._procfs = procfs
        self._cpus = cpus
        self._gpus = gpus
        self._sources = sources
        self._period_s = FALLBACK_PERIOD_S if is_fallback_only else 0.0
        self._due_s = 0.0
        self._ratio: float | None = None
        self._ratio_s = 0.0
        self._readings: list[Reading] = []
        self._before = read_cpu_times(procfs, float("-inf"))

    def devices(self) -> Sequence[Device]:
        return [*self._cpus, *self._gpus]

    def sources(self) -> Sequence[SensorState]:
        return self._sources

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        if self._cpus:
            try:
                if edge or self._ratio is None or not self._due_s - self._period_s <= now_s < self._due_s:
                    self._ratio = self._cpu_utilization_ratio(now_s)
                    self._due_s = now_s + self._period_s
                    self._readings = [
                        Reading(device.id, utilization_ratio=self._ratio) for device in self._cpus
                    ]
            except (OSError, ValueError) as error:
                reason = "io" if isinstance(error, OSError) else "garbage"
                for device in self._cpus:
                    yield Failure(device.id, reason, str(error))
            else:
                yield from self._readings
        for device in self._gpus:
            yield Reading(device.id)

    def close(self) -> None:
        close_cpu_times(self._procfs)

    def _cpu_utilization_ratio(self, now_s: float) -> float | None:
        """Busy share of the machine's CPU time since the last call; None if none was accounted for long."""
        before, now = self._before, read_cpu_times(self._procfs, now_s)
        busy = now.busy - before.busy
        idle = (now.idle - before.idle) + (now.iowait - before.iowait)
        total = busy + idle + (now.steal - before.steal)
        if not total:
            return self._ratio if 0.0 <= now_s - self._ratio_s < TIMES_STEP_S else None
        self._before, self._ratio_s = now, now_s
        if total < 0:  # the times decreased, for example because a container's /proc was mounted again
            return None
        return min(1.0, max(0.0, busy / total))


def open_sensor(settings: SensorSettings) -> TdpSensor:
    """Open the fallback for devices not in `settings.known`; raises `ConfigError` for an unknown model."""
    stat = settings.procfs / "stat"
    try:
        read_cpu_times(settings.procfs, float("-inf"))
    except (OSError, ValueError) as error:
        raise SensorUnavailable(
            f"{stat} does not hold the CPU's times: {error}", "carbonmon doctor --procfs /proc"
        ) from None
    sources: list[SensorState] = []
    packages, notes = estimated_packages(settings)
    cpus = modules.with_cpu_contents(packages)
    gpus, are_given = _gpus(settings, sources)
    if not cpus and not gpus:
        raise SensorUnavailable("no CPU package and no GPU is left to estimate")
    estimated = [device for device in (*cpus, *gpus) if device.id not in settings.known]
    metered = len(cpus) + len(gpus) - len(estimated)
    texts = [(device.id, _describe(device)) for device in estimated]
    texts += [("", note) for note in notes]
    if metered:
        texts.append(("", f"fallback for {metered} metered"))
    is_fallback_only = all(device.id in settings.known for device in cpus)
    reason = "; ".join(text for _, text in texts)
    state = SensorState("tdp", "used", reason, "", True, parts=tuple(texts))
    return TdpSensor(cpus, gpus, [state, *sources], is_fallback_only, are_given, settings.procfs)


def _describe(device: Device) -> str:
    spec = device.spec
    if spec is None:
        return f"{device.id}: nothing"
    assumed = spec.assumed_utilization_ratio
    load = "utilisation" if assumed is None else f"an assumed {assumed:.0%}"
    return f"{device.id} = {spec.tdp_w:.4g} W × {load} ({spec.source})"


class _Gpus(NamedTuple):
    """The estimated GPUs. `are_given`: they are those that the job was given."""

    devices: list[Device]
    are_given: bool


def _gpus(settings: SensorSettings, sources: list[SensorState]) -> _Gpus:
    """GPUs that no other sensor reads: those that the driver's /proc lists, or that the user states."""
    if any(device.gpu_ids for device in settings.known.values()):
        return _Gpus([], False)
    found = _proc_gpus(settings.procfs)
    stated = None
    if settings.gpu_model is not None:
        from carbonmon.hardware.device_names import stated_gpus  # most runs state no model

        stated = stated_gpus(settings)
    if stated is not None and not found:
        found = [
            FoundGpu(f"gpu-{index}", index, stated.name, f"{index:08d}") for index in range(stated.number)
        ]
        selection = select(found, None, {}, is_own_view=True)
    else:
        selection = select(found, settings.gpus if found else None, settings.environ, is_own_view=True)
    if found:
        notes = selection.notes
        if stated is not None and stated.number not in (1, len(found)):
            notes = [*notes, stated.count_note(len(found))]
        sources.extend(SensorState("tdp note", "not used", note) for note in notes)
    devices = []
    for pick in selection.chosen:
        spec = (
            Spec(settings.gpu_tdp_w, TDP_UNCERTAINTY, "--gpu-tdp")
            if settings.gpu_tdp_w is not None
            else modules.figure(pick.gpu.name, settings)
            if stated is None
            else modules.figure(stated.name, settings, stated.spec)
        )
        if spec is None:
            sources.append(
                SensorState(
                    f"tdp GPU {pick.gpu.number}",
                    "not used",
                    f"{pick.gpu.name} is not in the spec table: its energy is unknown",
                    "carbonmon run --gpu-tdp WATTS -- …",
                )
            )
            continue
        spec = spec._replace(assumed_utilization_ratio=GPU_ASSUMED_UTILIZATION)
        device = Device(
            *(pick.gpu.uuid, "gpu", pick.gpu.name, pick.gpu.number, ("tdp",)),
            spec=spec,
            share_ratio=pick.share_ratio,
            share_note=pick.share_note,
        )
        devices.append(modules.with_gpu_contents(device))
    return _Gpus(devices, bool(selection.by))


def _proc_gpus(procfs: Path) -> list[FoundGpu]:
    """GPUs that the NVIDIA driver names in /proc, also where NVML is absent; one UUID is one GPU."""
    found: dict[str, FoundGpu] = {}
    for index, path in enumerate(sorted((procfs / "driver" / "nvidia" / "gpus").glob("*/information"))):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        model = re.search(r"^Model:[ \t]*(.*)$", text, re.MULTILINE)
        uuid = re.search(r"^GPU UUID:[ \t]*(GPU-[0-9a-fA-F-]{36})\s*$", text, re.MULTILINE)
        minor = re.search(r"^Device Minor:[ \t]*([0-9]{1,9})\s*$", text, re.MULTILINE)
        name = model[1].strip() if model else "NVIDIA GPU"
        device_id = uuid[1] if uuid else f"gpu-{index}"
        gpu = FoundGpu(device_id, index, name, path.parent.name, minor=int(minor[1]) if minor else None)
        found.setdefault(device_id, gpu)
    return list(found.values())
