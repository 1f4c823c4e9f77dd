"""Simulated cards that a library of their vendor tells: Gaudi by libhlml, Intel's by Level Zero Sysman."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.simulator.clock import MachineClock
from tests.simulator.layout import MAX_CARDS, CardRecord, Control
from tests.simulator.profiles import Constant, History, Profile, Sine

GAUDI, INTEL, NPU = 1, 2, 3

FAULTS = (
    "hang",  # every call waits until this is cleared
    "slow_s",  # every call takes that long
    "lost",  # every call and look-up: AIP_IS_LOST, DEVICE_LOST
    "hidden",  # Level Zero does not list it
    "call_error",  # every call: this code
    "counter_error",  # the energy counter: this code
    "power_error",  # the power: this code
    "no_counter",  # the energy counter: not supported
    "no_power",  # the power: not supported
    "no_limit",  # power limits: not supported, or unknown
    "no_permission",  # the energy counter: insufficient permissions
    "card_denied",  # the same of the card's domain only
    "card_zero",  # the card's domain is 0 for ever
    "no_stamp",  # the counter has no time of its own
    "old_driver",  # no domain says what it is
    "sentinel",  # counter and power say "not available"
    "offset_uj",  # added to the counter: steps it back or makes it jump
    "reset_at",  # the counter restarts from 0 at this time (CLOCK_BOOTTIME, s)
    "frozen_at",  # the counter is not renewed from this time on
    "rate",  # the counter counts so much of what is drawn; 1 without a fault
)
_DEFAULT = {"rate": 1.0}

_SWELL = Sine(400.0, 150.0, 6.0)
_SITE = Path(__file__).with_name("site")


@dataclass(frozen=True)
class Card:
    """A card to simulate. `profile` is in watts, of the whole card; `start_uj` is its counter at the start.

    `window_s`: its power is the mean of so long before. `packages` are so many power domains, which draw
    `package_ratio` of the card together; each of its `tiles` draws `tile_ratio` of it.
    """

    kind: int
    name: str
    profile: Profile
    bus: int
    vendor: str
    model: str
    limit_w: float
    module: int = 0
    start_uj: int = 7_000_000_000
    refresh_s: float = 0.0
    window_s: float = 0.0
    tiles: int = 1
    packages: int = 1
    package_ratio: float = 0.9
    tile_ratio: float = 0.42
    tells_card: bool = True
    tells_tiles: bool = True
    tells_unknown: bool = False

    @property
    def address(self) -> str:
        return f"0000:{self.bus:02x}:00.0"


def gaudi(
    place: int,
    profile: Profile,
    *,
    name: str = "HL-325L",
    limit_w: float = 900.0,
    module: int | None = None,
    window_s: float = 0.0,
    refresh_s: float = 0.0,
) -> Card:
    """A Gaudi accelerator; the module ids run against the places unless they are given."""
    return Card(
        GAUDI,
        name,
        profile,
        0x20 + place,
        "0x1da3",
        "0x1060",
        limit_w,
        module=7 - place if module is None else module,
        window_s=window_s,
        refresh_s=refresh_s,
    )


def max_1550(
    place: int, profile: Profile, *, tiles: int = 2, tells_card: bool = True, packages: int = 1
) -> Card:
    """A Ponte Vecchio card with its two tiles."""
    return Card(
        INTEL,
        "Intel(R) Data Center GPU Max 1550",
        profile,
        0x40 + place,
        "0x8086",
        "0x0bd5",
        600.0,
        tiles=tiles,
        tells_card=tells_card,
        packages=packages,
    )


def npu(place: int) -> Card:
    """A device of Level Zero that is no graphics card."""
    return Card(NPU, "Intel(R) AI Boost", Constant(5.0), 0x60 + place, "0x8086", "0x7d1d", 35.0)


MACHINES: dict[str, Callable[[], list[Card]]] = {
    "gaudi2": lambda: [gaudi(place, _SWELL, name="HL-225", limit_w=600.0) for place in range(8)],
    "gaudi3": lambda: [gaudi(place, _SWELL) for place in range(8)],
    "max": lambda: [max_1550(place, _SWELL) for place in range(6)],
}
"""Cards by a name for the command line of the simulator."""


class LiveCard:
    """A card of a running machine: its truth and its faults."""

    def __init__(self, spec: Card, record: CardRecord, clock: MachineClock) -> None:
        self.spec = spec
        self.id = f"GPU-{spec.address}"
        self._record = record
        self._clock = clock
        self._power = History(clock.epoch_s, spec.profile)
        record.name, record.status = spec.name.encode(), b"operational"
        record.kind, record.bus, record.module = spec.kind, spec.bus, spec.module
        record.start_uj, record.zero_s = spec.start_uj, clock.epoch_s
        record.refresh_s, record.window_s, record.rate = spec.refresh_s, spec.window_s, 1.0
        record.package_ratio, record.tile_ratio = spec.package_ratio, spec.tile_ratio
        record.limit_mw = round(spec.limit_w * 1e3)
        record.tiles, record.packages = spec.tiles, spec.packages
        record.tells_card, record.tells_tiles = spec.tells_card, spec.tells_tiles and spec.tiles > 1
        record.tells_unknown = spec.tells_unknown
        record.power.begin(clock.epoch_s, spec.profile)

    def energy_j(self, start_s: float, end_s: float) -> float:
        """What it drew between two times of the machine's clock, whatever it reports."""
        return self._power.between(start_s, end_s)

    def energy_between_wall(self, start_unix_s: float, end_unix_s: float) -> float:
        """The same between two Unix times."""
        return self.energy_j(self._clock.from_wall(start_unix_s), self._clock.from_wall(end_unix_s))

    def fault(self, **faults: float) -> None:
        """Switch faults on (or off, with 0): the names in `FAULTS`."""
        for name, value in faults.items():
            if name not in FAULTS:
                raise ValueError(f"no fault of a card is called {name!r}; there are {', '.join(FAULTS)}")
            setattr(self._record, name, value)

    def clear(self, *names: str) -> None:
        """End these faults, or all but what happened to the counter."""
        lasting = ("offset_uj", "reset_at")
        for name in names or [name for name in FAULTS if name not in lasting]:
            self.fault(**{name: _DEFAULT.get(name, 0)})

    def say(self, status: str) -> None:
        """What the driver says of its state."""
        self._record.status = status.encode()

    @property
    def calls(self) -> int:
        """How often a library was asked about it."""
        return self._record.calls

    @property
    def utilization_calls(self) -> int:
        """How often its utilisation was asked for."""
        return self._record.utilization_calls


def put(specs: Sequence[Card], sysfs: Path, control: Control, clock: MachineClock) -> list[LiveCard]:
    """Put cards into a machine: its control file, and its /sys as the kernel's drivers lay it out."""
    if len(specs) > MAX_CARDS:
        raise ValueError(f"at most {MAX_CARDS} cards")
    control.card_count = len(specs)
    live = []
    for place, spec in enumerate(specs):
        live.append(LiveCard(spec, control.card[place], clock))
        device = sysfs / "devices/pci0000:00" / spec.address
        if device.is_dir():
            continue  # a chip of hwmon is of the same card
        (device / "power").mkdir(parents=True)
        files = {"vendor": spec.vendor, "device": spec.model, "power/runtime_status": "active"}
        if spec.kind == GAUDI:
            files["module_id"] = f"{spec.module}"
        for name, text in files.items():
            (device / name).write_text(f"{text}\n")
        entries = {GAUDI: ("accel", "accel"), INTEL: ("drm", "card"), NPU: ("accel", "accel")}
        kind, prefix = entries[spec.kind]
        folder = sysfs / "class" / kind
        folder.mkdir(parents=True, exist_ok=True)
        entry = folder / f"{prefix}{len(list(folder.iterdir()))}"
        entry.mkdir()
        (entry / "device").symlink_to(device)
        (entry / "dev").write_text(f"261:{entry.name.removeprefix(prefix)}\n")
        bus = sysfs / "bus/pci/devices"
        bus.mkdir(parents=True, exist_ok=True)
        (bus / spec.address).symlink_to(device)
    return live


def hlml_environ(library: Path) -> dict[str, str]:
    """What leads a child's pyhlml to the simulated library."""
    paths = [str(_SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": ":".join(paths), "CARBONMON_SIM_HLML": str(library)}


def lead_pyhlml_to(library: Path) -> None:
    """The same for this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyhlml.hlml_lib import LibHLML

    LibHLML.__init__.__defaults__ = (str(library),)
