"""GPUs of AMD and Intel and Gaudi accelerators, as `--gpus` names them beside NVIDIA's: by their ids."""

from __future__ import annotations

from pathlib import Path

from carbonmon.hardware.drm_gpus import list_drm_gpus
from carbonmon.hardware.found_gpus import FoundGpu
from carbonmon.hardware.gaudi_cards import device_id, list_gaudi_cards


def gpus_of_other_vendors(sysfs: Path) -> list[FoundGpu]:
    """Those below a sysfs root, in no order that means anything."""
    gaudi = [device_id(card.address) for card in list_gaudi_cards(sysfs)]
    return [
        *(each.gpu for each in list_drm_gpus(sysfs)),
        *(FoundGpu(name, place, "Gaudi accelerator", name) for place, name in enumerate(gaudi)),
    ]
