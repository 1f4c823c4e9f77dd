"""Hours of samples and a month of files: totals stay exact, and neither memory nor disk fills up."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.series import read_series
from tests.chaos.longrun import (
    GPUS,
    MONTH_BYTES,
    MONTH_DAYS,
    RANGE_UJ,
    LongRun,
    folder_bytes,
    write_days,
)
from tests.support.effort import part_of
from tests.support.series import sums, totals_of

pytestmark = pytest.mark.timeout(900)

HOUR_S = 3600
HOURS = part_of(24, least=6)
"""Until then a counter of a package has wrapped a dozen times and more."""
GROWTH_BYTES = 1_000_000 * (HOURS - 1) // 23
"""Of objects: a megabyte in a day."""
RESIDENT_BYTES = 1_000_000
"""Of pages, which come in larger pieces."""
SMALL_BYTES = 512
"""Python's own allocator gives each object up to this size one block."""


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_in_hours_of_samples_memory_does_not_grow_after_the_first_hour_and_totals_are_exact():
    run = LongRun()
    run.watch(HOUR_S)
    gc.collect()
    blocks, resident = sys.getallocatedblocks(), resident_bytes()
    run.watch((HOURS - 1) * HOUR_S)
    gc.collect()
    assert (sys.getallocatedblocks() - blocks) * SMALL_BYTES < GROWTH_BYTES
    assert resident_bytes() - resident < RESIDENT_BYTES

    final = run.finish()
    (state,) = final.runs
    assert final.samples == HOURS * HOUR_S + 1
    assert state.duration_s == HOURS * HOUR_S
    assert all(seconds == 0.0 for _, seconds in state.unobserved_s)
    drawn_j = {row.device_id: 0.0 for row in state.totals}
    for row in state.totals:
        drawn_j[row.device_id] += row.energy_j
    assert drawn_j == pytest.approx(
        {device_id: power_w * HOURS * HOUR_S for device_id, power_w in run.node.power_w.items()}, rel=1e-9
    )
    assert sum(row.emissions_g for row in state.totals) == pytest.approx(
        sum(drawn_j.values()) * 100.0 / 3.6e6, rel=1e-9
    )
    packages_j = sum(drawn_j[f"package-{index}"] for index in range(2))
    assert packages_j > 10 * RANGE_UJ / 1e6, "the packages' counters wrapped many times"


def test_the_folder_of_a_run_of_thirty_days_is_small_and_can_be_read_to_its_last_line(tmp_path: Path):
    folder = tmp_path / "month"
    last = write_days(folder, MONTH_DAYS)
    assert folder_bytes(folder) <= MONTH_BYTES
    rows, damaged = read_series(folder)
    assert damaged == []
    assert sums(rows) == pytest.approx(totals_of(last.runs[0].totals), abs=0.01)
    assert sum(row.emissions_g for row in rows) == pytest.approx(
        sum(row.emissions_g for row in last.runs[0].totals), abs=0.001
    )
    times = sorted({row.at_s for row in rows})
    gaps = Counter(round(after - before) for before, after in pairwise(times))
    assert len({row.device for row in rows}) == GPUS + 4
    assert gaps[1] >= 600, "each second for ten minutes"
    assert gaps[10] >= 540 and gaps[60] >= 1200, "each 10 s for an hour and a half, a minute for 20 hours"
    assert max(gaps) <= 900
    assert read_checkpoint(folder).snapshot.runs[0].totals == last.runs[0].totals
