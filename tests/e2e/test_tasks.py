"""The 24 tasks of docs/use/tasks.md: their commands run as they are written, one after the other."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator import Gpu, Package, Simulator
from tests.support import command
from tests.support.run_folders import a_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TREE = Path(__file__).resolve().parents[2]
PAGE = (TREE / "docs" / "use" / "tasks.md").read_text()
ELSEWHERE = {
    "pip install .": "the wheel's check installs",
    "carbonmon top": "it goes on until somebody ends it",
}
"""What is not run here, and why."""

SHOWS = {
    "carbonmon run -- python train.py": "energy ",
    "carbonmon regions france": "FR",
    "carbonmon report last": "emissions ",
    "carbonmon report baseline --format markdown": "CO2e",
    "carbonmon report baseline --format model-card": "emissions:",
    "carbonmon runs --name repeat --by name": "±",
    "carbonmon compare baseline small": "baseline",
    "carbonmon estimate --fit baseline --hours 100 --region SE": "emissions",
    "carbonmon runs --since 7d --sum": "total: ",
    "carbonmon runs --by user,label:team": "vision",
    "carbonmon doctor": "nvml",
}
"""What some of them print."""


def lines(language: str) -> list[str]:
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_the_page_has_24_tasks_in_their_order():
    assert [int(number) for number in re.findall(r"^\*\*(\d+)\.", PAGE, re.MULTILINE)] == list(range(1, 25))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a train.py and a `python` that runs it, and the runs of a node's daemon."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "train.py").write_text("import time; time.sleep(0.3)\n")
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    a_run(folder / "var" / "lib" / "carbonmon", "slurm-1", start_s=time.time() - 4000.0, uid=0)
    return folder


@pytest.fixture(scope="module")
def machine() -> Iterator[Simulator]:
    with Simulator(gpus=[Gpu(), Gpu()], packages=[Package()]) as simulated:
        yield simulated


def run(line: str, folder: Path, machine: Simulator) -> subprocess.CompletedProcess[str]:
    path = f"{folder / 'bin'}:{Path(command.CARBONMON).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", line.replace("/var/lib", f"{folder}/var/lib")],
        cwd=folder,
        env=command.environ(PATH=path, CARBONMON_LISTEN="127.0.0.1:0", **machine.environ),
        capture_output=True,
        text=True,
        timeout=command.DEADLINE_S,
        check=False,
    )


def test_the_commands_of_the_page_work_in_their_order(
    subtests: pytest.Subtests, folder: Path, machine: Simulator
):
    commands = [line for line in lines("console") if line not in ELSEWHERE]
    for line in commands:
        with subtests.test(line):
            done = run(line, folder, machine)
            assert done.returncode == 0, done.stderr
            assert "Traceback" not in done.stderr
            if line.startswith("CARBONMON_OFF=1"):
                assert done.stderr == ""
            assert SHOWS.get(line, "") in done.stdout + done.stderr
    written = [name for line in commands for name in re.findall(r"> (\S+)$", line)]
    assert all((folder / name).stat().st_size for name in written)


def test_what_is_not_run_is_on_the_page():
    assert [line for line in ELSEWHERE if line not in lines("console")] == []


def test_the_python_of_the_page_runs(folder: Path, machine: Simulator):
    code = "\n".join(["def train(): pass", *re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)])
    (folder / "cells.py").write_text(code)
    done = run("python cells.py", folder, machine)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d\.\d{6} kWh, \d+\.\d{3} g CO2e$", done.stdout, re.MULTILINE)
