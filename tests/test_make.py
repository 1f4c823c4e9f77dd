"""`make test`: what its two halves say and how they end, with another program in the place of pytest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEADLINE_S = 30.0

PROGRAM = """
import os, sys, time
try:
    print("begun", flush=True)
    time.sleep(float(os.environ["LASTS_S"]))
except KeyboardInterrupt:
    print("interrupted", flush=True)
    open(os.environ["TORN_DOWN"], "w").close()
    sys.exit(2)
sys.exit(int(os.environ["ENDS_WITH"]))
"""


def half(folder: Path, lasts_s: float, ends_with: int) -> subprocess.Popen[str]:
    """One half of `make test` as it is beside the other one, in a process group of its own."""
    (folder / "program.py").write_text(PROGRAM)
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        **{"LASTS_S": str(lasts_s), "ENDS_WITH": str(ends_with), "TORN_DOWN": str(folder / "torn-down")},
    }
    made = folder / ".dev"  # an environment that is up to date
    made.touch()
    program = f"PYTEST={sys.executable} {folder / 'program.py'}"
    return subprocess.Popen(
        ["make", f"VENV={folder}", f"--old-file={made}", "SIDE_BY_SIDE=yes", program, "test-units"],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


@pytest.mark.parametrize("ends_with", [0, 1])
def test_a_half_that_fails_makes_it_fail_and_each_line_says_whose_it_is(tmp_path: Path, ends_with: int):
    running = half(tmp_path, 0.0, ends_with)
    said, _ = running.communicate(timeout=DEADLINE_S)
    assert "test-units | begun\n" in said
    assert bool(running.returncode) is bool(ends_with)


def test_what_is_said_after_ctrl_c_is_still_written_and_all_is_torn_down(tmp_path: Path):
    running = half(tmp_path, DEADLINE_S, 0)
    assert running.stdout is not None
    for line in running.stdout:
        if line == "test-units | begun\n":
            break
    os.killpg(running.pid, signal.SIGINT)
    said, _ = running.communicate(timeout=DEADLINE_S)
    assert "test-units | interrupted\n" in said
    assert (tmp_path / "torn-down").exists()
    assert running.returncode
