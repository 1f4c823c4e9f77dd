"""Lists the GPUs of NVML: identity, PCI order, MIG instances. The caller has NVML initialised."""

from __future__ import annotations

from collections import Counter
from typing import Any

from carbonmon.core.records import NamedTuple
from carbonmon.hardware.found_gpus import FoundGpu, MigInstance


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
    minor = ask(nvml, "nvmlDeviceGetMinorNumber", handle)
    mode = ask(nvml, "nvmlDeviceGetMigMode", handle)
    is_mig = bool(mode) and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE
    instances = _mig_instances(nvml, handle) if is_mig else ()
    return FoundGpu(uuid, index, name, bus_id, instances, minor, is_mig)


class _Slices(NamedTuple):
    """The slices of a MIG instance: of its GPU instance, and of its compute instance in that."""

    gpu_instance: int
    compute_instance: int


def _mig_instances(nvml: Any, handle: Any) -> tuple[MigInstance, ...]:
    count = ask(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0
    found: list[tuple[MigInstance, _Slices | None]] = []
    for index in range(count):
        instance = ask(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        uuid = None if instance is None else ask(nvml, "nvmlDeviceGetUUID", instance)
        if not uuid:
            continue
        numbers = [ask(nvml, f"nvmlDeviceGet{kind}InstanceId", instance) for kind in ("Gpu", "Compute")]
        attributes = ask(nvml, "nvmlDeviceGetAttributes", instance)
        slices = None
        if attributes is not None and attributes.gpuInstanceSliceCount:
            slices = _Slices(attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount)
        found.append((MigInstance(uuid, 1.0, "", index, *numbers), slices))
    holders = Counter(mig.gpu_instance for mig, _ in found if mig.gpu_instance is not None)
    return tuple(
        _with_share(mig, slices, count, mig.gpu_instance is not None and holders[mig.gpu_instance] > 1)
        for mig, slices in found
    )


def _with_share(mig: MigInstance, slices: _Slices | None, count: int, is_divided: bool) -> MigInstance:
    """The instance with its share of the GPU. Compute instances that divide a GPU instance count their own
    slices, so that they are not all of it each."""
    number = 0 if slices is None else slices.compute_instance if is_divided else slices.gpu_instance
    if not number:
        return mig._replace(note="MIG instance of unknown size: the whole GPU is counted")
    note = f"MIG instance: {number} of {count} slices of the GPU's energy"
    return mig._replace(share_ratio=min(1.0, number / count), note=note)
