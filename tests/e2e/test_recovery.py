"""A monitor that is killed loses nothing that can be known: real processes and files, simulated hardware."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from carbonmon.runs.checkpoint_slots import has_checkpoint
from carbonmon.runs.series import read_series
from carbonmon.service.registry import DISK_S
from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import checkpoints, command
from tests.support.daemon import daemon

pytestmark = pytest.mark.e2e

RUN = ("run", "--idle", "exclusive", "--sensor", "nvml,rapl", "--interval", "0.1")
"""The run owns the machine: what that drew is the truth of the run."""


def machine_options(machine: Simulator) -> list[str]:
    return ["--sysfs", str(machine.sysfs)]


def checkpoint_of(folder: Path) -> Callable[[], dict[str, Any] | None]:
    def read() -> dict[str, Any] | None:
        return checkpoints.read(folder) if has_checkpoint(folder) else None

    return read


def kill_after_a_checkpoint(process: subprocess.Popen[str], folder: Path) -> psutil.Process:
    """SIGKILL the monitor once its first checkpoint is there; its job, which goes on."""
    command.wait_for(checkpoint_of(folder), "a checkpoint")
    job = command.wait_for(partial(command.job_of, process.pid), "the job")
    process.kill()
    process.wait(timeout=command.DEADLINE_S)
    return job


def truth_j(machine: Simulator, summary: dict[str, Any]) -> float:
    """What the machine drew from the run's start to its end."""
    from datetime import datetime

    started_s, ended_s = (
        datetime.fromisoformat(summary["run"][key].replace("Z", "+00:00")).timestamp()
        for key in ("started_at", "ended_at")
    )
    devices = [*machine.gpus, *machine.zones.values()]
    return sum(device.energy_between_wall(started_s, ended_s) for device in devices)


def test_a_killed_run_is_reported_from_its_last_checkpoint(tmp_path: Path):
    process = command.start(["run", "--run-id", "mine", "--", "sleep", "60"], tmp_path)
    job = kill_after_a_checkpoint(process, tmp_path / "carbonmon-runs" / "mine")
    job.kill()
    done = command.run(["report", "mine", "--format", "json"], tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["state"] == "recovered"
    assert summary["run"]["command"] == ["sleep", "60"]
    assert "recovered" in command.run(["report", "mine"], tmp_path).stdout
    process.communicate()


NO_LOCKS = """
import errno, fcntl, os
def flock(descriptor, operation):
    if "/carbonmon-runs/" in os.readlink(f"/proc/self/fd/{descriptor}"):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    take(descriptor, operation)
take, fcntl.flock = fcntl.flock, flock
"""
"""A module that Python imports at its start (site): the folder of runs is on NFS or Lustre without locks."""


def test_where_there_are_no_locks_a_running_run_is_known_and_a_killed_one_resumed(tmp_path: Path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_LOCKS)
    env = {"PYTHONPATH": str(tmp_path / "site")}
    folder = tmp_path / "carbonmon-runs" / "mine"
    process = command.start(["run", "--run-id", "mine", "--", "sleep", "60"], tmp_path, env=env)
    command.wait_for(checkpoint_of(folder), "a checkpoint")
    assert "still running" in command.run(["report", "mine"], tmp_path, env=env).stdout
    second = command.run(["run", "--resume", "mine", "--", "echo", "second"], tmp_path, env=env)
    assert (second.returncode, second.stdout) == (2, "")
    assert f"another monitor is writing it (process {process.pid} on host" in second.stderr
    job = kill_after_a_checkpoint(process, folder)
    job.kill()
    assert "recovered" in command.run(["report", "mine"], tmp_path, env=env).stdout
    third = command.run(["run", "--resume", "mine", "--", "echo", "third"], tmp_path, env=env)
    assert (third.returncode, third.stdout) == (0, "third\n")
    assert command.summary(tmp_path)["state"] == "final"
    assert not (folder / "monitor.json").exists()
    process.communicate()


def test_a_running_run_is_reported_as_running_and_may_not_be_watched_twice(tmp_path: Path):
    process = command.start(["run", "--run-id", "mine", "--", "sleep", "60"], tmp_path)
    command.wait_for(checkpoint_of(tmp_path / "carbonmon-runs" / "mine"), "a checkpoint")
    report = command.run(["report", "mine", "--format", "json"], tmp_path)
    assert json.loads(report.stdout)["state"] == "running"
    second = command.run(["run", "--resume", "mine", "--", "true"], tmp_path)
    assert second.returncode == 2
    assert "another monitor" in second.stderr
    process.terminate()
    process.communicate(timeout=command.DEADLINE_S)


def test_a_resumed_run_without_its_region_says_so(tmp_path: Path):
    options = ["run", "--resume", "mine"]
    first = command.run(["run", "--run-id", "mine", "--region", "FR", "--", "sleep", "0.3"], tmp_path)
    assert first.returncode == 0, first.stderr
    same = command.run([*options, "--region", "FR", "--", "true"], tmp_path)
    assert "until now" not in same.stderr
    other = command.run([*options, "--", "true"], tmp_path)
    assert other.returncode == 0, other.stderr
    assert (
        "until now run mine was charged with the intensity of FR, from here on with the world average, as no "
        "region is given; if that is not meant: --region FR"
    ) in other.stderr


def test_a_resumed_run_credits_what_the_counters_drew_meanwhile_and_calls_it_recovered(tmp_path: Path):
    package = Package(profile=Constant(120.0), dram=Constant(15.0))
    with Simulator(gpus=[Gpu(profile=Constant(300.0))], packages=[package]) as machine:
        options = [*RUN, *machine_options(machine)]
        folder = tmp_path / "carbonmon-runs" / "mine"
        process = command.start(
            [*options, "--run-id", "mine", "--", "sleep", "60"], tmp_path, env=machine.environ
        )
        job = kill_after_a_checkpoint(process, folder)
        job.kill()
        process.communicate()
        before = checkpoints.read(folder)
        done = command.run(
            [*options, "--resume", "mine", "--", "sleep", "0.5"], tmp_path, env=machine.environ
        )
        assert done.returncode == 0, done.stderr
        summary = command.summary(tmp_path)
        assert summary["state"] == "final"
        assert summary["energy"]["total_j"] == pytest.approx(truth_j(machine, summary), rel=0.1)
        assert summary["energy"]["recovered_j"] > 0.0
        assert summary["energy"]["total_j"] > sum(row[4] for row in before["totals"])
        assert all(device["unobserved_s"] == 0.0 for device in summary["energy"]["devices"])
        rows, damaged = read_series(folder)
        assert damaged == []
        assert sum(row.energy_j for row in rows) == pytest.approx(summary["energy"]["total_j"], abs=0.05)
        assert sum(row.emissions_g for row in rows) == pytest.approx(summary["carbon"]["emissions_g"])


def test_a_second_monitor_takes_the_job_over_and_ends_when_it_ends(tmp_path: Path):
    with Simulator(packages=[Package(profile=Constant(100.0))]) as machine:
        options = [*RUN, *machine_options(machine)]
        folder = tmp_path / "carbonmon-runs" / "mine"
        first = command.start([*options, "--run-id", "mine", "--", "sleep", "60"], tmp_path)
        job = kill_after_a_checkpoint(first, folder)
        second = command.start([*options, "--resume", "mine", "--attach", str(job.pid)], tmp_path)
        command.metrics_address(second)
        job.kill()
        second.communicate(timeout=command.DEADLINE_S)
        first.communicate()
        assert second.returncode == 0
        summary = command.summary(tmp_path)
        assert (summary["state"], summary["run"]["exit_code"]) == ("final", None)
        assert summary["run"]["command"] == ["sleep", "60"]
        assert summary["energy"]["total_j"] > 0.0


def test_ending_an_attached_monitor_leaves_the_job_alone(tmp_path: Path):
    with subprocess.Popen(["sleep", "60"]) as job:
        try:
            monitor = command.start(["run", "--attach", str(job.pid)], tmp_path)
            command.metrics_address(monitor)
            monitor.send_signal(signal.SIGTERM)
            monitor.communicate(timeout=command.DEADLINE_S)
            assert job.poll() is None
            assert command.summary(tmp_path)["state"] == "final"
        finally:
            job.kill()


def test_after_another_boot_the_outage_is_a_gap(tmp_path: Path):
    with Simulator(packages=[Package(profile=Constant(100.0))]) as machine:
        options = [*RUN, *machine_options(machine)]
        folder = tmp_path / "carbonmon-runs" / "mine"
        process = command.start([*options, "--run-id", "mine", "--", "sleep", "60"], tmp_path)
        job = kill_after_a_checkpoint(process, folder)
        job.kill()
        process.communicate()
        at_s = checkpoints.read(folder)["at_s"]
        checkpoints.replace(folder, boot_id="another", at_s=at_s - 500.0)
        done = command.run([*options, "--resume", "mine", "--", "true"], tmp_path)
        assert done.returncode == 0, done.stderr
        summary = command.summary(tmp_path)
        assert summary["energy"]["recovered_j"] == 0.0
        (package,) = summary["energy"]["devices"]
        assert package["unobserved_s"] >= 500.0
        assert summary["run"]["duration_s"] >= 500.0


def test_the_run_s_files_are_private_and_hold_no_environment(tmp_path: Path):
    secret = {"MY_API_KEY": "sk-secret-value"}
    job = [sys.executable, "-c", "pass", "--token", "sk-on-the-command-line"]
    done = command.run(["run", "--redact-command", "--", *job], tmp_path, env=secret)
    assert done.returncode == 0
    (folder,) = (tmp_path / "carbonmon-runs").iterdir()
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o037 == 0, f"{path.name} is for its owner and group only"
        assert "sk-" not in path.read_text()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 64 KiB at this folder."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "carbonmon-test", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_fails_is_counted_and_when_it_is_back_everything_is_written(tmp_path: Path, how: str):
    with small_disk(tmp_path / "carbonmon-runs") as disk:
        options = ["--run-id", "mine", "--interval", "0.2", "--idle", "exclusive"]
        process = command.start(["run", *options, "--", "sleep", "60"], tmp_path)
        address = command.metrics_address(process)
        command.wait_for(checkpoint_of(disk / "mine"), "a checkpoint")
        if how == "full":
            with (disk / "filler").open("wb") as filler, pytest.raises(OSError):
                while True:
                    os.write(filler.fileno(), b"x" * 4096)
        else:
            subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", str(disk)], check=True)

        def journal_errors() -> float | None:
            for line in command.get(address).splitlines():
                if line.startswith('carbonmon_exporter_errors_total{exporter="journal"}'):
                    return float(line.split()[-1])
            return None

        command.wait_for(journal_errors, "a counted error")
        if how == "full":
            (disk / "filler").unlink()
        else:
            subprocess.run(["umount", str(disk)], check=True)
        process.terminate()
        _, said = process.communicate(timeout=command.DEADLINE_S)
        assert said.count("journal cannot write") == 1, said
        summary = command.summary(tmp_path)
        assert summary["state"] == "final"
        assert summary["energy"]["total_j"] > 0.0


def test_a_job_gets_its_summary_though_the_disk_of_the_daemon_is_full(tmp_path: Path):
    with (
        small_disk(tmp_path / "runs") as disk,
        Simulator(packages=[Package(profile=Constant(100.0))]) as machine,
        daemon(machine, tmp_path) as node,
    ):
        job = 'sleep 0.5; cat /dev/zero >"$0"/filler 2>/dev/null; date +%s.%N; exit 3'
        environ = {"CARBONMON_SOCKET": str(node.socket), "CARBONMON_LISTEN": ""}
        done = command.run(["run", "--", "sh", "-c", job, str(disk)], tmp_path, env=environ)
        ended_s = time.time()
    assert done.returncode == 3, done.stderr
    summary = command.summary(tmp_path)
    assert (summary["state"], summary["run"]["exit_code"]) == ("final", 3)
    assert summary["energy"]["total_j"] > 0.0
    assert ended_s - float(done.stdout) < DISK_S, "it waits for a disk that is slow, not for one that is full"


def test_a_resumed_run_ends_with_its_job_whatever_it_lived_by_before(tmp_path: Path):
    folder = tmp_path / "carbonmon-runs" / "mine"
    process = command.start(["run", "--run-id", "mine", "--", "sleep", "60"], tmp_path)
    kill_after_a_checkpoint(process, folder).kill()
    process.communicate()
    document = json.loads((folder / "run.json").read_text())
    document["run"]["lives_by"] = "participants"
    (folder / "run.json").write_text(json.dumps(document))
    job = "import carbonmon\nwith carbonmon.track() as run: assert run.id == 'mine'\nraise SystemExit(7)"
    done = command.run(["run", "--resume", "mine", "--", sys.executable, "-c", job], tmp_path)
    assert done.returncode == 7, done.stderr
    assert command.summary(tmp_path)["run"]["exit_code"] == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="only root resumes runs of other users")
def test_root_s_resume_writes_nowhere_but_into_the_run_s_own_folder(tmp_path: Path):
    """A user lets a file, or all of the run, lead to where only root may write."""
    options = ["--run-id", "mine", "--own-monitor"]
    assert command.run(["run", *options, "--", "true"], tmp_path).returncode == 0
    output, precious = tmp_path / "carbonmon-runs", tmp_path / "precious"
    shutil.copytree(output / "mine", precious / "mine")
    before = {path: path.read_bytes() for path in precious.rglob("*.json*")}
    os.chown(output, 54321, 54321)
    for how in ("the folder", "the series"):
        if how == "the folder":
            (output / "mine").rename(output / "kept")
            (output / "mine").symlink_to(precious / "mine")
            os.chown(output / "mine", 54321, 54321, follow_symlinks=False)
        else:
            (output / "mine").unlink()
            (output / "kept").rename(output / "mine")
            os.chown(output / "mine", 54321, 54321)
            (output / "mine" / "series.jsonl").unlink()
            os.link(precious / "mine" / "series.jsonl", output / "mine" / "series.jsonl")
        done = command.run(["run", "--own-monitor", "--resume", "mine", "--", "true"], tmp_path)
        assert done.returncode == 2, (how, done.stderr)
        assert "may lead elsewhere" in done.stderr
    assert {path: path.read_bytes() for path in precious.rglob("*.json*")} == before
