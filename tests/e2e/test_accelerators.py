"""`carbonmon run` and `doctor` on a v5e-8 and a trn1 machine: the truth is within the range that is said."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.simulator import Profile, Sine
from tests.simulator.neuron import NeuronTree, install_monitor, monitor_line
from tests.simulator.tpu import V4, V5E, MetricsService, TpuTree
from tests.support import command

pytestmark = pytest.mark.e2e

EPOCH_S = time.time()
MOST_W, REST_W = 200.0, 50.0
DUTY = [Sine(70.0, 25.0, 2.0 + place) for place in range(8)]
"""In percent, by the time since the test began."""


def chip_j(duty: Profile, start_unix_s: float, end_unix_s: float, rest_w: float = REST_W) -> float:
    """What a chip really drew: at no load `rest_w`, at full load 80 % of the stated maximum."""
    above_w = 0.8 * MOST_W - rest_w
    busy_s = (duty.integral(end_unix_s - EPOCH_S) - duty.integral(start_unix_s - EPOCH_S)) / 100.0
    return rest_w * (end_unix_s - start_unix_s) + above_w * busy_s


def unix_s(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@contextmanager
def a_program_on_tpus() -> Iterator[MetricsService]:
    with MetricsService(lambda: [duty.value(time.time() - EPOCH_S) for duty in DUTY]) as service:
        yield service


@contextmanager
def a_driver_of(tree: NeuronTree) -> Iterator[None]:
    """The driver has a mean for each device every tenth of a second, as if that were a minute."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(0.1):
            now_s = time.time() - EPOCH_S
            tree.minute([(duty.integral(now_s) - duty.integral(now_s - 0.1)) * 10.0 for duty in 2 * DUTY])

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def run_beside(arguments: list[str], folder: Path) -> tuple[dict[str, Any], dict[str, float], float]:
    """A run's summary, and by device the joules that /metrics showed at the Unix time that is given too."""
    options = ["run", "--idle", "exclusive", "--interval", "0.1", "--checkpoint", "0.2"]
    run = command.start([*options, *arguments, "--", *command.lasting(4.0)], folder, stdin=subprocess.PIPE)
    address = command.metrics_address(run)
    pattern = r'^carbonmon_run_energy_joules_total{.*device="([^"]+)",method="(\w+)".*} (\S+)'

    def metrics() -> tuple[dict[str, float], float] | None:
        text = command.get(address)
        found = re.findall(pattern, text, re.MULTILINE)
        assert {method for _, method, _ in found} <= {"tdp"}, "an estimate is labelled as one"
        joules: dict[str, float] = {}
        for device, _, value in found:
            joules[device] = joules.get(device, 0.0) + float(value)
        sampled = re.search(r"^carbonmon_last_sample_timestamp_seconds (\S+)", text, re.MULTILINE)
        is_there = sampled is not None and joules and min(joules.values()) > 2.0 * MOST_W * 0.3
        return (joules, float(sampled[1])) if is_there and sampled is not None else None

    seen, at_unix_s = command.wait_for(metrics, "seconds of energy in /metrics")
    _, errors = run.communicate(timeout=command.DEADLINE_S)
    assert run.returncode == 0
    assert "Traceback" not in errors and "fork" not in errors, errors
    return command.summary(folder), seen, at_unix_s


def check_ranges(
    summary: dict[str, Any], seen: dict[str, float], at_unix_s: float, truths: list[Any]
) -> None:
    started_s, ended_s = (unix_s(summary["run"][name]) for name in ("started_at", "ended_at"))
    assert summary["energy"]["measured_ratio"] == 0.0
    assert [*summary["energy"]["components"]] == ["gpu"]
    devices = summary["energy"]["devices"]
    assert len(devices) == len(truths)
    total_j = 0.0
    for device, truth in zip(devices, truths, strict=True):
        assert [*device["methods"]] == ["tdp"]
        begin_s = started_s + device["unobserved_s"]  # a driver's first minute is not the run's
        truth_j = truth(begin_s, ended_s)
        total_j += truth_j
        assert 0.45 * device["energy_j"] < truth_j < 2.2 * device["energy_j"]
        seen_j = seen[device["id"]]
        # What was not observed may have been before the look or after it.
        assert 0.45 * seen_j < truth(started_s, at_unix_s)
        assert truth(begin_s, at_unix_s) < 2.2 * seen_j
    assert summary["energy"]["low_j"] < total_j < summary["energy"]["high_j"]
    assert summary["energy"]["low_j"] == pytest.approx(0.45 * summary["energy"]["total_j"])
    assert summary["energy"]["high_j"] == pytest.approx(2.2 * summary["energy"]["total_j"])


def test_a_v5e_8_drew_what_lies_in_the_range_of_its_summary(tmp_path: Path):
    tree = TpuTree(tmp_path / "sys", V5E, 8)
    with a_program_on_tpus() as service:
        arguments = ["--sysfs", str(tree.sysfs), "--gpu-tdp", f"{MOST_W}", "--sensor", f"tpu:{service.port}"]
        summary, seen, at_unix_s = run_beside(arguments, tmp_path)
    assert [device["id"] for device in summary["energy"]["devices"]] == tree.ids
    assert {device["name"] for device in summary["energy"]["devices"]} == {"Google TPU v5e"}
    truths = [lambda a, b, duty=duty: chip_j(duty, a, b) for duty in DUTY]
    check_ranges(summary, seen, at_unix_s, truths)
    assert all(0.5 < device["utilization_ratio"] < 0.9 for device in summary["energy"]["devices"])


def test_a_trn1_machine_drew_what_lies_in_the_range_of_its_summary(tmp_path: Path):
    tree = NeuronTree(tmp_path / "sys", 16)
    with a_driver_of(tree):
        arguments = ["--sysfs", str(tree.sysfs), "--gpu-tdp", f"{MOST_W}", "--sensor", "neuron"]
        summary, seen, at_unix_s = run_beside(arguments, tmp_path)
    truths = [lambda a, b, duty=duty: chip_j(duty, a, b) for duty in 2 * DUTY]
    check_ranges(summary, seen, at_unix_s, truths)
    assert {device["name"] for device in summary["energy"]["devices"]} == {"AWS Trainium1"}


def test_a_v4_that_waits_draws_what_google_publishes(tmp_path: Path):
    tree = TpuTree(tmp_path / "sys", V4, 4, vfio=False)
    with MetricsService(lambda: [0.0] * 4) as service:
        arguments = ["--sysfs", str(tree.sysfs), "--sensor", f"tpu:{service.port}"]
        summary, _, _ = run_beside(arguments, tmp_path)
    for device in summary["energy"]["devices"]:
        assert device["energy_j"] == pytest.approx(90.0 * summary["run"]["duration_s"], rel=0.05)


def doctor(folder: Path, *arguments: str) -> tuple[list[str], dict[str, dict[str, Any]]]:
    said = json.loads(command.run(["doctor", "--json", *arguments], folder).stdout)
    sources = {source["source"]: source for source in said["sources"]}
    return [device["id"] for device in said["devices"] if device["component"] == "gpu"], sources


def test_doctor_says_what_is_there_and_what_is_missing(tmp_path: Path):
    tpus = TpuTree(tmp_path / "tpus", V5E, 8)
    ids, sources = doctor(tmp_path, "--sysfs", str(tpus.sysfs))
    assert ids == []
    assert sources["tpu"]["reason"] == "TPU v5e: its power was never published"
    assert sources["unmetered Google TPU"]["reason"].startswith("8 Google TPUs are here and not counted")
    ids, sources = doctor(tmp_path, "--sysfs", str(tpus.sysfs), "--gpu-tdp", "200")
    assert ids == tpus.ids
    assert "unmetered Google TPU" not in sources
    assert "200 W (--gpu-tdp)" in sources["tpu"]["reason"]
    assert "localhost:8431" in sources["tpu"]["reason"]
    neurons = NeuronTree(tmp_path / "neurons", 16)
    ids, sources = doctor(tmp_path, "--sysfs", str(neurons.sysfs))
    assert ids == []
    assert "Trainium1: AWS does not publish its maximum power" in sources["neuron"]["reason"]
    ids, sources = doctor(tmp_path, "--sysfs", str(neurons.sysfs), "--gpu-tdp", "400")
    assert ids == [f"neuron{number}" for number in range(16)]
    assert not any(name.startswith("unmetered") for name in sources)


def test_the_program_that_tells_how_busy_the_cores_are_is_not_the_job_s_and_ends_with_us(tmp_path: Path):
    """It burns CPU time, as if the run did."""
    tree = NeuronTree(tmp_path / "sys", 2, power=None)
    line = monitor_line({0: 100.0, 1: 60.0}, devices=2)
    burn = "import time\nwhile time.process_time() < 1.0: pass\nsignal.pause()"
    environ = install_monitor(tmp_path / "bin", [line], then=burn)
    environ["PATH"] += f":{os.environ['PATH']}"
    arguments = ["run", "--gpus", "0,1", "--sysfs", str(tree.sysfs), "--gpu-tdp", "200"]
    arguments += ["--sensor", "neuron", "--interval", "0.1", "--", "sleep", "5"]
    done = command.run(arguments, tmp_path, env=environ)
    assert done.returncode == 0, done.stderr
    assert "neuron-monitor" not in done.stderr.partition("\n")[2], done.stderr
    summary = command.summary(tmp_path)
    assert summary["run"]["cpu_s"] < 0.5, "its second of CPU time is not the job's"
    first, second = summary["energy"]["devices"]
    lasted_s = summary["run"]["duration_s"]
    assert first["energy_j"] > 0.8 * 200.0
    least_s = lasted_s - first["unobserved_s"]  # some of that is from before the run began
    assert 0.95 * least_s < first["energy_j"] / (0.8 * 200.0) < 1.02 * lasted_s
    assert second["energy_j"] == pytest.approx(0.0)
    assert [process for process in psutil.process_iter() if str(tmp_path) in " ".join(_words(process))] == []


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_while_nobody_uses_the_chips_their_power_is_unknown_and_not_0(tmp_path: Path):
    tree = TpuTree(tmp_path / "sys", V5E, 1)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # it does not listen, and no other test gets the port meanwhile
        port = nobody.getsockname()[1]
        arguments = ["run", "--idle", "exclusive", "--sysfs", str(tree.sysfs), "--gpu-tdp", "200"]
        done = command.run([*arguments, "--sensor", f"tpu:{port}", "--", "sleep", "1.5"], tmp_path)
    assert done.returncode == 0
    summary = command.summary(tmp_path)
    (device,) = summary["energy"]["devices"]
    assert device["energy_j"] is None or device["methods"] == {}
    assert device["unobserved_s"] == pytest.approx(summary["run"]["duration_s"], abs=0.2)
