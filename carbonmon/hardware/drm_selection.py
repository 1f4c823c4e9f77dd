"""Which GPUs of AMD and Intel a job was given, as the sensors that read them ask it."""

from __future__ import annotations

from carbonmon.core.ports import SensorSettings
from carbonmon.hardware import nvml_library
from carbonmon.hardware.drm_gpus import DrmGpu, in_hip_order
from carbonmon.hardware.gpu_selection import Selection, check_present, own_entries
from carbonmon.hardware.other_vendors import gaudi_by_id, knows_nvidia
from carbonmon.hardware.rocm_selection import select


def select_given(settings: SensorSettings, gpus: list[DrmGpu]) -> Selection:
    """Of the GPUs of AMD and Intel that are here those of the job.

    Raises `ConfigError` where the user names one that is not there and no NVIDIA driver could have it.
    """
    found = [each.gpu for each in gpus]
    has_nvidia = knows_nvidia(settings, {gpu.uuid for gpu in found})
    named = settings.gpus
    if named is not None:
        named = own_entries(named, found, lambda: gaudi_by_id(settings.sysfs))
        if found and not has_nvidia and not nvml_library.is_here():
            check_present(named, found, lister="carbonmon doctor")
    order = in_hip_order(settings.sysfs, gpus)
    return select(found, order, named, settings.environ, has_nvidia=has_nvidia)
