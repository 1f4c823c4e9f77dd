"""Starting the real command and reading what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

CARBONMON = os.environ.get("CARBONMON_TEST_COMMAND") or str(Path(sys.executable).with_name("carbonmon"))
"""The command under test: this environment's, or an installed release's (`tests/release.py`)."""

DEADLINE_S = 30.0

Value = TypeVar("Value")


def environ(**more: str) -> dict[str, str]:
    """This process's environment without any choice for carbonmon or a scheduler in it."""
    own = re.compile(r"CARBONMON_|SLURM_|PBS_|LSB_|FLUX_|CUDA_")
    return {key: value for key, value in os.environ.items() if not own.match(key)} | more


def run(
    arguments: Sequence[str], folder: Path, *, env: Mapping[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run `carbonmon` to its end in `folder`, where a free port and ./carbonmon-runs are its own."""
    return subprocess.run(
        [CARBONMON, *arguments],
        cwd=folder,
        env=environ(**{"CARBONMON_LISTEN": "127.0.0.1:0", **(env or {})}),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        **more,
    )


def start(
    arguments: Sequence[str], folder: Path, *, env: Mapping[str, str] | None = None, **more: Any
) -> subprocess.Popen[str]:
    """Start `carbonmon` in `folder` and let it run."""
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | more
    return subprocess.Popen(
        [CARBONMON, *arguments],
        cwd=folder,
        env=environ(**{"CARBONMON_LISTEN": "127.0.0.1:0", **(env or {})}),
        **options,
    )


def summary(folder: Path) -> dict[str, Any]:
    """The summary of the only run below `folder`."""
    (path,) = (folder / "carbonmon-runs").glob("*/summary.json")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def wait_for(find: Callable[[], Value | None], what: str) -> Value:
    """Poll until `find` gives something; fails after a deadline."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        found = find()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what} did not come within {DEADLINE_S} s")


def metrics_address(process: subprocess.Popen[str]) -> str:
    """The address in the monitor's first line on stderr."""
    assert process.stderr is not None
    line = process.stderr.readline()
    match = re.search(r"http://\S+/metrics", line)
    assert match, line
    return match[0]


def get(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=DEADLINE_S) as answer:
        text: str = answer.read().decode()
        return text
