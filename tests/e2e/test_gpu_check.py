"""`python -m tests.gpucheck` where nothing of carbonmon is installed: real commands and processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.gpucheck.figures import NOT_AS_EXPECTED, NOT_AVAILABLE
from tests.gpucheck.subject import ROOT
from tests.simulator import can_build

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not can_build(), reason="the simulator needs gcc"),
]

THERE = ("pynvml", "psutil", "click", "prometheus_client")
"""What such a machine has: no carbonmon, no pyRAPL, no pip."""

# Figures that may be off because this machine is busy with other tests.
ABOUT_TIME = (
    *("start to finish", "tick of the sampler", "own CPU time", "memory", "nvidia-smi", "phases of"),
    "given back by the counter",
)


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A Python with these four packages and nothing else."""
    folder = tmp_path / "python"
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    installed = Path(sysconfig.get_paths()["purelib"])
    for name in THERE:
        (source,) = [path for path in (installed / name, installed / f"{name}.py") if path.exists()]
        (packages / source.name).symlink_to(source)
    return str(folder / "bin" / "python")


def gpu_check(python: str, output: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Any]:
    """The finished command, from the checkout's folder, and its JSON; None without one."""
    done = subprocess.run(
        [python, "-m", "tests.gpucheck", "--simulated", "--output", str(output), *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ".:exporters", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=480,
        check=False,
    )
    path = output / "gpu-check.json"
    return done, json.loads(path.read_text()) if path.exists() else None


def unexpected(document: Any) -> list[dict[str, Any]]:
    """The figures that are off and are not about time: this machine may be busy with other tests."""
    off = [figure for figure in document["figures"] if figure["verdict"] == NOT_AS_EXPECTED]
    return [figure for figure in off if not any(words in figure["name"] for words in ABOUT_TIME)]


def some_are_off(document: Any) -> int:
    """The exit code that goes with the figures."""
    return int(any(figure["verdict"] == NOT_AS_EXPECTED for figure in document["figures"]))


def test_the_whole_check_runs_from_a_checkout_without_installing(python: str, tmp_path: Path) -> None:
    done, document = gpu_check(python, tmp_path, "--quick")
    assert document is not None, done.stderr
    figures = {figure["name"]: figure for figure in document["figures"]}
    assert unexpected(document) == []
    assert done.returncode == some_are_off(document), done.stderr
    assert document["state"] == "finished"
    assert len({figure["group"] for figure in figures.values()}) == 7
    unknown = {name for name, figure in figures.items() if figure["verdict"] == NOT_AVAILABLE}
    may_be = re.compile("nvidia-smi|PID namespace|a container|binding")  # the last one: links, not installed
    assert {name for name in unknown if not may_be.search(name)} == set()
    assert "pyRAPL" in {entry["part"] for entry in document["missing"]}
    assert figures["run against nvidia-smi"]["value"] is not None
    assert figures["share of the first"]["value"] == pytest.approx(200.0 / 3.0, abs=8.0)
    assert figures["kill -9 and resume: given back by the counter"]["value"] > 0.0
    assert done.stdout == (tmp_path / "gpu-check.txt").read_text()
    assert all(line.startswith("simulated |") for line in done.stdout.splitlines())


def test_without_the_binding_it_says_what_to_install(tmp_path: Path) -> None:
    done, document = gpu_check(sys.executable, tmp_path, "--quick", "--only", "calls")
    assert document is not None, done.stderr
    assert unexpected(document) == []
    assert done.returncode == some_are_off(document), done.stderr
    bare = subprocess.run(
        [sys.executable, "-S", "-m", "tests.gpucheck"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert bare.returncode == 2
    assert "pip install nvidia-ml-py" in bare.stderr


def test_without_the_packages_of_the_commands_the_rest_is_measured(python: str, tmp_path: Path) -> None:
    (packages,) = Path(python).parents[1].glob("lib/python3.*/site-packages")
    (packages / "click").unlink()
    done, document = gpu_check(python, tmp_path, "--quick", "--only", "signals", "--only", "run")
    assert document is not None, done.stderr
    assert unexpected(document) == []
    assert done.returncode == some_are_off(document), done.stderr
    figures = {figure["name"]: figure for figure in document["figures"]}
    assert figures["counter: lag behind the load"]["value"] is not None
    assert "click" in figures["all of this group"]["note"]
