"""CPU packages and their memory through RAPL's powercap counters, read by pyRAPL where it works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Device, Failure, Part, Reading, SensorState
from carbonmon.core.plausibility import bound_w
from carbonmon.core.ports import SensorSettings
from carbonmon.core.uncertainty import RAPL_DRAM_UNCERTAINTY, RAPL_PACKAGE_UNCERTAINTY
from carbonmon.hardware.cpu_info import read_cpu_info
from carbonmon.hardware.number_file import reason_of
from carbonmon.hardware.sensors.rapl.readers import DirectReader, Reader, open_pyrapl
from carbonmon.hardware.sensors.rapl.zones import Zone, discover, mirrors

RIGHTS_REMEDY = (
    "sudo sh -c 'chgrp -R {group} {path}; chmod g+r {path}/*/energy_uj {path}/*/*/energy_uj'"
    "   # until the next boot; for good: deploy/systemd/carbonmon-rapl.tmpfiles.conf"
)


class RaplSensor:
    """Every package and dram zone of powercap; overlapping domains and mirrors are left out."""

    name = "rapl"

    def __init__(
        self,
        readers: Sequence[tuple[Zone, Reader]],
        sources: Sequence[SensorState],
        share_ratio: float = 1.0,
        share_note: str = "",
        mirrored: Mapping[str, Sequence[Zone]] = MappingProxyType({}),
    ) -> None:
        """`mirrored` are the zones that show a device's counter, by its id: the device holds them too."""
        self._readers = list(readers)
        self._mirrored = mirrored
        self._sources = sources
        self._share_ratio = share_ratio
        self._share_note = share_note

    def devices(self) -> Sequence[Device]:
        return [
            Device(
                id=zone.device_id,
                component=zone.component,
                name=zone.name,
                index=zone.package,
                methods=("counter",),
                counter_range_uj=zone.range_uj,
                max_power_w=None if zone.limit_w is None else bound_w(zone.component, zone.limit_w, None),
                measured_uncertainty=(
                    RAPL_PACKAGE_UNCERTAINTY if zone.component == "cpu" else RAPL_DRAM_UNCERTAINTY
                ),
                share_ratio=self._share_ratio,
                share_note=self._share_note,
                contains=tuple(
                    Part(
                        each.component, each.package, each.device_id if each.package == zone.package else None
                    )
                    for each in self._mirrored.get(zone.device_id, ())
                ),
            )
            for zone, _ in self._readers
        ]

    def sources(self) -> Sequence[SensorState]:
        return self._sources

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        for position, (zone, reader) in enumerate(self._readers):
            try:
                energy_uj = reader.read_uj()
            except (OSError, ValueError) as error:
                yield Failure(zone.device_id, reason_of(error), str(error))
                if not isinstance(reader, DirectReader):
                    # pyRAPL keeps a file open that may never work again; our own reader opens it again.
                    reader.close()
                    self._readers[position] = (zone, DirectReader(zone))
                continue
            yield Reading(zone.device_id, energy_uj)

    def close(self) -> None:
        for _, reader in self._readers:
            reader.close()


def _remedy_without_packages(settings: SensorSettings) -> str:
    """No driver in a virtual machine makes counters that its host does not hand on."""
    if read_cpu_info(settings.sysfs, settings.procfs).is_virtual:
        return (
            "only this machine's host can hand counters on; for a closer estimate give the power of a "
            "package: --cpu-tdp W, or its model: --cpu-model NAME"
        )
    return (
        "sudo modprobe intel_rapl_msr   # on the machine itself; in a container mount the host's /sys "
        "and give --sysfs; where neither helps, for a closer estimate: --cpu-tdp W"
    )


def open_sensor(settings: SensorSettings) -> RaplSensor:
    """Open powercap below `settings.sysfs`; raises `SensorUnavailable` where it cannot be used."""
    root = settings.sysfs / "class" / "powercap" / "intel-rapl"
    zones, left_out = discover(settings.sysfs)
    if not zones:
        raise SensorUnavailable(
            f"no RAPL package under {root} (a virtual machine, a container without the host's /sys, "
            "or no driver)",
            _remedy_without_packages(settings),
        )
    readers: list[tuple[Zone, Reader]] = []
    denied: list[str] = []
    sources: list[SensorState] = [
        SensorState(f"rapl {name}", "not used", reason) for name, reason in left_out
    ]
    remedy = RIGHTS_REMEDY.format(group="$(id -gn)", path=root.resolve())
    for zone in zones:
        reader = DirectReader(zone)
        try:
            reader.read_uj()
        except PermissionError as error:
            reader.close()
            denied.append(str(error))
            sources.append(SensorState(f"rapl {zone.device_id}", "not used", str(error), remedy))
            continue
        except (OSError, ValueError) as error:
            sources.append(SensorState(f"rapl {zone.device_id}", "used", f"not readable yet: {error}"))
        readers.append((zone, reader))
    mirrored: dict[str, list[Zone]] = {}
    for mirror, original in mirrors(readers):
        mirrored.setdefault(original.device_id, []).append(mirror)
        next(reader for zone, reader in readers if zone is mirror).close()
        readers = [(zone, reader) for zone, reader in readers if zone is not mirror]
        sources.append(
            SensorState(
                f"rapl {mirror.device_id}", "not used", f"moves with {original.device_id}: a mirror of it"
            )
        )
    if not readers:
        raise SensorUnavailable(denied[0] if denied else f"no RAPL zone under {root} can be read", remedy)
    served, why_not = open_pyrapl(settings.sysfs, readers)
    by_pyrapl = sum(reader is not direct for (_, reader), (_, direct) in zip(served, readers, strict=True))
    how = f"{by_pyrapl} through pyRAPL, {len(served) - by_pyrapl} directly"
    text = f"{', '.join(zone.device_id for zone, _ in served)}: {how}" + (f" ({why_not})" if why_not else "")
    info = read_cpu_info(settings.sysfs, settings.procfs)
    note = ""
    if info.container_note:
        note = f"{info.container_note}, the same share of the host's counter, its true one is unknown"
        sources.append(SensorState("rapl share", "used", note))
    elif info.is_virtual:
        reason = "a virtual machine: whether the counters are its own or the host's is unknown"
        sources.append(SensorState("rapl share", "used", reason))
    state = SensorState("rapl", "used", text, "", True)
    return RaplSensor(served, [state, *sources], info.container_ratio, note, mirrored)
