"""ROCm beside a simulated machine: `libamd_smi.so`, its Python package, and the compute driver's list.

    with Simulator(chips=[amd_gpu(0, WAVE)]) as machine, Rocm(machine) as rocm:
        child = machine.popen([...], env=rocm.environ)
        rocm.cards[0].fault(counter_factor=100.0)

Each graphics card of AMD is a card of the library, with the power of its chip of hwmon, whose truth is in
`machine.channels`. Faults are fields of `amd_card` in amdsmi.h.
"""

from __future__ import annotations

import ctypes
import mmap
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated

from tests.simulator import build
from tests.simulator.layout import F64, I32, I64, U32, U64, struct
from tests.simulator.machine import Simulator

MAGIC = 0x31534D41424E4F43
MAX_CARDS, MAX_PROCESSES = 32, 16
PACKAGE = Path(__file__).with_name("amdsmi_package")
GIB = 1 << 30
SECOND_DIE_MODELS = ("0x7408", "0x740c")


@struct
class ProcessRecord(ctypes.Structure):
    memory_bytes: U64
    pid: U32
    partition: U32
    compute_units: U32
    reserved: U32


@struct
class CardRecord(ctypes.Structure):
    domain: U32
    bus: U32
    device: U32
    zone: I32
    partitions: U32
    hip_id: U32
    is_second_die: U32
    is_average: U32
    compute_units: U32
    reserved: U32
    power_limit_w: F64
    utilization_percent: F64
    zero_s: F64
    start_ticks: U64
    process: Annotated[ctypes.Array[ProcessRecord], ProcessRecord * MAX_PROCESSES]
    counter_factor: F64
    resolution_uj: F64
    frozen_at: F64
    slow_s: F64
    counter_offset: I64
    counter_sentinel: U64
    power_sentinel: U32
    activity_sentinel: U32
    call_error: U32
    counter_error: U32
    power_error: U32
    activity_error: U32
    process_error: U32
    hang: U32


@struct
class RocmControl(ctypes.Structure):
    magic: U64
    size: U32
    card_count: U32
    order: Annotated[ctypes.Array[ctypes.c_uint32], ctypes.c_uint32 * MAX_CARDS]
    version: Annotated[ctypes.Array[ctypes.c_uint32], ctypes.c_uint32 * 3]
    has_year: U32
    init_error: U32
    shut_downs: U32
    is_away: U32
    calls: U32
    card: Annotated[ctypes.Array[CardRecord], CardRecord * MAX_CARDS]


@dataclass(frozen=True)
class RocmProcess:
    """A process on a card, with the compute units that it occupies."""

    pid: int
    compute_units: int = 0
    memory_bytes: int = GIB
    partition: int = 0


class LiveCard:
    """A card of a running machine: its faults and its processes. Its truth is that of its channel `key`."""

    def __init__(self, key: str, record: CardRecord) -> None:
        self.key = key
        self._record = record

    def fault(self, **faults: float) -> None:
        """Set fields of `amd_card`; 0 is healthy."""
        for name, value in faults.items():
            if not hasattr(self._record, name):
                raise ValueError(f"no field of a card is called {name!r}")
            setattr(self._record, name, value)

    def set_processes(self, *processes: RocmProcess) -> None:
        for slot in self._record.process:
            slot.pid = 0
        for slot, process in zip(self._record.process, processes, strict=False):
            slot.memory_bytes, slot.compute_units = process.memory_bytes, process.compute_units
            slot.partition, slot.pid = process.partition, process.pid


class Rocm:
    """ROCm on a machine. `hip_order` are places of its cards in HIP's order, `library_order` in its own.

    `package` is the version that the Python package states, `library` the library's. Each card has so many
    `partitions`; `has_function`: the compute driver's list has them as PCI functions, as some kernels do.
    """

    def __init__(
        self,
        machine: Simulator,
        *,
        hip_order: Sequence[int] | None = None,
        library_order: Sequence[int] | None = None,
        partitions: int = 1,
        library: tuple[int, int, int] = (26, 0, 2),
        package: str = "26.0.2+simulator",
        compute_units: int = 304,
        has_function: bool = False,
    ) -> None:
        self.machine = machine
        self.root = machine.folder / "rocm"
        chips = [chip for chip in machine.hwmon.chips if chip.card and chip.name == "amdgpu"]
        places = list(range(len(chips)))
        self._path = machine.folder / "amdsmi"
        with open(self._path, "xb+") as file:
            file.truncate(ctypes.sizeof(RocmControl))
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(RocmControl))
        self._path.chmod(0o666)
        self.control = control = RocmControl.from_buffer(self._map)
        control.size, control.card_count = ctypes.sizeof(RocmControl), len(chips)
        control.order[: len(chips)] = list(library_order or reversed(places))
        control.version[:] = library
        order = list(hip_order or places)
        keys = list(machine.channels)
        self.cards: list[LiveCard] = []
        for place, chip in enumerate(chips):
            record = control.card[place]
            domain, bus, slot = chip.device.rpartition("/")[2].split(":")
            record.domain, record.bus = int(domain, 16), int(bus, 16)
            record.device = int(slot.partition(".")[0], 16)
            channel = chip.channels[0]
            record.zone = len(machine.zones) + keys.index(channel.key)
            record.partitions, record.hip_id = partitions, order.index(place) * partitions
            is_of_two = chip.device_files.get("device") in SECOND_DIE_MODELS
            record.is_second_die = is_of_two and place % 2
            record.is_average = channel.level is not None and channel.level.window_s > 0
            record.compute_units = compute_units
            record.power_limit_w = int(chip.files["power1_cap"]) / 1e6
            record.utilization_percent = float(chip.device_files.get("gpu_busy_percent", "0"))
            record.zero_s, record.start_ticks = machine.clock.epoch_s, 4_750_896_266
            self.cards.append(LiveCard(channel.key, record))
        self._install(package)
        self._list_nodes([control.card[place] for place in order], partitions, 0 if has_function else 28)
        control.magic = MAGIC

    def __enter__(self) -> Rocm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.control.magic = 0

    @property
    def environ(self) -> dict[str, str]:
        """What a child needs in its environment, beside the machine's, to find this installation."""
        return {
            "ROCM_PATH": str(self.root),
            "CARBONMON_SIM_AMDSMI": str(self._path),
            "CARBONMON_SIM_CONTROL": self.machine.environ["CARBONMON_SIM_CONTROL"],
        }

    @property
    def package(self) -> Path:
        return self.root / "share/amd_smi/amdsmi"

    def fault(self, **faults: int) -> None:
        """Set fields of `amd_control`: `init_error`, `is_away`."""
        for name, value in faults.items():
            setattr(self.control, name, value)

    def _install(self, version: str) -> None:
        (self.root / "lib").mkdir(parents=True)
        shutil.copy(build.built() / build.AMDSMI, self.root / "lib" / build.AMDSMI)
        shutil.copytree(PACKAGE, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        (self.package / "version.py").write_text(f"__version__ = {version!r}\n")

    def _list_nodes(self, cards: Sequence[CardRecord], partitions: int, shift: int) -> None:
        """The nodes of the compute driver: the CPU, then every partition of each card in HIP's order."""
        nodes = self.machine.sysfs / "class/kfd/kfd/topology/nodes"
        slots = [(0, 0, 64)]
        for card in cards:
            location = card.bus << 8 | card.device << 3
            slots += [(304, location | place << shift, 0) for place in range(partitions)]
        for number, (simds, location, cores) in enumerate(slots):
            (nodes / str(number)).mkdir(parents=True)
            text = f"cpu_cores_count {cores}\nsimd_count {simds}\nlocation_id {location}\ndomain 0\n"
            (nodes / str(number) / "properties").write_text(text)
