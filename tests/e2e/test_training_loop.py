"""A loop's figures on a simulated machine whose power is known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from carbonmon.client.run import SNAPSHOT_FIELDS
from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command, ranks

pytestmark = pytest.mark.e2e

NODE_W = 250.0 + 120.0 + 15.0

LOOP = """
import json, sys, time
import carbonmon

def epoch():
    begin_s = time.monotonic()
    for _ in run.steps(range(40), total=80, tokens=10):
        time.sleep(0.03)
    return time.monotonic() - begin_s

with carbonmon.track() as run:
    first_s = epoch()
    time.sleep(1.5)  # a validation
    trained_s = first_s + epoch()
    figures = run.steps([]).figures(last=True)
    told = run.snapshot()
sys.stdout.write(json.dumps([trained_s, figures, told]) + "\\n")
"""


def test_the_joules_of_a_step_are_those_of_the_time_in_which_it_ran(tmp_path: Path):
    machine = Simulator(
        gpus=[Gpu(profile=Constant(250.0), counter_refresh_s=0.02)],
        packages=[Package(Constant(120.0), dram=Constant(15.0))],
    )
    with machine as node:
        done = subprocess.run(
            [command.CARBONMON, "run", "--quiet", "--idle", "exclusive", "--", sys.executable, "-c", LOOP],
            cwd=tmp_path,
            env=ranks.settings(node, tmp_path),
            capture_output=True,
            text=True,
            timeout=command.DEADLINE_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    trained_s, figures, told = json.loads(done.stdout)
    assert figures["carbonmon_power_w"] == pytest.approx(NODE_W, rel=0.02)
    assert figures["carbonmon_energy_per_step_j"] == pytest.approx(NODE_W * trained_s / 80, rel=0.05)
    assert figures["carbonmon_energy_per_token_j"] == pytest.approx(NODE_W * trained_s / 800, rel=0.05)
    # What the validation drew is in the total, and in no step.
    assert figures["carbonmon_energy_j"] > NODE_W * (trained_s + 1.0)
    assert figures["carbonmon_measured_ratio"] == 1.0
    assert told.keys() == set(SNAPSHOT_FIELDS)
    assert command.summary(tmp_path)["work"]["tokens"] == 800
