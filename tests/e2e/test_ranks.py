"""Several processes of one job on a node: one monitor, one account, whoever started them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from carbonmon.runs.checkpoint_slots import has_checkpoint
from tests.support import checkpoints, command
from tests.support.ranks import NODE_W, go, gone, machine, monitors, settings, start, truth_j

pytestmark = pytest.mark.e2e

RANKS = 4
TRAIN = """
import os, sys, time
import carbonmon

with carbonmon.track(name="four") as run:
    assert run.active, "no monitor"
    os.write(1, f"{run.id}\\n".encode())
    sys.stdin.readline()
    run.progress(0, 30)
    with run.phase("train"):
        begin = time.monotonic()
        while (spent := time.monotonic() - begin) < 3.0:
            time.sleep(0.01)
            run.progress(int(10 * spent), 30, tokens=1000 * int(10 * spent))
    run.progress(30, 30, tokens=30_000)
"""


def torchrun(rank: int) -> dict[str, str]:
    """What torchrun tells each of its processes."""
    return {
        "TORCHELASTIC_RUN_ID": "abc",
        "RANK": f"{rank}",
        "LOCAL_RANK": f"{rank}",
        "WORLD_SIZE": f"{RANKS}",
        "LOCAL_WORLD_SIZE": f"{RANKS}",
        "GROUP_WORLD_SIZE": "1",
    }


def srun(rank: int) -> dict[str, str]:
    """What `srun --ntasks-per-node=4` tells each of its tasks."""
    return {
        "SLURM_JOB_ID": "4242",
        "SLURM_PROCID": f"{rank}",
        "SLURM_LOCALID": f"{rank}",
        "SLURM_NTASKS": f"{RANKS}",
        "SLURM_NTASKS_PER_NODE": f"{RANKS}",
        "SLURM_NNODES": "1",
    }


def test_four_ranks_of_torchrun_have_one_monitor_and_count_the_node_once(tmp_path: Path):
    with machine() as node, command.Lateness() as late:
        ranks = [
            start([sys.executable, "-c", TRAIN], tmp_path, settings(node, tmp_path, **torchrun(rank)))
            for rank in range(RANKS)
        ]
        for process in ranks:
            assert process.stdout is not None
            assert process.stdout.readline() == "torchrun-abc\n"
        assert len(monitors(tmp_path)) == 1, "exactly one monitor process"
        go(ranks)
        for process in ranks:
            _, said = process.communicate(timeout=command.DEADLINE_S)
            assert process.returncode == 0, said
        summary = command.summary(tmp_path)
        gone(tmp_path)
        assert summary["state"] == "final"
        assert sorted(rank["rank"] for rank in summary["run"]["ranks"]) == list(range(RANKS))
        truth = truth_j(node, summary)
        near = pytest.approx(truth, abs=0.005 * truth + late.edges_s * NODE_W)
        assert summary["energy"]["total_j"] == near, "as one monitor counts"
        phases = summary["energy"]["phases"]
        assert phases["train"]["duration_s"] == pytest.approx(3.0, abs=1.0)
        assert sum(phase["energy_j"] for phase in phases.values()) == pytest.approx(
            summary["energy"]["total_j"]
        )
        work = summary["work"]
        assert (work["steps"], work["tokens"], work["job_ratio"]) == (30.0, 30_000.0, 1.0), (
            "told by each rank"
        )
        span = work["spans"]["tokens"]
        assert span["energy_j"] == pytest.approx(NODE_W * span["duration_s"], rel=0.02)
        assert work["energy_per_token_j"] == span["energy_j"] / 30_000.0
    assert list((tmp_path / "runtime" / "carbonmon").iterdir()) == [], "no socket, lock or log is left"


def test_four_tasks_of_srun_keep_their_exit_codes_and_share_one_account(tmp_path: Path):
    with machine() as node:
        job = ["sh", "-c", "read line; sleep 1.5; exit $((10 + SLURM_PROCID))"]
        tasks = [
            start(
                [command.CARBONMON, "run", "--region", "FR", "--", *job],
                tmp_path,
                settings(node, tmp_path, **srun(rank)),
            )
            for rank in range(RANKS)
        ]
        said = []
        for process in tasks:
            assert process.stderr is not None
            said.append(process.stderr.readline())
        assert all("part of run slurm-4242" in line for line in said), said
        assert len(monitors(tmp_path)) == 1
        go(tasks)
        for rank, process in enumerate(tasks):
            process.communicate(timeout=command.DEADLINE_S)
            assert process.returncode == 10 + rank
        summary = command.summary(tmp_path)
        gone(tmp_path)
        assert summary["run"]["id"] == "slurm-4242"
        assert summary["carbon"]["intensity"]["zone"] == "FR", "options reach the monitor"
        assert summary["energy"]["total_j"] == pytest.approx(truth_j(node, summary), rel=0.02)


def test_children_of_multiprocessing_share_a_monitor(tmp_path: Path):
    script = tmp_path / "pool.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "import carbonmon\n"
        "def work(number):\n"
        "    with carbonmon.track(name='pool') as run:\n"
        "        assert run.active\n"
        "        barrier.wait(20)\n"
        "        return run.id\n"
        "def keep(shared):\n"
        "    global barrier\n"
        "    barrier = shared\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context(sys.argv[1])\n"
        "    with context.Pool(3, keep, (context.Barrier(3),)) as pool:\n"
        "        print(len(set(pool.map(work, range(3), chunksize=1))))\n"
    )
    with machine() as node:
        for method in ("spawn", "fork"):
            folder = tmp_path / method
            folder.mkdir()
            done = subprocess.run(
                [sys.executable, str(script), method],
                cwd=folder,
                env=settings(node, folder),
                capture_output=True,
                text=True,
                timeout=command.DEADLINE_S,
                check=False,
            )
            assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
            gone(folder)
            assert command.summary(folder)["state"] == "final"


def test_a_training_process_that_is_killed_leaves_a_final_account(tmp_path: Path):
    with machine() as node:
        process = start([sys.executable, "-c", TRAIN], tmp_path, settings(node, tmp_path))
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=command.DEADLINE_S)
        gone(tmp_path)
        summary = command.summary(tmp_path)
        assert (summary["state"], summary["run"]["id"]) == ("final", run_id)
        assert summary["energy"]["total_j"] > 0.0


def test_a_monitor_that_is_killed_harms_neither_the_training_nor_the_last_checkpoint(tmp_path: Path):
    with machine() as node:
        env = settings(node, tmp_path, CARBONMON_CHECKPOINT="0.2")
        process = start([sys.executable, "-c", TRAIN], tmp_path, env)
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        folder = tmp_path / "carbonmon-runs" / run_id
        command.wait_for(
            lambda: has_checkpoint(folder) and checkpoints.read(folder)["samples"] > 3, "a checkpoint"
        )
        (monitor,) = monitors(tmp_path)
        monitor.kill()
        _, said = process.communicate("go\n", timeout=command.DEADLINE_S)
        assert process.returncode == 0
        assert "Traceback" not in said
        report = command.run(["report", run_id, "--format", "json"], tmp_path)
        assert json.loads(report.stdout)["state"] == "recovered"


def test_carbonmon_run_inside_of_a_run_is_part_of_it(tmp_path: Path):
    inner = f"{command.CARBONMON} run -- sh -c 'exit 5'"
    done = command.run(["run", "--run-id", "outer", "--", "sh", "-c", inner], tmp_path)
    assert done.returncode == 5
    assert "part of run outer" in done.stderr
    assert [path.name for path in (tmp_path / "carbonmon-runs").iterdir()] == ["outer"]


def test_training_without_any_chance_of_a_monitor_warns_once_and_goes_on(tmp_path: Path):
    folder = tmp_path / "runtime" / "carbonmon"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    code = (
        "import carbonmon\n"
        "from carbonmon.client import places\n"
        "places.LOCAL_FOLDERS = ()\n"
        "for _ in range(3):\n"
        "    with carbonmon.track() as run:\n"
        "        with run.phase('train'): run.progress(1, 2)\n"
        "        assert run.snapshot()['energy_j'] is None and not run.active\n"
    )
    env = command.environ(XDG_RUNTIME_DIR=str(tmp_path / "runtime"))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("this run is not metered") == 1
    assert "chmod 700" in done.stderr


@pytest.mark.parametrize("what", ["too long", "missing", "open to others"])
def test_training_is_metered_whatever_its_runtime_folder_is_like(tmp_path: Path, what: str):
    folder = tmp_path / ("r" * 100 if what == "too long" else "r")
    if what != "missing":
        (folder / "carbonmon").mkdir(parents=True, mode=0o777)
        (folder / "carbonmon").chmod(0o755)
    with machine() as node:
        env = settings(node, tmp_path) | {"XDG_RUNTIME_DIR": str(folder)}
        process = start([sys.executable, "-c", TRAIN], tmp_path, env)
        out, err = process.communicate("go\n", timeout=command.DEADLINE_S)
        assert (process.returncode, err) == (0, "")
        assert command.summary(tmp_path)["run"]["id"] == out.strip()


def test_the_monitor_is_no_child_of_the_training_process(tmp_path: Path):
    code = TRAIN.replace(
        'os.write(1, f"{run.id}\\n".encode())',
        "import os\n    try: print(os.waitpid(-1, os.WNOHANG), flush=True)\n"
        "    except ChildProcessError: print('no children', flush=True)",
    )
    with machine() as node:
        process = start([sys.executable, "-c", code], tmp_path, settings(node, tmp_path))
        assert process.stdout is not None
        assert process.stdout.readline() == "no children\n"
        process.communicate("go\n", timeout=command.DEADLINE_S)
        assert process.returncode == 0
        gone(tmp_path)
    runtime = tmp_path / "runtime" / "carbonmon"
    command.wait_for(lambda: not list(runtime.iterdir()), "an empty runtime folder")
