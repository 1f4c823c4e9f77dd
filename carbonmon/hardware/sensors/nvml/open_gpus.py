"""Makes the devices of a run from NVML's list of GPUs: which ones, which share, which methods.

The methods are the energy counter, integrated power, and TDP × utilisation: a device has those that its
driver supports. Its TDP is what the user gives, else the power limit in force, else its model's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Device, Method, SensorState, Spec
from carbonmon.core.plausibility import believed_limit_w, bound_w
from carbonmon.core.ports import SensorSettings
from carbonmon.core.uncertainty import NVML_UNCERTAINTY, TDP_UNCERTAINTY
from carbonmon.hardware.found_gpus import Chosen
from carbonmon.hardware.gpu_inventory import ask, list_inventory
from carbonmon.hardware.gpu_selection import select
from carbonmon.hardware.nvml_errors import NOT_SUPPORTED_ERRORS, REMEDIES
from carbonmon.hardware.sensors.nvml.gpu import Gpu
from carbonmon.hardware.spec_sheets import gpu_spec

if TYPE_CHECKING:
    from carbonmon.hardware.device_names import StatedGpus


class Opened(NamedTuple):
    """The GPUs to meter and what was found. `are_given`: they are those that the job was given."""

    gpus: list[Gpu]
    sources: list[SensorState]
    are_given: bool


def open_gpus(nvml: Any, settings: SensorSettings) -> Opened:
    """The GPUs of the job; raises `SensorUnavailable` where there is none to meter."""
    found, handles, unreadable = list_inventory(nvml)
    notes = [f"GPU {index} cannot be read: {error}" for index, error in unreadable]
    remedy = "nvidia-smi -L"
    for _, error in unreadable:
        remedy = REMEDIES.get(error.value, remedy)
    if not found:
        raise SensorUnavailable("; ".join(notes) or "NVML finds no GPU", remedy)
    selection = select(found, settings.gpus, settings.environ, is_own_view=True)
    stated = _stated(settings)
    notes += selection.notes
    if stated is not None and stated.number not in (1, len(found)):
        notes.append(stated.count_note(len(found)))
    if not selection.chosen:
        nothing = f"the job may use none of the {len(found)} GPUs ({selection.by})"
        raise SensorUnavailable(
            "; ".join(notes) or nothing,
            "carbonmon run --gpus 0,1 -- …",
            "; ".join([*selection.notes, nothing]) if selection.notes and selection.by != "--gpus" else "",
        )
    models = {pick.gpu.name: gpu_spec(pick.gpu.name) for pick in selection.chosen} if stated is None else {}
    devices = [
        _device(
            *(nvml, handles[pick.gpu.uuid], pick, settings),
            models[pick.gpu.name] if stated is None else stated.spec,
        )
        for pick in selection.chosen
    ]
    gpus = [Gpu(device, handles[device.id]) for device in devices]
    return Opened(gpus, _sources(devices, len(found), notes), bool(selection.by))


def _stated(settings: SensorSettings) -> StatedGpus | None:
    """The GPUs that the user states; most state none, and need no tables for it."""
    if settings.gpu_model is None:
        return None
    from carbonmon.hardware.device_names import stated_gpus

    return stated_gpus(settings)


def _device(nvml: Any, handle: Any, pick: Chosen, settings: SensorSettings, table: Spec | None) -> Device:
    table_w = None if table is None else table.tdp_w
    limit_w = believed_limit_w(_limit_w(nvml, handle), table_w)
    highest_w = believed_limit_w(_highest_limit_w(nvml, handle), table_w)
    spec = _spec(table, limit_w, settings)
    tdp_w = table_w if table_w is not None or spec is None else spec.tdp_w
    max_power_w = bound_w("gpu", max(filter(None, (limit_w, highest_w)), default=None), tdp_w)
    methods: list[Method] = []
    if _supports(nvml, "nvmlDeviceGetTotalEnergyConsumption", handle):
        methods.append("counter")
    if _supports(nvml, "nvmlDeviceGetPowerUsage", handle):
        methods.append("power")
    if spec is not None:
        if _supports(nvml, "nvmlDeviceGetUtilizationRates", handle):
            methods.append("tdp")
        elif not methods:
            methods.append("tdp")
            spec = spec._replace(assumed_utilization_ratio=1.0, source=f"{spec.source}, assumed fully used")
    return Device(
        id=pick.gpu.uuid,
        component="gpu",
        name=pick.gpu.name,
        index=pick.gpu.number,
        methods=tuple(methods),
        max_power_w=max_power_w,
        spec=spec,
        measured_uncertainty=NVML_UNCERTAINTY,
        share_ratio=pick.share_ratio,
        share_note=pick.share_note,
    )


def _limit_w(nvml: Any, handle: Any) -> float | None:
    """The power limit in force in W, None where the driver does not say."""
    limit_mw = ask(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
    limit_mw = limit_mw or ask(nvml, "nvmlDeviceGetPowerManagementLimit", handle)
    return limit_mw / 1000.0 if limit_mw else None


def _highest_limit_w(nvml: Any, handle: Any) -> float | None:
    """The highest limit that the board can be given in W: the one in force may just have been lowered."""
    limits_mw = ask(nvml, "nvmlDeviceGetPowerManagementLimitConstraints", handle)
    return limits_mw[1] / 1000.0 if limits_mw else None


def _spec(table: Spec | None, limit_w: float | None, settings: SensorSettings) -> Spec | None:
    if settings.gpu_tdp_w is not None:
        return Spec(settings.gpu_tdp_w, TDP_UNCERTAINTY, "--gpu-tdp")
    if limit_w is not None:
        return Spec(limit_w, TDP_UNCERTAINTY, "the enforced power limit that NVML reports")
    return table


def _sources(devices: Sequence[Device], found: int, notes: Sequence[str]) -> list[SensorState]:
    """How many GPUs are metered by which method, notes on the choice, and every GPU without a counter."""
    best = Counter(next(iter(device.methods), "nothing") for device in devices)
    text = ", ".join(f"{count} by {method}" for method, count in best.items())
    sources = [SensorState("nvml", "used", f"{len(devices)} of {found} GPUs: {text}", "", True)]
    sources += [SensorState("nvml note", "not used", note) for note in notes]
    for device in devices:
        if "counter" in device.methods:
            continue
        if "power" in device.methods:
            instead = "power is integrated"
        elif device.methods:
            instead = "no power: TDP × utilisation"
        else:
            instead = "no power, no utilisation, and its TDP is unknown: give --gpu-tdp"
        sources.append(
            SensorState(
                f"nvml GPU {device.index}",
                "used" if device.methods else "not used",
                f"{device.name}: no energy counter; {instead}",
            )
        )
    return sources


def _supports(nvml: Any, function: str, handle: Any) -> bool:
    """Whether the driver supports this reading; one that fails with another error may work later."""
    try:
        getattr(nvml, function)(handle)
    except nvml.NVMLError as error:
        return error.value not in NOT_SUPPORTED_ERRORS
    return True
