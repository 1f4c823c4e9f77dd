"""A sensor's own program beside us: no run has it, and it ends whatever it does."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from carbonmon.hardware.own_children import OwnChild, is_ours
from carbonmon.hardware.workload.processes import ProcessTable
from tests.support.open_files import open_files


def child(script: str) -> OwnChild:
    return OwnChild([sys.executable, "-c", script])


def output(running: OwnChild) -> bytes:
    """Its first line."""
    said = b""
    while not said.endswith(b"\n"):
        assert select.select([running.output], [], [], 60.0)[0], "it says nothing"
        said += os.read(running.output, 1000)
    return said


def test_it_is_read_without_waiting_and_is_no_process_of_the_run_that_we_wrap():
    table = ProcessTable(Path("/proc"))
    table.add("run", [], [os.getpid()])
    running = child("print('here', flush=True); import time; time.sleep(60)")
    job = subprocess.Popen(["sleep", "60"])
    try:
        assert output(running) == b"here\n"
        table.scan()
        own = {process.pid for process in psutil.Process().children() if is_ours(process.pid)}
        assert len(own) == 1
        assert table.owner_of(job.pid) == "run"
        assert table.owner_of(*own) is None
    finally:
        running.close()
        job.kill()
        job.wait()
        table.close()
    assert not is_ours(*own)


@pytest.mark.parametrize(
    "script",
    [
        "import time; time.sleep(60)",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
        "pass",
    ],
    ids=["usual", "ignores SIGTERM", "has ended"],
)
def test_closing_ends_it(script: str):
    of_others = set(psutil.Process().children())
    running = child(script)
    before = set(psutil.Process().children()) - of_others
    running.close()
    running.close()
    assert running.has_ended()
    assert [process for process in before if process.is_running()] == []


def test_somebody_else_may_have_waited_for_it():
    of_others = set(psutil.Process().children())
    running = child("import time; time.sleep(0.5)")
    (process,) = set(psutil.Process().children()) - of_others
    os.waitpid(process.pid, 0)
    assert running.has_ended()
    running.close()


def test_a_program_that_is_not_there_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch):
    made: set[Path] = set()
    pipe = os.pipe2

    def noted(flags: int) -> tuple[int, int]:
        ends = pipe(flags)
        made.update(Path(f"/proc/self/fd/{end}").readlink() for end in ends)
        return ends

    monkeypatch.setattr(os, "pipe2", noted)
    with pytest.raises(OSError):
        OwnChild(["/nonexistent/program"])
    assert len(made) == 1, "both ends of a pipe have its number"
    assert made.isdisjoint(open_files()), "other threads may open and close others meanwhile"


def test_it_has_none_of_our_blocked_signals_and_a_group_of_its_own():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        said = "len(signal.pthread_sigmask(0, [])), os.getpgrp() == os.getpid()"
        running = child(f"import os, signal; print({said}, flush=True)")
        assert output(running).split() == [b"0", b"True"]
        running.close()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
