"""`carbonmon estimate` as a user meets it: nothing is needed but the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import command

pytestmark = pytest.mark.e2e

EXAMPLE = Path(__file__).parents[2] / "examples" / "estimate.toml"


def test_the_worked_example_of_the_literature_comes_out_on_the_command_line(tmp_path: Path):
    hardware = ["--gpu", "V100-SXM2:10", "--cpu", "Xeon Gold 6154:2", "--hours", "48"]
    use = ["--gpu-utilization", "0.8", "--cpu-utilization", "0.6"]
    done = command.run(["estimate", *hardware, *use, "--region", "FR"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2.64 kW × 48 h = 126.72 kWh" in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_an_estimate_can_be_kept_and_reported_again(tmp_path: Path):
    done = command.run(["estimate", str(EXAMPLE), "--format", "json"], tmp_path)
    assert json.loads(done.stdout)["energy"]["total_kwh"] == pytest.approx(128.4)
    (tmp_path / "kept.json").write_text(done.stdout, encoding="utf-8")
    report = command.run(["report", "kept.json", "--embodied"], tmp_path)
    assert report.returncode == 0, report.stderr
    assert "all of it estimated (tdp)" in report.stdout
    assert "nothing is known of V100-SXM2, T4" in report.stdout


def test_a_mistake_ends_with_2_and_the_choices(tmp_path: Path):
    done = command.run(["estimate", "--gpu", "V100:10", "--hours", "48"], tmp_path)
    assert done.returncode == 2
    assert "V100 SXM2 16GB (300 W)" in done.stderr
    assert "V100 PCIe 16GB (250 W)" in done.stderr
