"""The training loop that `carbonmon run` is put around: phases of known length, each with the bare counter.

`python -m tests.gpucheck.train UUID LENGTHS torch|cupy|waiting` or `… cuda PROGRAM`, LENGTHS being seconds
with commas. Prints one JSON list on stdout: for each phase its name, length, two Unix times, and the counter
(mJ) at both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pynvml

import carbonmon
from tests.gpucheck.work import WORK, torch_training

REST_S = 0.4


def main(uuid: str, lengths: list[float], kind: str, program: str | None = None) -> None:
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    work, finish = _work(kind, program)

    def counter_mj() -> int | None:
        try:
            return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except pynvml.NVMLError:
            return None

    found: list[Any] = []
    with carbonmon.track() as run:
        time.sleep(REST_S)
        for number, seconds in enumerate(lengths):
            name = f"{seconds:g}s-{number}"
            with run.phase(name):
                begin_s, begin_mj = time.time(), counter_mj()
                work(seconds)
                end_s, end_mj = time.time(), counter_mj()
            found.append([name, seconds, begin_s, end_s, begin_mj, end_mj])
            time.sleep(REST_S)
    finish()
    sys.stdout.write(json.dumps(found))


def _work(kind: str, program: str | None) -> tuple[Callable[[float], None], Callable[[], None]]:
    """What trains for so many seconds, and what ends it."""
    if program is not None:
        return _program(program)
    burst = torch_training() if kind == "torch" else WORK[kind]()

    def work(seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            burst()

    return work, lambda: None


def _program(program: str) -> tuple[Callable[[float], None], Callable[[], None]]:
    """The CUDA program as the one that works."""
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None
    stdout.readline()  # ready

    def work(seconds: float) -> None:
        stdin.write("steady\n")
        time.sleep(seconds)
        stdin.write("idle\n")

    def finish() -> None:
        stdin.close()
        process.wait()

    return work, finish


if __name__ == "__main__":
    main(sys.argv[1], [float(word) for word in sys.argv[2].split(",")], *sys.argv[3:5])
