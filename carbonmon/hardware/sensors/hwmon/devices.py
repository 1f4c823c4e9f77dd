"""Makes devices of channels: what each measures, what it contains, how well it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from carbonmon.core.model import Device, Method, Part, Spec
from carbonmon.core.plausibility import believed_limit_w, bound_w
from carbonmon.core.ports import SensorSettings
from carbonmon.core.uncertainty import (
    HWMON_UNCERTAINTY,
    MOMENTARY_UNCERTAINTY,
    TDP_UNCERTAINTY,
    combine,
)
from carbonmon.hardware import modules, nvml_library
from carbonmon.hardware.cpu_info import read_cpu_info
from carbonmon.hardware.drm_gpus import DrmGpu, measured_device
from carbonmon.hardware.pci_devices import INTEL, device_at, is_asleep, is_in_package, package_near
from carbonmon.hardware.sensors.hwmon.channels import Channel, is_averaged, limits_w
from carbonmon.hardware.sensors.hwmon.chips import IIO_CHIP, Key

BUSY_FILE = "device/gpu_busy_percent"


class LeftOut(Exception):
    """A channel that makes no device; the text says why."""


class DeviceMaker:
    """Makes the device of each channel on one machine."""

    def __init__(self, settings: SensorSettings, chips: Mapping[Key, Path], gpus: Sequence[DrmGpu]) -> None:
        self._settings = settings
        self._chips = chips
        self._gpus = {each.device.address: each for each in gpus}
        self._cpu_info = read_cpu_info(settings.sysfs, settings.procfs)
        self._packages = sorted(self._cpu_info.threads)

    def make(self, channel: Channel) -> Device:
        """The device that a channel measures; raises `LeftOut` where it measures none that may be counted."""
        make = {
            "gpu": self._gpu,
            "package": self._socket,
            "grace": self._grace,
            "superchip": self._superchip,
            "board": self._board,
        }[channel.row.measures]
        device = make(channel)
        is_counter = channel.quantity == "energy"
        is_gapless = is_counter or is_averaged(self._chips[channel.chip], channel)
        uncertainty = HWMON_UNCERTAINTY
        if not is_gapless:
            uncertainty = combine(HWMON_UNCERTAINTY, MOMENTARY_UNCERTAINTY)
        methods: tuple[Method, ...] = ("counter",) if is_counter else ("power",)
        if device.max_power_w is None:
            limit_w = self._limit_w(channel)
            most_w = None if limit_w is None else bound_w(device.component, limit_w, None)
            device = device._replace(max_power_w=most_w)
        info = self._cpu_info
        if not device.gpu_ids and info.container_note:
            note = f"{info.container_note}, the same share of the host's power, its true one is unknown"
            device = device._replace(share_ratio=info.container_ratio, share_note=note)
        return device._replace(
            methods=methods + (("tdp",) if device.spec is not None else ()),
            counter_range_uj=channel.row.range_uj if is_counter else None,
            measured_uncertainty=uncertainty,
        )

    def busy_file(self, channel: Channel) -> str:
        """The file of a GPU's utilisation in its chip's folder, "" if there is none."""
        is_there = channel.row.measures == "gpu" and (self._chips[channel.chip] / BUSY_FILE).exists()
        return BUSY_FILE if is_there else ""

    def _limit_w(self, channel: Channel) -> float | None:
        folder = self._chips[channel.chip]
        if channel.row.measures == "gpu" and is_asleep(folder / "device"):
            return None
        found = limits_w(folder, channel.row)
        return max((limit_w for limit_w in found if believed_limit_w(limit_w, None)), default=None)

    def _gpu(self, channel: Channel) -> Device:
        pci = device_at(self._chips[channel.chip] / "device")
        if is_in_package(pci):
            # amdgpu's figure of an APU is the package's, CPU cores included (Linux, gpu/amdgpu/thermal).
            number = package_near(self._settings.sysfs, pci.address) or 0
            return self._package(number)
        found = self._gpus.get(pci.address)
        if found is None:
            raise LeftOut(f"its device {pci.address} is no graphics card of /sys/class/drm")
        known = self._settings.known.get(found.gpu.uuid)
        if pci.vendor == INTEL and known is not None and known.is_measured:
            # Two counters of one card, hwmon's and Level Zero's, do not stand in for each other.
            raise LeftOut(f"{found.gpu.uuid} is measured already, by a sensor before this one")
        limit_w = self._limit_w(channel)
        spec = None
        if self.busy_file(channel) and self._settings.gpu_tdp_w is not None:
            spec = Spec(self._settings.gpu_tdp_w, TDP_UNCERTAINTY, "--gpu-tdp")
        elif self.busy_file(channel) and limit_w is not None:
            spec = Spec(limit_w, TDP_UNCERTAINTY, f"the power limit that {channel.chip.name} reports")
        return measured_device(self._settings.sysfs, found)._replace(spec=spec)

    def _socket(self, channel: Channel) -> Device:
        number = channel.socket
        if number is None:  # one chip for each socket, in their order
            same = [key for key in self._chips if key.name == channel.chip.name]
            place = same.index(channel.chip)
            number = self._packages[place] if place < len(self._packages) else place
        return self._package(number)

    def _package(self, number: int) -> Device:
        name = f"package-{number}"
        if any(known.startswith(f"{name}-die-") for known in self._settings.known):
            raise LeftOut(f"{name} is measured already, by the counters of its dies")
        # With all its dies. What estimates it knows the model's name.
        return Device(name, "cpu", name, number, contains=(Part("cpu", number),))

    def _grace(self, channel: Channel) -> Device:
        inside = Part("cpu", channel.socket), Part("dram", channel.socket)
        return Device(
            f"grace-{channel.socket}", "module", "Grace CPU and memory", channel.socket, contains=inside
        )

    def _superchip(self, channel: Channel) -> Device:
        cpu, memory = Part("cpu", channel.socket), Part("dram", channel.socket)
        return Device(
            f"module-socket-{channel.socket}",
            "module",
            "Grace superchip",
            channel.socket,
            contains=(*self._gpus_near(channel), cpu, memory),
        )

    def _gpus_near(self, channel: Channel) -> tuple[Part, ...]:
        """The GPUs in a superchip: of the module that NVML shows with the same CPU, or by their names."""
        is_alone = len(self._packages) < 2
        known = self._settings.known.values()
        cpus = {Part("cpu", channel.socket), *([Part("cpu")] if is_alone else [])}
        near = [
            part
            for device in known
            if device.component == "module" and not cpus.isdisjoint(device.contains)
            for part in device.contains
            if part.component == "gpu"
        ]
        if near:
            return tuple(near)
        chips = [device for device in known if modules.is_superchip(device.name) and device.gpu_ids]
        is_unasked = nvml_library.is_here() and not any(device.gpu_ids for device in known)
        if not is_alone and (chips or is_unasked):
            raise LeftOut("which GPUs are in it is not known")
        if is_unasked:
            return (Part("gpu"),)
        return tuple(Part("gpu", None, gpu) for device in chips for gpu in device.gpu_ids)

    def _board(self, channel: Channel) -> Device:
        name = modules.board_name(self._settings)
        if not modules.is_embedded(name) and channel.chip.name != IIO_CHIP:  # that driver is of Jetsons only
            raise LeftOut("this is no Jetson board: what it measures is not known")
        largest_w = modules.largest_w(name)
        return Device(
            "module-0",
            "module",
            name or "Jetson board",
            0,
            max_power_w=None if largest_w is None else bound_w("module", largest_w, None),
            contains=(Part("gpu"), Part("cpu"), Part("dram")),
        )
