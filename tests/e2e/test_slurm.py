"""A real Slurm with the hooks of deploy/slurm: jobs of users who know nothing of carbonmon."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.test_signals import COUNTS
from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command, prometheus, slurm
from tests.support.daemon import Daemon, daemon
from tests.support.slurm import Slurm

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing()),
]

BURN = "sh -c 'times >>before; (ulimit -t 1; while :; do :; done) 2>/dev/null; times >>times; sleep 3'"
"""About a second of CPU time, told by the kernel; the task lives on, so that a sample follows it. Slurm's
task prolog was a child of the same process: its time is there before."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    with Slurm() as running:
        yield running


@pytest.fixture
def machine() -> Iterator[Simulator]:
    gpus = [Gpu(profile=Constant(300.0)), Gpu(profile=Constant(200.0))]
    package = Package(profile=Constant(100.0), dram=Constant(20.0))
    with Simulator(gpus=gpus, packages=[package]) as simulated:
        yield simulated


def energy_j(node: Daemon, run_id: str) -> float:
    """What /metrics has of a run by now."""
    lines = [
        line
        for line in node.metrics().splitlines()
        if line.startswith("carbonmon_run_energy_joules_total{") and f'run_id="{run_id}"' in line
    ]
    return sum(float(line.split()[-1]) for line in lines)


def sum_of_times_s(path: Path) -> float:
    """What the shell's `times` appended to a file, in all."""
    times = re.findall(r"(\d+)m([\d.]+)s", path.read_text())
    return sum(60.0 * int(minutes) + float(seconds) for minutes, seconds in times)


def unix_s(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def test_a_step_is_not_held_open_by_the_process_that_serves_its_ended_run(cluster: Slurm, machine: Simulator):
    """The process ends by itself, or Slurm ends it; the step has ended before."""
    port = prometheus.free_port()
    scrape = (
        "import urllib.request as r; "
        f"r.urlopen(r.Request('http://127.0.0.1:{port}/metrics', "
        "headers={'X-Prometheus-Scrape-Timeout-Seconds': '10'}))"
    )
    options = f"--own-monitor --retain 100 --sensor rapl --listen 127.0.0.1:{port} --sysfs {machine.sysfs}"
    job_id = cluster.submit(
        f'srun -n1 {slurm.program(cluster.uid)} run {options} -- python3 -c "{scrape}" && date +%s.%N >over\n'
    )
    assert cluster.wait(job_id) == "COMPLETED"
    assert (cluster.work / "over").exists()
    path = cluster.work / "carbonmon-runs" / f"slurm-{job_id}.0" / "summary.json"
    run = json.loads(path.read_text())["run"]
    took_s = float((cluster.work / "over").read_text()) - unix_s(run["ended_at"])
    assert took_s < 50.0, "it did not wait for the time of --retain"
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if (
                "carbonmon_exporters.ended" in process.cmdline()
                and process.environ().get("SLURM_JOB_ID") == job_id
            ):
                process.terminate()
                process.wait(command.DEADLINE_S)


def test_a_job_is_metered_from_prolog_to_epilog_and_joins_sacct_by_its_id(cluster: Slurm, machine: Simulator):
    with daemon(machine, cluster.folder) as node:
        job_id = cluster.submit(
            f"/bin/true\nsrun -n1 {BURN}\necho $CARBONMON_RUN >told\nsrun -n2 {BURN}\n", "--ntasks=2"
        )
        run_id = f"slurm-{job_id}"
        command.wait_for(lambda: energy_j(node, run_id) > 0.0, "energy of the running job")
        assert cluster.state(job_id) == "RUNNING"
        assert cluster.wait(job_id) == "COMPLETED"
        summary = node.summary(run_id)
        accounted = cluster.sacct(job_id)
        node.stop()
    run = summary["run"]
    assert summary["state"] == "final", "the epilog waits for it"
    assert (run["scheduler"], run["scheduler_job_id"]) == ("slurm", job_id)
    assert run["labels"]["partition"] == "all"
    assert run["labels"]["cluster"] == "e2e"
    assert run["exit_code"] is None, "Slurm's epilog does not know a success from a cancelled job"
    told_s = sum_of_times_s(cluster.work / "times") - sum_of_times_s(cluster.work / "before")
    assert told_s > 2.0, "both steps, three tasks of a second each"
    assert told_s - 0.3 <= run["cpu_s"] <= told_s + 1.5, "srun and what runs a step are in it"
    assert 0.0 < summary["energy"]["total_j"] < summary["energy"]["node"]["total_j"]
    assert unix_s(run["started_at"]) == pytest.approx(accounted.began_s, abs=10.0)
    assert unix_s(run["ended_at"]) == pytest.approx(accounted.ended_s, abs=10.0)
    assert (cluster.work / "told").read_text() == f"{run_id}\n"
    if cluster.uid:
        copy = cluster.work / "carbonmon-runs" / run_id / "summary.json"
        assert json.loads(copy.read_text()) == summary
        assert copy.stat().st_uid == cluster.uid
    assert list((cluster.folder / "hook-state").iterdir()) == []


def test_a_cancelled_job_ends_with_a_summary_and_a_failed_one_with_its_exit_code(
    cluster: Slurm, machine: Simulator
):
    with daemon(machine, cluster.folder) as node:
        cancelled, failed = cluster.submit("sleep 60\n"), cluster.submit("exit 3\n")
        command.wait_for(lambda: cluster.state(cancelled) == "RUNNING", "the job")
        cluster.cancel(cancelled)
        assert (cluster.wait(cancelled), cluster.wait(failed)) == ("CANCELLED", "FAILED")
        first, second = (node.summary(f"slurm-{job_id}") for job_id in (cancelled, failed))
        assert (first["state"], second["state"]) == ("final", "final")
        assert (first["run"]["exit_code"], second["run"]["exit_code"]) == (None, 3)


def test_a_job_that_is_queued_again_is_a_second_run_of_the_same_job(cluster: Slurm, machine: Simulator):
    with daemon(machine, cluster.folder) as node:
        job_id = cluster.submit('echo $CARBONMON_RUN >>starts\n[ "$SLURM_RESTART_COUNT" ] || sleep 60\n')
        command.wait_for((cluster.work / "starts").exists, "the first start")
        cluster.requeue(job_id)
        assert cluster.wait(job_id) == "COMPLETED"
        runs = [node.summary(f"slurm-{job_id}{more}")["run"] for more in ("", "-2")]
        assert [run["scheduler_job_id"] for run in runs] == [job_id, job_id]
        assert (cluster.work / "starts").read_text() == f"slurm-{job_id}\nslurm-{job_id}-2\n"


def test_a_signal_of_scancel_reaches_the_job_once(cluster: Slurm):
    (cluster.work / "counts.py").write_text(COUNTS)
    options = "--own-monitor --quiet --listen 127.0.0.1:0"
    words = f"{slurm.program(cluster.uid)} run {options} -- python3 -u counts.py"
    job_id = cluster.submit(f"srun -n1 {words} >counted; echo $? >code\n")
    counted = cluster.work / "counted"
    command.wait_for(lambda: counted.exists() and "ready" in counted.read_text(), "the job")
    cluster.signal(job_id, "USR1")
    assert cluster.wait(job_id) == "COMPLETED"
    assert (cluster.work / "code").read_text() == "1\n"


def test_without_a_daemon_jobs_run_as_ever(cluster: Slurm):
    left = f"CARBONMON_SOCKET={cluster.folder}/daemon.sock,CARBONMON_RUN=slurm-0"  # by sbatch in another job
    job_id = cluster.submit("echo $CARBONMON_RUN >alone; srun true\n", f"--export=ALL,{left}")
    assert cluster.wait(job_id) == "COMPLETED"
    assert (cluster.work / "alone").read_text() == "\n"
    assert cluster.node_state() == "idle", "not drained"


def test_the_run_of_a_job_that_ended_without_a_daemon_ends_at_the_next_prolog(
    cluster: Slurm, machine: Simulator
):
    with daemon(machine, cluster.folder) as node:
        job_id = cluster.submit("while [ ! -e go-on ]; do sleep 0.1; done\n")
        path = node.output / f"slurm-{job_id}" / "checkpoint.json"
        command.wait_for(path.exists, "a checkpoint")
    (cluster.work / "go-on").touch()
    assert cluster.wait(job_id) == "COMPLETED"
    with daemon(machine, cluster.folder) as node:
        assert "slurm" in node.metrics(), "taken up again: nobody has told that it ended"
        cluster.wait(cluster.submit("true\n"))
        node.final_summary(f"slurm-{job_id}")


class Hook:
    """A hook called as slurmd does, without Slurm."""

    def __init__(self, folder: Path, job_id: int, **settings: object) -> None:
        self.state = folder / "hook-state"
        self.work = folder / "work"
        own: dict[str, object] = {"CARBONMON": command.CARBONMON, "SOCKET": folder / "daemon.sock"}
        self.hooks = slurm.hooks(folder / "hooks", STATE=self.state, **own | settings)
        self.environ = {
            "SLURM_JOB_ID": str(job_id),
            "SLURM_JOB_UID": str(slurm.NOBODY),
            "SLURM_JOB_GID": str(slurm.NOBODY),
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_JOB_RESTART_COUNT": "0",
            "SLURM_JOB_WORK_DIR": str(self.work),
        }

    def call(self, name: str, **more: str) -> str:
        done = subprocess.run(
            [self.hooks / name], env=self.environ | more, capture_output=True, text=True, timeout=20
        )
        assert done.returncode == 0, "Slurm would drain the node"
        return done.stderr


def test_a_job_gets_the_gpus_that_slurm_gave_it(tmp_path: Path, machine: Simulator):
    hook = Hook(tmp_path, 7, SUMMARIES="none")
    with daemon(machine, tmp_path) as node:
        hook.call("prolog.sh", SLURM_JOB_GPUS="1", CUDA_VISIBLE_DEVICES="1")
        node.draw(500.0)
        hook.call("epilog.sh")
        gpus: list[Any] = [d for d in node.summary("slurm-7")["energy"]["devices"] if d["component"] == "gpu"]
        assert [gpu["energy_j"] > 0.0 for gpu in gpus if gpu["index"] == 1] == [True]
        assert all(gpu["energy_j"] == 0.0 for gpu in gpus if gpu["index"] != 1)


def test_a_job_that_owns_its_node_is_charged_all_of_it_without_a_task_prolog(
    tmp_path: Path, machine: Simulator
):
    hook = Hook(tmp_path, 7, SUMMARIES="none", IDLE="exclusive")
    with daemon(machine, tmp_path) as node:
        hook.call("prolog.sh")
        node.draw(500.0)
        hook.call("epilog.sh")
        energy = node.summary("slurm-7")["energy"]
        assert energy["total_j"] == pytest.approx(energy["node"]["total_j"], rel=0.01)


def test_a_link_in_the_job_s_folder_leads_the_epilog_nowhere(tmp_path: Path, machine: Simulator):
    """The job's user would like root to write where that user may not."""
    hook = Hook(tmp_path, 7)
    target = tmp_path / "root-s"
    target.mkdir(mode=0o755)
    hook.work.mkdir()
    (hook.work / "carbonmon-runs").symlink_to(target)
    for folder in (hook.work, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    os.chown(hook.work, slurm.NOBODY, slurm.NOBODY)
    with daemon(machine, tmp_path) as node:
        hook.call("prolog.sh")
        said = hook.call("epilog.sh")
        node.final_summary("slurm-7")
    assert list(target.iterdir()) == []
    assert "the summary cannot be copied" in said


@pytest.mark.parametrize("name", ["prolog.sh", "epilog.sh", "task-prolog.sh"])
@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ("CARBONMON=/no/such/program\n", {}),
        ("if then fi (\n", {}),
        ("exit 9\n", {}),
        ("STATE=/proc/no/such\n", {}),
        ("", {"SLURM_JOB_ID": "7; echo"}),
        ("", {"SLURM_JOB_ID": "7", "PATH": "/nowhere", "LD_LIBRARY_PATH": "/nowhere", "PYTHONHOME": "/no"}),
    ],
)
def test_no_hook_ever_fails(tmp_path: Path, name: str, settings: str, more: dict[str, str]):
    hook = Hook(tmp_path, 7)
    with (hook.hooks / "settings.sh").open("a") as file:
        file.write(settings)
    hook.call(name, SLURM_TASK_PID="1", **more)


def test_a_daemon_that_hangs_delays_no_job_for_long(tmp_path: Path, machine: Simulator):
    hook = Hook(tmp_path, 7, PROLOG_LIMIT=30, SUMMARIES="none")
    with daemon(machine, tmp_path) as node:
        hook.call("prolog.sh")
        with (hook.hooks / "settings.sh").open("a") as settings:
            settings.write("PROLOG_LIMIT=1\nTASK_LIMIT=1\nEPILOG_LIMIT=1\n")
        node.process.send_signal(signal.SIGSTOP)
        begin_s = time.monotonic()
        said = [hook.call(name, SLURM_TASK_PID="1") for name in ("prolog.sh", "task-prolog.sh", "epilog.sh")]
        node.process.send_signal(signal.SIGCONT)
        assert time.monotonic() - begin_s < 30.0
        assert "goes on without it" in said[-1]
        assert (hook.state / "slurm-7.ended").exists(), "the next prolog ends the run"
