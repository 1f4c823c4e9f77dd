"""The control file as Python sees it: the structs of `sim.h`, in the same order, as ctypes structures.

`ControlFile` checks the size on this side; the library and powercapd check version and size on theirs, and a
test compares with the size that the C compiler saw.
"""

from __future__ import annotations

import ctypes
import mmap
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar, get_type_hints

from tests.simulator.profiles import Profile

MAGIC = 0x314D49534E4F4243
VERSION = 1
MAX_GPUS, MAX_MIG, MAX_PROCESSES, MAX_ZONES, MAX_FUNCTIONS = 64, 7, 32, 64, 64
MAX_CARDS = 32

FUNCTIONS: Sequence[str] = re.findall(
    r"SIM_FUNCTION\((\w+)\)", Path(__file__).with_name("functions.inc").read_text()
)

U32 = Annotated[int, ctypes.c_uint32]
I32 = Annotated[int, ctypes.c_int32]
U64 = Annotated[int, ctypes.c_uint64]
I64 = Annotated[int, ctypes.c_int64]
F64 = Annotated[float, ctypes.c_double]
Text24 = Annotated[bytes, ctypes.c_char * 24]
Text32 = Annotated[bytes, ctypes.c_char * 32]
Text64 = Annotated[bytes, ctypes.c_char * 64]
Text80 = Annotated[bytes, ctypes.c_char * 80]
Text96 = Annotated[bytes, ctypes.c_char * 96]
Text128 = Annotated[bytes, ctypes.c_char * 128]

S = TypeVar("S", bound=type[ctypes.Structure])


def struct(cls: S) -> S:
    """Make the annotations of a class its ctypes fields."""
    hints = get_type_hints(cls, include_extras=True)
    names = [name for name in cls.__annotations__ if not name.startswith("_")]
    cls._fields_ = [(name, getattr(hints[name], "__metadata__", [hints[name]])[0]) for name in names]
    return cls


@struct
class ProfileSlot(ctypes.Structure):
    since_s: F64
    base: F64
    parameter: Annotated[ctypes.Array[ctypes.c_double], ctypes.c_double * 4]
    shape: U32
    reserved: U32

    def set(self, since_s: float, base: float, profile: Profile) -> None:
        self.since_s, self.base, self.shape = since_s, base, profile.shape
        for index, parameter in enumerate(profile.parameters):
            self.parameter[index] = parameter


@struct
class Source(ctypes.Structure):
    active: U32
    reserved: U32
    slot: Annotated[ctypes.Array[ProfileSlot], ProfileSlot * 2]

    def begin(self, since_s: float, profile: Profile) -> None:
        for slot in self.slot:
            slot.set(since_s, 0.0, profile)

    def change(self, since_s: float, base: float, profile: Profile) -> None:
        spare = self.active ^ 1
        self.slot[spare].set(since_s, base, profile)
        self.active = spare


@struct
class MigRecord(ctypes.Structure):
    uuid: Text64
    profile: Text24
    memory_bytes: U64
    present: U32
    gpu_instance_id: U32
    compute_instance_id: U32
    gpu_slices: U32
    compute_slices: U32
    multiprocessors: U32


@struct
class ProcessRecord(ctypes.Structure):
    memory_bytes: U64
    pid: U32
    graphics: U32
    mig: I32
    sm_percent: U32
    memory_percent: U32
    reserved: U32


@struct
class GpuRecord(ctypes.Structure):
    uuid: Text64
    name: Text96
    memory_total_bytes: U64
    memory_used_bytes: U64
    counter_start_mj: U64
    counter_zero_s: F64
    counter_refresh_s: F64
    sample_period_s: F64
    sensor_window_s: F64
    power: Source
    utilization: Source
    rest: Source
    pci_domain: U32
    pci_bus: U32
    pci_device: U32
    pci_device_id: U32
    architecture: U32
    virtualization: U32
    mig_mode: I32
    power_averaged: U32
    power_limit_mw: U32
    power_limit_default_mw: U32
    power_limit_min_mw: U32
    persistence: U32
    minor_number: U32
    reserved2: U32
    mig: Annotated[ctypes.Array[MigRecord], MigRecord * MAX_MIG]
    process: Annotated[ctypes.Array[ProcessRecord], ProcessRecord * MAX_PROCESSES]
    counter_offset_mj: I64
    counter_reset_at: F64
    slow_s: F64
    counter_lag_s: F64
    power_loss_ratio: F64
    lost: U32
    no_counter: U32
    no_power: U32
    no_power_limit: U32
    no_utilization: U32
    no_processes: U32
    no_permission: U32
    hang: U32
    call_error: U32
    counter_error: U32
    power_error: U32
    fail_next_counter_reads: U32
    limit_locked: U32
    superchip: U32
    counter_reads: U64


@struct
class ZoneRecord(ctypes.Structure):
    path: Text128
    start_uj: U64
    range_uj: U64
    zero_s: F64
    power: Source
    mirror_of: I32
    reserved: U32
    offset_uj: I64
    reset_at: F64
    frozen_at: F64
    paused: U32
    is_level: U32
    window_s: F64
    scale: F64
    step: F64


@struct
class CardRecord(ctypes.Structure):
    name: Text96
    status: Text32
    start_uj: U64
    zero_s: F64
    refresh_s: F64
    window_s: F64
    rate: F64
    package_ratio: F64
    tile_ratio: F64
    power: Source
    kind: U32
    domain: U32
    bus: U32
    device: U32
    function: U32
    module: U32
    limit_mw: U32
    tiles: U32
    packages: U32
    tells_card: U32
    tells_tiles: U32
    tells_unknown: U32
    offset_uj: I64
    reset_at: F64
    frozen_at: F64
    slow_s: F64
    hang: U32
    lost: U32
    hidden: U32
    call_error: U32
    counter_error: U32
    power_error: U32
    no_counter: U32
    no_power: U32
    no_limit: U32
    no_permission: U32
    no_stamp: U32
    card_denied: U32
    card_zero: U32
    old_driver: U32
    sentinel: U32
    reserved: U32
    calls: U64
    utilization_calls: U64


@struct
class EpochRecord(ctypes.Structure):
    loaded_s: F64
    order: Annotated[ctypes.Array[ctypes.c_uint32], ctypes.c_uint32 * MAX_GPUS]


CallRow = ctypes.c_uint64 * MAX_FUNCTIONS


@struct
class Control(ctypes.Structure):
    magic: U64
    version: U32
    size: U32
    epoch_s: F64
    wall_offset_s: F64
    manual_now_s: F64
    missing_functions: U64
    init_error: U32
    driver_generation: U32
    epoch: Annotated[ctypes.Array[EpochRecord], EpochRecord * 2]
    driver_version: Text80
    nvml_version: Text80
    gpu_count: U32
    zone_count: U32
    powercap_tick_s: F64
    powercap_now_s: F64
    powercap_passes: U64
    gpu: Annotated[ctypes.Array[GpuRecord], GpuRecord * MAX_GPUS]
    zone: Annotated[ctypes.Array[ZoneRecord], ZoneRecord * MAX_ZONES]
    calls: Annotated[ctypes.Array[ctypes.Array[ctypes.c_uint64]], CallRow * (MAX_GPUS + 1)]
    card_count: U32
    hlml_error: U32
    sysman_error: U32
    reserved_card: U32
    card: Annotated[ctypes.Array[CardRecord], CardRecord * MAX_CARDS]


class ControlFile:
    """The file at `path`, mapped; `publish` makes it a machine, `close` ends the machine for everybody."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "xb+") as file:
            file.truncate(ctypes.sizeof(Control))
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(Control))
        path.chmod(0o666)  # monitors under another uid count their calls in it
        self.control = Control.from_buffer(self._map)

    def publish(self) -> None:
        self.control.version = VERSION
        self.control.size = ctypes.sizeof(Control)
        self.control.magic = MAGIC

    def close(self) -> None:
        self.control.magic = 0
        self.path.unlink(missing_ok=True)
