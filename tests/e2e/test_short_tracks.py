"""Training code that tracks on a simulated machine: short runs, live phases, monitors that die and hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Constant, Gpu, Package, Simulator, Sine
from tests.support import command, ranks
from tests.support.ranks import gone, monitors

pytestmark = pytest.mark.e2e

PREAMBLE = "import json, math, os, signal, sys, time\nimport carbonmon\n"


def machine(refresh_s: float = 0.02) -> Simulator:
    return Simulator(
        gpus=[Gpu(profile=Sine(250.0, 120.0, period_s=1.3), counter_refresh_s=refresh_s)],
        packages=[Package(Sine(120.0, 40.0, period_s=2.0), dram=Constant(15.0))],
    )


def settings(node: Simulator, folder: Path, **more: str) -> dict[str, str]:
    own = {"CARBONMON_INTERVAL": "1", "CUDA_VISIBLE_DEVICES": "0"}
    return ranks.settings(node, folder, **{**own, **more})


def train(node: Simulator, folder: Path, code: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + code],
        cwd=folder,
        env=settings(node, folder, **more),
        capture_output=True,
        text=True,
        timeout=command.DEADLINE_S,
        check=False,
    )


def truth_j(node: Simulator, begin_s: float, end_s: float) -> float:
    return sum(device.energy_between_wall(begin_s, end_s) for device in (*node.gpus, *node.zones.values()))


SIX = """
@carbonmon.track
def step():
    time.sleep(0.2)
    return os.environ["CARBONMON_SOCKET"]

print(json.dumps([step() for _ in range(6)]))
"""


def test_a_function_that_is_tracked_at_each_call_has_one_monitor_and_each_run_its_energy(tmp_path: Path):
    with machine() as node:
        done = train(node, tmp_path, SIX)
        gone(tmp_path)
        paths = sorted((tmp_path / "carbonmon-runs").glob("*/summary.json"))
        assert done.returncode == 0, done.stderr
        assert len(set(json.loads(done.stdout))) == 1
        assert len(paths) == 6
        for path in paths:
            summary = json.loads(path.read_text())
            begin_s, end_s = (
                datetime.fromisoformat(summary["run"][key].replace("Z", "+00:00")).timestamp()
                for key in ("started_at", "ended_at")
            )
            assert summary["state"] == "final"
            assert summary["run"]["duration_s"] >= 0.2
            # A counter of 20 ms is read twice: its part of the truth is one refresh older, or newer.
            near = pytest.approx(truth_j(node, begin_s, end_s), abs=2 * 0.025 * 600.0)
            assert summary["energy"]["total_j"] == near


BEGINS_AGAIN = """
with carbonmon.track() as run:
    pass
first = os.environ.copy(), run.folder
{change}
with carbonmon.track({arguments}) as run:
    pass
print(run.folder)
"""


@pytest.mark.parametrize(
    ("change", "arguments", "place", "zone"),
    [
        ("", "region='DE'", "carbonmon-runs", "DE"),
        ("os.environ['CARBONMON_OUTPUT'] = 'elsewhere'", "", "elsewhere", ""),
        ("os.mkdir('there'); os.chdir('there')", "", "there/carbonmon-runs", ""),
        ("open('carbonmon.toml', 'w').write('region = \"FR\"')", "", "carbonmon-runs", "FR"),
    ],
)
def test_a_run_with_other_settings_has_a_monitor_of_its_own(
    tmp_path: Path, change: str, arguments: str, place: str, zone: str
):
    with machine() as node:
        done = train(node, tmp_path, BEGINS_AGAIN.format(change=change, arguments=arguments))
        gone(tmp_path)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.parent == (tmp_path / place).resolve()
    intensity = json.loads((folder / "summary.json").read_text())["carbon"]["intensity"]
    assert intensity["zone"].startswith(zone)


def test_a_run_that_is_refused_leaves_no_monitor(tmp_path: Path):
    (tmp_path / "file").write_text("")
    code = "with carbonmon.track() as run:\n  print(run.energy_j, run.id)\n"
    with machine() as node:
        done = train(node, tmp_path, code, CARBONMON_OUTPUT="file/below")
        assert (done.returncode, done.stdout) == (0, "nan None\n"), done.stderr
        assert "carbonmon: this run is not metered" in done.stderr
        gone(tmp_path)


LIVE = """
rows = []
with carbonmon.track() as run:
    time.sleep(0.3)
    for seconds in (0.7, 3.0, 0.7, 0.02):
        begin_s = time.time()
        with run.phase("epoch") as phase:
            time.sleep(seconds)
            end_s = time.time()
        rows.append((begin_s, end_s, phase, phase.energy_j))
        time.sleep(0.15)
    while not rows[-1][2].is_settled:
        time.sleep(0.05)
    live = [row[2].energy_j for row in rows]
assert live == [row[2].energy_j for row in rows]
print(json.dumps([
    (begin_s, end_s, at_once_j, p.energy_j, p.energy_low_j, p.energy_high_j, p.is_interpolated)
    for begin_s, end_s, p, at_once_j in rows
]))
"""


@pytest.mark.parametrize(("refresh_s", "within"), [(0.02, (0.05, 0.02, 0.05, 1.0)), (0.1, (1.0,) * 4)])
def test_epochs_tell_their_energy_live_and_the_truth_is_in_their_range(
    tmp_path: Path, refresh_s: float, within: tuple[float, ...]
):
    with machine(refresh_s) as node, command.Lateness() as late:
        done = train(node, tmp_path, LIVE)
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)
        # The edges of this test's own clock are not those at which a message was sent on a busy machine.
        edges_j = 2 * late.most_s * 550.0
        for row, most in zip(rows, within, strict=True):
            begin_s, end_s, at_once_j, energy_j, low_j, high_j, is_interpolated = row
            truth = truth_j(node, begin_s, end_s)
            assert low_j - edges_j <= truth <= high_j + edges_j
            assert energy_j == pytest.approx(truth, rel=most, abs=edges_j)
            assert at_once_j == pytest.approx(truth, rel=most, abs=edges_j)
            assert is_interpolated
        gone(tmp_path)
    phases: dict[str, Any] = command.summary(tmp_path)["energy"]["phases"]
    assert phases["epoch"]["interpolated_ratio"] > 0.03


FAILS = """
with carbonmon.track() as run:
    before_j = run.energy_j
    assert before_j >= 0.0
    print(os.environ["CARBONMON_SOCKET"], flush=True)
    sys.stdin.readline()
    began_s = time.monotonic()
    for step in range(200):
        with run.phase("train") as phase:
            run.progress(step)
        for value in (run.energy_j, run.emissions_g, run.power_w, run.duration_s, phase.energy_j):
            assert type(value) is float
    assert run.energy_j >= before_j
took_s = time.monotonic() - began_s
assert type(run.summary["energy_j"]) is float
assert took_s < 20.0, took_s
print("trained")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_training_goes_on_beside_a_monitor_that_is_killed_or_hangs(tmp_path: Path, number: int):
    with machine() as node:
        process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + FAILS],
            cwd=tmp_path,
            env=settings(node, tmp_path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline()
        (monitor,) = monitors(tmp_path)
        os.kill(monitor.pid, number)
        said, errors = process.communicate("go on\n", timeout=command.DEADLINE_S)
        if number == signal.SIGSTOP:
            os.kill(monitor.pid, signal.SIGCONT)
        gone(tmp_path)
    assert (process.returncode, said) == (0, "trained\n"), errors
    assert all("carbonmon" in line for line in errors.splitlines())


def test_a_run_that_was_entered_by_hand_has_the_exit_code_and_the_last_second(tmp_path: Path):
    code = "run = carbonmon.track().start()\ntime.sleep(0.5)\nsys.exit(3)\n"
    with machine() as node:
        done = train(node, tmp_path, code)
        gone(tmp_path)
    assert done.returncode == 3, done.stderr
    run = command.summary(tmp_path)["run"]
    assert run["exit_code"] == 3
    assert run["duration_s"] >= 0.5


RANK = """
rank = int(os.environ["RANK"])
with carbonmon.track() as run:
    print("in", flush=True)
    sys.stdin.readline()
    sys.exit(3 if rank == 1 else 0)
"""


def test_the_first_rank_that_fails_gives_the_run_its_exit_code(tmp_path: Path):
    with machine() as node:
        ranks = []
        for rank in range(2):
            launched = {
                "RANK": f"{rank}",
                "LOCAL_RANK": f"{rank}",
                "WORLD_SIZE": "2",
                "LOCAL_WORLD_SIZE": "2",
            }
            env = settings(node, tmp_path, TORCHELASTIC_RUN_ID="abc", **launched)
            words = [sys.executable, "-c", PREAMBLE + RANK]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            ranks.append(subprocess.Popen(words, cwd=tmp_path, env=env, **pipes))
        for process in ranks:
            assert process.stdout is not None
            assert process.stdout.readline() == "in\n"
        for process in reversed(ranks):
            process.communicate("end\n", timeout=command.DEADLINE_S)
        assert [process.returncode for process in ranks] == [0, 3]
        gone(tmp_path)
    assert command.summary(tmp_path)["run"]["exit_code"] == 3


INSIDE = """
with carbonmon.track() as run:
    time.sleep(0.3)
assert run.summary["state"] == "running", run.summary
assert run.summary["energy_j"] > 0.0
print(run.id)
"""


def test_inside_of_another_run_the_totals_are_those_until_now(tmp_path: Path):
    with machine() as node:
        done = command.run(
            ["run", "--quiet", "--", sys.executable, "-c", PREAMBLE + INSIDE],
            tmp_path,
            env=settings(node, tmp_path),
        )
    assert done.returncode == 0, done.stderr
    assert command.summary(tmp_path)["run"]["id"] == done.stdout.strip()
