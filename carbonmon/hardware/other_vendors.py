"""GPUs of AMD and Intel and Gaudi accelerators beside NVIDIA's, and whose indices `--gpus` has.

One numbering for `carbonmon run` and the daemon, whatever the order of the sensors: indices are NVML's where
a GPU of NVIDIA's is here, else those of AMD's and Intel's in PCI order, else HLML's. The others have ids.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.drm_gpus import list_drm_gpus
from carbonmon.hardware.found_gpus import NO_GPU, FoundGpu
from carbonmon.hardware.gaudi_cards import device_id, list_gaudi_cards


def gpus_of_other_vendors(sysfs: Path) -> list[FoundGpu]:
    """Those below a sysfs root, in no order that means anything."""
    return [*(each.gpu for each in list_drm_gpus(sysfs)), *gaudi_by_id(sysfs)]


def gaudi_by_id(sysfs: Path) -> list[FoundGpu]:
    """Gaudi accelerators; their numbers are not HLML's indices."""
    ids = [device_id(card.address) for card in list_gaudi_cards(sysfs)]
    return [FoundGpu(name, place, "Gaudi accelerator", name) for place, name in enumerate(ids)]


def knows_nvidia(settings: SensorSettings, own: Collection[str]) -> bool:
    """Whether another sensor serves a GPU of NVIDIA's: neither `own` nor of a known other kind."""
    others = {gpu for device in settings.known.values() for gpu in device.gpu_ids}.difference(own)
    if not others:
        return False
    gaudi = {gpu.uuid for gpu in gaudi_by_id(settings.sysfs)}
    return any(gpu not in gaudi and not NO_GPU.match(gpu) for gpu in others)
