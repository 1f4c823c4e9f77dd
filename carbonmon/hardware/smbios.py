"""The name of the processor in the firmware's tables (SMBIOS reference specification 3.7, DSP0134, type 4).

ARM machines name their model there and nowhere else. Only root may read the tables.
"""

from __future__ import annotations

from pathlib import Path

_MOST_BYTES = 1 << 18
_PROCESSOR, _END = 4, 127
_VERSION_AT = 0x10


def processor_version(sysfs: Path) -> str:
    """The first processor's version string, as "Ampere(R) Altra(R) Processor Q80-30"; "" if there is none."""
    try:
        with (sysfs / "firmware" / "dmi" / "tables" / "DMI").open("rb") as file:
            table = file.read(_MOST_BYTES)
    except OSError:
        return ""
    at = 0
    while at + 4 <= len(table):
        kind, length = table[at], table[at + 1]
        end = table.find(b"\0\0", at + length)
        if length < 4 or end < 0 or kind == _END:
            return ""
        if kind == _PROCESSOR and length > _VERSION_AT:
            number = table[at + _VERSION_AT]
            strings = table[at + length : end].split(b"\0")
            if 0 < number <= len(strings):
                return strings[number - 1].decode(errors="replace").strip()
        at = end + 2
    return ""
