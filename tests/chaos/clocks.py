"""Clocks that step, sleep, stand still and come late, on an injected clock: no waiting, exact figures."""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from carbonmon.core.model import Snapshot
from carbonmon.runs.series_rows import SeriesRow
from tests.chaos.inprocess import GPU, PACKAGE, POWER_ONLY, POWER_W, Lines, Stepped, lost_s, run_j, state_of
from tests.chaos.table import Check, Row, energy_check

HOUR_S = 3600.0
TOTAL_W = sum(POWER_W.values())
ROUNDING_J = 0.01


def rows(short: bool, kills: int, chance: random.Random) -> Iterator[Row]:
    for scenario in (_wall_steps, _suspend, _late_ticks, _standing_still):
        with tempfile.TemporaryDirectory() as folder, Lines():
            yield scenario(Stepped(Path(folder)), chance)


def _wall_steps(run: Stepped, chance: random.Random) -> Row:
    steps_s = [chance.uniform(-5.0, 5.0) * HOUR_S for _ in range(8)]
    for place, step_s in enumerate(steps_s):
        run.watch(90)
        run.clock.wall_offset_s += step_s
        if place == 3:
            run.resume()
    run.watch(90)
    final = run.finish()
    state = final.runs[0]
    rows = run.series()
    truth_j, account_j = TOTAL_W * run.elapsed_s, run_j(final)
    return Row(
        "the wall clock is stepped",
        f"{len(steps_s)} steps of up to ±5 h, a resumed run between them",
        truth_j,
        account_j,
        _lost(final),
        (
            energy_check(truth_j, account_j, ROUNDING_J, "exact"),
            _duration(run, final),
            Check(f"the {len(rows)} rows of the series never run backwards", _forwards(rows)),
            Check("and add up to it", abs(sum(row.energy_j for row in rows) - account_j) < ROUNDING_J),
            Check("no end before the start", (state.ended_at_s or 0.0) >= state.info.started_at_s),
        ),
    )


def _suspend(run: Stepped, chance: random.Random) -> Row:
    """Two hours asleep: the steady clock goes on, the devices draw nothing, the counters stand."""
    asleep_s = 2 * HOUR_S
    run.watch(120)
    run.source.asleep_s = asleep_s
    run.tick(asleep_s)
    run.watch(120)
    final = run.finish()
    truth_j, account_j = TOTAL_W * (run.elapsed_s - asleep_s), run_j(final)
    return Row(
        "the machine is suspended",
        f"{asleep_s / HOUR_S:.0f} h between two samples",
        truth_j,
        account_j,
        _lost(final),
        (
            energy_check(truth_j, account_j, ROUNDING_J, "exact, nothing invented for the power sensor"),
            _duration(run, final),
            Check("the GPU's counter loses nothing", lost_s(final, GPU) == 0.0),
            Check(
                f"the power sensor's {lost_s(final, POWER_ONLY):.0f} s are unobserved",
                lost_s(final, POWER_ONLY) == asleep_s,
            ),
            Check(
                f"a wrap may hide in the package's {lost_s(final, PACKAGE):.0f} s: unobserved",
                lost_s(final, PACKAGE) == asleep_s,
            ),
            Check("the series never runs backwards", _forwards(run.series())),
        ),
    )


def _late_ticks(run: Stepped, chance: random.Random) -> Row:
    count = 5
    for _ in range(count):
        run.watch(chance.randrange(20, 60))
        run.tick(30.0)
    run.watch(30)
    final = run.finish()
    late_s = 30.0 * count
    truth_j, account_j = TOTAL_W * run.elapsed_s, run_j(final)
    lost_j = late_s * POWER_W[POWER_ONLY.id]
    return Row(
        "ticks come late",
        f"{count} ticks late by 30 s",
        truth_j,
        account_j,
        _lost(final),
        (
            energy_check(truth_j, account_j + lost_j, ROUNDING_J, "missing is what was reported lost"),
            _duration(run, final),
            Check(
                "counters lose nothing, the power sensor's seconds are unobserved",
                _lost(final) == lost_s(final, POWER_ONLY) == late_s,
            ),
        ),
    )


def _standing_still(run: Stepped, chance: random.Random) -> Row:
    count = 20
    for _ in range(count):
        run.watch(chance.randrange(1, 9))
        run.tick(0.0)
    final = run.finish()
    truth_j, account_j = TOTAL_W * run.elapsed_s, run_j(final)
    peak_w = {device.id: state_of(final, device).peak_power_w or 0.0 for device in (GPU, POWER_ONLY, PACKAGE)}
    return Row(
        "the clock stands still",
        f"{count} ticks at the same time as the one before",
        truth_j,
        account_j,
        _lost(final),
        (
            energy_check(truth_j, account_j, ROUNDING_J, "exact"),
            _duration(run, final),
            Check("no peak of power invented", all(peak_w[key] <= POWER_W[key] + 0.01 for key in peak_w)),
        ),
    )


def _lost(final: Snapshot) -> float:
    return sum(seconds for _, seconds in final.runs[0].unobserved_s)


def _duration(run: Stepped, final: Snapshot) -> Check:
    return Check("duration exact", abs(final.runs[0].duration_s - run.elapsed_s) < 1e-6)


def _forwards(rows: list[SeriesRow]) -> bool:
    return all(after.at_s >= before.at_s for before, after in itertools.pairwise(rows))
