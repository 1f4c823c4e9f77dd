"""GPUs of AMD and Intel as the kernel's graphics list shows them: their ids, their names, HIP's order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from carbonmon.core.model import Device
from carbonmon.core.model import Part as DevicePart
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.found_gpus import Chosen, FoundGpu, Part, whole
from carbonmon.hardware.pci_devices import (
    AMD,
    INTEL,
    PciDevice,
    drm_cards,
    folders,
    is_in_package,
    package_near,
    text_of,
)

_NAMES = {AMD: "AMD GPU", INTEL: "Intel GPU"}

_MODELS = {
    (AMD, "0x738c"): "AMD Instinct MI100",
    (AMD, "0x7408"): "AMD Instinct MI250X",
    (AMD, "0x740f"): "AMD Instinct MI210",
    (AMD, "0x74a0"): "AMD Instinct MI300A",
    (AMD, "0x74a1"): "AMD Instinct MI300X",
    (AMD, "0x74a5"): "AMD Instinct MI325X",
    (INTEL, "0x56a0"): "Intel Arc A770",
    (INTEL, "0x0bd5"): "Intel Data Center GPU Max 1550",
    (INTEL, "0xe20b"): "Intel Arc B580",
}
"""Names by the PCI ID repository, of models whose number is theirs alone and that the table of GPUs has."""


_MI300A = "0x74a0"
"""GPU, CPU cores and memory in one package (PCI ID repository)."""


class DrmGpu(NamedTuple):
    """A GPU of its own, outside a CPU's package: what names it, and its PCI device.

    `gpu.uuid` is the device's id: `GPU-` and ROCm's unique id, which does not change with the slot, else the
    PCI address.
    """

    gpu: FoundGpu
    device: PciDevice


class KfdNode(NamedTuple):
    """A GPU in the list of AMD's compute driver, or a partition of one; its order is that of ROCm and HIP."""

    address: str
    has_cpu_cores: bool

    def is_of(self, device: PciDevice) -> bool:
        """Whether it is this GPU, or a partition of it: some kernels have the partition as PCI function."""
        return device.address in (self.address, f"{self.address[:-1]}0")


def list_drm_gpus(sysfs: Path) -> list[DrmGpu]:
    """The GPUs of AMD and Intel below a sysfs root, in PCI order, which is that of their numbers."""
    devices = {
        device.address: device
        for device in drm_cards(sysfs)
        if device.vendor in _NAMES and not is_in_package(device)
    }
    unique = {address: text_of(device.folder / "unique_id") for address, device in devices.items()}
    found = []
    for number, address in enumerate(sorted(devices)):
        device, own_id = devices[address], unique[address]
        is_unique = re.fullmatch(r"[0-9a-f]{1,32}", own_id) and own_id.strip("0")
        if not is_unique or list(unique.values()).count(own_id) > 1:
            own_id = address
        found.append(DrmGpu(FoundGpu(f"GPU-{own_id}", number, _name(device), address), device))
    return found


def measured_device(sysfs: Path, found: DrmGpu) -> Device:
    """What the power and energy of a GPU are of: itself, or of MI300A the module with CPU and memory."""
    gpu = found.gpu
    if found.device.vendor != AMD or found.device.model != _MI300A:
        return Device(gpu.uuid, "gpu", gpu.name, gpu.number)
    cpu = package_near(sysfs, found.device.address)
    inside = DevicePart("gpu", None, gpu.uuid), DevicePart("cpu", cpu), DevicePart("dram", cpu)
    return Device(f"module-{gpu.number}", "module", gpu.name, gpu.number, contains=inside)


def in_hip_order(sysfs: Path, gpus: list[DrmGpu]) -> list[Part]:
    """AMD's GPUs in the order in which ROCm and HIP number them: that of the compute driver's nodes.

    Each partition of a GPU is a node of its own, and has its share of the GPU.
    """
    own = sorted((each for each in gpus if each.device.vendor == AMD), key=lambda each: each.device.address)
    nodes = list(kfd_nodes(sysfs))
    slots: list[Part] = []
    counts = {each.gpu.uuid: sum(node.is_of(each.device) for node in nodes) for each in own}
    for node in nodes:
        gpu = next((each.gpu for each in own if node.is_of(each.device)), None)
        if gpu is not None:
            place = sum(slot.gpu == gpu for slot in slots)
            slots.append(_partition(gpu, place, counts[gpu.uuid]))
    return slots + [whole(each.gpu) for each in own if not counts[each.gpu.uuid]]


def _partition(gpu: FoundGpu, place: int, count: int) -> Part:
    if count == 1:
        return whole(gpu)
    note = f"partition {place} of {count}: 1/{count} of the GPU's energy"
    return Part(f"{gpu.uuid}/{place}", Chosen(gpu, 1.0 / count, note))


def kfd_nodes(sysfs: Path) -> Iterator[KfdNode]:
    """The GPUs among the nodes of AMD's compute driver, by number.

    Linux, drivers/gpu/drm/amd/amdkfd/kfd_topology.c: a node with SIMDs is a GPU; an APU has CPU cores too;
    `location_id` is the bus in 8 bits, then device and function as PCI has them; the number of a partition is
    in its highest four bits, or as the function.
    """
    nodes = [folder for folder in folders(sysfs / "class/kfd/kfd/topology/nodes") if folder.name.isdecimal()]
    for folder in sorted(nodes, key=lambda folder: int(folder.name)):
        found = dict(re.findall(r"^(\w+) ([0-9]{1,12})$", text_of(folder / "properties", 4096), re.MULTILINE))
        if int(found.get("simd_count", "0")):
            place = int(found.get("location_id", "0"))
            address = f"{int(found.get('domain', '0')):04x}:{place >> 8 & 0xFF:02x}"
            address += f":{place >> 3 & 0x1F:02x}.{place & 7:x}"
            yield KfdNode(address, bool(int(found.get("cpu_cores_count", "0"))))


def _name(device: PciDevice) -> str:
    """The product's name where the driver has it (amdgpu, of servers' boards), else by its number."""
    product = text_of(device.folder / "product_name")
    if product and product.isprintable():
        return product
    return _MODELS.get((device.vendor, device.model), f"{_NAMES[device.vendor]} {device.model}")
