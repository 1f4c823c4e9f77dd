"""How much a test run tries: some of the random examples and hours, or all of them.

`CARBONMON_TEST_EFFORT` is the part of them: 0.3 unless it is set, 1 all of them, 10 with `make fuzz`.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

VARIABLE = "CARBONMON_TEST_EFFORT"
EFFORT = float(os.environ.get(VARIABLE, "0.3"))
USUAL = 100
"""The examples of a test that names no number: Hypothesis' own default."""


def part_of(count: int, least: int = 1) -> int:
    """So many at an effort of 1, more or fewer at another, and `least` at least."""
    return max(least, round(count * EFFORT))


def examples(count: int, **more: Any) -> Any:
    """`hypothesis.settings` of so many examples at an effort of 1; `more` are other settings."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(
        max_examples=part_of(count, least=8),
        suppress_health_check=[*checks, *more.pop("suppress_health_check", [])],
        **more,
    )
