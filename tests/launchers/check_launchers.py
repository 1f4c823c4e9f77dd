"""The launchers that need gigabytes, each really started: `make test-launchers`.

Each trains on a simulated machine of two GPUs: its node's energy is counted once, and no fault of ours ends
it. What is installed for it is in tests/support/launchers.txt.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support import command, prometheus
from tests.support.ranks import NODE_W, gone, machine, monitors, settings, truth_j

pytestmark = pytest.mark.timeout(600)

BIN = Path(sys.executable).parent
PROGRAMS = Path(__file__).parent / "programs"
LIMIT_S = 500.0


def words(launcher: str) -> list[str]:
    """The command line of a launcher with a training of two ranks, or four."""
    ranks, lightning = str(PROGRAMS / "ranks.py"), str(PROGRAMS / "lightning_ddp.py")
    python = sys.executable
    return {
        "torchrun": [str(BIN / "torchrun"), "--nproc-per-node", "2", ranks],
        "torchrun, fixed port": [
            *(str(BIN / "torchrun"), "--nproc-per-node", "2"),
            *("--master-port", str(prometheus.free_port()), ranks),
        ],
        "accelerate": [
            *(str(BIN / "accelerate"), "launch", "--multi_gpu", "--num_processes", "2"),
            *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", ranks),
        ],
        "mp.spawn": [python, ranks, "spawn", str(prometheus.free_port())],
        "Lightning, 2": [python, lightning, "2", "callback"],
        "Lightning, 4": [python, lightning, "4", "callback"],
        "Lightning, rank 0 tracks": [python, lightning, "2", "first"],
        "Lightning, track() around": [python, lightning, "2", "around"],
        "Fabric": [python, lightning, "2", "fabric"],
        "Ray": [python, str(PROGRAMS / "ray_pool.py")],
    }[launcher]


LAUNCHERS = (
    *("torchrun", "torchrun, fixed port", "accelerate", "mp.spawn", "Lightning, 2", "Lightning, 4"),
    *("Lightning, rank 0 tracks", "Lightning, track() around", "Fabric", "Ray"),
)
HARMED = ("torchrun", "accelerate", "mp.spawn", "Lightning, 2", "Fabric", "Ray")
FAULTS = ("killed", "hung", "absent", "unwritable", "off")


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short name: the path of a socket has at most 107 bytes."""
    return tmp_path_factory.mktemp("l")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_energy_of_the_node_is_counted_once(folder: Path, launcher: str):
    with machine() as node, command.Lateness() as late:
        done = subprocess.run(
            words(launcher),
            cwd=folder,
            env=settings(node, folder),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        ids = {line for line in done.stdout.splitlines() if line.startswith("run ")}
        assert len(ids) == 1, ids
        gone(folder)
        summary = command.summary(folder)
        truth = truth_j(node, summary)
        off_ratio = summary["energy"]["total_j"] / truth - 1.0
        sys.stdout.write(f"\nTABLE | {launcher} | {len(summary['run']['ranks'])} | {off_ratio:+.2%} |\n")
        near = pytest.approx(truth, abs=0.005 * truth + late.edges_s * NODE_W)
        assert summary["energy"]["total_j"] == near
        assert summary["run"]["notes"] == []


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("launcher", HARMED)
def test_no_fault_of_ours_ends_a_training(folder: Path, launcher: str, fault: str):
    with machine() as node:
        environ = settings(node, folder, CARBONMON_CHECKPOINT="0.2")
        environ |= {
            "absent": {"CARBONMON_SENSOR": "no-such-sensor"},
            "unwritable": {"CARBONMON_OUTPUT": "/proc/carbonmon-runs"},
            "off": {"CARBONMON_DISABLE": "1"},
        }.get(fault, {})
        process = subprocess.Popen(
            words(launcher),
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        hit: list[psutil.Process] = []
        try:
            if fault in ("killed", "hung"):
                assert process.stdout is not None
                while not process.stdout.readline().startswith("run "):
                    assert process.poll() is None
                kept = folder / "carbonmon-runs"
                command.wait_for(lambda: any(kept.glob("*/checkpoint.json")), "a checkpoint")
                hit = monitors(folder)
                for monitor in hit:
                    with suppress(psutil.NoSuchProcess):
                        monitor.send_signal(signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
                assert hit
            _, said = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
            for monitor in hit:
                with suppress(psutil.NoSuchProcess):
                    monitor.kill()
        assert process.returncode == 0, said
