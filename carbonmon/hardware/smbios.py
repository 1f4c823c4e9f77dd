"""What the firmware's tables say of processors (type 4) and memory (type 17): SMBIOS 3.7, DSP0134.

ARM machines name their model there and nowhere else. Only root may read the tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from carbonmon.core.records import NamedTuple

_MOST_BYTES = 1 << 18
_PROCESSOR, _MEMORY, _END = 4, 17, 127
_VERSION_AT = 0x10
_SIZE_AT, _TYPE_AT, _EXTENDED_SIZE_AT = 0x0C, 0x12, 0x1C
_EXTENDED, _UNKNOWN, _IN_KB = 0x7FFF, 0xFFFF, 0x8000
_MIB = 1 << 20
_MEMORY_TYPES = {
    **{0x18: "DDR3", 0x1A: "DDR4", 0x22: "DDR5"},
    **{0x1B: "LPDDR", 0x1C: "LPDDR2", 0x1D: "LPDDR3", 0x1E: "LPDDR4", 0x23: "LPDDR5"},
}
"""Table 78 of the specification. Virtual machines say RAM (7) or DRAM (3) of modules that nobody made."""


class MemoryModule(NamedTuple):
    """A slot that is in use: `kind` is DDR3 to DDR5 or LPDDR to LPDDR5."""

    size_bytes: int
    kind: str


def processor_version(sysfs: Path) -> str:
    """The first processor's version string, as "Ampere(R) Altra(R) Processor Q80-30"; "" if there is none."""
    for kind, formatted, strings in _structures(sysfs):
        if kind == _PROCESSOR and len(formatted) > _VERSION_AT:
            number = formatted[_VERSION_AT]
            if 0 < number <= len(strings):
                return strings[number - 1].decode(errors="replace").strip()
    return ""


def memory_modules(sysfs: Path) -> tuple[MemoryModule, ...]:
    """The modules that are plugged in; () where that cannot be read, and where one's size or type is
    unknown."""
    found = []
    for kind, formatted, _ in _structures(sysfs):
        if kind != _MEMORY or len(formatted) <= _TYPE_AT:
            continue
        size_bytes = _module_bytes(formatted)
        if size_bytes == 0:
            continue
        memory_type = _MEMORY_TYPES.get(formatted[_TYPE_AT])
        if size_bytes is None or memory_type is None:
            return ()
        found.append(MemoryModule(size_bytes, memory_type))
    return tuple(found)


def _module_bytes(formatted: bytes) -> int | None:
    """The size of a slot's module in bytes, 0 for an empty slot, None if the firmware does not know it."""
    size = int.from_bytes(formatted[_SIZE_AT : _SIZE_AT + 2], "little")
    if size == _UNKNOWN:
        return None
    if size == _EXTENDED:
        extended = formatted[_EXTENDED_SIZE_AT : _EXTENDED_SIZE_AT + 4]
        return (int.from_bytes(extended, "little") & 0x7FFFFFFF) * _MIB or None
    return (size & ~_IN_KB) * 1024 if size & _IN_KB else size * _MIB


def _structures(sysfs: Path) -> Iterator[tuple[int, bytes, list[bytes]]]:
    """(type, formatted area, strings) of each structure, to the first that is damaged."""
    try:
        with (sysfs / "firmware" / "dmi" / "tables" / "DMI").open("rb") as file:
            table = file.read(_MOST_BYTES)
    except OSError:
        return
    at = 0
    while at + 4 <= len(table):
        kind, length = table[at], table[at + 1]
        end = table.find(b"\0\0", at + length)
        if length < 4 or end < 0 or kind == _END:
            return
        yield kind, table[at : at + length], table[at + length : end].split(b"\0")
        at = end + 2
