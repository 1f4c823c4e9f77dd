"""What `carbonmon top` costs beside a monitor with a hundred runs: its CPU time, and its first frame."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import statistics
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl

import psutil

from tests.bench.table import Row, megabytes, spread
from tests.support import command, page_states
from tests.support.records import crowd

RUNS = 100
CHECKPOINT_S = 5.0
"""How often a monitor shows another snapshot."""


def rows(quick: bool) -> Iterator[Row]:
    with page_states.served(crowd(RUNS)) as monitor, _goes_on(monitor):
        firsts_s, cpu_s = [], []
        for _ in range(5 if quick else 21):
            with _top(monitor.url) as (process, viewer, begin_s):
                firsts_s.append(_until(viewer, b"q quit") - begin_s)
                cpu_s.append(sum(psutil.Process(process.pid).cpu_times()[:2]))
        with _top(monitor.url) as (process, viewer, _):
            _until(viewer, b"q quit")
            watched = psutil.Process(process.pid)
            before_s, begin_s = sum(watched.cpu_times()[:2]), time.monotonic()
            end_s = begin_s + (15.0 if quick else 120.0)
            written = 0
            while time.monotonic() < end_s:
                time.sleep(0.1)
                with contextlib.suppress(BlockingIOError):
                    written += len(os.read(viewer, 1 << 16))
            seconds = time.monotonic() - begin_s
            ratio = (sum(watched.cpu_times()[:2]) - before_s) / seconds
            peak = watched.memory_info().rss
    what = f"`carbonmon top`, 80 × 24, beside a monitor with {RUNS} runs and 12 devices"
    yield Row(
        f"{what}: first frame",
        "≤ 0.5 s",
        f"{spread(firsts_s, 'ms', 1e3, 0)}; its CPU time until then {statistics.median(cpu_s):.2f} s",
        f"from the start of the process to the last line on a pseudo-terminal, median (quartiles) of "
        f"{len(firsts_s)}",
    )
    yield Row(
        f"{what}: CPU",
        "≤ 3 % of a core",
        f"{ratio:.2%} of a core; {written / seconds:.0f} bytes a second to the terminal; {megabytes(peak)}",
        f"the process's CPU clock over {seconds:.0f} s, a look each 2 s, another snapshot each "
        f"{CHECKPOINT_S:.0f} s; VmRSS",
    )


@contextmanager
def _goes_on(monitor: page_states.Monitor) -> Iterator[None]:
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(CHECKPOINT_S):
            monitor.shown = page_states.later(monitor.shown, CHECKPOINT_S)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _top(url: str) -> Iterator[tuple[subprocess.Popen[bytes], int, float]]:
    """The command on a terminal of its own, and when it was started."""
    viewer, program = pty.openpty()
    ioctl(program, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.set_blocking(viewer, False)
    begin_s = time.monotonic()
    process = subprocess.Popen(
        [command.CARBONMON, "top", "--url", url],
        stdin=program,
        stdout=program,
        stderr=program,
        env=command.environ(TERM="xterm-256color", LC_ALL="C.UTF-8"),
        start_new_session=True,
    )
    os.close(program)
    try:
        yield process, viewer, begin_s
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        os.close(viewer)


def _until(viewer: int, text: bytes) -> float:
    """When a text has come."""
    found = b""
    while text not in found:
        with contextlib.suppress(BlockingIOError):
            found += os.read(viewer, 1 << 16)
        time.sleep(0.001)
    return time.monotonic()
