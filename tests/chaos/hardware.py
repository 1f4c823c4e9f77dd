"""Hardware that changes under a monitor, alive or dead: resets, lost GPUs, a reloaded driver."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.monitors import Watched, ended_s, started_s, unobserved_s
from tests.chaos.table import Check, Row, energy_check
from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command

INTERVAL_S, CHECKPOINT_S = 0.1, 0.2
OPTIONS = ("--sensor", "nvml,rapl", "--interval", str(INTERVAL_S), "--checkpoint", str(CHECKPOINT_S))
GPU_W, CPU_W = 300.0, 120.0
EDGES_S = 3 * INTERVAL_S
"""How far start, end and the edges of lost time may stray together."""


def rows(short: bool, kills: int, chance: random.Random) -> Iterator[Row]:
    away_s = 1.2 if short else 4.0
    yield _counters_reset_while_dead(chance)
    yield _gpu_lost_and_back(away_s)
    yield _driver_reload()
    yield _gpu_vanishes_while_dead(away_s)


def _counters_reset_while_dead(chance: random.Random) -> Row:
    with (
        tempfile.TemporaryDirectory() as folder,
        # The counter has run long enough before that it cannot pass its old value unnoticed.
        Simulator(gpus=[Gpu(profile=Constant(GPU_W))], packages=[_package(10_000_000_000)]) as machine,
        Watched(machine, Path(folder), OPTIONS) as run,
    ):
        (gpu,), zone = machine.gpus, machine.zones["package-0"]
        run.start()
        samples = run.wait_for_checkpoint(run.checkpoint()["samples"])["samples"]
        time.sleep(chance.uniform(0.3, 0.9))
        run.kill()
        gpu.fault(counter_reset_at=machine.now_s())
        zone.fault(reset_at=machine.now_s())
        run.start()
        run.wait_for_checkpoint(run.wait_for_checkpoint(samples)["samples"])
        summary = run.finish()
        truth_j = run.truth_j(started_s(summary), ended_s(summary))
        account_j = summary["energy"]["total_j"]
        lost_s = unobserved_s(summary)
        missing_j = lost_s[gpu.uuid] * GPU_W + lost_s["package-0"] * CPU_W
        resets = sum(device["anomalies"]["reset"] for device in summary["energy"]["devices"])
        return Row(
            "counters are reset while the monitor is dead",
            "1 SIGKILL, a reset of the GPU's and of the package's counter",
            truth_j,
            account_j,
            sum(lost_s.values()),
            (
                energy_check(
                    truth_j,
                    account_j + missing_j,
                    EDGES_S * (GPU_W + CPU_W),
                    "missing is what was reported lost, nothing is counted twice",
                ),
                Check(f"{resets} resets noticed", resets == 2),
                Check("the GPU's power sensor stands in", lost_s[gpu.uuid] <= 2 * INTERVAL_S),
            ),
        )


def _gpu_lost_and_back(away_s: float) -> Row:
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(gpus=[Gpu(profile=Constant(GPU_W))], packages=[_package()]) as machine,
        Watched(machine, Path(folder), OPTIONS) as run,
    ):
        (gpu,) = machine.gpus
        run.start()
        gpu.fault(lost=1)
        time.sleep(away_s)
        gpu.clear()
        _speaks_again(run, gpu.uuid)
        summary = run.finish()
        truth_j = run.truth_j(started_s(summary), ended_s(summary))
        account_j = summary["energy"]["total_j"]
        lost_s = sum(unobserved_s(summary).values())
        return Row(
            "a GPU is lost and comes back",
            f"the GPU off the bus for {away_s:.1f} s",
            truth_j,
            account_j,
            lost_s,
            (
                energy_check(truth_j, account_j, EDGES_S * (GPU_W + CPU_W), "bridged by its counter"),
                Check("no second unobserved", lost_s == 0.0),
                Check(
                    "one log line when it goes, one when it is back",
                    run.said().count("is read again") == 1 and run.said().count("cannot be read") <= 1,
                ),
            ),
        )


def _driver_reload() -> Row:
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(gpus=[Gpu(profile=Constant(GPU_W))], packages=[_package()]) as machine,
        Watched(machine, Path(folder), OPTIONS) as run,
    ):
        (gpu,) = machine.gpus
        run.start()
        machine.reload_driver()
        _speaks_again(run, gpu.uuid)
        summary = run.finish()
        truth_j = run.truth_j(started_s(summary), ended_s(summary))
        account_j = summary["energy"]["total_j"]
        lost_s = sum(unobserved_s(summary).values())
        return Row(
            "the GPU driver is reloaded",
            "old handles void, counters from 0",
            truth_j,
            account_j,
            lost_s,
            (
                energy_check(
                    truth_j,
                    account_j + lost_s * GPU_W,
                    EDGES_S * (GPU_W + CPU_W),
                    "missing is what was reported lost",
                ),
                # From the last reading before to the first after: a retry comes within a second or two.
                Check(f"at most 3 s lost: {lost_s:.2f}", lost_s <= 3.0),
            ),
        )


def _gpu_vanishes_while_dead(away_s: float) -> Row:
    """It is not there for the second monitor, and there again for the third."""
    gpus = [Gpu(profile=Constant(GPU_W)), Gpu(profile=Constant(GPU_W))]
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(gpus=gpus, packages=[_package()]) as machine,
        Watched(machine, Path(folder), OPTIONS) as run,
    ):
        stays, goes = machine.gpus
        run.start()
        samples = run.wait_for_checkpoint(run.checkpoint()["samples"])["samples"]
        run.kill()
        goes.fault(lost=1)
        run.start()
        samples = run.wait_for_checkpoint(samples)["samples"]
        time.sleep(away_s)
        run.kill()
        goes.clear()
        run.start()
        samples = run.wait_for_checkpoint(samples)["samples"]
        run.wait_for_checkpoint(samples)
        summary = run.finish()
        truth_j = run.truth_j(started_s(summary), ended_s(summary))
        account_j = summary["energy"]["total_j"]
        lost_s = unobserved_s(summary)
        return Row(
            "a GPU is gone after an outage and back after the next",
            f"2 SIGKILLs, one of 2 GPUs missing for {away_s:.1f} s and both outages",
            truth_j,
            account_j,
            sum(lost_s.values()),
            (
                energy_check(truth_j, account_j, EDGES_S * (2 * GPU_W + CPU_W), "bridged by its counter"),
                Check("no second unobserved", not any(lost_s.values())),
                Check(
                    "both GPUs in the summary under their names",
                    all(_name_of(summary, gpu.uuid) == gpu.spec.name for gpu in (stays, goes)),
                ),
            ),
        )


def _package(start_uj: int = 0) -> Package:
    return Package(profile=Constant(CPU_W), start_uj=start_uj)


def _name_of(summary: dict[str, object], device_id: str) -> str | None:
    energy = summary["energy"]
    assert isinstance(energy, dict)
    return next((device["name"] for device in energy["devices"] if device["id"] == device_id), None)


def _speaks_again(run: Watched, device_id: str) -> None:
    """Wait until the account of a device grows: a counter is read once a second."""
    before_j = _account_j(run, device_id)
    command.wait_for(lambda: _account_j(run, device_id) > before_j, "energy of the GPU")


def _account_j(run: Watched, device_id: str) -> float:
    return float(sum(row[4] for row in run.checkpoint()["totals"] if row[2] == device_id))
