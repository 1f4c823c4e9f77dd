"""Spellings of one and the same device's name; pure."""

from __future__ import annotations

import re

_RESPELLINGS = (
    (re.compile(r"\b(RTX|GTX)(?=A?\d)", re.IGNORECASE), r"\1 "),  # RTX4090, RTXA6000
    (re.compile(r"(?<=\d)(?=Ti\b|Ti ?SUPER\b|SUPER\b)", re.IGNORECASE), " "),  # 1080Ti, 2080SUPER
    (re.compile(r"\bTi(?=SUPER\b)", re.IGNORECASE), "Ti "),
    (re.compile(r"(?<=\d)(?=(?:SXM\d?|PCIe|NVL)\b)", re.IGNORECASE), " "),  # H100SXM5, A100PCIe
    (re.compile(r"\b(\d+) ?G(?:iB)?\b", re.IGNORECASE), r"\1GB"),  # 80G, 80 GiB
    (re.compile(r"\bMI (?=\d)", re.IGNORECASE), "MI"),  # MI 300X
    (re.compile(r"\bTPU-?v(?=\d)", re.IGNORECASE), "TPU v"),  # TPUv3
    (re.compile(r"\bTPU[ -]?7x\b", re.IGNORECASE), "TPU v7"),
    (re.compile(r"\b(TPU v5) ?lite\b", re.IGNORECASE), r"\1e"),
)
"""Spellings in which people write a name's words together, or apart."""
_XEON_TIERS = ("platinum", "gold", "silver", "bronze")
_SHORT_XEON = re.compile(r"((?:Intel )?Xeon)(?: Scalable)? (?=\d{4}[A-Z+]*$)", re.IGNORECASE)


def respelled(name: str) -> str:
    """A name with its words apart: `RTX 4090` of `RTX4090`."""
    plain = " ".join(name.split())
    for pattern, replacement in _RESPELLINGS:
        plain = pattern.sub(replacement, plain)
    return plain


def whole_xeons(name: str) -> tuple[str, ...]:
    """`Xeon Platinum 8480+` and the other tiers for `Xeon 8480+`: a number of four digits has one of them."""
    if _SHORT_XEON.search(name) is None:
        return ()
    return tuple(_SHORT_XEON.sub(rf"\1 {tier.capitalize()} ", name, count=1) for tier in _XEON_TIERS)
