"""Makes the devices of a run from NVML's list of GPUs: which ones, which share, which methods.

The methods are the energy counter, integrated power, and TDP × utilisation: a device has those that its
driver supports. Its TDP is what the user gives, else the power limit in force, else its model's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Device, Method, Part, SensorState, Spec
from carbonmon.core.plausibility import believed_limit_w, bound_w
from carbonmon.core.ports import SensorSettings
from carbonmon.core.records import NamedTuple
from carbonmon.core.uncertainty import NVML_UNCERTAINTY, TDP_UNCERTAINTY
from carbonmon.hardware import modules
from carbonmon.hardware.found_gpus import Chosen, FoundGpu
from carbonmon.hardware.gpu_inventory import ask, list_inventory
from carbonmon.hardware.gpu_selection import check_present, own_entries, select
from carbonmon.hardware.nvml_errors import NOT_SUPPORTED_ERRORS, REMEDIES
from carbonmon.hardware.sensors.nvml.gpu import Gpu
from carbonmon.hardware.sensors.nvml.superchip import (
    Module,
    Scopes,
    are_one_counter,
    find_scopes,
    module_device,
    package_of,
)
from carbonmon.hardware.spec_sheets import gpu_spec

if TYPE_CHECKING:
    from carbonmon.hardware.device_names import StatedGpus


class Opened(NamedTuple):
    """The GPUs to meter and what was found. `are_given`: they are those that the job was given."""

    gpus: list[Gpu]
    sources: list[SensorState]
    are_given: bool


def _of_other_vendors(settings: SensorSettings) -> list[FoundGpu]:
    from carbonmon.hardware.other_vendors import gpus_of_other_vendors  # most machines have none of them

    return gpus_of_other_vendors(settings.sysfs)


def open_gpus(nvml: Any, settings: SensorSettings) -> Opened:
    """The GPUs of the job; raises `SensorUnavailable` where there is none to meter, and `ConfigError` where
    the user names one that is not there."""
    found, handles, unreadable = list_inventory(nvml)
    notes = [f"GPU {index} cannot be read: {error}" for index, error in unreadable]
    remedy = "nvidia-smi -L"
    for _, error in unreadable:
        remedy = REMEDIES.get(error.value, remedy)
    if not found:
        raise SensorUnavailable("; ".join(notes) or "NVML finds no GPU", remedy)
    named = settings.gpus
    if named is not None:
        named = own_entries(named, found, lambda: _of_other_vendors(settings))
        check_present(named, found, [index for index, _ in unreadable])
    selection = select(found, named, settings.environ, is_own_view=True)
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
    figures = {
        pick.gpu.name: modules.figure(pick.gpu.name, settings)
        if stated is None
        else modules.figure(stated.name, settings, stated.spec)
        for pick in selection.chosen
    }
    gpus = _with_modules(nvml, selection.chosen, handles, settings, figures)
    return Opened(gpus, _sources(gpus, len(found), notes), bool(selection.by))


def _stated(settings: SensorSettings) -> StatedGpus | None:
    """The GPUs that the user states; most state none, and need no tables for it."""
    if settings.gpu_model is None:
        return None
    from carbonmon.hardware.device_names import stated_gpus

    return stated_gpus(settings)


def _with_modules(
    nvml: Any,
    chosen: Sequence[Chosen],
    handles: Mapping[str, Any],
    settings: SensorSettings,
    figures: Mapping[str, Spec | None],
) -> list[Gpu]:
    """The chosen GPUs, those of superchips with their modules; `figures` are powers by the GPU's name.

    Several GPUs of one CPU: where they show one counter, one module holds them all; where each has its own,
    the first holds the CPU, so that it is in one device.
    """
    gpus: list[Gpu] = []
    first_of: dict[int | None, tuple[Any, Module]] = {}
    for pick in chosen:
        handle = handles[pick.gpu.uuid]
        scopes = find_scopes(nvml, handle, pick.gpu.name)
        device = _device(nvml, handle, pick, settings, figures[pick.gpu.name], scopes)
        if scopes is None or not scopes.has_module:
            gpus.append(Gpu(device, handle, scopes))
            continue
        package = package_of(settings.sysfs, pick.gpu.pci_bus_id)
        first = first_of.get(package)
        if first is not None and _is_one_meter(nvml, *first, handle, scopes):
            first[1].hold(device)
            gpus.append(Gpu(device, handle, scopes))
            continue
        cpu = Part("cpu", package) if first is None else None
        figure = gpu_spec(pick.gpu.name) if modules.is_whole_module(pick.gpu.name) else None
        module = Module(module_device(device, scopes, cpu, figure), scopes)
        first_of.setdefault(package, (handle, module))
        gpus.append(Gpu(device, handle, scopes, module))
    return gpus


def _is_one_meter(nvml: Any, first_handle: Any, first: Module, handle: Any, scopes: Scopes) -> bool:
    """Whether a GPU shows the counter of another GPU's module."""
    if "counter" not in first.device.methods or not (scopes.module_energy or scopes.is_total_of_module):
        return False
    return are_one_counter(nvml, (first_handle, first.scopes.module_energy), (handle, scopes.module_energy))


def _device(
    nvml: Any,
    handle: Any,
    pick: Chosen,
    settings: SensorSettings,
    table: Spec | None,
    scopes: Scopes | None,
) -> Device:
    table_w = None if table is None else table.tdp_w
    limit_w = believed_limit_w(_limit_w(nvml, handle), table_w)
    highest_w = believed_limit_w(_highest_limit_w(nvml, handle), table_w)
    spec = _spec(table, limit_w, settings)
    tdp_w = table_w if table_w is not None or spec is None else spec.tdp_w
    max_power_w = bound_w("gpu", max(filter(None, (limit_w, highest_w)), default=None), tdp_w)
    methods: list[Method] = []
    has_counter = scopes is None or scopes.has_gpu_counter
    if has_counter and _supports(nvml, "nvmlDeviceGetTotalEnergyConsumption", handle):
        methods.append("counter")
    if _supports(nvml, "nvmlDeviceGetPowerUsage", handle):
        methods.append("power")
    if spec is not None:
        holds_at_any_load = spec.assumed_utilization_ratio is not None
        if holds_at_any_load or _supports(nvml, "nvmlDeviceGetUtilizationRates", handle):
            methods.append("tdp")
        elif not methods:
            methods.append("tdp")
            spec = spec._replace(assumed_utilization_ratio=1.0, source=f"{spec.source}, assumed fully used")
    device = Device(
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
    return modules.with_gpu_contents(device)


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
    if table is not None and table.assumed_utilization_ratio is not None:
        return table
    if limit_w is not None:
        return Spec(limit_w, TDP_UNCERTAINTY, "the enforced power limit that NVML reports")
    return table


def _sources(gpus: Sequence[Gpu], found: int, notes: Sequence[str]) -> list[SensorState]:
    """How many GPUs are metered by which method, notes on the choice, and every GPU without a counter."""
    held = {gpu_id for gpu in gpus if gpu.module is not None for gpu_id in gpu.module.device.gpu_ids}
    own = [gpu.device for gpu in gpus if gpu.device.id not in held]
    best = Counter(next(iter(device.methods), "nothing") for device in own)
    whole = Counter(gpu.module.device.methods[0] for gpu in gpus if gpu.module is not None)
    texts = [f"{count} by {method}" for method, count in best.items()]
    texts += [
        f"{count} whole module{'s' if count > 1 else ''} by {method}" for method, count in whole.items()
    ]
    text, devices = ", ".join(texts), [gpu.device for gpu in gpus]
    sources = [SensorState("nvml", "used", f"{len(devices)} of {found} GPUs: {text}", "", True)]
    sources += [SensorState("nvml note", "not used", note) for note in notes]
    for device in own:
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
