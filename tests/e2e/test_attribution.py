"""Whose joules, with real processes on a real kernel: only the hardware's power is simulated."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.simulator import Constant, Gpu, Mig, Package, Process, Simulator
from tests.support import command
from tests.support.daemon import Daemon, daemon

pytestmark = pytest.mark.e2e

SPIN = "while True: pass"
SHORT_WORKERS = (
    "import os, resource, sys, time\n"
    "def work():\n"
    "    while time.process_time() < 0.03: pass\n"
    "    os._exit(0)\n"
    "for _ in range(75):\n"
    "    for _ in range(2):\n"
    "        if os.fork() == 0: work()\n"
    "    os.wait(); os.wait()\n"
    "used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]\n"
    "print(sum(each.ru_utime + each.ru_stime for each in used))\n"
)
"""150 workers of 30 ms CPU each, two at a time; then what the kernel says that all used."""


@contextmanager
def spinning(processes: int, cpu: int | None = None) -> Iterator[int]:
    """The pid of a job of so many processes that only compute, on one CPU if it is given."""
    one = f"'{sys.executable}' -c '{SPIN}' &"
    pinned = [] if cpu is None else ["taskset", "-c", f"{cpu}"]
    # In this session: each session is a group of its own to the scheduler, which gives groups the same.
    with subprocess.Popen([*pinned, "sh", "-c", f"{one * processes} wait"]) as job:
        try:
            command.wait_for(lambda: len(psutil.Process(job.pid).children()) == processes, "the processes")
            yield job.pid
        finally:
            for process in [*psutil.Process(job.pid).children(), job]:
                process.kill()


def cpu_j(summary: dict[str, Any]) -> float:
    joules: float = summary["energy"]["components"]["cpu"]["energy_j"]
    return joules


def run_j(node: Daemon) -> dict[str, float]:
    """What /metrics has of each run's energy."""
    joules: dict[str, float] = {}
    for line in node.metrics().splitlines():
        if found := re.match(r'carbonmon_run_energy_joules_total{.*run_id="(\w+)".*} (\S+)', line):
            joules[found[1]] = joules.get(found[1], 0.0) + float(found[2])
    return joules


def children_s(pids: dict[str, int]) -> dict[str, float]:
    """What the kernel has given to the children of each process."""
    times = {
        run_id: [child.cpu_times() for child in psutil.Process(pid).children()]
        for run_id, pid in pids.items()
    }
    return {run_id: sum(each.user + each.system for each in found) for run_id, found in times.items()}


def package_machine(watts: float = 100.0) -> Simulator:
    return Simulator(packages=[Package(profile=Constant(watts))])


def test_two_jobs_of_1_to_3_cpu_time_share_the_package_so(tmp_path: Path):
    """Four processes on one CPU: the kernel gives each about the same, and says what it gave.

    Between two scrapes, both with both runs in them: registering takes as long as the machine is busy.
    """
    with package_machine() as machine, daemon(machine, tmp_path) as node:
        with spinning(1, cpu=0) as small, spinning(3, cpu=0) as large:
            pids = {"small": small, "large": large}
            for run_id, pid in pids.items():
                node.register(run_id, "--pid", f"{pid}")
            command.wait_for(lambda: run_j(node).keys() >= pids.keys(), "both runs in /metrics")
            node.draw(10.0)  # both are in a sample
            before_j, before_s = run_j(node), children_s(pids)
            enough_s = sum(before_s.values()) + 4.0  # so that it hardly matters when in a sample a scrape is
            command.wait_for(lambda: sum(children_s(pids).values()) >= enough_s, "4 s of CPU time")
            after_j, after_s = run_j(node), children_s(pids)
            kept = {run_id: cpu_j(node.unregister(run_id)) for run_id in pids}
    joules = {run_id: after_j[run_id] - before_j[run_id] for run_id in pids}
    seconds = {run_id: after_s[run_id] - before_s[run_id] for run_id in pids}
    used = seconds["small"] / sum(seconds.values())
    assert used == pytest.approx(0.25, abs=0.1), "the jobs are as the name of this test says"
    assert joules["small"] / sum(joules.values()) == pytest.approx(used, abs=0.02)
    assert all(kept[run_id] >= after_j[run_id] for run_id in pids), "the summary goes on from there"


def test_an_idle_process_beside_a_busy_node_gets_next_to_nothing(tmp_path: Path):
    with package_machine() as machine, daemon(machine, tmp_path) as node:
        with spinning(1) as busy, subprocess.Popen(["sleep", "60"]) as idle:
            node.register("busy", "--pid", f"{busy}")
            node.register("idle", "--pid", f"{idle.pid}")
            node.draw(300.0)
            joules = {run_id: cpu_j(node.unregister(run_id)) for run_id in ("busy", "idle")}
            idle.kill()
        assert joules["idle"] <= 0.01 * joules["busy"]


def test_a_job_of_150_workers_that_live_between_two_samples_has_their_cpu_time(tmp_path: Path):
    """The truth is what the kernel tells their parent."""
    with package_machine() as machine:
        options = ["--sysfs", str(machine.sysfs), "--sensor", "rapl"]
        job = [sys.executable, "-c", SHORT_WORKERS]
        done = command.run(["run", *options, "--", *job], tmp_path)
    assert done.returncode == 0, done.stderr
    assert command.summary(tmp_path)["run"]["cpu_s"] == pytest.approx(float(done.stdout), rel=0.05)


def test_a_run_s_share_and_the_whole_node_are_both_in_the_summary(tmp_path: Path):
    with package_machine() as machine, spinning(2), command.Lateness() as late:
        options = ["--sysfs", str(machine.sysfs), "--sensor", "rapl"]
        done = command.run(["run", *options, "--", "sleep", "1"], tmp_path)
        summary = command.summary(tmp_path)
    energy, duration_s = summary["energy"], summary["run"]["duration_s"]
    assert done.returncode == 0, done.stderr
    assert energy["total_j"] < 0.05 * energy["node"]["total_j"], "sleeping costs next to nothing"
    assert duration_s >= 1.0
    near = pytest.approx(100.0 * duration_s, abs=100.0 * (0.15 * duration_s + 2 * late.most_s))
    assert energy["node"]["total_j"] == near
    assert "of it is this run's" in done.stderr


def test_a_gpu_is_that_of_the_run_whose_process_is_on_it_and_two_share_it(tmp_path: Path):
    gpus = [Gpu(profile=Constant(200.0)), Gpu(profile=Constant(50.0))]
    with Simulator(gpus=gpus) as machine, daemon(machine, tmp_path) as node:
        with subprocess.Popen(["sleep", "60"]) as one, subprocess.Popen(["sleep", "60"]) as other:
            machine.gpus[0].set_processes(
                [Process(one.pid, sm_percent=60), Process(other.pid, sm_percent=20)]
            )
            node.register("one", "--pid", f"{one.pid}")
            node.register("other", "--pid", f"{other.pid}")
            node.draw(500.0)
            first, second = node.unregister("one"), node.unregister("other")
            one.kill()
            other.kill()
    joules = [summary["energy"]["components"]["gpu"]["energy_j"] for summary in (first, second)]
    seconds = [summary["run"]["duration_s"] for summary in (first, second)]
    assert joules[0] == pytest.approx(150.0 * seconds[0], rel=0.15)
    devices = {device["id"]: device for device in first["energy"]["devices"]}
    assert set(devices) == {machine.gpus[0].uuid}, "the GPU that nobody is on is nobody's"
    assert devices[machine.gpus[0].uuid]["share_note"] == "shared: by SM utilisation"


def test_an_allocated_gpu_is_the_run_s_also_while_it_is_idle(tmp_path: Path):
    gpus = [Gpu(profile=Constant(50.0)), Gpu(profile=Constant(50.0))]
    with Simulator(gpus=gpus) as machine, daemon(machine, tmp_path) as node:
        with subprocess.Popen(["sleep", "60"]) as job:
            node.register("idle", "--pid", f"{job.pid}", "--gpus", "1")
            node.draw(100.0)
            summary = node.unregister("idle")
            job.kill()
        unattributed = [line for line in node.metrics().splitlines() if "unattributed" in line]
    (device,) = summary["energy"]["devices"]
    assert (device["id"], device["share_note"]) == (machine.gpus[1].uuid, "allocated")
    assert device["energy_j"] == pytest.approx(50.0 * summary["run"]["duration_s"], rel=0.1)
    assert any(machine.gpus[0].uuid in line for line in unattributed)


def test_a_daemon_takes_no_run_of_a_gpu_that_is_not_there_and_the_job_does_not_start(tmp_path: Path):
    with Simulator(gpus=[Gpu(), Gpu()]) as machine, daemon(machine, tmp_path) as node:
        with subprocess.Popen(["sleep", "60"]) as job:
            refused = node.call("register", "--run-id", "a", "--pid", f"{job.pid}", "--gpus", "9")
            job.kill()
        there = f"--gpus 9: no such GPU here; there are 0 {machine.gpus[0].uuid[:12]}, 1 "
        assert refused.returncode == 1
        assert there in refused.stderr
        env = {**machine.environ, "CARBONMON_SOCKET": str(node.socket)}
        asked = command.run(["run", "--gpus", "9", "--", "touch", "started"], tmp_path, env=env)
        assert asked.returncode == 2
        assert asked.stderr.count(there) == 2, "the daemon says so, and then the monitor of its own"
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"NVIDIA_VISIBLE_DEVICES": "{uuid}"}, 2),
        ({"SLURM_JOB_GPUS": "0"}, 2),
        ({"NVIDIA_VISIBLE_DEVICES": "all", "SLURM_STEP_GPUS": "0,1", "CUDA_VISIBLE_DEVICES": "2"}, 2),
    ],
)
def test_a_run_pays_for_the_idle_gpu_that_it_was_given_and_for_no_other(
    tmp_path: Path, environ: dict[str, str], place: int
):
    gpus = [Gpu(profile=Constant(50.0), minor=minor) for minor in (2, 1, 0)]
    with Simulator(gpus=gpus) as machine:
        filled = {key: value.format(uuid=machine.gpus[2].uuid) for key, value in environ.items()}
        options = ["--sensor", "nvml", "--own-monitor"]
        done = command.run(["run", *options, "--", "sleep", "1"], tmp_path, env=machine.environ | filled)
        assert done.returncode == 0, done.stderr
        energy = command.summary(tmp_path)["energy"]
        (device,) = energy["devices"]
        assert (device["id"], device["share_note"]) == (machine.gpus[place].uuid, "allocated")
        assert energy["total_j"] > 0.0


def test_a_run_by_an_index_on_a_gpu_in_mig_mode_pays_for_one_instance(tmp_path: Path):
    with Simulator(gpus=[Gpu(profile=Constant(350.0), mig=[Mig(), Mig("3g.40gb", 3, 3)])]) as machine:
        env = machine.environ | {"CUDA_VISIBLE_DEVICES": "0"}
        options = ["--sensor", "nvml", "--own-monitor"]
        done = command.run(["run", *options, "--", "sleep", "1"], tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        energy = command.summary(tmp_path)["energy"]
    assert energy["total_j"] == pytest.approx(energy["node"]["total_j"] / 7)


def test_two_ranks_of_a_daemon_s_run_hold_the_gpus_of_both(tmp_path: Path):
    gpus = [Gpu(profile=Constant(50.0)), Gpu(profile=Constant(50.0)), Gpu(profile=Constant(50.0))]
    rank = (
        "import sys, carbonmon\n"
        "with carbonmon.track(run_id='ranks'):\n"
        "    print('in', flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    with Simulator(gpus=gpus) as machine, daemon(machine, tmp_path) as node:
        ranks = []
        for index in ("0", "2"):
            env = {"CARBONMON_SOCKET": str(node.socket), "CUDA_VISIBLE_DEVICES": index}
            ranks.append(
                subprocess.Popen(
                    [sys.executable, "-c", rank],
                    env=command.environ(**env),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            assert ranks[-1].stdout is not None
            assert ranks[-1].stdout.readline() == "in\n"
        node.draw(100.0)
        for process in ranks:
            process.communicate("go on\n", timeout=command.DEADLINE_S)
        summary = node.summary("ranks")
    held = {device["id"] for device in summary["energy"]["devices"] if device["component"] == "gpu"}
    assert held == {machine.gpus[0].uuid, machine.gpus[2].uuid}


def test_phases_of_a_script_and_of_training_code_add_up_to_the_run(tmp_path: Path):
    script = (
        f"{command.CARBONMON} phase prepare\n"
        f"{sys.executable} -c 'import time; time.sleep(0.6)'\n"
        f"{command.CARBONMON} phase\n"
        f"{sys.executable} -c '{TRAIN}'\n"
    )
    with package_machine() as machine, command.Lateness() as late:
        options = ["--sysfs", str(machine.sysfs), "--sensor", "rapl", "--idle", "exclusive"]
        done = command.run(["run", *options, "--", "sh", "-ec", script], tmp_path)
    assert done.returncode == 0, done.stderr
    energy = command.summary(tmp_path)["energy"]
    phases = energy["phases"]
    assert set(phases) == {"main", "prepare", "train", "eval", 'quote"\n'}
    measured = json.loads(done.stdout)
    edges_s = 4 * late.most_s  # two stretches of each, with two edges, at each of which a sensor is read
    for name, least_s in {"train": 0.6, "eval": 0.4}.items():
        duration_s = phases[name]["duration_s"]
        assert duration_s >= least_s
        assert duration_s == pytest.approx(measured[name], abs=0.05 + edges_s)
        near = pytest.approx(100.0 * duration_s, abs=100.0 * (0.05 * duration_s + edges_s))
        assert phases[name]["energy_j"] == near
    assert sum(phase["energy_j"] for phase in phases.values()) == pytest.approx(energy["total_j"])


TRAIN = """
import json, time, carbonmon
took = {"train": 0.0, "eval": 0.0}
with carbonmon.track() as run:
    for _ in range(2):
        begin = time.monotonic()
        with run.phase("train"):
            time.sleep(0.3)
            inner = time.monotonic()
            with run.phase("eval"):
                time.sleep(0.2)
            inner_end = time.monotonic()
        took["eval"] += inner_end - inner
        took["train"] += time.monotonic() - begin - (inner_end - inner)
    with run.phase("quote\\"\\n"):
        time.sleep(0.1)
print(json.dumps(took))
"""
"""It says itself how long its phases took."""


def test_the_example_s_phases_are_in_its_summary(tmp_path: Path):
    example = Path(__file__).resolve().parents[2] / "examples" / "train_digits.py"
    began_s = time.monotonic()
    process = command.start(["run", "--", sys.executable, str(example), "--seconds", "1"], tmp_path)
    assert process.stdout is not None
    told_s = {
        line.split()[0]: time.monotonic()
        for line in process.stdout
        if line.startswith(("epoch    1", "trained"))
    }
    _, errors = process.communicate(timeout=command.DEADLINE_S)
    assert process.returncode == 0, errors
    summary = command.summary(tmp_path)
    phases = {name: phase["duration_s"] for name, phase in summary["energy"]["phases"].items()}
    assert set(phases) == {"main", "load", "train", "evaluate"}
    assert phases["train"] >= 1.0
    # It says when its first epoch and its last phase are over; its lines reach this process a little later.
    measured_s = phases["train"] + phases["evaluate"]
    assert told_s["trained"] - told_s["epoch"] - 0.1 <= measured_s <= told_s["trained"] - began_s
    assert sum(phases.values()) == pytest.approx(summary["run"]["duration_s"], abs=0.01)
