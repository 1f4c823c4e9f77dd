"""What a run has done and how its GPU was used, from the reports and samples to the summary and back."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from carbonmon.core.work import GpuPeak, Told
from carbonmon.monitor.sampler import Sampler
from tests.monitor.test_run_figures import (
    GPU,
    OUTAGE_S,
    PACKAGE,
    Machine,
    begin,
    monitor_of,
    resumed,
    summary_of,
    watch,
    written,
)
from tests.support.harness import FakeClock
from tests.support.strictness import strict_schema


def tell(sampler: Sampler, run_id: str, step: float, **counts: float) -> None:
    told = Told(steps=step, total_steps=100.0, flops=step * 1e13, precision="bf16", **counts)
    sampler.runs.living[run_id].work.tell(told, sampler.clock.now_s(), (GpuPeak(GPU.id, 100e12),))


def training(machine: Machine) -> Sampler:
    """5 s of start-up at 50 W with an idle GPU, then 10 s of 400 W, in which a step takes a second."""
    sampler = monitor_of(machine)
    machine.power_w, machine.utilization = {GPU.id: 50.0, PACKAGE.id: 0.0}, 0.0
    begin(sampler, "late")
    watch(sampler, machine, 5)
    machine.power_w[GPU.id], machine.utilization = 400.0, 0.9
    tell(sampler, "late", 0, tokens=0)
    for step in range(1, 11):
        watch(sampler, machine, 1)
        tell(sampler, "late", step, tokens=1000 * step)
    return sampler


def test_the_figures_are_those_of_the_loop_and_the_whole_run_s_stand_beside_them():
    machine = Machine(FakeClock())
    sampler = training(machine)
    machine.power_w[GPU.id], machine.utilization = 50.0, 0.0
    watch(sampler, machine, 5)
    summary = summary_of(sampler, "late")
    jsonschema.validate(summary, strict_schema())
    work = summary["work"]
    assert (work["steps"], work["total_steps"], work["tokens"]) == (10.0, 100.0, 10_000.0)
    assert work["energy_per_step_j"] == pytest.approx(400.0)
    assert work["energy_per_token_j"] == pytest.approx(0.4)
    assert work["run_energy_per_step_j"] == pytest.approx((10 * 400.0 + 10 * 50.0) / 10)
    assert work["energy_per_sample_j"] is None
    assert work["flops_per_joule"] == pytest.approx(1e13 / 400.0)
    assert work["mfu"] == pytest.approx(0.1)


def test_each_epoch_is_in_the_summary_and_goes_on_behind_a_resume(tmp_path: Path):
    machine = Machine(FakeClock())
    sampler = monitor_of(machine)
    machine.power_w = {GPU.id: 100.0, PACKAGE.id: 0.0}
    begin(sampler, "late")
    tell(sampler, "late", 0, epochs=0.0)
    watch(sampler, machine, 4)
    tell(sampler, "late", 4, epochs=1.0)
    machine.power_w[GPU.id] = 300.0
    watch(sampler, machine, 2)
    tell(sampler, "late", 6, epochs=1.5)
    written(sampler, "late", tmp_path)
    after = resumed(tmp_path, machine)
    watch(after, machine, 2)
    tell(after, "late", 8, epochs=2.0)
    watch(after, machine, 1)
    tell(after, "late", 9, epochs=2.25)
    watch(after, machine, 1)
    summary = summary_of(after, "late")
    jsonschema.validate(summary, strict_schema())
    assert summary["work"]["each_epoch"] == [
        {"first": 0.0, "last": 1.0, "duration_s": 4.0, "energy_j": pytest.approx(400.0)},
        {"first": 1.0, "last": 2.0, "duration_s": 4.0 + OUTAGE_S, "energy_j": pytest.approx(1200.0)},
        {"first": 2.0, "last": 2.25, "duration_s": 1.0, "energy_j": pytest.approx(300.0)},
    ]


def test_gpu_time_without_work_and_its_energy_are_the_run_s():
    machine = Machine(FakeClock())
    time = summary_of(training(machine), "late")["gpu_time"]
    assert time["held_s"] == pytest.approx(15.0)
    assert time["idle_s"] == pytest.approx(5.0)
    assert time["idle_energy_j"] == pytest.approx(250.0)
    assert time["unknown_s"] == 0.0


def test_what_a_gpu_does_not_tell_of_its_use_is_unknown_and_not_idle():
    machine = Machine(FakeClock())
    machine.utilization = None  # type: ignore[assignment]  # as a device that has none
    sampler = monitor_of(machine)
    begin(sampler, "late")
    watch(sampler, machine, 5)
    time = summary_of(sampler, "late")["gpu_time"]
    assert (time["held_s"], time["unknown_s"]) == (pytest.approx(5.0), pytest.approx(5.0))
    assert (time["idle_s"], time["idle_energy_j"]) == (None, None)


def test_a_run_that_another_monitor_goes_on_with_keeps_its_counts_and_their_energy(tmp_path: Path):
    machine = Machine(FakeClock())
    sampler = training(machine)
    written(sampler, "late", tmp_path)
    machine.pass_time(2.0)
    second = resumed(tmp_path, machine)
    second.tick(edge=True)
    for step in range(8, 21):  # the job went back to its last checkpoint
        watch(second, machine, 1)
        tell(second, "late", step, tokens=1000 * step)
    second.show()
    work = summary_of(second, "late")["work"]
    assert work["spans"]["tokens"]["last"] == 20_000.0
    assert work["spans"]["tokens"]["duration_s"] == pytest.approx(25.0)
    assert work["spans"]["tokens"]["energy_j"] == pytest.approx(25 * 400.0)
    assert work["energy_per_step_j"] == pytest.approx(500.0), "the steps that were done twice cost twice"


def test_without_a_word_of_the_training_code_there_is_no_work():
    machine = Machine(FakeClock())
    sampler = monitor_of(machine)
    begin(sampler, "late")
    watch(sampler, machine, 3)
    assert summary_of(sampler, "late")["work"] is None
