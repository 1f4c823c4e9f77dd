"""Meters of the whole machine beside a real job: their truth, one that hangs, a monitor that is killed."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import pytest

from carbonmon.runs.checkpoint_slots import has_checkpoint
from tests.e2e.test_recovery import kill_after_a_checkpoint
from tests.simulator import Constant, Gpu, Package, Simulator, can_build
from tests.simulator.node import AcpiTree, CrayTree
from tests.support import checkpoints, command
from tests.support.gridserver import Handler
from tests.support.redfish import PASSWORD, Bmc

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")]

ACPI_W, CRAY_W, GPU_W = 900.0, 1000.0, 300.0
TENTH_S = 0.1


class Firmware:
    """Refreshes the files of the trees ten times a second, as firmware does."""

    def __init__(self, trees: list[AcpiTree | CrayTree]) -> None:
        self._trees = trees
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Firmware:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _write(self) -> None:
        began_s = time.monotonic()
        while not self._over.wait(TENTH_S / 2):
            for tree in self._trees:
                tree.write(time.monotonic() - began_s)


@contextmanager
def node() -> Iterator[Simulator]:
    """A machine with one GPU, a CPU, and two meters of the whole."""
    with Simulator(gpus=[Gpu(profile=Constant(GPU_W))], packages=[Package()]) as machine:
        trees = [AcpiTree(machine.sysfs, Constant(ACPI_W)), CrayTree(machine.sysfs, Constant(CRAY_W))]
        with Firmware(trees):
            yield machine


def test_a_run_has_what_each_meter_measured_and_one_that_hangs_costs_only_itself(tmp_path: Path):
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    with node() as machine, Bmc() as bmc:
        bmc.server.fault = _hang
        arguments = ["run", "--interval", "0.2", "--sysfs", str(machine.sysfs), "--sensor", "nvml"]
        arguments += ["--node-meter", f"acpi,cray,redfish:{bmc.url}"]
        arguments += ["--redfish-password-file", str(password), "--", "sleep", "8"]
        done = command.run(arguments, tmp_path, env=machine.environ)
    assert done.returncode == 0, done.stderr
    summary = command.summary(tmp_path)
    meters = {row["meter"]: row for row in summary["node_meters"]}
    duration_s = summary["run"]["duration_s"]
    for name, power_w in (("acpi", ACPI_W), ("cray", CRAY_W)):
        row = meters[name]
        assert row["observed_s"] + row["unobserved_s"] == pytest.approx(duration_s, abs=0.05)
        assert row["energy_j"] == pytest.approx(power_w * row["observed_s"], rel=0.02, abs=0.3 * power_w)
        assert row["unobserved_s"] < 1.0
        assert row["coverage_ratio"] == pytest.approx(GPU_W / power_w, rel=0.15)
    assert meters["redfish"]["energy_j"] is None
    assert meters["redfish"]["unobserved_s"] == pytest.approx(duration_s, abs=0.05)
    assert summary["monitor"]["samples"] > 0.7 * duration_s / 0.2, "no tick waited for it"
    assert summary["energy"]["node"]["total_j"] == pytest.approx(GPU_W * duration_s, rel=0.05)


def test_a_monitor_that_is_killed_goes_on_with_the_node_s_totals(tmp_path: Path):
    with node() as machine:
        options = ["run", "--interval", "0.1", "--checkpoint", "0.2", "--sysfs", str(machine.sysfs)]
        options += ["--sensor", "rapl", "--node-meter", "cray"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = command.start([*options, "--run-id", "mine", "--", "sleep", "60"], tmp_path, **quiet)
        folder = tmp_path / "carbonmon-runs" / "mine"
        command.wait_for(
            lambda: has_checkpoint(folder) and checkpoints.read(folder)["node_meters"],
            "the meter's first total",
        )
        time.sleep(2.0)
        job = kill_after_a_checkpoint(process, folder)
        job.kill()
        time.sleep(2.0)
        done = command.run([*options, "--resume", "mine", "--", "sleep", "2"], tmp_path)
        assert done.returncode == 0, done.stderr
    summary = command.summary(tmp_path)
    (row,) = summary["node_meters"]
    duration_s = summary["run"]["duration_s"]
    assert row["energy_j"] == pytest.approx(CRAY_W * duration_s, rel=0.05, abs=0.4 * CRAY_W)
    assert row["methods"]["counter"] > 0.8 * row["energy_j"], "its counter spans the time without a monitor"
    assert row["unobserved_s"] < 0.5


def _hang(handler: Handler) -> None:
    handler.wait()
