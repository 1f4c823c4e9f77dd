"""A monitor that is killed again and again, with counters that survive it and without any."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from carbonmon.hardware.sensors.nvml.gpu import COUNTER_PERIOD_S
from carbonmon.runs.series import read_series
from tests.chaos.monitors import Watched, device_j, ended_s, started_s, unobserved_s
from tests.chaos.scraper import Scraper, steps_back, total_increase
from tests.chaos.table import Check, Row, energy_check
from tests.simulator import Constant, Gpu, Package, Simulator, Sine, Square
from tests.simulator.powercap import PACKAGE_RANGE_UJ
from tests.support import checkpoints

OPTIONS = ("--sensor", "nvml,rapl", "--interval", "0.05", "--checkpoint", "0.2")
LONGEST_LIFE_S, LONGEST_DEATH_S = 2.0, 0.4
ENERGY = "carbonmon_run_energy_joules_total"

INTERVAL_S, CHECKPOINT_S = 0.1, 1.0
POWER_W, TDP_W = 300.0, 100.0
GPUS_W = 250.0 + (80.0 + 350.0) / 2
"""What the two GPUs that are watched through many kills draw in the mean."""
SHORT_PATIENCE_S = 5.0
"""How late a checkpoint may come where tests run, on a machine that may be busy with others."""

GAP_S = 10.0
"""Readings of power further apart than this are not joined by a straight line (`energy.limits_for`)."""


def rows(short: bool, kills: int, chance: random.Random) -> Iterator[Row]:
    yield _many(4 if short else kills, chance, short)
    late_s = SHORT_PATIENCE_S if short else 2 * INTERVAL_S
    yield _without_counters("resumed at once", chance, late_s, outage_s=0.0)
    yield _without_counters("resumed after another boot", chance, late_s, outage_s=0.3, other_boot=True)
    if not short:
        yield _without_counters("resumed late", chance, late_s, outage_s=GAP_S + 1.0)


def _many(kills: int, chance: random.Random, short: bool) -> Row:
    """Kill at random moments, start-up included, while somebody scrapes."""
    gpus = [
        Gpu(profile=Sine(250.0, 120.0, period_s=3.0)),
        Gpu(profile=Square(80.0, 350.0, period_s=0.9)),
    ]
    # The package's counter wraps a few seconds after the start.
    package = Package(
        profile=Sine(110.0, 40.0, period_s=5.0), dram=Constant(15.0), start_uj=PACKAGE_RANGE_UJ - 600_000_000
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(gpus=gpus, packages=[package]) as machine,
        Watched(machine, Path(folder), OPTIONS) as run,
    ):
        run.start()
        scraper = Scraper(run.address, chance.randrange(1 << 30))
        for _ in range(kills):
            time.sleep(chance.uniform(0.0, LONGEST_LIFE_S))
            run.kill()
            time.sleep(chance.uniform(0.0, LONGEST_DEATH_S))
            run.start()
        # /metrics shows what a checkpoint holds, from a moment after it is on the disk: so the first of two.
        first = run.wait_for_checkpoint(run.checkpoint()["samples"])
        run.wait_for_checkpoint(first["samples"])
        scraper.stop()
        assert scraper.once(), "the last monitor does not answer"
        summary = run.finish()
        begin_s, end_s = started_s(summary), ended_s(summary)
        truth_j, account_j = run.truth_j(begin_s, end_s), summary["energy"]["total_j"]
        lost_s = sum(unobserved_s(summary).values())
        scrapes = scraper.scrapes
        fallen = steps_back(scrapes)
        scraped_j = run.truth_j(scrapes[0].sampled_s or 0.0, scrapes[-1].sampled_s or 0.0)
        drift_j = total_increase(scrapes, ENERGY) - scraped_j
        left = [path.name for path in run.folder.iterdir() if path.name.startswith(".")]
        rows, damaged = read_series(run.folder)
        series_j = sum(row.energy_j for row in rows)
        ratio, drift_ratio = (0.03, 0.03) if short else (0.001, 0.01)
        # What the GPUs drew since their counters were read is in no total yet, first scrape and last alike.
        most_drift_j = drift_ratio * scraped_j + COUNTER_PERIOD_S * GPUS_W
        found = summary["run"]["duration_s"]
        return Row(
            "the monitor is killed, counters survive",
            f"{kills} SIGKILLs at random moments of {end_s - begin_s:.0f} s, some of them before the "
            "monitor's first checkpoint",
            truth_j,
            account_j,
            lost_s,
            (
                energy_check(truth_j, account_j, ratio * truth_j, f"within ±{ratio:.1%}"),
                Check("no second unobserved", lost_s == 0.0),
                Check(
                    f"the {len(rows)} rows of the series add up to it, {len(damaged)} lines are torn",
                    abs(series_j - account_j) < 0.01,
                ),
                Check(f"{summary['energy']['recovered_j']:.0f} J of it recovered", True),
                Check(
                    f"of {len(scrapes)} scrapes no total below the one before {fallen[:3] or ''}".rstrip(),
                    not fallen,
                ),
                Check(f"nothing half-written left {left or ''}".rstrip(), not left),
                Check(
                    f"increase() over the scrapes within ±{most_drift_j:.0f} J of {scraped_j:.0f} J: "
                    f"{drift_j:+.1f} J",
                    abs(drift_j) <= most_drift_j,
                ),
                Check(
                    f"duration within ±{drift_ratio:.0%}: {found / (end_s - begin_s) - 1.0:+.3%}",
                    abs(found / (end_s - begin_s) - 1.0) <= drift_ratio,
                ),
            ),
        )


def _without_counters(
    how: str, chance: random.Random, late_s: float, outage_s: float, other_boot: bool = False
) -> Row:
    """One kill where a GPU has only its power sensor and the CPU only TDP × utilisation.

    The GPU's truth is known; of the CPU the lost seconds are what can be checked. A checkpoint may come so
    many seconds late.
    """
    options = [
        *("--sensor", "nvml,tdp", "--interval", str(INTERVAL_S), "--checkpoint", str(CHECKPOINT_S)),
        *("--cpu-tdp", str(TDP_W)),
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(gpus=[Gpu(profile=Constant(POWER_W))]) as machine,
        Watched(machine, Path(folder), options) as run,
    ):
        (gpu,) = machine.gpus
        gpu.fault(no_counter=1)
        run.start()
        run.wait_for_checkpoint(run.checkpoint()["samples"])
        time.sleep(chance.uniform(0.0, CHECKPOINT_S))
        run.kill()
        killed_s = machine.wall_s()
        last = run.checkpoint()
        time.sleep(outage_s)
        if other_boot:
            checkpoints.replace(run.folder, boot_id="another")
        run.start()
        run.wait_for_checkpoint(last["samples"])
        resumed_s = machine.wall_s()
        run.wait_for_checkpoint(run.checkpoint()["samples"])
        summary = run.finish()
        truth_j = gpu.energy_between_wall(started_s(summary), ended_s(summary))
        account_j = device_j(summary, gpu.uuid)
        lost_s = unobserved_s(summary)[gpu.uuid]
        cpu_lost_s = unobserved_s(summary)["package-0"]
        # The straight line over the outage, and the edges of the lost time, stray by a few intervals.
        tolerance_j = 4 * INTERVAL_S * POWER_W
        bridged = outage_s < GAP_S and not other_boot
        before_s = killed_s - last["at_s"]
        outside_s = truth_j / POWER_W - account_j / POWER_W - (resumed_s - killed_s)
        checks = [
            energy_check(
                truth_j, account_j + lost_s * POWER_W, tolerance_j, "missing is what was reported lost"
            ),
            Check(
                f"at most one checkpoint interval lost before the kill: {max(0.0, outside_s):.2f} s "
                f"(the checkpoint was {before_s:.2f} s old)",
                outside_s <= CHECKPOINT_S + late_s,
            ),
            Check(
                f"TDP × utilisation lost the same seconds: {cpu_lost_s:.2f}",
                abs(cpu_lost_s - lost_s) <= 4 * INTERVAL_S,
            ),
        ]
        if bridged:
            checks.append(Check("a short outage is bridged by a straight line", lost_s <= 2 * INTERVAL_S))
        else:
            checks.append(Check("the outage is reported", lost_s >= outage_s))
        return Row(
            f"the monitor is killed, no counters, {how}",
            f"1 SIGKILL, {resumed_s - killed_s:.1f} s without a monitor",
            truth_j,
            account_j,
            lost_s,
            tuple(checks),
        )
