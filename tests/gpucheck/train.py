"""The training loop that `carbonmon run` is put around: phases of known length.

`python -m tests.gpucheck.train LENGTHS torch|cupy|waiting` or `… cuda PROGRAM`, LENGTHS being seconds with
commas. Prints one JSON list on stdout: for each phase its name, its length and its two Unix times. It needs
nothing but the library that works: another Python than the check's own may be the one that has it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import carbonmon
from tests.gpucheck.work import WORK, torch_training

REST_S = 0.4


def main(lengths: list[float], kind: str, program: str | None = None) -> None:
    work, finish = _work(kind, program)
    found: list[tuple[str, float, float, float]] = []
    with carbonmon.track() as run:
        time.sleep(REST_S)
        for number, seconds in enumerate(lengths):
            name = f"{seconds:g}s-{number}"
            with run.phase(name):
                begin_s = time.time()
                work(seconds)
                end_s = time.time()
            found.append((name, seconds, begin_s, end_s))
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
    main([float(word) for word in sys.argv[1].split(",")], *sys.argv[2:4])
