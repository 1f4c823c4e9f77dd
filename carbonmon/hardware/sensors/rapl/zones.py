"""Finds the powercap zones to meter: packages and their memory, each once.

Layout: Linux, Documentation/power/powercap/powercap.rst. A package holds its core and uncore zones
and psys holds the packages, so those are left out; the intel-rapl-mmio tree mirrors the packages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.pci_devices import is_there


class Zone(NamedTuple):
    """A powercap zone: its folder, its kernel name, and the device that it meters.

    `limit_w` is the highest power limit that it states, None where it states none that limits.
    """

    path: Path
    name: str
    device_id: str
    component: Literal["cpu", "dram"]
    package: int
    range_uj: int | None
    limit_w: float | None = None


class Readable(Protocol):
    def read_uj(self) -> int: ...


_PACKAGE = pattern(r"package-([0-9]{1,9})(-die-[0-9]{1,9})?")
_TOP = pattern(r"intel-rapl:[0-9]{1,9}")
_SUB = pattern(r"intel-rapl:[0-9]{1,9}:[0-9]{1,9}")
_PAGE_BYTES = 4096
"""No attribute of sysfs is longer (Linux, Documentation/filesystems/sysfs.rst)."""


LARGEST_LIMIT_W = 2000.0
"""A higher limit is none: boards that do not limit a package write the register's largest number, 4095 W."""

MIRROR_ATTEMPTS = 3
"""Two names of one counter may be refreshed at slightly different times, which makes a comparison fail."""


def discover(sysfs: Path) -> tuple[list[Zone], list[tuple[str, str]]]:
    """The package and dram zones below a sysfs root, and (name, reason) of what is left out."""
    zones: list[Zone] = []
    left_out: list[tuple[str, str]] = []
    for top in _folders(sysfs, _TOP):
        name = _text(top / "name")
        match = _PACKAGE.fullmatch(name)
        if match is None:
            if name == "psys":
                left_out.append(("psys", "holds the packages: adding it would count them twice"))
            elif name:
                left_out.append((name, f"{top}: neither a package nor its memory"))
            continue
        package, die = int(match[1]), match[2] or ""
        device_id = _unused(f"package-{package}{die}", zones)
        zones.append(Zone(top, name, device_id, "cpu", package, _range(top), _limit_w(top)))
        for sub in _subfolders(sysfs, top):
            if _text(sub / "name") == "dram":
                device_id = _unused(f"dram-{package}{die}", zones)
                zones.append(Zone(sub, "dram", device_id, "dram", package, _range(sub)))
    if is_there(sysfs / "class" / "powercap" / "intel-rapl-mmio"):
        left_out.append(("mmio", "mirrors the packages"))
    return zones, left_out


def mirrors(readers: Sequence[tuple[Zone, Readable]]) -> list[tuple[Zone, Zone]]:
    """Pairs (mirror, original) of zones of one component that show the same counter.

    Some AMD dies show one counter under two names. A value read between two readings of another
    counter lies between them only if it is that counter: by chance once in a hundred million.
    """
    found: list[tuple[Zone, Zone]] = []
    removed: set[str] = set()
    for position, (original, reader) in enumerate(readers):
        for other, other_reader in readers[position + 1 :]:
            if other.component != original.component or {original.device_id, other.device_id} & removed:
                continue
            if any(
                _same(reader, other_reader) and _same(other_reader, reader) for _ in range(MIRROR_ATTEMPTS)
            ):
                removed.add(other.device_id)
                found.append((other, original))
    return found


def _same(one: Readable, other: Readable) -> bool:
    try:
        before, between, after = one.read_uj(), other.read_uj(), one.read_uj()
    except (OSError, ValueError):
        return False
    return 0 < before <= between <= after


def _folders(sysfs: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Zones by number, from the kernel's flat list of links or from the control type's folder."""
    found: dict[str, Path] = {}
    for parent in (sysfs / "class" / "powercap", sysfs / "class" / "powercap" / "intel-rapl"):
        try:
            entries = sorted(parent.iterdir())
        except OSError:
            continue
        for entry in entries:
            if pattern.fullmatch(entry.name):
                found.setdefault(entry.name, entry)
    return [found[name] for name in sorted(found, key=_numbers)]


def _subfolders(sysfs: Path, top: Path) -> list[Path]:
    found: dict[str, Path] = {}
    for parent in (top, sysfs / "class" / "powercap"):
        try:
            entries = sorted(parent.iterdir())
        except OSError:
            continue
        for entry in entries:
            if _SUB.fullmatch(entry.name) and entry.name.startswith(f"{top.name}:"):
                found.setdefault(entry.name, entry)
    return [found[name] for name in sorted(found, key=_numbers)]


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _unused(device_id: str, zones: Sequence[Zone]) -> str:
    taken = {zone.device_id for zone in zones}
    candidate, number = device_id, 1
    while candidate in taken:
        number += 1
        candidate = f"{device_id}-zone-{number}"
    return candidate


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_PAGE_BYTES + 1)
    except OSError:
        return ""
    return data.decode(errors="replace").strip() if len(data) <= _PAGE_BYTES else ""


def _range(folder: Path) -> int | None:
    """The largest value of the counter in µJ; None if it is unknown: then no wrap can be calculated."""
    text = _text(folder / "max_energy_range_uj")
    return int(text) if re.fullmatch(r"0*[1-9][0-9]{0,18}", text) else None


def _limit_w(folder: Path) -> float | None:
    """The highest of a zone's power limits in W (Linux, Documentation/power/powercap/powercap.rst)."""
    limits = []
    for path in folder.glob("constraint_[0-9]_*_uw"):
        text = _text(path)
        if path.name.endswith(("_power_limit_uw", "_max_power_uw")) and re.fullmatch(r"[0-9]{1,15}", text):
            limits.append(int(text) / 1e6)
    return max((limit_w for limit_w in limits if 0.0 < limit_w <= LARGEST_LIMIT_W), default=None)
