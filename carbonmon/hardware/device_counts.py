"""Reads how many devices a text names beside their model; pure."""

from __future__ import annotations

import re

from carbonmon.core.errors import ConfigError

_COUNT_BEHIND = re.compile(r"(.*\S)(?:\s+[x×*]\s*|(?<=[0-9A-Za-z])[x×*])([0-9]{1,7})")
_COUNT_LAST = re.compile(r"(.*\S)\s+([0-9]{1,7})[x×]")
_COUNT_IN_BRACKETS = re.compile(r"(.*\S)\s*\(\s*(?:[x×*]\s*([0-9]{1,7})|([0-9]{1,7})\s*[x×*])\s*\)")
_COUNT_BEFORE = re.compile(r"([0-9]{1,7})(?:\s*[x×*]\s*)(\S.*)")
_COUNT_LEFT = re.compile(
    r"[0-9]+\s+\S.*|.*\(\s*[x×*]?\s*[0-9]+\s*[x×*]?\s*\)|.*[0-9A-Za-z)]\s*[×*]\s*[0-9]+"
    r"|.*\sx\s*[0-9]+|[0-9]+\s*[x×*]\s*\S.*|.*\s[0-9]+\s*[x×*]"
)
"""What is left of a name in which more than one count stands, or one in a way that is not known."""
_TPU_SLICE = re.compile(r"(?:Google )?(?:Cloud )?TPU[ -]?v([2-6])(p|e|litepod)?-([0-9]{1,6})", re.IGNORECASE)
_CORES_PER_CHIP = {"2": 2, "3": 2, "4": 2, "5p": 2, "5e": 1, "6e": 1}
"""What the number of a slice's name counts, by generation: TensorCores, of which a chip has two, or chips
(cloud.google.com/tpu/docs, the pages of each generation: v2-8, v3-8, v4-8 and v5p-8 have 4 chips, v5litepod-8
and v6e-8 have 8)."""
_RACK = re.compile(r"(.*\bGB[23]00)[ -]NVL(4|36|72)", re.IGNORECASE)
"""NVIDIA's racks and boards of superchips: the number is that of GPUs (data sheets of GB200 and GB300)."""

_DGX = {
    "A100": ("A100 SXM4", 8),
    "H100": ("H100 SXM5 80GB", 8),
    "H200": ("H200 SXM", 8),
    "B200": ("B200", 8),
}
"""The GPUs of NVIDIA's DGX systems, by their data sheets; the rest of the system is not in them."""
_SYSTEM = re.compile(r"(?:NVIDIA )?(DGX|HGX)(?! Display)[ -]?([A-Z]+[0-9]+)?\b.*", re.IGNORECASE)


def split_system(name: str) -> tuple[str, int]:
    """The device of a system's name, and how many of it the system has: (TPU v3, 1024) of `TPU v3-2048`.

    (the name, 1) for a name of no system that is known, and for a slice that no chips make up.
    """
    plain = " ".join(name.split())
    if hit := _TPU_SLICE.fullmatch(plain):
        letter = (hit[2] or "").lower().replace("litepod", "e")
        per_chip = _CORES_PER_CHIP.get(f"{hit[1]}{letter}")
        cores = int(hit[3])
        if per_chip is not None and cores and cores % per_chip == 0:
            return f"TPU v{hit[1]}{letter}", cores // per_chip
    if hit := _RACK.fullmatch(plain):
        return hit[1], int(hit[2])
    hit = _SYSTEM.fullmatch(plain)
    if hit is not None and hit[1].upper() == "DGX" and hit[2] and plain.endswith(hit[2]):
        return _DGX.get(hit[2].upper(), (plain, 1))
    return plain, 1


def is_several(name: str) -> bool:
    """Whether a GPU's name, without its count, still says that it is more than one, or a system of them."""
    return _COUNT_LEFT.fullmatch(name) is not None or _SYSTEM.fullmatch(name) is not None


def split_count(text: str) -> tuple[str, int | None]:
    """A name and the count beside it, None without: `H100 x8`, `8x H100`, `H100×8`, `H100 (x8)`."""
    plain = " ".join(text.split())
    if hit := _COUNT_BEFORE.fullmatch(plain):
        return hit[2], int(hit[1])
    if hit := _COUNT_IN_BRACKETS.fullmatch(plain):
        return hit[1], int(hit[2] or hit[3])
    if hit := _COUNT_BEHIND.fullmatch(plain):
        return hit[1], int(hit[2])
    if hit := _COUNT_LAST.fullmatch(plain):
        return hit[1], int(hit[2])
    return plain, None


def parse_gpu_model(text: str) -> tuple[str, int]:
    """(name, count) of `--gpu-model NAME[:COUNT]`; raises `ConfigError` for a count that is none."""
    name, colon, count = text.partition(":")
    if not colon:
        name, number = split_count(text)
        count = "1" if number is None else str(number)
    name = " ".join(name.split())
    if name and colon and re.fullmatch(r"[1-9][0-9]{0,2}", count.strip()) is None:
        raise ConfigError(
            f"--gpu-model: {count.strip()!r:.40} behind the colon is no count from 1 to 999; "
            f"give for example '{name:.60}:4'"
        )
    if not name or re.fullmatch(r"[1-9][0-9]{0,2}", count.strip()) is None:
        raise ConfigError(
            f"--gpu-model: {text!r:.80} is not NAME or NAME:COUNT with a count from 1 to 999; "
            "give for example 'A100 PCIe 80GB:4'"
        )
    name, each = split_system(name)
    if is_several(name):
        raise ConfigError(
            f"--gpu-model: {text!r:.80} is more than one GPU, and how many is not clear: give NAME:COUNT, "
            "for example 'A100 PCIe 80GB:4'"
        )
    return name, each * int(count)
