"""Names of ARM processors, whose /proc/cpuinfo has numbers of the core's designer and part, and no model.

Numbers: the main ID register MIDR_EL1 (Arm Architecture Reference Manual, DDI 0487), by the list of Linux's
arch/arm64/include/asm/cputype.h and of lscpu. Which chip has such a core is said by the machine's vendor
(DMI).
"""

from __future__ import annotations

import re

from carbonmon.core.patterns import pattern

_ARM, _BROADCOM, _CAVIUM, _FUJITSU, _HISILICON = 0x41, 0x42, 0x43, 0x46, 0x48
_NVIDIA, _APM, _QUALCOMM, _APPLE, _MICROSOFT, _PHYTIUM, _AMPERE = 0x4E, 0x50, 0x51, 0x61, 0x6D, 0x70, 0xC0

_CORES = {
    (_ARM, 0xD03): "Cortex-A53",
    (_ARM, 0xD04): "Cortex-A35",
    (_ARM, 0xD05): "Cortex-A55",
    (_ARM, 0xD07): "Cortex-A57",
    (_ARM, 0xD08): "Cortex-A72",
    (_ARM, 0xD09): "Cortex-A73",
    (_ARM, 0xD0A): "Cortex-A75",
    (_ARM, 0xD0B): "Cortex-A76",
    (_ARM, 0xD0C): "Neoverse N1",
    (_ARM, 0xD40): "Neoverse V1",
    (_ARM, 0xD41): "Cortex-A78",
    (_ARM, 0xD42): "Cortex-A78AE",
    (_ARM, 0xD44): "Cortex-X1",
    (_ARM, 0xD49): "Neoverse N2",
    (_ARM, 0xD4A): "Neoverse E1",
    (_ARM, 0xD4F): "Neoverse V2",
    (_ARM, 0xD83): "Neoverse V3AE",
    (_ARM, 0xD84): "Neoverse V3",
    (_ARM, 0xD8E): "Neoverse N3",
    (_BROADCOM, 0x516): "ThunderX2",
    (_CAVIUM, 0x0A1): "ThunderX",
    (_CAVIUM, 0x0AF): "ThunderX2",
    (_FUJITSU, 0x001): "A64FX",
    (_HISILICON, 0xD01): "TaiShan v110",
    (_HISILICON, 0xD02): "TaiShan v120",
    (_NVIDIA, 0x004): "Carmel",
    (_NVIDIA, 0x010): "Olympus",
    (_APM, 0x000): "X-Gene",
    (_QUALCOMM, 0x001): "Oryon",
    (_QUALCOMM, 0xC00): "Falkor",
    (_MICROSOFT, 0xD49): "Neoverse N2",
    (_PHYTIUM, 0x660): "FTC660",
    (_PHYTIUM, 0x661): "FTC661",
    (_PHYTIUM, 0x662): "FTC662",
    (_PHYTIUM, 0x663): "FTC663",
    (_PHYTIUM, 0x862): "FTC862",
    (_AMPERE, 0xAC3): "Ampere-1",
    (_AMPERE, 0xAC4): "Ampere-1a",
}

_CHIPS: dict[str, tuple[tuple[str, str], ...]] = {
    "Neoverse N1": (("amazon", "AWS Graviton2"), ("", "Ampere Altra Q80-30")),
    "Neoverse V1": (("amazon|^$", "AWS Graviton3"),),
    "Neoverse V2": (("amazon", "AWS Graviton4"), ("google", "Google Axion"), (".", "NVIDIA Grace")),
    "Neoverse N2": (("microsoft", "Microsoft Azure Cobalt 100"), ("alibaba", "Alibaba Yitian 710")),
    "Neoverse V3": (("amazon", "AWS Graviton5"), ("microsoft", "Microsoft Azure Cobalt 200")),
    "Neoverse N3": (("google", "Google Axion N4A"),),
    "A64FX": (("", "Fujitsu A64FX"),),
    "TaiShan v110": (("", "Huawei Kunpeng 920"),),
    "Ampere-1": (("", "Ampere AmpereOne"),),
    "Ampere-1a": (("", "Ampere AmpereOne"),),
}
"""Of each core, whose machine (a pattern in the vendor's name) has it in which chip; "^$": nobody says.

Graviton3 is the only server with Neoverse V1 on sale. Outside of Amazon, Neoverse N1 is Ampere's Altra (also
in Google's T2A, Azure's Dpsv5, Oracle's A1). Neoverse V2 is in Grace, Graviton4 and Axion (vendors' pages).
"""

_APPLE_CHIPS = {
    **dict.fromkeys((0x022, 0x023), "Apple M1"),
    **dict.fromkeys((0x024, 0x025), "Apple M1 Pro"),
    **dict.fromkeys((0x028, 0x029), "Apple M1 Max"),
    **dict.fromkeys((0x032, 0x033), "Apple M2"),
    **dict.fromkeys((0x034, 0x035), "Apple M2 Pro"),
    **dict.fromkeys((0x038, 0x039), "Apple M2 Max"),
}

_MODELS = pattern(r"\baltra\b.*\b[QM]\d+-\d+\b|\bkunpeng 920.(?:7260|6426|5250|4826)\b", re.IGNORECASE)
"""What the firmware calls chips of which there are several models: more than the numbers of the core tell."""

_ALTRA_CORES = 80
"""An Altra with more cores is an Altra Max (Ampere's product briefs)."""


def arm_cpu(implementer: int, part: int, vendor: str, firmware: str, threads: int) -> tuple[str, str]:
    """A processor's name, and in words how it was found.

    `vendor` is the machine's in DMI, `firmware` the processor's name in SMBIOS, both "" if unknown; `threads`
    are those of one package that are visible. A chip that nothing names is called by its core.
    """
    numbers = f"implementer {implementer:#x}, part {part:#05x}"
    core = _CORES.get((implementer, part), "")
    if _MODELS.search(firmware):
        return firmware, "the firmware's tables"
    if implementer == _APPLE:
        return _APPLE_CHIPS.get(part, "Apple silicon"), numbers
    if implementer == _MICROSOFT and core:
        vendor = "Microsoft"
    for maker, chip in _CHIPS.get(core, ()):
        if re.search(maker, vendor, re.IGNORECASE):
            how = f"{core} ({numbers}), {f'machine of {vendor}' if vendor else 'machine of unknown vendor'}"
            if chip.startswith("Ampere Altra"):
                chip = "Ampere Altra Max M128-30" if threads > _ALTRA_CORES else chip
                how += "; which model of the Altra is unknown without root"
            return chip, how
    return f"Arm {core}" if core else f"Arm CPU ({numbers})", numbers
