"""Figures of an estimate as texts; pure."""

from __future__ import annotations


def number_text(number: float) -> str:
    """Six significant digits at most, without trailing zeros and never in powers of ten."""
    return f"{float(f'{number:.6g}'):f}".rstrip("0").rstrip(".")
