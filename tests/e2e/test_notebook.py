"""The example that is a notebook: its cells in their order, as a kernel runs them, without Jupyter."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Constant, Package, Simulator
from tests.support import command

pytestmark = pytest.mark.e2e

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"

KERNEL = """
import json, sys
cells, scope = json.load(sys.stdin), {"__name__": "__main__"}
for name, cell in cells:
    exec(compile(cell, name, "exec"), scope)
"""


def cells(kind: str) -> list[dict[str, Any]]:
    document = json.loads(NOTEBOOK.read_text())
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in document["cells"]}) == len(document["cells"])
    return [cell for cell in document["cells"] if cell["cell_type"] == kind]


def test_the_notebook_s_cells_run_in_order_and_show_what_the_text_says(tmp_path: Path):
    code = [(cell["id"], "".join(cell["source"])) for cell in cells("code")]
    with Simulator(packages=[Package(profile=Constant(100.0))]) as machine:
        done = subprocess.run(
            [sys.executable, "-c", KERNEL],
            input=json.dumps(code),
            cwd=tmp_path,
            env=command.environ(CARBONMON_SYSFS=str(machine.sysfs), CARBONMON_LISTEN="127.0.0.1:0"),
            capture_output=True,
            text=True,
            timeout=200.0,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    logs = [ast.literal_eval(line) for line in lines if line.startswith("{'epoch'")]
    assert [log["epoch"] for log in logs] == [5, 10, 15, 20]
    assert logs[-1]["accuracy"] > 0.9
    assert all(log["carbonmon_energy_per_step_j"] > 0.0 for log in logs)
    assert any(line.endswith(" W now") for line in lines)
    (ended,) = [ast.literal_eval(line) for line in lines if line.startswith("{'run_id'")]
    assert ended["state"] == "final"
    assert ended["measured_ratio"] > 0.8
    assert {line.split()[0] for line in lines[-3:]} == {"data", "evaluate", "main"}
    summary = command.summary(tmp_path)
    assert summary["run"]["name"] == "ring"
    assert summary["work"]["steps"] == summary["work"]["total_steps"] == 1000


def test_no_output_and_no_magic_is_kept_in_the_notebook():
    for cell in cells("code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert not any(line.startswith(("%", "!")) for line in cell["source"])
