"""Simulated RAPL: packages and their zones, as the Linux powercap class shows them under sysfs.

The folders are where the kernel has them (`devices/virtual/powercap/…`) with links under `class/powercap`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.simulator.clock import MachineClock
from tests.simulator.layout import ZoneRecord
from tests.simulator.profiles import Constant, History, Profile

PACKAGE_RANGE_UJ = 262_143_328_850  # max_energy_range_uj of many Xeons
DRAM_RANGE_UJ = 65_712_999_613
EIGHTY_WATTS = Constant(80.0)

FILE_FAULTS: dict[str, bytes | None] = {  # what energy_uj holds instead; None: no such file to read
    "garbage": b"not a number\n",
    "empty": b"",
    "negative": b"-5\n",
    "binary": b"\x00\xff\xfe\x80\n",
    "words": b"N/A\n",
    "unit": b"215500 mW\n",
    "missing": None,
    "directory": None,
}
NUMBER_FAULTS = {"all ones": b"4294967295\n"}  # numbers that mean something else
LINE_BYTES = 16  # what powercapd writes each time, so that nothing longer may be in the file


@dataclass(frozen=True)
class Package:
    """A CPU package (or one die of it) with its zones; None is a zone that does not exist.

    Core and uncore are inside the package's own profile, dram is beside it: nobody checks that they fit.
    `mirrors` is the place of the package whose counter this one repeats, as some AMD dies do. `mmio` adds the
    same counter once more under the `intel-rapl-mmio` control type. The socket is by default its place.
    """

    profile: Profile = EIGHTY_WATTS
    dram: Profile | None = None
    core: Profile | None = None
    uncore: Profile | None = None
    start_uj: int = 0
    range_uj: int = PACKAGE_RANGE_UJ
    dram_start_uj: int = 0
    dram_range_uj: int = DRAM_RANGE_UJ
    socket: int | None = None
    die: int | None = None
    mirrors: int | None = None
    mmio: bool = False
    power_limit_w: float | None = 200.0
    cores: int = 2


@dataclass(frozen=True)
class Zone:
    """One folder of the tree; `key` names it in `Simulator.zones`."""

    key: str
    path: str
    name: str
    profile: Profile
    start_uj: int
    range_uj: int
    power_limit_w: float | None = None
    mirror_of: int = -1  # index in the list of zones
    file: str = "energy_uj"
    level: Level | None = None


@dataclass(frozen=True)
class Level:
    """A file that shows power instead of energy: the mean over `window_s` before (0: of the moment).

    `scale` is how many of its units are a watt, `step` the units that it is a multiple of.
    """

    window_s: float = 0.0
    scale: float = 1e6
    step: float = 1.0


CONTROL_TYPES = "devices/virtual/powercap"


def lay_out(packages: Sequence[Package], psys: Profile | None) -> list[Zone]:
    """The zones of a machine, each before the ones that mirror it."""
    zones: list[Zone] = []
    index_of: dict[str, int] = {}

    def add(zone: Zone) -> None:
        index_of[zone.key] = len(zones)
        zones.append(zone)

    names: list[str] = []
    for place, package in enumerate(packages):
        number = f"{place if package.socket is None else package.socket}"
        number += "" if package.die is None else f"-die-{package.die}"
        names.append(f"package-{number}")
        mirror_of = -1 if package.mirrors is None else index_of[names[package.mirrors]]
        top = f"{CONTROL_TYPES}/intel-rapl/intel-rapl:{place}"
        rest = (package.start_uj, package.range_uj, package.power_limit_w)
        add(Zone(names[place], top, names[place], package.profile, *rest, mirror_of))
        subzones = [("core", package.core), ("uncore", package.uncore), ("dram", package.dram)]
        present = [(name, profile) for name, profile in subzones if profile is not None]
        for index, (name, profile) in enumerate(present):
            counter = (package.start_uj, package.range_uj)
            if name == "dram":
                counter = (package.dram_start_uj, package.dram_range_uj)
            add(Zone(f"{name}-{number}", f"{top}/intel-rapl:{place}:{index}", name, profile, *counter))
    if psys is not None:
        path = f"{CONTROL_TYPES}/intel-rapl/intel-rapl:{len(packages)}"
        add(Zone("psys", path, "psys", psys, 0, PACKAGE_RANGE_UJ))
    for place, package in enumerate(packages):
        if package.mmio:
            path = f"{CONTROL_TYPES}/intel-rapl-mmio/intel-rapl-mmio:{place}"
            rest = (package.start_uj, package.range_uj, package.power_limit_w)
            mirror_of = index_of[names[place]]
            add(Zone(f"mmio-{names[place]}", path, names[place], package.profile, *rest, mirror_of))
    return zones


def _write(path: Path, text: str, mode: int = 0o444) -> None:
    path.write_text(text + "\n")
    path.chmod(mode)


def write_tree(root: Path, zones: Sequence[Zone]) -> None:
    """Everything but `energy_uj`, which powercapd creates, with mode 0400 as in Linux since 5.10."""
    for zone in zones:
        folder = root / zone.path
        folder.mkdir(parents=True)
        _write(folder / "name", zone.name)
        _write(folder / "max_energy_range_uj", f"{zone.range_uj}")
        _write(folder / "enabled", "1", 0o644)
        if zone.power_limit_w is not None:
            _write(folder / "constraint_0_name", "long_term")
            _write(folder / "constraint_0_power_limit_uw", f"{round(zone.power_limit_w * 1e6)}", 0o644)
            _write(folder / "constraint_0_max_power_uw", f"{round(zone.power_limit_w * 1e6)}")
    links = root / "class/powercap"
    for folder in sorted(path for path in (root / CONTROL_TYPES).rglob("intel-rapl*") if path.is_dir()):
        links.mkdir(parents=True, exist_ok=True)
        (links / folder.name).symlink_to(Path("../..") / folder.relative_to(root))
        (folder / "subsystem").symlink_to(os.path.relpath(links, folder))  # programs find the others by it
        if ":" not in folder.name:
            _write(folder / "enabled", "1", 0o644)


class LiveZone:
    """A zone of a running machine: its truth and its faults. A mirror draws what its original draws."""

    def __init__(
        self,
        zone: Zone,
        root: Path,
        record: ZoneRecord,
        clock: MachineClock,
        settle: Callable[[], None],
        original: LiveZone | None,
    ) -> None:
        self.zone = zone
        self.folder = root / zone.path
        self._energy_file = self.folder / zone.file
        self._away = self.folder / f".{zone.file}"
        self._record = record
        self._clock = clock
        self._settle = settle
        self._power: History = original._power if original else History(clock.epoch_s, zone.profile)
        record.path = f"{zone.path}/{zone.file}".encode()
        if zone.level is not None:
            record.is_level = 1
            record.window_s, record.scale, record.step = (
                zone.level.window_s,
                zone.level.scale,
                zone.level.step,
            )
        record.start_uj, record.range_uj, record.zero_s = zone.start_uj, zone.range_uj, clock.epoch_s
        record.power.begin(clock.epoch_s, zone.profile)
        record.mirror_of = zone.mirror_of

    def energy_j(self, start_s: float, end_s: float) -> float:
        """What it drew between two times of the machine's clock (`Simulator.now_s`), whatever it reports."""
        return self._power.between(start_s, end_s)

    def energy_between_wall(self, start_unix_s: float, end_unix_s: float) -> float:
        """The same between two Unix times."""
        return self.energy_j(self._clock.from_wall(start_unix_s), self._clock.from_wall(end_unix_s))

    def power_w(self, at_s: float) -> float:
        return self._power.value(at_s)

    def set_profile(self, profile: Profile, at_s: float | None = None) -> float:
        """Draw power in another way from `at_s` (now) on; returns that time."""
        if self.zone.mirror_of >= 0:
            raise ValueError(f"{self.zone.key} repeats another zone: change that one")
        since_s = self._clock.now_s() if at_s is None else at_s
        self._record.power.change(since_s, self._power.change(since_s, profile), profile)
        return since_s

    def fault(
        self,
        *,
        frozen: bool | None = None,
        reset_at: float | None = None,
        offset_uj: int | None = None,
        file: str | None = None,
    ) -> None:
        """Switch faults on; None leaves a fault as it is.

        `frozen`: the counter stands still. `reset_at`: it restarts from 0 at that time (CLOCK_BOOTTIME, s).
        `offset_uj`: added to it. `file`: a name in `FILE_FAULTS` or `NUMBER_FAULTS`, what is there instead of
        the number. Who keeps the file open sees its new content, and the last value where it is missing or a
        folder.
        Counter faults of a mirror are those of its original.
        """
        if frozen is not None:
            self._record.frozen_at = self._clock.now_s() if frozen else 0.0
        if reset_at is not None:
            self._record.reset_at = reset_at
        if offset_uj is not None:
            self._record.offset_uj = offset_uj
        if file is not None:
            self._replace_file(file)

    def clear(self) -> None:
        """End `frozen` and `file`; a reset or an offset has happened to the counter and stays."""
        self._record.frozen_at = 0.0
        self._restore_file()

    def _replace_file(self, name: str) -> None:
        content = (FILE_FAULTS | NUMBER_FAULTS)[name]
        self._restore_file()
        self._record.paused = 1
        self._settle()
        if content is None:
            self._energy_file.rename(self._away)
            if name == "directory":
                self._energy_file.mkdir()
            return
        self._energy_file.chmod(0o600)
        with open(self._energy_file, "rb+", buffering=0) as file:
            if content:
                file.write(content.ljust(LINE_BYTES, b"\n"))
            else:
                file.truncate(0)
        self._energy_file.chmod(0o400 if self.zone.file == "energy_uj" else 0o444)

    def _restore_file(self) -> None:
        if self._away.exists():
            if self._energy_file.is_dir():
                self._energy_file.rmdir()
            self._away.rename(self._energy_file)
        self._record.paused = 0
        self._settle()
