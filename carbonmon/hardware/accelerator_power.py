"""Mean power of accelerators that no sensor reads, where somebody measured and published it.

It is a mean over the jobs that were measured, so it is not multiplied by a utilisation.
"""

from __future__ import annotations

from carbonmon.core.model import Spec, Uncertainty
from carbonmon.data import ACCELERATORS, Row, rows, using

CHIP = "chip"
"""What a row includes that is the accelerator alone, as a TDP is; other rows have parts of its host too."""

LOW_RATIO = 0.47
"""Downwards, where no least power was published: that of TPU v4, 90 W at a mean of 170 W; TPU v3 has 0.44."""
HIGH_RATIO = 1.0
"""Upwards, where no largest power was published. TPU v4 and v3 have 0.13 and 0.19, but the mean of a fleet is
that at the fleet's use: twice of it is our judgement."""


def published_mean(model: str) -> Spec | None:
    """The mean power in W of one accelerator, None where nobody published one.

    That of the chip alone if there is one, else that of the chip with what the source adds. Raises
    ConfigError for a table that cannot be used.
    """
    with using(ACCELERATORS):
        found = sorted(rows(ACCELERATORS, "model", (model,)), key=lambda row: row["includes"] != CHIP)
        if not found:
            return None
        first, *others = found
        mean_w = float(first["mean_w"])
        low = 1.0 - float(first["min_w"]) / mean_w if first["min_w"] else LOW_RATIO
        high = float(first["max_w"]) / mean_w - 1.0 if first["max_w"] else HIGH_RATIO
        if first["min_w"] and first["max_w"]:
            why = f"{first['min_w']} to {first['max_w']} W measured ({first['source']})"
        else:
            why = "no range was published: down as TPU v4 at its least, up to twice the mean (our judgement)"
        source = "; ".join((f"{model}: mean power {_text(first)}", *(f"also {_text(row)}" for row in others)))
    return Spec(mean_w, Uncertainty(low, high, why), source, assumed_utilization_ratio=1.0)


def _text(row: Row) -> str:
    return f"{float(row['mean_w']):g} W of {row['includes']} ({row['source']}, {row['source_url']})"
