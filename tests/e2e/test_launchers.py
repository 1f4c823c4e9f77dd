"""Launchers, pools and programs that start their own ranks: one monitor, one run, each joule once.

Open MPI, joblib, Dask and multiprocessing are the real ones; those that need gigabytes are in
tests/launchers.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import checkpoints, command, openmpi
from tests.support.daemon import daemon
from tests.support.ranks import gone, machine, monitors, settings, truth_j

pytestmark = pytest.mark.e2e

DDP = """
import os, subprocess, sys, time
import carbonmon
size = int(sys.argv[1])
children = []
if "LOCAL_RANK" not in os.environ:  # as in Lightning's ddp rank 0 is the user's process; it starts the others
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(20000 + os.getpid() % 9999), NODE_RANK="0")
    os.environ.update(LOCAL_RANK="0", WORLD_SIZE=str(size))
    for rank in range(1, size):
        more = {"LOCAL_RANK": str(rank)}
        children.append(subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, **more}))
with carbonmon.track(name="ddp") as run:
    os.write(1, f"{run.id}\\n".encode())
    time.sleep(2.0)
    for child in children:
        assert child.wait() == 0
"""

POOL = """
import os, sys, time
import carbonmon

def where(_):
    with carbonmon.track(name="worker") as run:
        time.sleep(0.2)
        return run.id, os.getpid()

def many(pool_map):
    with carbonmon.track(name="pool") as run:
        found = list(pool_map(where, range(4)))
        ids, pids = zip(*found)
        print({run.id} == set(ids), os.getpid() not in pids, flush=True)

if __name__ == "__main__":
    kind = sys.argv[1]
    if kind == "joblib":
        from joblib import Parallel, delayed
        with Parallel(n_jobs=2) as pool:
            pool(delayed(time.sleep)(0.01) for _ in range(4))
            many(lambda function, values: pool(delayed(function)(value) for value in values))
    elif kind == "dask":
        from distributed import Client
        with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
            client.gather(client.map(time.sleep, [0.01] * 4, pure=False))
            many(lambda function, values: client.gather(client.map(function, values, pure=False)))
    else:
        import multiprocessing
        with multiprocessing.get_context(kind).Pool(2) as pool:
            pool.map(time.sleep, [0.01] * 4)
            many(pool.map)
"""

RANK = """
import os, sys, time
import carbonmon

def burn():
    while time.process_time() < begin_s + 1.0:  # one second of CPU time, however busy the machine is
        sum(range(1000))

def wait(name):
    while not os.path.exists(name):
        time.sleep(0.01)

rank = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ.get("RANK") or 0)
who = sys.argv[1]
if who == "all" or rank == 0:
    with carbonmon.track(name="ranks") as run:
        begin_s = time.process_time()
        os.write(1, f"{run.id}\\n".encode())
        open("begun", "w").close()
        burn()
        if who == "first":
            wait("burned")
else:
    wait("begun")
    begin_s = time.process_time()
    burn()
    open("burned", "w").close()
    wait("carbonmon-runs/" + os.listdir("carbonmon-runs")[0] + "/summary.json")
"""

TORCHRUN = """
import os, subprocess, sys
size = 2
ranks = []
for rank in range(int(sys.argv[2])):  # what torchrun tells its workers, with `--master-port` alone
    more = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=size, LOCAL_WORLD_SIZE=size, GROUP_WORLD_SIZE=1,
                MASTER_ADDR="127.0.0.1", MASTER_PORT=29511, TORCHELASTIC_RUN_ID="none")
    environ = {**os.environ, **{name: str(value) for name, value in more.items()}}
    ranks.append(subprocess.Popen([sys.executable, sys.argv[1], *sys.argv[3:]], env=environ))
sys.exit(max(rank.wait() for rank in ranks))
"""


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short name: the path of a socket has at most 107 bytes."""
    return tmp_path_factory.mktemp("l")


def run(words: list[str], folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=command.DEADLINE_S,
        check=False,
    )


def script(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("size", [2, 4])
def test_a_program_that_starts_its_own_ranks_is_counted_once(tmp_path: Path, size: int):
    with machine() as node:
        path = script(tmp_path, "ddp.py", DDP)
        done = run([sys.executable, path, str(size)], tmp_path, settings(node, tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
        assert len(set(done.stdout.split())) == 1, "one run"
        gone(tmp_path)
        summary = command.summary(tmp_path)
        truth = truth_j(node, summary)
        # Counted twice it were double. On a busy machine the edges of two seconds are a large part of them.
        assert summary["energy"]["total_j"] == pytest.approx(truth, rel=0.4)
        assert len(summary["run"]["ranks"]) == size
        assert summary["run"]["notes"] == []


@pytest.mark.parametrize("kind", ["fork", "spawn", "forkserver", "joblib", "dask"])
def test_the_workers_of_a_pool_that_is_older_than_the_run_take_part_in_it(tmp_path: Path, kind: str):
    needed = {"joblib": "joblib", "dask": "distributed"}.get(kind, "multiprocessing")
    assert importlib.util.find_spec(needed), f"{needed} is in the environment of development"
    with machine() as node:
        done = run(
            [sys.executable, script(tmp_path, "pool.py", POOL), kind], tmp_path, settings(node, tmp_path)
        )
        assert (done.returncode, done.stdout) == (0, "True True\n"), done.stderr
        gone(tmp_path)
        assert command.summary(tmp_path)["run"]["name"] == "pool", "the only run"


def test_a_child_without_the_environment_of_a_job_takes_part_in_its_run(tmp_path: Path):
    path = script(tmp_path, "train.py", "import carbonmon\nwith carbonmon.track() as run: print(run.id)\n")
    bare = "env -u CARBONMON_SOCKET -u CARBONMON_RUN"
    inner = f"{bare} {sys.executable} {path} && {bare} {command.CARBONMON} run -- true"
    with machine() as node:
        environ = settings(node, tmp_path)
        for policy in ("proportional", "exclusive"):
            folder = tmp_path / policy
            folder.mkdir()
            words = [command.CARBONMON, "run", "--run-id", "outer", "--idle", policy, "--", "sh", "-c", inner]
            done = run(words, folder, environ)
            assert (done.returncode, done.stdout) == (0, "outer\n"), done.stderr
            assert "part of run outer" in done.stderr
            assert command.summary(folder)["run"]["id"] == "outer"


@pytest.mark.skipif(bool(openmpi.missing()), reason=openmpi.missing())
@pytest.mark.parametrize("who", ["all", "first"])
def test_the_ranks_of_mpirun_are_one_run_whether_all_of_them_track_or_the_first(tmp_path: Path, who: str):
    words, more = openmpi.mpirun(2)
    with machine() as node:
        environ = settings(node, tmp_path) | more | {"CARBONMON_IDLE": "proportional"}
        path = script(tmp_path, "rank.py", RANK)
        done = run([*words, sys.executable, path, who], tmp_path, environ)
        assert done.returncode == 0, done.stderr
        (run_id,) = set(done.stdout.split())
        assert run_id.startswith("openmpi-")
        gone(tmp_path)
        summary = command.summary(tmp_path)
        assert sorted(rank["rank"] for rank in summary["run"]["ranks"]) == [0, 1]
        assert summary["run"]["notes"] == []
        assert summary["run"]["cpu_s"] > 1.5, "of both ranks, a second each"


def test_a_rank_that_does_not_track_is_counted_with_the_first_and_one_that_is_missing_is_said(tmp_path: Path):
    with machine() as node:
        rank = script(tmp_path, "rank.py", RANK)
        launcher = script(tmp_path, "launch.py", TORCHRUN)
        missing = "1 of 2 ranks on this node took part"
        for ranks, who, notes in ((2, "first", []), (1, "alone", [missing])):
            folder = tmp_path / who
            folder.mkdir()
            environ = settings(node, folder) | {"CARBONMON_IDLE": "proportional"}
            done = run([sys.executable, launcher, rank, str(ranks), who], folder, environ)
            assert done.returncode == 0, done.stderr
            assert "torchrun-" in done.stdout
            gone(folder)
            run_kept = command.summary(folder)["run"]
            assert len(run_kept["ranks"]) == ranks
            assert [note.partition(",")[0] for note in run_kept["notes"]] == notes
            assert all(note in done.stderr for note in notes), "training code is told as well"
            assert run_kept["cpu_s"] > 0.9 * ranks


def test_two_jobs_with_the_same_port_one_after_another_are_two_runs(tmp_path: Path):
    with machine() as node:
        rank, launcher = script(tmp_path, "rank.py", RANK), script(tmp_path, "launch.py", TORCHRUN)
        words = [sys.executable, launcher, rank, "2", "all"]
        done = [run(words, tmp_path, settings(node, tmp_path)) for _ in range(2)]
        assert [each.stderr for each in done] == ["", ""]
        said = [each.stdout.split() for each in done]
        assert [len(set(ids)) for ids in said] == [1, 1]
        assert said[0][0] != said[1][0]
        assert os.uname().nodename.partition(".")[0][:16] in said[0][0], "its machine is in its id"
        gone(tmp_path)
        assert {each.name for each in (tmp_path / "carbonmon-runs").iterdir()} == {ids[0] for ids in said}


def test_what_goes_on_after_the_job_is_said_and_what_is_about_to_end_is_not(tmp_path: Path):
    done = command.run(["run", "--", "sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"], tmp_path)
    pid = int(done.stdout)
    try:
        assert f"1 process goes on (sleep {pid})" in done.stderr
    finally:
        os.kill(pid, signal.SIGKILL)
    code = (
        "from multiprocessing import shared_memory\n"
        "memory = shared_memory.SharedMemory(create=True, size=10); memory.close(); memory.unlink()\n"
    )
    done = command.run(["run", "--", sys.executable, "-c", code], tmp_path)
    assert done.returncode == 0
    assert "go on" not in done.stderr
    assert "goes on" not in done.stderr


def test_a_command_whose_work_is_elsewhere_is_told_before_it_starts(tmp_path: Path):
    fake = tmp_path / "srun"
    fake.write_text("#!/bin/sh\necho started >&2\n")
    fake.chmod(0o755)
    done = command.run(["run", "--", str(fake), "-n2", "python", "train.py"], tmp_path)
    note, start = done.stderr.find("carbonmon run -- python train.py"), done.stderr.find("started")
    assert 0 < note < start
    quiet = command.run(["run", "--quiet", "--", str(fake), "true"], tmp_path)
    assert quiet.stderr == "started\n"


def disturb(what: str, folder: Path) -> None:
    """Kill or stop the monitors of a test."""
    for monitor in command.wait_for(lambda: monitors(folder), "a monitor"):
        with suppress(psutil.NoSuchProcess):  # what has only started it
            monitor.send_signal(signal.SIGKILL if what == "killed" else signal.SIGSTOP)


@pytest.mark.parametrize("what", ["killed", "hung", "absent", "unwritable", "off"])
def test_no_rank_is_harmed_by_a_monitor_that_fails(tmp_path: Path, what: str):
    """Program with ranks of its own, whose monitor is killed or stopped, cannot be had, or is not wanted."""
    with machine() as node:
        environ = settings(node, tmp_path, CARBONMON_CHECKPOINT="0.2")
        if what == "off":
            environ["CARBONMON_DISABLE"] = "1"
        elif what == "absent":
            (tmp_path / "runtime" / "carbonmon").mkdir(mode=0o700, exist_ok=True)
            environ["CARBONMON_SENSOR"] = "no-such-sensor"
        elif what == "unwritable":
            environ["CARBONMON_OUTPUT"] = "/proc/carbonmon-runs"
        path = script(tmp_path, "ddp.py", DDP)
        process = subprocess.Popen(
            [sys.executable, path, "2"],
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        left: list[Any] = []
        try:
            if what in ("killed", "hung"):
                assert process.stdout is not None
                process.stdout.readline()
                kept = tmp_path / "carbonmon-runs"
                command.wait_for(lambda: any(kept.glob("*/checkpoint.json")), "a checkpoint")
                left = monitors(tmp_path)
                disturb(what, tmp_path)
            _, said = process.communicate(timeout=command.DEADLINE_S)
        finally:
            for monitor in left:
                with suppress(psutil.NoSuchProcess):
                    monitor.kill()
        assert process.returncode == 0, said
        assert "Traceback" not in said
        if what == "killed":
            # A rank that comes to its track() after the kill begins a run of its own.
            paths = list(kept.glob("*/checkpoint.json"))
            assert 1 <= len(paths) <= 2
            assert all(checkpoints.read(path.parent)["samples"] > 0 for path in paths), "what was known stays"


MEET = """
import os, sys, time
import carbonmon
with carbonmon.track() as run:
    os.write(1, f"{run.id}\\n".encode())
    open(sys.argv[1], "w").close()
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
"""


def test_the_node_s_daemon_tells_trainings_of_a_job_apart_and_knows_the_job_of_its_hooks(tmp_path: Path):
    folder = tmp_path / "runtime" / "carbonmon"
    folder.mkdir(parents=True, mode=0o700)
    batch = {"SLURM_JOB_ID": "77", "SLURM_PROCID": "0", "SLURM_GTIDS": "0", "SLURM_NTASKS": "4"}
    step = batch | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    path = script(tmp_path, "meet.py", MEET)
    with machine() as node, daemon(node, tmp_path, "--socket", str(folder / "daemon.sock")) as running:
        environ = settings(node, tmp_path) | batch
        both = [
            subprocess.Popen(
                [sys.executable, path, *names], cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True
            )
            for names in (("a", "b"), ("b", "a"))
        ]
        assert {each.communicate(timeout=command.DEADLINE_S)[0] for each in both} == {
            "slurm-77\n",
            "slurm-77-2\n",
        }
        registered = command.run(
            ["register", "--socket", str(running.socket)], tmp_path, env=batch | {"SLURM_JOB_ID": "78"}
        )
        assert registered.stdout == "slurm-78\n", registered.stderr
        done = run([sys.executable, path, "c", "c"], tmp_path, environ | step | {"SLURM_JOB_ID": "78"})
        assert done.stdout == "slurm-78\n", "its step is part of it"
