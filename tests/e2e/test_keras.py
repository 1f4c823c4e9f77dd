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


@pytest.fixture
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


STEPS = {
    "validated": (0, 30, 30),
    "several at once": (0, 20, 20),  # 10 batches are executions of 4, 4 and 2
    "of unknown length": (0, 5, None),  # Keras announces a sixth batch
    "resumed": (30, 50, 50),
    "stopped by a budget": (0, 14, 90),
}
"""The first step, the last one and the length of each training."""


def test_keras_counts_each_batch_logs_each_epoch_and_goes_on_where_we_fail(
    trained: Trained, subtests: pytest.Subtests
):
    """One test: the trainings take seconds, and are one process."""
    trainings, summary = trained
    with subtests.test("each epoch has each figure"):
        kept = trainings["validated"]["history"]
        ours = {name: values for name, values in kept.items() if name.startswith("carbonmon_")}
        assert {"carbonmon_energy_j", "carbonmon_energy_per_step_j"} < ours.keys()
        assert all(len(values) == 3 and all(map(math.isfinite, values)) for values in ours.values())
        assert ours["carbonmon_energy_j"] == sorted(ours["carbonmon_energy_j"])
        pairs = zip(ours["carbonmon_energy_per_step_j"], ours["carbonmon_energy_per_sample_j"], strict=True)
        assert all(step == pytest.approx(BATCH * sample) for step, sample in pairs)
    for name, (first, last, length) in STEPS.items():
        with subtests.test(f"each batch is a step: {name}"):
            steps, lengths = zip(*trainings[name]["told"], strict=True)
            before = steps[0] - first  # of the trainings before it in this run
            assert (steps[-1] - before, lengths[-1]) == (last, None if length is None else length + before)
            assert list(steps) == sorted(steps)
    with subtests.test("other callbacks see our keys"):
        assert 2 <= len(trainings["stopped early"]["history"]["loss"]) < 9
    for name in ("fault in __init__", "fault in cut", "fault in figures"):
        with subtests.test(name):
            history = trainings[name]["history"]
            assert len(history["loss"]) == len(history["val_loss"]) == 2
    with subtests.test("the summary has the steps of all trainings"):
        told = [step for training in trainings.values() for step, _ in training["told"]]
        assert summary["work"]["steps"] == max(told) > 100
