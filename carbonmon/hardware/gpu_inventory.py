"""Lists the GPUs of NVML: identity, PCI order, MIG instances. The caller has NVML initialised."""

from __future__ import annotations

from typing import Any, NamedTuple

from carbonmon.hardware.gpu_selection import FoundGpu, MigInstance


class Inventory(NamedTuple):
    """The GPUs that can be read, their handles by UUID, and (index, error) of those that cannot."""

    found: list[FoundGpu]
    handles: dict[str, Any]
    unreadable: list[tuple[int, Any]]


def list_inventory(nvml: Any) -> Inventory:
    """Every GPU in the driver's order; raises NVML's error if the driver cannot count them."""
    found: list[FoundGpu] = []
    handles: dict[str, Any] = {}
    unreadable: list[tuple[int, Any]] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = nvml.nvmlDeviceGetUUID(handle)
        except (nvml.NVMLError, UnicodeDecodeError) as error:
            unreadable.append((index, error))
            continue
        handles[uuid] = handle
        found.append(_identify(nvml, handle, uuid, index))
    return Inventory(found, handles, unreadable)


def ask(nvml: Any, function: str, *arguments: Any) -> Any:
    """The result of an NVML call, None if it fails, or if the driver gives a text that is not UTF-8."""
    try:
        return getattr(nvml, function)(*arguments)
    except (nvml.NVMLError, UnicodeDecodeError):  # nvidia-ml-py decodes names; some drivers give other bytes
        return None


def _identify(nvml: Any, handle: Any, uuid: str, index: int) -> FoundGpu:
    name = ask(nvml, "nvmlDeviceGetName", handle) or "NVIDIA GPU"
    pci = ask(nvml, "nvmlDeviceGetPciInfo", handle)
    bus_id = pci.busId if pci is not None else f"{index:08d}"
    bus_id = bus_id.decode() if isinstance(bus_id, bytes) else bus_id
    return FoundGpu(uuid, index, name, bus_id, _mig_instances(nvml, handle))


def _mig_instances(nvml: Any, handle: Any) -> tuple[MigInstance, ...]:
    mode = ask(nvml, "nvmlDeviceGetMigMode", handle)
    if not mode or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return ()
    count = ask(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0
    instances = []
    for index in range(count):
        instance = ask(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        uuid = None if instance is None else ask(nvml, "nvmlDeviceGetUUID", instance)
        if not uuid:
            continue
        attributes = ask(nvml, "nvmlDeviceGetAttributes", instance)
        slices = attributes.gpuInstanceSliceCount if attributes is not None else 0
        share_ratio, note = 1.0, "MIG instance of unknown size: the whole GPU is counted"
        if slices:
            share_ratio = min(1.0, slices / count)
            note = f"MIG instance: {slices} of {count} slices of the GPU's energy"
        instances.append(MigInstance(uuid, share_ratio, note))
    return tuple(instances)
