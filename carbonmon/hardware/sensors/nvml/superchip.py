"""The module of a superchip: NVIDIA's GPU and CPU in one package, whose meter holds both and their memory.

Newer drivers tell the GPU's and the module's power and energy apart by the scope of a field value (nvml.h:
NVML_FI_DEV_POWER_AVERAGE, …_INSTANT, NVML_FI_DEV_ENERGY; NVML_POWER_SCOPE_MODULE). With older ones the energy
counter of a superchip is the module's and its power sensor the GPU's. docs/use/accuracy.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carbonmon.core.model import Device, Failure, Method, Part, Reading, Spec
from carbonmon.core.records import NamedTuple
from carbonmon.core.uncertainty import NVML_UNCERTAINTY
from carbonmon.hardware.gpu_inventory import ask
from carbonmon.hardware.modules import is_superchip
from carbonmon.hardware.pci_devices import package_near
from carbonmon.hardware.sensors.nvml.gpu import COUNTER_PERIOD_S, PERIOD_JITTER_S, reason

POWER_AVERAGE, POWER_INSTANT, ENERGY = 185, 186, 191
GPU_SCOPE, MODULE_SCOPE = 0, 1
_MEMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
"""nvmlValueType_t (nvml.h): which member of the value's union holds it."""


class Scopes(NamedTuple):
    """Which field values, (field, scope), tell this GPU's and its module's energy and power, None if none.

    `is_total_of_module`: the plain energy counter is the module's, not the GPU's.
    """

    gpu_energy: tuple[int, int] | None
    module_energy: tuple[int, int] | None
    module_power: tuple[int, int] | None
    is_total_of_module: bool

    @property
    def has_gpu_counter(self) -> bool:
        return self.gpu_energy is not None or not self.is_total_of_module

    @property
    def has_module(self) -> bool:
        return bool(self.module_energy or self.module_power or self.is_total_of_module)


class Module:
    """The module of one superchip: which call gives which reading, and when its counter was read."""

    __slots__ = ("counter_at_s", "device", "scopes")

    def __init__(self, device: Device, scopes: Scopes) -> None:
        self.device = device
        self.scopes = scopes
        self.counter_at_s = float("-inf")

    def hold(self, gpu: Device) -> None:
        """Another GPU shows the same meter, so it is in this module too."""
        one_w, other_w = self.device.max_power_w, gpu.max_power_w
        self.device = self.device._replace(
            contains=(*self.device.contains, Part("gpu", None, gpu.id)),
            max_power_w=None if one_w is None or other_w is None else one_w + other_w,
        )

    def read(
        self, nvml: Any, handle: Any, now_s: float, edge: bool, ratio: float | None
    ) -> Reading | Failure:
        """The module's reading; `ratio` is its GPU's utilisation. A failure is of all its own values."""
        energy_uj = power_w = None
        errors = []
        is_due = edge or now_s - self.counter_at_s >= COUNTER_PERIOD_S - PERIOD_JITTER_S
        if is_due and "counter" in self.device.methods:
            try:
                energy_uj = read_energy_uj(nvml, handle, self.scopes.module_energy)
                self.counter_at_s = now_s
            except nvml.NVMLError as error:
                errors.append(error)
        if self.scopes.module_power is not None:
            try:
                power_w = field_value(nvml, handle, self.scopes.module_power) / 1000.0
            except nvml.NVMLError as error:
                errors.append(error)
        if errors and energy_uj is None and power_w is None:
            return Failure(self.device.id, reason(errors[0]), str(errors[0]))
        return Reading(self.device.id, energy_uj, power_w, None, ratio)


def find_scopes(nvml: Any, handle: Any, name: str) -> Scopes | None:
    """The scopes of a superchip's GPU; None for any other GPU, whose readings are all its own."""
    fields = [
        (ENERGY, GPU_SCOPE),
        (ENERGY, MODULE_SCOPE),
        (POWER_AVERAGE, MODULE_SCOPE),
        (POWER_INSTANT, MODULE_SCOPE),
    ]
    try:
        entries = nvml.nvmlDeviceGetFieldValues(handle, fields)
        answers = [field for field, entry in zip(fields, entries, strict=True) if entry.nvmlReturn == 0]
    except nvml.NVMLError:  # an older driver knows no field values: the name and the link tell
        answers = []
    module_energy = fields[1] if fields[1] in answers else None
    module_power = next((field for field in fields[2:] if field in answers), None)
    if not (module_energy or module_power or is_superchip(name) or _is_linked_to_cpu(nvml, handle)):
        return None
    gpu_energy = fields[0] if fields[0] in answers else None
    total = ask(nvml, "nvmlDeviceGetTotalEnergyConsumption", handle)
    is_total_of_module = total is not None and (
        gpu_energy is None or not are_one_counter(nvml, (handle, gpu_energy), (handle, None))
    )
    return Scopes(gpu_energy, module_energy, module_power, is_total_of_module)


def module_device(gpu: Device, scopes: Scopes, cpu: Part | None, spec: Spec | None) -> Device:
    """The module of a GPU as a device. `cpu` is the CPU in it, None where another module holds that.

    A CPU of unknown index stands for all CPUs; the memory in the module is that of the CPU. `spec` is the
    module's power, if a table has it.
    """
    methods: list[Method] = []
    if scopes.module_energy is not None or scopes.is_total_of_module:
        methods.append("counter")
    if scopes.module_power is not None:
        methods.append("power")
    if spec is not None:
        methods.append("tdp")
    inside = [Part("gpu", None, gpu.id)]
    if cpu is not None:
        inside += [cpu, Part("dram", cpu.number)]
    return Device(
        id=f"module-{gpu.index}",
        component="module",
        name=gpu.name,
        index=gpu.index,
        methods=tuple(methods),
        max_power_w=gpu.max_power_w,
        spec=spec,
        measured_uncertainty=NVML_UNCERTAINTY,
        share_ratio=gpu.share_ratio,
        share_note=gpu.share_note,
        contains=tuple(inside),
    )


def package_of(sysfs: Path, pci_bus_id: str) -> int | None:
    """The CPU package that a GPU is attached to, by its address as NVML writes it; None if it is unknown."""
    domain, _, rest = pci_bus_id.lower().partition(":")
    return package_near(sysfs, f"{domain[-4:]}:{rest}")


def are_one_counter(nvml: Any, one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    """Whether two counters, (handle, field or None), are the same.

    A value read between two readings of another counter lies between them, by chance hardly ever.
    """
    try:
        for _ in range(3):
            before, between, after = (read_energy_uj(nvml, *each) for each in (one, other, one))
            if 0 < before <= between <= after:
                return True
    except nvml.NVMLError:
        return False
    return False


def read_energy_uj(nvml: Any, handle: Any, field: tuple[int, int] | None) -> int:
    """The energy counter in µJ, by a field value or, without one, the plain call; raises NVMLError."""
    if field is None:
        return int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * 1000
    return int(field_value(nvml, handle, field)) * 1000


def field_value(nvml: Any, handle: Any, field: tuple[int, int]) -> int:
    """One field value; raises NVMLError of the call, or of the value, which has a result of its own."""
    (entry,) = nvml.nvmlDeviceGetFieldValues(handle, [field])
    if entry.nvmlReturn != 0:
        raise nvml.NVMLError(entry.nvmlReturn)
    return int(getattr(entry.value, _MEMBERS.get(entry.valueType, "uiVal")))


def _is_linked_to_cpu(nvml: Any, handle: Any) -> bool:
    """Whether NVLink-C2C joins the GPU to a CPU, as in superchips only."""
    info = ask(nvml, "nvmlDeviceGetC2cModeInfoV", handle)
    return info is not None and bool(info.isC2cEnabled)
