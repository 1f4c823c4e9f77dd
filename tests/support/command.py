"""Starting the real command and reading what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import psutil

CARBONMON = os.environ.get("CARBONMON_TEST_COMMAND") or str(Path(sys.executable).with_name("carbonmon"))
"""The command under test: this environment's, or an installed release's (`tests/release.py`)."""

DEADLINE_S = 90.0
"""No measure of anything: what does not come by then does not come."""

Value = TypeVar("Value")


def environ(**more: str) -> dict[str, str]:
    """This process's environment without any choice for carbonmon or a scheduler in it."""
    own = re.compile(
        r"CARBONMON_|SLURM_|PBS_|LSB_|FLUX_|CUDA_|NVIDIA_VISIBLE_|ROCR_|HIP_|HABANA_|ZE_|ONEAPI_"
    )
    return {key: value for key, value in os.environ.items() if not own.match(key)} | more


def run(
    arguments: Sequence[str],
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float = DEADLINE_S,
    **more: Any,
) -> subprocess.CompletedProcess[str]:
    """Run `carbonmon` to its end in `folder`, where a free port and ./carbonmon-runs are its own."""
    return subprocess.run(
        [CARBONMON, *arguments],
        cwd=folder,
        env=environ(**{"CARBONMON_LISTEN": "127.0.0.1:0", **(env or {})}),
        capture_output=True,
        text=True,
        timeout=timeout_s,
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


def lasting(seconds: float) -> list[str]:
    """A job of so many seconds that then waits for the end of its input: nobody looks at it too late."""
    return ["sh", "-c", f"sleep {seconds:g}; read _; true"]


def summary(folder: Path) -> dict[str, Any]:
    """The summary of the only run below `folder`."""
    (path,) = (folder / "carbonmon-runs").glob("*/summary.json")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def wait_for(find: Callable[[], Value | None], what: str) -> Value:
    """Poll until `find` gives something; fails after a deadline.

    Looking takes a fifth of the time at most: where it is a request or a command, others need the CPU.
    """
    begun_s = now_s = time.monotonic()
    while now_s < begun_s + DEADLINE_S:
        found = find()
        if found:
            return found
        looked_s = time.monotonic() - now_s
        time.sleep(max(0.01, 4.0 * looked_s))
        now_s = time.monotonic()
    raise AssertionError(f"{what} did not come within {DEADLINE_S} s")


def job_of(monitor: int) -> psutil.Process | None:
    """The job of a monitor that runs, without the witness of signals beside it; None before it starts."""
    import psutil  # not for tests.support.tools: see there

    jobs = [child for child in psutil.Process(monitor).children() if child.name() != "cat"]
    return jobs[0] if jobs else None


class Lateness:
    """How long processes wait for a CPU of this machine, while in the context: the tolerance of an edge.

    `most_s` is the longest that a sleep lasted beyond its end: a millisecond on an idle machine. `edges_s` is
    for the two edges of a run whose monitor computes meanwhile, as one that just starts does: the kernel lets
    it wait for longer than one that slept (49 ms were seen, six test workers on two CPUs).
    """

    def __init__(self) -> None:
        self.most_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sleep, name="lateness", daemon=True)

    @property
    def edges_s(self) -> float:
        return 2 * max(self.most_s, 0.03)

    def __enter__(self) -> Lateness:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _sleep(self) -> None:
        nap_s = 0.005
        before_s = time.monotonic()
        while not self._over.is_set():
            time.sleep(nap_s)
            now_s = time.monotonic()
            self.most_s = max(self.most_s, now_s - before_s - nap_s)
            before_s = now_s


def metrics_address(process: subprocess.Popen[str]) -> str:
    """The address in the line with which the monitor begins, on stderr; notes may be before it."""
    assert process.stderr is not None
    lines = []
    while line := process.stderr.readline():
        lines.append(line)
        match = re.search(r"http://\S+/metrics", line)
        if match:
            return match[0]
    raise AssertionError("".join(lines))


def get(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=DEADLINE_S) as answer:
        text: str = answer.read().decode()
        return text
