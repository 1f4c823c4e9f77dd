"""`carbonmon run` as a user meets it: the job's exit code, signals and streams are its own."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import carbonmon_exporters
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import carbonmon
from carbonmon.client.protocol import SOCKET_VARIABLE
from carbonmon.runs.layout import CHECKPOINT_FILES, FILES
from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command

pytestmark = pytest.mark.e2e

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_job_s_exit_code_is_passed_on(tmp_path: Path, code: int):
    done = command.run(["run", "--", "sh", "-c", f"exit {code}"], tmp_path)
    assert done.returncode == code
    assert command.summary(tmp_path)["run"]["exit_code"] == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_job_ended_by_a_signal_gives_128_plus_its_number_and_a_summary(
    tmp_path: Path, number: signal.Signals
):
    done = command.run(["run", "--", "sh", "-c", f"kill -{int(number)} $$"], tmp_path)
    assert done.returncode == 128 + number
    run = command.summary(tmp_path)["run"]
    assert (run["exit_code"], run["signal"]) == (None, number)


def test_a_command_that_is_not_found_gives_127_and_leaves_no_run_behind(tmp_path: Path):
    done = command.run(["run", "--", "no-such-command"], tmp_path)
    assert done.returncode == 127
    assert "no-such-command: No such file or directory" in done.stderr
    assert list((tmp_path / "carbonmon-runs").iterdir()) == []


def test_a_file_that_is_not_executable_gives_126(tmp_path: Path):
    script = tmp_path / "train.txt"
    script.write_text("not a program")
    assert command.run(["run", "--", str(script)], tmp_path).returncode == 126


def test_the_job_s_streams_are_untouched(tmp_path: Path):
    data = bytes(range(256)) * 400
    done = subprocess.run(
        [command.CARBONMON, "run", "--quiet", "--", "sh", "-c", "cat; echo to-stderr >&2"],
        cwd=tmp_path,
        env=command.environ(CARBONMON_LISTEN="127.0.0.1:0"),
        input=data,
        capture_output=True,
        timeout=command.DEADLINE_S,
        check=True,
    )
    assert done.stdout == data
    assert done.stderr == b"to-stderr\n", "with --quiet nothing of ours is on stderr"


def test_the_job_s_environment_signals_and_files_are_those_that_the_monitor_got(tmp_path: Path):
    show = (
        "import os, json\n"
        "def signals(name):\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    (mask,) = [int(line.split()[1], 16) for line in lines if line.startswith(name)]\n"
        "    return mask & ~(3 << 31)  # glibc's posix_spawn ignores its own two, 32 and 33\n"
        "files = sorted(int(name) for name in os.listdir('/proc/self/fd'))[:-1]\n"
        "print(json.dumps([dict(os.environ), signals('SigBlk'), signals('SigIgn'), files,"
        " os.getcwd(), os.getpgrp()]))"
    )
    told = {"CARBONMON_RUN", "CARBONMON_RUN_ENVIRON", "CARBONMON_SOCKET"}
    alone = subprocess.run(
        [sys.executable, "-c", show],
        cwd=tmp_path,
        env=command.environ(CARBONMON_LISTEN="127.0.0.1:0"),
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    monitored = command.run(["run", "--", sys.executable, "-c", show], tmp_path, stdin=subprocess.DEVNULL)
    environment, *rest = json.loads(monitored.stdout)
    own_environment, *own_rest = json.loads(alone.stdout)
    assert environment.keys() - own_environment.keys() == told, "where training code finds its monitor"
    assert list({key: value for key, value in environment.items() if key not in told}.items()) == list(
        own_environment.items()
    )
    assert rest == own_rest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_the_monitor_reaches_the_job_which_decides(tmp_path: Path, number: signal.Signals):
    job = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(42))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.01)\n"
    )
    process = command.start(["run", "--", sys.executable, "-c", job], tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.communicate(timeout=command.DEADLINE_S)
    assert process.returncode == 42
    assert command.summary(tmp_path)["run"]["exit_code"] == 42


def test_ctrl_c_in_a_terminal_interrupts_the_job_once(tmp_path: Path):
    job = (
        "import signal, time\n"
        "hits = []\n"
        "signal.signal(signal.SIGINT, lambda *_: hits.append(1))\n"
        "print('ready', flush=True)\n"
        "until = None\n"
        "while until is None or time.monotonic() < until:\n"
        "    time.sleep(0.01)\n"
        "    if hits and until is None: until = time.monotonic() + 0.5\n"
        "raise SystemExit(10 + len(hits))\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        arguments = [command.CARBONMON, "run", "--quiet", "--", sys.executable, "-c", job]
        os.execve(arguments[0], arguments, command.environ(CARBONMON_LISTEN="127.0.0.1:0"))
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 11


def test_metrics_can_be_scraped_while_the_job_runs(tmp_path: Path):
    options = ["--interval", "0.1", "--idle", "exclusive", "--label", "team=vision"]
    process = command.start(["run", *options, "--", "sleep", "60"], tmp_path)
    address = command.metrics_address(process)

    def energies() -> dict[str, float] | None:
        families = list(text_string_to_metric_families(command.get(address, Accept=OPENMETRICS)))
        found = {
            sample.labels["device"]: sample.value
            for family in families
            for sample in family.samples
            if sample.name == "carbonmon_run_energy_joules_total" and sample.labels["method"] == "tdp"
        }
        return found if found.get("dram-0", 0.0) > 0.0 else None

    first = command.wait_for(energies, "the first joules")
    later = command.wait_for(
        lambda: (now := energies()) and now["dram-0"] > first["dram-0"] and now, "more joules"
    )
    assert later is not None
    assert command.get(address.replace("/metrics", "/-/healthy"))
    assert command.get(address.replace("/metrics", "/-/ready"))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=command.DEADLINE_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert command.summary(tmp_path)["run"]["labels"] == {"team": "vision"}


def test_a_taken_port_neither_stops_the_job_nor_the_metrics(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command.run(["run", "--listen", f"127.0.0.1:{port}", "--", "true"], tmp_path)
    assert done.returncode == 0
    assert f"port {port} was taken" in done.stderr


def test_a_killed_monitor_leaves_the_job_running(tmp_path: Path):
    process = command.start(["run", "--", "sleep", "60"], tmp_path)
    command.metrics_address(process)
    job = command.wait_for(partial(command.job_of, process.pid), "the job")
    process.kill()
    process.wait(timeout=command.DEADLINE_S)
    try:
        time.sleep(0.05)  # were the job to die with its monitor, it would be gone by now
        assert job.is_running()
        assert job.status() != psutil.STATUS_ZOMBIE
    finally:
        job.kill()
    process.communicate()


def test_nothing_is_left_running_when_the_job_has_ended(tmp_path: Path):
    process = command.start(["run", "--", "sleep", "0.2"], tmp_path)
    children = command.wait_for(psutil.Process(process.pid).children, "the job")
    process.communicate(timeout=command.DEADLINE_S)
    assert process.returncode == 0
    assert not any(child.is_running() for child in children)


def test_on_a_machine_without_sensors_every_joule_says_tdp(tmp_path: Path):
    sysfs = tmp_path / "sys"
    sysfs.mkdir()
    busy = "import time; end = time.monotonic() + 1.0\nwhile time.monotonic() < end: pass"
    done = command.run(
        [
            "run",
            "--sysfs",
            str(sysfs),
            "--sensor",
            "rapl,tdp,dram",
            "--interval",
            "0.2",
            "--region",
            "FR",
            "--",
            sys.executable,
            "-c",
            busy,
        ],
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    document = command.summary(tmp_path)
    energy = document["energy"]
    assert energy["total_j"] > 0.0
    assert energy["measured_ratio"] == 0.0
    methods = {
        method for device in energy["devices"] for method, joules in device["methods"].items() if joules
    }
    assert methods == {"tdp"}
    assert energy["low_j"] < energy["total_j"] < energy["high_j"]
    assert document["carbon"]["intensity"]["zone"] == "FR"
    assert "estimated" in done.stderr


def test_without_a_region_the_world_average_is_used_and_said_once(tmp_path: Path):
    done = command.run(["run", "--", "true"], tmp_path)
    assert done.stderr.count("no region was given") == 1
    assert command.summary(tmp_path)["carbon"]["intensity"]["zone"] == "WORLD"


def test_the_run_id_comes_from_the_scheduler(tmp_path: Path):
    for _ in range(2):
        command.run(["run", "--", "true"], tmp_path, env={"SLURM_JOB_ID": "4242"})
    names = {path.name for path in (tmp_path / "carbonmon-runs").iterdir()}
    assert names == {"slurm-4242", "slurm-4242-2"}


def test_a_folder_that_the_job_removes_is_made_anew_with_everything_in_it(tmp_path: Path):
    done = command.run(["run", "--", "sh", "-c", "rm -rf carbonmon-runs; exit 7"], tmp_path)
    assert done.returncode == 7
    assert command.summary(tmp_path)["state"] == "final"
    (folder,) = (tmp_path / "carbonmon-runs").iterdir()
    assert {path.name for path in folder.iterdir()} == {*FILES, "summary.json"} - {CHECKPOINT_FILES[1]}


@pytest.mark.parametrize("when", ["before the start", "in mid-run"])
def test_a_driver_that_hangs_holds_up_neither_the_job_nor_its_exit_code(tmp_path: Path, when: str):
    with Simulator(gpus=[Gpu()], packages=[Package(profile=Constant(100.0))]) as machine:
        if when == "before the start":
            machine.gpus[0].fault(hang=True)
        options = ["--sysfs", str(machine.sysfs), "--sensor", "rapl,nvml", "--interval", "0.1"]
        job = ["sh", "-c", "echo started; read line; exit 9"]
        process = command.start(
            ["run", *options, "--", *job], tmp_path, env=machine.environ, stdin=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        machine.gpus[0].fault(hang=True)
        process.communicate("go on\n", timeout=command.DEADLINE_S)
    assert process.returncode == 9
    energy = command.summary(tmp_path)["energy"]
    assert {device["component"] for device in energy["devices"]} >= {"cpu"}


def test_a_closed_stderr_changes_nothing_for_the_job(tmp_path: Path):
    shell = f"exec {command.CARBONMON} run --listen 127.0.0.1:0 -- sh -c 'echo out; exit 4' 2>&-"
    done = subprocess.run(
        ["sh", "-c", shell],
        cwd=tmp_path,
        env=command.environ(),
        stdout=subprocess.PIPE,
        timeout=command.DEADLINE_S,
    )
    assert (done.returncode, done.stdout) == (4, b"out\n")
    assert command.summary(tmp_path)["state"] == "final"


def test_gpus_that_cannot_be_metered_are_said_before_the_job_starts(tmp_path: Path):
    done = command.run(["run", "--sensor", "tdp,dram", "--gpus", "0,1", "--", "true"], tmp_path)
    assert done.returncode == 0
    assert done.stderr.count("--gpus 0,1: no GPU can be metered here") == 1


def test_a_gpu_that_is_not_there_is_named_with_those_that_are_and_the_job_does_not_start(tmp_path: Path):
    with Simulator(gpus=[Gpu()]) as machine:
        options = ["--sensor", "nvml", "--gpus", "0,9"]
        done = command.run(["run", *options, "--", "touch", "started"], tmp_path, env=machine.environ)
    assert done.returncode == 2
    assert f"--gpus 9: no such GPU here; there are 0 {machine.gpus[0].uuid[:12]}" in done.stderr
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("visible", ["0,0", "7"])
def test_a_list_of_cuda_s_that_gives_no_gpu_by_mistake_is_said_before_the_job_starts(
    tmp_path: Path, visible: str
):
    with Simulator(gpus=[Gpu()]) as machine:
        env = machine.environ | {"CUDA_VISIBLE_DEVICES": visible}
        done = command.run(["run", "--sensor", "nvml,dram", "--", "true"], tmp_path, env=env)
    assert done.returncode == 0
    assert f"CUDA_VISIBLE_DEVICES={visible}: " in done.stderr
    assert "the job may use none of the 1 GPUs (CUDA_VISIBLE_DEVICES)" in done.stderr


def test_an_exporter_of_somebody_else_s_that_cannot_be_opened_does_not_keep_the_job_from_starting(
    tmp_path: Path,
):
    package = tmp_path / "site"
    (package / "broken-1.0.dist-info").mkdir(parents=True)
    (package / "broken-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n"
    )
    points = "[carbonmon.exporters]\nbroken = broken:open_exporter\n"
    (package / "broken-1.0.dist-info" / "entry_points.txt").write_text(points)
    (package / "broken.py").write_text("def open_exporter(settings):\n    raise ZeroDivisionError('a bug')\n")
    options = ["--exporter", "broken,summary"]
    done = command.run(
        ["run", *options, "--", "sh", "-c", "exit 6"], tmp_path, env={"PYTHONPATH": str(package)}
    )
    assert done.returncode == 6
    assert "an exporter cannot be opened: ZeroDivisionError: a bug" in done.stderr
    assert command.summary(tmp_path)["state"] == "final"


@pytest.mark.parametrize("has_daemon", [False, True])
def test_a_job_keeps_its_exit_code_when_our_packages_go_while_it_runs(tmp_path: Path, has_daemon: bool):
    ours = tmp_path / "packages"
    for package in (carbonmon, carbonmon_exporters):
        place = Path(package.__file__ or "").parent
        shutil.copytree(place, ours / place.name, ignore=shutil.ignore_patterns("__pycache__"))
    # What is still being imported would write its compiled modules into a folder that rm is about to remove.
    environ = {"PYTHONPATH": str(ours), "PYTHONDONTWRITEBYTECODE": "1"}
    words = ["--listen", "127.0.0.1:0", "--sensor", "tdp"]
    path = tmp_path / "daemon.sock"
    if has_daemon:
        daemon = ["daemon", "--detach", "--once", "--socket", str(path), *words]
        assert command.run(daemon, tmp_path).returncode == 0
        environ[SOCKET_VARIABLE], words = str(path), []
    job = ["sh", "-c", f"sleep 0.3; rm -r {ours}; exit 7"]
    done = command.run(["run", *words, "--", *job], tmp_path, env=environ)
    assert not ours.exists()
    assert done.returncode == 7, done.stderr
    assert ("part of run" in done.stderr) == has_daemon
    assert "Traceback" not in done.stderr
    assert "cannot be shown (ModuleNotFoundError" in done.stderr
    assert command.summary(tmp_path)["run"]["exit_code"] == 7
