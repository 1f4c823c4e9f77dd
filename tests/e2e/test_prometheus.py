"""What a real Prometheus makes of a run: no joule lost at the first scrape, none gained at a restart."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
import pytest

from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command, prometheus

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(prometheus.binary() is None, reason="no Prometheus, and no apt-get to fetch it"),
]

TOTAL = "carbonmon_run_energy_joules_total"


def test_increase_over_a_run_with_a_killed_monitor_is_the_run_s_energy(tmp_path: Path):
    gpus = [Gpu(profile=Constant(300.0)), Gpu(profile=Constant(150.0))]
    package = Package(profile=Constant(100.0), dram=Constant(20.0))
    port = prometheus.free_port()
    options = ["run", "--idle", "exclusive", "--interval", "0.1", "--sensor", "nvml,rapl"]
    options += ["--listen", f"127.0.0.1:{port}"]
    with Simulator(gpus=gpus, packages=[package]) as machine:
        options += ["--sysfs", str(machine.sysfs)]
        folder = tmp_path / "carbonmon-runs" / "mine"
        with (
            subprocess.Popen(["sleep", "120"]) as job,
            prometheus.Prometheus(tmp_path, f"127.0.0.1:{port}", 0.5) as server,
        ):
            attach = ["--attach", str(job.pid)]
            first = command.start([*options, "--run-id", "mine", *attach], tmp_path, env=machine.environ)
            command.wait_for(lambda: (server.number(f"sum({TOTAL})") or 0.0) > 0.0, "joules in Prometheus")
            psutil.Process(first.pid).kill()
            first.communicate()
            killed_at_j = server.number(f"sum(last_over_time({TOTAL}[1m]))")
            assert killed_at_j is not None
            second = command.start([*options, "--resume", "mine", *attach], tmp_path, env=machine.environ)
            command.wait_for(
                lambda: (server.number(f"sum({TOTAL})") or 0.0) > 1.5 * killed_at_j,
                "more joules in Prometheus",
            )
            seen_j = server.number(f"sum(last_over_time({TOTAL}[1m]))")
            assert server.number(f"sum(resets({TOTAL}[5m]))") == 0.0, "no series steps back"
            # increase() extrapolates to the window's edges; the sum of the steps is what it extrapolates.
            first_j = server.number(f"sum(min_over_time({TOTAL}[5m]))")
            assert first_j == 0.0, "every series is born at 0, so that increase() holds all of it"
            job.kill()
            second.communicate(timeout=command.DEADLINE_S)
        summary = command.summary(tmp_path)
        assert (folder / "checkpoint.json").exists()
        assert seen_j is not None
        assert 0.0 < seen_j <= summary["energy"]["total_j"] * 1.0001
        assert summary["energy"]["recovered_j"] > 0.0
