"""`carbonmon run` and `doctor` on machines with ROCm: its library and its package are in ROCM_PATH."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.simulator import Constant, Ramp, Simulator
from tests.simulator.boards import MI300X, MOMENT, amd_gpu
from tests.simulator.rocm import Rocm, RocmProcess
from tests.support import command

pytestmark = pytest.mark.e2e

IDS = [f"GPU-a0b1c2d3e4f5000{place}" for place in range(8)]
OPTIONS = ["--idle", "exclusive", "--interval", "0.1", "--checkpoint", "0.2"]
IDLE = Constant(5.0)
RAMP_S = 3.0
"""Slow enough for readings of power that a busy machine makes late."""

JOB = ["sh", "-c", "while [ ! -e done ]; do sleep 0.05; done"]


def eight() -> Simulator:
    """Eight MI300X at rest, so that a run's two ends hold hardly any energy."""
    return Simulator(
        chips=[amd_gpu(place, IDLE, model=MI300X, level=MOMENT, cap_w=750.0, busy=0) for place in range(8)]
    )


def unix_s(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Measured(NamedTuple):
    """A run in which the cards worked for some seconds; `text` are its /metrics after that."""

    summary: dict[str, Any]
    text: str
    read_s: float


def work(machine: Simulator, rocm: Rocm, folder: Path) -> Measured:
    """Each card goes up to another power and down again while the job runs."""
    command_line = ["run", *OPTIONS, "--sysfs", str(machine.sysfs), "--", *JOB]
    run = command.start(command_line, folder, env=rocm.environ)
    address = command.metrics_address(run)
    levels_w = {gpu: 350.0 + 40.0 * place for place, gpu in enumerate(IDS)}
    for gpu, level_w in levels_w.items():
        machine.channels[gpu].set_profile(Ramp(IDLE.level, level_w, RAMP_S))
    time.sleep(RAMP_S + 1.0)  # for how long they work: what is asserted holds for any time
    for gpu, level_w in levels_w.items():
        ended_s = machine.channels[gpu].set_profile(Ramp(level_w, IDLE.level, RAMP_S)) + RAMP_S

    def metrics() -> str | None:
        text = command.get(address)
        sampled = re.search(r"^carbonmon_last_sample_timestamp_seconds (\S+)", text, re.MULTILINE)
        return text if sampled and float(sampled[1]) > machine.wall_s(ended_s) + 0.5 else None

    text = command.wait_for(metrics, "a sample after the work")
    read_s = machine.wall_s()
    (folder / "done").touch()
    out, err = run.communicate(timeout=command.DEADLINE_S)
    assert run.returncode == 0, err
    assert out == "", "standard output is the job's"
    return Measured(command.summary(folder), text, read_s)


@pytest.mark.parametrize(
    ("fault", "method", "tolerance"), [({}, "counter", 0.002), ({"counter_error": 2}, "power", 0.02)]
)
def test_what_eight_cards_drew_is_in_the_summary_and_in_the_metrics(
    fault: dict[str, float], method: str, tolerance: float, tmp_path: Path
):
    with eight() as machine, Rocm(machine, library_order=[6, 2, 0, 7, 4, 1, 3, 5]) as rocm:
        for card in rocm.cards:
            card.fault(**fault)
        summary, text, read_s = work(machine, rocm, tmp_path)
        started_s, ended_s = (unix_s(summary["run"][name]) for name in ("started_at", "ended_at"))
        devices = {device["id"]: device for device in summary["energy"]["devices"]}
        for gpu in IDS:
            channel = machine.channels[gpu]
            truth_j = channel.energy_between_wall(started_s, ended_s)
            assert set(devices[gpu]["methods"]) == {method}
            assert devices[gpu]["energy_j"] == pytest.approx(truth_j, rel=tolerance)
            rows = re.findall(rf"^carbonmon_run_energy_joules_total{{.*{gpu}.*}} (\S+)", text, re.MULTILINE)
            truth_j = channel.energy_between_wall(started_s, read_s)
            assert sum(map(float, rows)) == pytest.approx(truth_j, rel=tolerance)
        assert rocm.control.shut_downs == 1, "once, at the end"


def test_doctor_says_what_each_card_is_read_by(tmp_path: Path):
    with eight() as machine, Rocm(machine) as rocm:
        rocm.cards[3].fault(counter_factor=30.0)
        arguments = ["doctor", "--sysfs", str(machine.sysfs)]
        done = command.run([*arguments, "--json"], tmp_path, env=rocm.environ)
        said = json.loads(done.stdout)
        rocm.fault(init_error=10)
        refused = json.loads(command.run([*arguments, "--json"], tmp_path, env=rocm.environ).stdout)
    reasons = {source["source"]: source["reason"] for source in said["sources"]}
    assert f"{IDS[0]}: energy counter; " in reasons["amdsmi"]
    assert f"{IDS[3]}: power, its energy counter grows by " in reasons["amdsmi"]
    assert reasons["amdsmi package"] == f"amdsmi 26.0.2, {rocm.package}"
    methods = {device["id"]: device["methods"] for device in said["devices"]}
    assert methods[IDS[0]] == ["counter", "power", "tdp"]
    assert methods[IDS[3]] == ["power", "tdp"]
    source = next(each for each in refused["sources"] if each["source"] == "amdsmi")
    assert source["state"] == "not used"
    assert source["remedy"].startswith("sudo usermod -aG render,video")
    assert all(device["methods"] == ["power", "tdp"] for device in refused["devices"] if device["id"] in IDS)


def test_a_package_of_another_release_leaves_the_cards_to_hwmon(tmp_path: Path):
    with eight() as machine, Rocm(machine, package="6.3.3") as rocm:
        summary, *_ = work(machine, rocm, tmp_path)
        sources = {source["sensor"]: source for source in summary["monitor"]["sources"]}
        assert "the package is 6.3.3, the library 26.0.2" in sources["amdsmi"]["reason"]
        devices = {device["id"]: device for device in summary["energy"]["devices"]}
        assert set(devices[IDS[0]]["methods"]) == {"power"}


def test_a_run_is_charged_with_the_card_that_its_process_is_on(tmp_path: Path):
    with eight() as machine, Rocm(machine) as rocm:
        job = ["sh", "-c", "echo $$ > pid.new; mv pid.new pid; while [ ! -e done ]; do sleep 0.05; done"]
        options = ["--interval", "0.1", "--checkpoint", "0.2", "--sysfs", str(machine.sysfs)]
        run = command.start(["run", *options, "--", *job], tmp_path, env=rocm.environ)
        address = command.metrics_address(run)
        command.wait_for(lambda: (tmp_path / "pid").exists() or None, "the job")
        pid = int((tmp_path / "pid").read_text())
        rocm.cards[5].set_processes(RocmProcess(pid, compute_units=304))
        machine.channels[IDS[5]].set_profile(Constant(500.0))

        def metrics() -> float | None:
            pattern = rf"^carbonmon_run_energy_joules_total{{.*{IDS[5]}.*}} (\S+)"
            found = re.search(pattern, command.get(address), re.MULTILINE)
            return float(found[1]) if found and float(found[1]) > 500.0 else None

        command.wait_for(metrics, "a second's energy of the card")
        (tmp_path / "done").touch()
        _, err = run.communicate(timeout=command.DEADLINE_S)
        assert run.returncode == 0, err
        devices = {device["id"]: device for device in command.summary(tmp_path)["energy"]["devices"]}
        assert devices[IDS[5]]["share_note"] == "its processes"
        assert not {gpu for gpu in IDS if gpu in devices and devices[gpu]["energy_j"]} - {IDS[5]}
