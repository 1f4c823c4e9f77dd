"""Keras on JAX with our callback, on a simulated machine."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command, ranks

pytestmark = pytest.mark.e2e

PROGRAM = Path(__file__).parent.parent / "frameworks" / "keras_training.py"
BATCH = 8
"""Of the program, which is not imported here: JAX starts threads, and other tests fork."""

Trained = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """What each of the trainings had, and the summary of the run around them."""
    if not find_spec("keras") or not find_spec("jax"):
        pytest.skip("neither is made for this Python")
    folder = tmp_path_factory.mktemp("k")
    machine = Simulator(gpus=[Gpu(profile=Constant(250.0))], packages=[Package(Constant(120.0))])
    job = [sys.executable, str(PROGRAM)]
    with machine as node:
        done = subprocess.run(
            [command.CARBONMON, "run", "--quiet", "--", *job],
            cwd=folder,
            env=ranks.settings(node, folder, KERAS_BACKEND="jax", KERAS_HOME=str(folder)),
            capture_output=True,
            text=True,
            timeout=100.0,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), command.summary(folder)


def test_each_epoch_has_each_figure(trained: Trained):
    kept = trained[0]["validated"]["history"]
    ours = {name: values for name, values in kept.items() if name.startswith("carbonmon_")}
    assert {"carbonmon_energy_j", "carbonmon_energy_per_step_j", "carbonmon_energy_per_sample_j"} < set(ours)
    assert all(len(values) == 3 and all(map(math.isfinite, values)) for values in ours.values())
    assert ours["carbonmon_energy_j"] == sorted(ours["carbonmon_energy_j"])
    pairs = zip(ours["carbonmon_energy_per_step_j"], ours["carbonmon_energy_per_sample_j"], strict=True)
    assert all(step == pytest.approx(BATCH * sample) for step, sample in pairs)


@pytest.mark.parametrize(
    ("training", "first", "last", "length"),
    [
        ("validated", 0, 30, 30),
        ("several at once", 0, 20, 20),  # 10 batches are executions of 4, 4 and 2
        ("of unknown length", 0, 5, None),  # Keras announces a sixth batch
        ("resumed", 30, 50, 50),
        ("stopped by a budget", 0, 14, 90),
    ],
)
def test_each_batch_is_a_step(trained: Trained, training: str, first: int, last: int, length: int | None):
    """The run's trainings come one after another; one that begins at a later epoch is a resumed one."""
    steps, lengths = zip(*trained[0][training]["told"], strict=True)
    before = steps[0] - first
    assert (steps[-1] - before, lengths[-1]) == (last, None if length is None else length + before)
    assert list(steps) == sorted(steps)


def test_our_keys_serve_other_callbacks(trained: Trained):
    epochs = len(trained[0]["stopped early"]["history"]["loss"])
    assert 2 <= epochs < 9


@pytest.mark.parametrize("hook", ["__init__", "count", "cut", "figures", "end"])
def test_a_fault_of_ours_lets_keras_go_on(trained: Trained, hook: str):
    history = trained[0][f"fault in {hook}"]["history"]
    assert len(history["loss"]) == len(history["val_loss"]) == 2


def test_the_summary_has_the_steps_of_all_trainings(trained: Trained):
    told = [step for training in trained[0].values() for step, _ in training["told"]]
    assert trained[1]["work"]["steps"] == max(told) > 100
