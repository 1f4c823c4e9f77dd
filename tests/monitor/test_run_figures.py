"""The figures of a run are the run's: from its begin to its end, whatever the monitor saw before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from carbonmon.analysis.estimate.fit import fit_of
from carbonmon.core.footprint import Overheads
from carbonmon.core.model import (
    Device,
    Failure,
    GpuClaim,
    IdlePolicy,
    Interval,
    NodeUsage,
    Reading,
    ResumePoint,
    RunInfo,
    SensorState,
    Usage,
)
from carbonmon.core.ports import Roots
from carbonmon.monitor.device_account import DeviceAccount
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.meanwhile import Meanwhile, NodeTotals
from carbonmon.monitor.peak_power import PeakPower
from carbonmon.monitor.resume import Outage, restore_devices, restore_run
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from carbonmon.runs.layout import RUN_FILE, checkpoint_text, run_text
from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.summary.document import summarize
from tests.support import checkpoints
from tests.support.harness import FakeClock, FixedIntensity, make_sampler

GPU = Device("gpu-0", "gpu", "a GPU", 0, ("counter", "power"), max_power_w=1000.0)
PACKAGE = Device("package-0", "cpu", "a CPU", 0, ("counter",), max_power_w=1000.0)
DEVICES = {device.id: device for device in (GPU, PACKAGE)}
CPUS = 10.0
OUTAGE_S = 2.0


class Machine:
    """A GPU and a package with counters, and who uses them: a sensor and a workload in one."""

    name = "machine"

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.power_w = {GPU.id: 0.0, PACKAGE.id: 0.0}
        self.utilization = 0.0
        self.energy_j = {GPU.id: 0.0, PACKAGE.id: 0.0}
        self.runs: dict[str, float] = {}  # CPUs in use
        self.busy = 0.0
        self._seen_s = clock.now_s()

    def pass_time(self, seconds: float) -> None:
        self.clock.time_s += seconds
        for device_id, power_w in self.power_w.items():
            self.energy_j[device_id] += power_w * seconds

    def devices(self) -> Sequence[Device]:
        return list(DEVICES.values())

    def sources(self) -> Sequence[SensorState]:
        return [SensorState(self.name, "used", "test")]

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        for device_id, joules in self.energy_j.items():
            yield Reading(device_id, round(joules * 1e6), None, None, self.utilization)

    def close(self) -> None:
        pass


class Work:
    """The workload of the same machine: every run holds the GPU that it has alone."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._seen_s = machine.clock.now_s()

    def add(self, run_id: str, roots: Roots, since: ResumePoint | None = None) -> None:
        self._machine.runs.setdefault(run_id, 0.0)

    def remove(self, run_id: str) -> None:
        del self._machine.runs[run_id]

    def join(self, run_id: str, roots: Roots) -> None:
        pass

    def resume_points(self) -> dict[str, ResumePoint]:
        return {}

    def read(self, now_s: float) -> NodeUsage:
        seconds, self._seen_s = now_s - self._seen_s, now_s
        runs = {
            run_id: Usage(cpus * seconds, {GPU.id: GpuClaim(1.0, None, "allocated")})
            for run_id, cpus in self._machine.runs.items()
        }
        return NodeUsage(self._machine.busy * seconds, CPUS * seconds, runs)

    def close(self) -> None:
        pass


def info(run_id: str, policy: IdlePolicy = "proportional") -> RunInfo:
    return RunInfo(
        run_id, run_id, (), (), "host", 1_700_000_000.0, idle_policy=policy, ends_with="participants"
    )


def monitor_of(machine: Machine) -> Sampler:
    sampler = make_sampler(
        [GuardedSensor(machine)],
        DEVICES,
        [],
        FixedIntensity(),
        machine.clock,
        1.0,
        Overheads(),
        workload=Work(machine),
        retain_s=1e9,
    )
    sampler.tick(edge=True)
    return sampler


def begin(sampler: Sampler, run_id: str) -> None:
    sampler.begin(RunAccount(info(run_id), []), Roots())


def watch(sampler: Sampler, machine: Machine, seconds: int) -> None:
    for _ in range(seconds):
        machine.pass_time(1.0)
        sampler.tick()


def summary_of(sampler: Sampler, run_id: str) -> dict[str, Any]:
    (run,) = [run for run in sampler.latest.runs if run.info.id == run_id]
    return summarize(sampler.latest, run, "final")


def device_of(summary: dict[str, Any], device: Device) -> dict[str, Any]:
    (found,) = [each for each in summary["energy"]["devices"] if each["id"] == device.id]
    return found


def after_another(machine: Machine) -> Sampler:
    """A daemon that saw a hot run and a reset for 25 s; then `late` runs at 100 W for 10 s."""
    sampler = monitor_of(machine)
    machine.power_w, machine.utilization = {GPU.id: 400.0, PACKAGE.id: 50.0}, 1.0
    begin(sampler, "early")
    watch(sampler, machine, 20)
    machine.energy_j[GPU.id] = 0.0  # a reset of its counter
    watch(sampler, machine, 5)
    sampler.end("early", 0, None)
    machine.power_w[GPU.id], machine.utilization = 100.0, 0.25
    begin(sampler, "late")
    watch(sampler, machine, 10)
    return sampler


def test_power_utilisation_and_faults_before_a_run_are_not_its_own():
    machine = Machine(FakeClock())
    sampler = after_another(machine)
    sampler.end("late", 0, None)
    machine.power_w[GPU.id], machine.utilization = 800.0, 1.0
    begin(sampler, "next")
    watch(sampler, machine, 5)
    summary = summary_of(sampler, "late")
    gpu = device_of(summary, GPU)
    assert gpu["energy_j"] == pytest.approx(1000.0)
    assert (gpu["mean_power_w"], gpu["peak_power_w"]) == (pytest.approx(100.0), pytest.approx(100.0))
    assert gpu["utilization_ratio"] == pytest.approx(0.25)
    assert set(gpu["anomalies"].values()) == {0}
    assert device_of(summary_of(sampler, "early"), GPU)["anomalies"]["reset"] == 1


def test_samples_and_own_cost_are_those_of_the_runs_time(monkeypatch: pytest.MonkeyPatch):
    spent_s = [5.0]
    monkeypatch.setattr("carbonmon.monitor.sampler.time.process_time", lambda: spent_s[0])
    machine = Machine(FakeClock())
    sampler = monitor_of(machine)
    watch(sampler, machine, 30)
    begin(sampler, "late")
    spent_s[0] = 5.5
    watch(sampler, machine, 10)
    sampler.end("late", 0, None)
    spent_s[0] = 9.0
    watch(sampler, machine, 10)
    monitor = summary_of(sampler, "late")["monitor"]
    assert monitor["samples"] == 11, "its baseline is its first"
    assert monitor["own_cpu_s"] == pytest.approx(0.5)


def test_the_monitor_of_one_job_has_cost_it_from_its_own_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("carbonmon.monitor.sampler.time.process_time", lambda: 0.75)
    sampler = monitor_of(Machine(FakeClock()))
    own = RunInfo("job", "job", (), (), "host", 0.0)
    sampler.begin(RunAccount(own, []), Roots())
    assert summary_of(sampler, "job")["monitor"]["own_cpu_s"] == 0.75


def test_the_share_is_the_runs_part_of_what_the_device_drew():
    machine = Machine(FakeClock())
    sampler = monitor_of(machine)
    machine.power_w[PACKAGE.id], machine.busy = 200.0, 8.0
    begin(sampler, "small")
    machine.runs["small"] = 0.008
    watch(sampler, machine, 10)
    package = device_of(summary_of(sampler, "small"), PACKAGE)
    assert package["share_ratio"] == pytest.approx(0.001)
    assert package["mean_power_w"] == pytest.approx(0.2)
    assert package["peak_power_w"] == pytest.approx(0.2)
    assert package["node_energy_j"] == pytest.approx(2000.0)


def test_the_share_of_a_device_that_drew_nothing_is_unknown():
    machine = Machine(FakeClock())
    sampler = monitor_of(machine)
    begin(sampler, "run")
    watch(sampler, machine, 3)
    gpu = device_of(summary_of(sampler, "run"), GPU)
    assert (gpu["share_ratio"], gpu["mean_power_w"]) == (None, 0.0)


def test_a_fit_takes_the_utilisation_of_the_runs_own_time():
    machine = Machine(FakeClock())
    sampler = after_another(machine)
    (gpu,) = [group for group in fit_of(summary_of(sampler, "late")).groups if group.component == "gpu"]
    assert gpu.spec.tdp_w == pytest.approx(100.0)
    assert gpu.utilization == pytest.approx(0.25)
    assert "utilisation 0.25" in gpu.spec.source


def test_a_fit_says_that_the_run_had_a_part_of_the_device_only():
    machine = Machine(FakeClock())
    sampler = monitor_of(machine)
    machine.power_w[PACKAGE.id], machine.busy = 200.0, 8.0
    begin(sampler, "small")
    machine.runs["small"] = 0.8
    watch(sampler, machine, 10)
    (cpu,) = [group for group in fit_of(summary_of(sampler, "small")).groups if group.component == "cpu"]
    assert cpu.spec.tdp_w == pytest.approx(20.0)
    assert "20.0 W (10.0 % of what the hardware drew)" in cpu.spec.source


# ---- peaks ----


def test_a_sample_right_after_another_makes_no_peak():
    account = DeviceAccount(PACKAGE)
    account.add(Interval(PACKAGE.id, 0.0, 1.0, 200.0, power_w=200.0), 0.0)
    account.add(Interval(PACKAGE.id, 1.0, 1.001, 2.968, power_w=2968.0), 0.0)
    account.add(Interval(PACKAGE.id, 1.001, 2.0, 197.0, power_w=197.0 / 0.999), 0.0)
    assert account.state().peak_power_w == pytest.approx(200.0)


def test_a_peak_is_the_mean_over_half_a_second_or_more():
    peak = PeakPower()
    peak.add(300.0, 0.25)
    assert peak.peak_w is None
    peak.add(100.0, 0.25)
    assert peak.peak_w == pytest.approx(200.0)
    peak.add(150.0, 2.0)
    assert peak.peak_w == pytest.approx(200.0)
    peak.add(250.0, 0.5)
    assert peak.peak_w == 250.0


def test_time_of_unknown_power_is_in_no_window():
    peak = PeakPower()
    peak.add(1000.0, 0.4)
    peak.add(None, 1.0)
    peak.add(1000.0, 0.4)
    assert peak.peak_w is None


# ---- resumption ----


def written(sampler: Sampler, run_id: str, folder: Path) -> None:
    (run,) = [run for run in sampler.latest.runs if run.info.id == run_id]
    devices = [state.device for state in sampler.latest.devices]
    (folder / RUN_FILE).write_text(run_text(run.info, devices))
    checkpoints.write(folder, checkpoint_text(sampler.latest, run, "boot"))


def resumed(folder: Path, machine: Machine) -> Sampler:
    before = read_checkpoint(folder).snapshot
    machine.runs.clear()
    second = make_sampler(
        [GuardedSensor(machine)],
        DEVICES,
        [],
        FixedIntensity(),
        machine.clock,
        1.0,
        Overheads(),
        workload=Work(machine),
        retain_s=1e9,
    )
    outage = Outage(OUTAGE_S, same_boot=True)
    lost = restore_devices(second, before, outage)
    restore_run(second, RunAccount(before.runs[0].info, []), before.runs[0], outage, lost, Roots())
    return second


def test_the_figures_of_a_resumed_run_are_of_all_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spent_s = [5.0]
    monkeypatch.setattr("carbonmon.monitor.sampler.time.process_time", lambda: spent_s[0])
    machine = Machine(FakeClock())
    sampler = after_another(machine)
    (before,) = [run for run in sampler.latest.runs if run.info.id == "late"]
    spent_s[0] = 6.0
    sampler.tick()
    written(sampler, "late", tmp_path)
    machine.pass_time(2.0)
    spent_s[0] = 0.3
    second = resumed(tmp_path, machine)
    second.tick(edge=True)
    machine.power_w[GPU.id], machine.utilization = 300.0, 0.75
    spent_s[0] = 0.5
    watch(second, machine, 8)
    summary = summary_of(second, "late")
    gpu = device_of(summary, GPU)
    assert before.samples == 11
    assert summary["run"]["duration_s"] == pytest.approx(20.0)
    assert gpu["mean_power_w"] == pytest.approx((12 * 100.0 + 8 * 300.0) / 20.0)
    assert gpu["peak_power_w"] == pytest.approx(300.0)
    assert gpu["utilization_ratio"] == pytest.approx((10 * 0.25 + 8 * 0.75) / 18.0, abs=0.03)
    assert gpu["anomalies"]["reset"] == 0
    assert gpu["share_ratio"] == pytest.approx(1.0)
    assert summary["monitor"]["samples"] == 11 + 1 + 1 + 8
    assert summary["monitor"]["own_cpu_s"] == pytest.approx(1.0 + 0.2)


def test_an_older_checkpoint_gives_what_its_version_showed(tmp_path: Path):
    machine = Machine(FakeClock())
    sampler = after_another(machine)
    written(sampler, "late", tmp_path)
    document = checkpoints.read(tmp_path)
    for key in ("peaks_w", "run_samples", "monitor_cpu_s"):
        del document[key]
    known = document["node_fields"].index("utilized_s")
    document["node_fields"] = document["node_fields"][:known]
    document["node"] = [row[:known] for row in document["node"]]
    checkpoints.write(tmp_path, json.dumps(document))
    snapshot = read_checkpoint(tmp_path).snapshot
    summary = summarize(snapshot, snapshot.runs[0], "recovered")
    gpu = device_of(summary, GPU)
    assert gpu["peak_power_w"] == pytest.approx(400.0)
    assert gpu["anomalies"]["reset"] == 1
    assert summary["monitor"]["samples"] == 36
    assert summary["monitor"]["own_cpu_s"] is None


def test_an_unknown_cost_stays_unknown():
    meanwhile = Meanwhile()
    meanwhile.restore((), 5, None, (), NodeTotals({}, 7, 1.0))
    found = meanwhile.until(NodeTotals({}, 9, 2.0))
    assert (found.samples, found.cpu_s) == (7, None)
