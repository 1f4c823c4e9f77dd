"""The check of the meter on a GPU, in virtual time on the simulated machine: it finds what is planted."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.gpucheck import __main__ as command
from tests.gpucheck import energy, limit, plan, processes, series, smi
from tests.gpucheck.figures import AS_EXPECTED, NOT_AS_EXPECTED, NOT_AVAILABLE, NOTED, Book, Figure, number
from tests.gpucheck.loads import WorkerLoad
from tests.gpucheck.report import SCHEMA, Report
from tests.gpucheck.simulated import GPU, SimulatedSubject, simulated_subject
from tests.gpucheck.subject import python_environ
from tests.simulator import Gpu, Mig, Simulator, can_build

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")
Plant = Callable[[SimulatedSubject], object]


def check(plant: Plant = lambda subject: None, spec: Gpu = GPU, **changes: Any) -> dict[str, Figure]:
    """The figures of the groups that need no other process, by name."""
    report = Report(plan.DEFAULT, simulated=True)
    with simulated_subject(spec, virtual=True) as subject:
        for name, value in changes.items():
            setattr(subject, name, value)
        plant(subject)
        command.take(subject, report, command.IN_PROCESS, lambda: None)
    return {figure.name: figure for figure in report.book.figures}


def outside(figures: dict[str, Figure]) -> set[str]:
    return {name for name, figure in figures.items() if figure.verdict == NOT_AS_EXPECTED}


def missing(figures: dict[str, Figure]) -> set[str]:
    return {name for name, figure in figures.items() if figure.verdict == NOT_AVAILABLE}


# ---- what it finds ----


@pytest.mark.parametrize(
    "spec",
    [
        GPU,
        Gpu(sample_period_s=0.1, counter_refresh_s=0.1),  # an A100: power of the moment, slow and coarse
    ],
)
def test_a_healthy_gpu_is_as_expected_in_every_figure(spec: Gpu) -> None:
    figures = check(spec=spec)
    assert outside(figures) == set()
    assert {name for name in missing(figures) if "nvidia-smi" not in name} <= {
        "power field 186, instantaneous: time between two changes"
    }
    assert len(figures) > 80
    assert figures["counter: refresh period"].value == pytest.approx(spec.counter_refresh_s, rel=0.3)
    assert figures["sample buffer: period"].value == pytest.approx(spec.sample_period_s, rel=0.01)
    assert figures["sample buffer: length"].value == 119
    lag_s = figures["nvmlDeviceGetPowerUsage: lag behind the load"].value
    assert lag_s == pytest.approx(0.5 if spec.power_averaged else 0.0, abs=0.05)


def test_a_counter_that_lags_is_found() -> None:
    figures = check(lambda subject: subject.gpu.fault(counter_lag_s=0.4))
    assert "counter: lag behind the load" in outside(figures)
    assert figures["counter: lag behind the load"].value == pytest.approx(0.4, abs=0.05)
    assert not any("sensor" in name or "field" in name for name in outside(figures))


def test_a_counter_that_is_refreshed_too_seldom_is_found() -> None:
    figures = check(spec=Gpu(counter_refresh_s=0.5))
    assert "counter: refresh period" in outside(figures)


@pytest.mark.parametrize("way", [energy.SAMPLES, energy.POWER])
def test_a_power_sensor_at_half_power_is_found(way: str) -> None:
    figures = check(lambda subject: subject.gpu.fault(power_loss_ratio=0.5))
    for load in ("load idle", "load steady", "wave of 2 s", "load two processes"):
        figure = figures[f"{load}: {way} against the counter"]
        assert figure.verdict == NOT_AS_EXPECTED
        assert figure.value == pytest.approx(-50.0, abs=6.0)
    assert figures["load steady: counter against what was drawn"].verdict == AS_EXPECTED


@pytest.mark.parametrize(
    ("function", "unknown"),
    [
        ("nvmlDeviceGetTotalEnergyConsumption", "counter: refresh period"),
        ("nvmlDeviceGetSamples", "sample buffer: time that it holds"),
        ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetPowerUsage: lag behind the load"),
        ("nvmlDeviceGetProcessUtilization", None),
    ],
)
def test_a_missing_call_is_found_and_what_hangs_on_it_is_unknown(function: str, unknown: str | None) -> None:
    def plant(subject: SimulatedSubject) -> None:
        assert subject.machine is not None
        subject.machine.fault(missing_functions=[function])

    figures = check(plant)
    assert function in outside(figures)
    assert "FunctionNotFound" in str(figures[function].value)
    if unknown is not None:
        assert figures[unknown].value is None
        assert figures[unknown].verdict == NOT_AVAILABLE


def test_a_field_that_fails_within_a_call_that_succeeds_is_found() -> None:
    figures = check(lambda subject: subject.gpu.fault(no_power=True))
    assert {"field 185 (average power)", "field 186 (instantaneous power)"} <= outside(figures)
    assert figures["nvmlDeviceGetFieldValues"].verdict == AS_EXPECTED


def test_a_model_whose_default_limit_is_not_its_tdp_is_found() -> None:
    assert "power limit by default" in outside(check(spec=Gpu(power_limit_w=350.0)))


def test_a_gpu_in_mig_mode_need_not_tell_its_utilisation_and_its_instances_are_asked_for() -> None:
    figures = check(spec=replace(GPU, mig=[Mig()]))
    calls = {name: figure for name, figure in figures.items() if figure.group == "NVML's calls"}
    assert outside(calls) == set()
    assert str(calls["nvmlDeviceGetUtilizationRates"].value).startswith("NotSupported")
    assert str(calls["nvmlDeviceGetAttributes"].value).startswith("answers")
    assert figures["MIG"].value == "on"


# ---- the power limit ----


def test_the_power_limit_is_set_back_after_an_error_and_after_a_signal() -> None:
    with simulated_subject(virtual=True) as subject:
        with pytest.raises(ZeroDivisionError), limit.lowered(subject, 300_000):
            assert subject.gpu.power_limit_w == 300.0
            raise ZeroDivisionError
        assert subject.gpu.power_limit_w == 700.0
        with pytest.raises(SystemExit), command.signals_raise(), limit.lowered(subject, 300_000):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5.0)
        assert subject.gpu.power_limit_w == 700.0


def test_a_power_limit_is_never_touched_unless_it_was_asked_for() -> None:
    def untouched(subject: SimulatedSubject) -> int:
        assert subject.machine is not None
        return subject.machine.calls("nvmlDeviceSetPowerManagementLimit")

    seen: list[SimulatedSubject] = []
    figures = check(seen.append, may_lower_limit=False)
    assert untouched(seen[0]) == 0
    assert figures[limit.NAME].verdict == NOT_AVAILABLE


def test_a_power_limit_that_may_not_be_changed_is_said_and_left_out() -> None:
    figures = check(lambda subject: subject.gpu.fault(limit_locked=True))
    assert "Insufficient Permissions" in figures[limit.NAME].note


# ---- what is written ----


def test_every_line_of_a_simulated_page_says_so_and_no_line_of_a_real_one() -> None:
    report = Report(plan.DEFAULT, simulated=True)
    report.book.group = "a group"
    report.book.between("a figure", 3.0, 1.0, 2.0, "s", "a source", "a note")
    report.book.missing("another", "a reason")
    page = report.page().splitlines()
    assert all(line.startswith("simulated |") for line in page)
    assert any("3 s" in line and "1 to 2 s" in line and "NOT as expected [1]" in line for line in page)
    assert any("[1] a source" in line for line in page)
    assert any("a reason" in line for line in page)
    report.simulated = False
    assert "simulated" not in report.page()


def test_the_json_names_its_schema_and_unknown_is_null(tmp_path: Path) -> None:
    report = Report(plan.DEFAULT, simulated=True)
    report.book.between("a figure", None, 0.0, 1.0, "s", "a source", "how", "why not")
    report.book.note("noted", 1.5, "W")
    path, _ = report.write(tmp_path)
    document = json.loads(path.read_text())
    assert document["schema"] == SCHEMA == "carbonmon.gpu-check/1"
    assert document["simulated"] is True
    assert document["figures"][0]["value"] is None
    assert document["figures"][0]["note"] == "why not"
    assert document["counts"] == {AS_EXPECTED: 0, NOT_AS_EXPECTED: 0, NOT_AVAILABLE: 1, NOTED: 1}
    assert document["figures"][1]["value"] == 1.5


def test_a_group_that_fails_spoils_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(subject: object, book: Book, plan: object) -> None:
        raise RuntimeError("planted")

    measure_of = command.measure_of
    monkeypatch.setattr(
        command, "measure_of", lambda group: broken if group == "signals" else measure_of(group)
    )
    figures = check()
    assert "planted" in figures["the rest of signals"].note
    assert "load steady: energy by the counter" in figures


def test_more_minutes_measure_longer_and_less_than_the_default_is_the_default() -> None:
    longer = plan.DEFAULT.scaled(2 * plan.DEFAULT_MINUTES)
    assert longer.energy_s == 2 * plan.DEFAULT.energy_s
    assert plan.DEFAULT.scaled(0.5) == plan.DEFAULT


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-7e-7, "0"), (0.02, "0.02"), (123.4, "123"), (5580.2, "5580"), (None, "")],
)
def test_numbers_are_written_as_people_read_them(value: float | None, text: str) -> None:
    assert number(value) == text


# ---- its parts ----


def test_the_lag_of_a_delayed_square_wave_is_its_delay() -> None:
    edges = [(number * 1.0, number % 2 == 0) for number in range(10)]
    late_s = 0.37
    track = [(t * 0.01, 600.0 if math.floor(t * 0.01 - late_s) % 2 == 0 else 70.0) for t in range(950)]
    assert series.lag_s(track, edges) == pytest.approx(late_s, abs=0.011)
    assert series.lag_s([(at_s, 70.0) for at_s, _ in track], edges) is None
    assert series.lag_s(track, edges[:2]) is None


def test_an_integral_that_the_readings_do_not_cover_is_unknown() -> None:
    track = [(float(second), 100.0) for second in range(11)]
    assert series.integral(track, 0.0, 10.0) == pytest.approx(1000.0)
    assert series.integral(track, 2.5, 4.25) == pytest.approx(175.0)
    assert series.integral(track, 5.0, 20.0) is None
    assert series.integral([], 0.0, 1.0) is None


def test_lines_of_nvidia_smi_are_read_and_torn_ones_left_out() -> None:
    lines = ("12:00:00.000, 71.50", "12:00:00.250, [N/A]", "12:00:00.500, 72.00", "12:0")
    first, second = smi.parsed("\n".join(f"2026/11/24 {line}" for line in lines))
    assert second[0] - first[0] == pytest.approx(0.5)
    assert (first[1], second[1]) == (71.5, 72.0)
    assert smi.parsed("NVIDIA-SMI has failed because …\n") == []


def test_a_worker_tells_the_edges_of_its_square_wave_and_ends_when_told() -> None:
    load = WorkerLoad(
        "waiting", [sys.executable, "-m", "tests.gpucheck.worker", "waiting"], python_environ({})
    )
    try:
        assert load.wait_ready() == ""
        load.steady()
        load.square(0.05)
        deadline_s = time.monotonic() + 20.0
        while len(load.edges()) < 6 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        edges = load.edges()
        load.idle()
    finally:
        load.close()
    assert [busy for _, busy in edges[:6]] == [True, False] * 3
    assert edges == sorted(edges)
    assert load._process.returncode == 0


def test_a_worker_that_cannot_work_says_why() -> None:
    load = WorkerLoad(
        "nothing", [sys.executable, "-c", "raise SystemExit('no CUDA here')"], python_environ({})
    )
    assert "no CUDA here" in load.wait_ready()
    load.close()


def test_the_check_inside_a_simulated_machine_knows_that_it_is(tmp_path: Path) -> None:
    """There NVML answers like a driver's, and nothing can load it."""
    with Simulator(gpus=[GPU]) as machine:
        arguments = [sys.executable, "-m", "tests.gpucheck", "--only", "calls", "--quick", "--output"]
        environ = {**python_environ({}), "PATH": "/nowhere"}
        child = machine.popen([*arguments, str(tmp_path)], env=environ)
        page, said = child.communicate(timeout=60)
    assert child.returncode == 0, said
    assert all(line.startswith("simulated |") for line in page.splitlines())
    document = json.loads((tmp_path / "gpu-check.json").read_text())
    assert document["state"] == "finished"
    assert any(entry["part"] == "a load" for entry in document["missing"])


def test_joules_of_a_scrape_are_by_run_and_of_the_whole_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext
    from io import BytesIO

    text = (
        'carbonmon_run_energy_joules_total{run_id="first",device="GPU-1",method="counter"} 2.0\n'
        'carbonmon_run_energy_joules_total{run_id="first",device="GPU-1",method="power"} 1.0\n'
        'carbonmon_run_energy_joules_total{run_id="first",device="GPU-2",method="counter"} 9.0\n'
        'carbonmon_device_energy_joules_total{component="gpu",device="GPU-1",method="counter"} 5.0\n'
    )
    answer = nullcontext(BytesIO(text.encode()))
    monkeypatch.setattr(processes.urllib.request, "urlopen", lambda url, timeout: answer)
    assert processes.charged_j("http://127.0.0.1/metrics", "GPU-1") == {"first": 3.0, "": 5.0}
