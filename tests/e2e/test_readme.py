"""The README's commands are run, every one, as they are written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.simulator import Gpu, Package, Simulator
from tests.support import command

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

TREE = Path(__file__).resolve().parents[2]
SETTINGS = {
    "CARBONMON_LISTEN": "127.0.0.1:0",
    "CARBONMON_UK_URL": "http://127.0.0.1:9",  # where nobody listens: no test asks the network
    "TRAIN": "--seconds 1",
}
TRAIN = "import time; time.sleep(0.2)\n"


def commands() -> list[str]:
    """The lines after a prompt, without their remarks."""
    lines = re.findall(r"^\$ (.*)$", (TREE / "README.md").read_text(), re.MULTILINE)
    return [re.split(r"\s+#", line)[0].strip() for line in lines]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a train.py, a `python` and a `torchrun` that run it, and the grid of these days."""
    (tmp_path / "train.py").write_text(TRAIN)
    hours = [int(time.time() // 3600 + hour) * 3600 for hour in range(-24, 72)]
    rows = [f"{at_s},{100 + 10 * (number % 7)}" for number, at_s in enumerate(hours)]
    (tmp_path / "grid.csv").write_text("\n".join(["timestamp,g_per_kwh", *rows]) + "\n")
    for name in ("python", "torchrun"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        program.chmod(0o755)
    return tmp_path


def run(line: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    path = f"{folder / 'bin'}:{Path(command.CARBONMON).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", line],
        cwd=TREE if line.startswith("make") else folder,
        env=command.environ(PATH=path, **SETTINGS, **env),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@contextmanager
def node_s_daemon(line: str, folder: Path, env: dict[str, str], pid: int) -> Iterator[None]:
    """What a command that speaks to the README's daemon needs before it: the commands above it."""
    before = [other for other in commands() if "node.sock" in other]
    for other in before[: before.index(line)]:
        done = run(other.replace("PID", str(pid)), folder, env)
        assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        for process in psutil.process_iter(["cmdline", "cwd"]):
            if process.info["cwd"] == str(folder) and "daemon" in (process.info["cmdline"] or ()):
                process.terminate()
                process.wait(command.DEADLINE_S)


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith(("make", "carbonmon"))])
def test_a_command_of_the_readme_works(line: str, folder: Path):
    output = {"CARBONMON_OUTPUT": str(folder / "carbonmon-runs")}
    with (
        Simulator(gpus=[Gpu(), Gpu()], packages=[Package()]) as machine,
        subprocess.Popen(["sleep", "0.5"]) as job,
        ExitStack() as stack,
    ):
        if "node.sock" in line:
            stack.enter_context(node_s_daemon(line, folder, machine.environ | output, job.pid))
        if "RUN_ID" in line:
            earlier = run("carbonmon run --run-id earlier -- python train.py", folder, output)
            assert earlier.returncode == 0, earlier.stderr
        done = run(
            line.replace("RUN_ID", "earlier").replace("PID", str(job.pid)), folder, machine.environ | output
        )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if " run " in line or "make run" in line:
        assert "emissions" in done.stderr, "the table at the end"
    if line == "make run-simulated":
        assert "all of it measured" in done.stderr
        assert "simulator: the truth" in done.stderr


def test_no_command_of_the_readme_is_left_out():
    others = [line for line in commands() if not line.startswith(("make", "carbonmon"))]
    assert others == ["pip install ."], "the wheel check installs; anything else would go untested"
