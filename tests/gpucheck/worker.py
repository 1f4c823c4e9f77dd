"""A process that loads the GPU as it is told: `python -m tests.gpucheck.worker torch|cupy`.

Lines on stdin: `idle`, `steady`, `square SECONDS` (busy for half of each period), `quit`, as does the end of
stdin. Lines on stdout: `ready`, then of a square wave `on T` and `off T` with Unix times. load.cu is the same
in CUDA.
"""

from __future__ import annotations

import os
import select
import sys
import time

from tests.gpucheck.work import WORK, Burst

FOREVER_S = 1e9


class Stdin:
    """Lines of stdin that have arrived, without waiting for more than one is told to."""

    def __init__(self) -> None:
        self._rest = b""
        self._ended = False

    def next(self, timeout_s: float) -> str | None:
        """The next line; None if none came in time; `quit` at the end."""
        deadline_s = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            left_s = max(0.0, min(deadline_s - time.monotonic(), 3600.0))
            if self._ended:
                return "quit"
            if not select.select([0], [], [], left_s)[0]:
                if time.monotonic() >= deadline_s:
                    return None
                continue
            data = os.read(0, 4096)
            self._ended = not data
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()


def serve(burst: Burst) -> None:
    """Until `quit`."""
    stdin = Stdin()
    say("ready")
    command: str | None = "idle"
    while command != "quit":
        word, _, argument = (command or "idle").partition(" ")
        if word == "steady":
            command = busy_until(burst, stdin, time.monotonic() + FOREVER_S)
        elif word == "square":
            command = square(burst, stdin, float(argument))
        else:
            command = stdin.next(FOREVER_S)


def busy_until(burst: Burst, stdin: Stdin, end_s: float) -> str | None:
    while time.monotonic() < end_s:
        burst()
        command = stdin.next(0.0)
        if command is not None:
            return command
    return None


def square(burst: Burst, stdin: Stdin, period_s: float) -> str:
    """On a fixed grid, so that late edges do not add up."""
    begin_s, number = time.monotonic(), 0
    while True:
        say(f"on {time.time():.6f}")
        command = busy_until(burst, stdin, begin_s + (number + 0.5) * period_s)
        say(f"off {time.time():.6f}")
        number += 1
        if command is None:
            command = stdin.next(begin_s + number * period_s - time.monotonic())
        if command is not None:
            return command


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(WORK[sys.argv[1]]())
