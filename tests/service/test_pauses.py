"""A job that stands still while the grid is above a limit: real processes, and an intensity of the test's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from carbonmon.client.launcher import Launch
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.pauses import LEAST_RUN_S, LONG_PAUSE_S
from carbonmon.service.job import Command, become_subreaper
from carbonmon.service.pauses import FRESH_S, JobPauses, check, guard, guardian
from carbonmon.service.pauses.processes import JobProcesses, Process
from carbonmon.service.signal_witness import ignored_signals
from tests.support import command, records
from tests.support.harness import FakeClock

TREE = """
import subprocess, time
subprocess.Popen(["sleep", "600"], start_new_session=True)
time.sleep(600)
"""
"""A launcher whose worker has a session of its own, as torchrun's have."""


def state(pid: int) -> str:
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return "gone"


def is_stopped(pid: int) -> bool:
    return state(pid) == psutil.STATUS_STOPPED


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    command.wait_for(lambda: is_so() or None, what)


class Case:
    """The pauses of a job, whose looks the test takes."""

    def __init__(self) -> None:
        self.clock, self.phases = FakeClock(), list[bool]()
        self.job = Command([sys.executable, "-c", TREE], dict(os.environ))
        self.job.start(set())
        job = psutil.Process(self.job.pid)
        (self.worker,) = [each.pid for each in command.wait_for(job.children, "a worker")]
        # Until then its parent waits in vfork(2): where both are stopped, that one shows no stop.
        wait_until(lambda: psutil.Process(self.worker).cmdline()[:1] == ["sleep"], "the worker's program")
        self.sampler = SimpleNamespace(
            interval_s=1.0, sampled_s=0.0, rates=SimpleNamespace(now=SimpleNamespace(intensity=None))
        )
        monitor: Any = SimpleNamespace(
            clock=self.clock,
            sampler=self.sampler,
            pause=lambda _, at_s, is_paused: self.phases.append(is_paused),
            join=lambda *_: None,
        )
        self.pauses = JobPauses(300.0, monitor, "run", self.job)
        self.pauses._processes = JobProcesses(self.job.pid, self.pauses._not_of_the_job)
        self.job.pauses = self.pauses

    def look(self, g_per_kwh: float, after_s: float = 1.0, kind: str = "live", age_s: float = 0.0) -> None:
        self.clock.time_s += after_s
        self.sampler.sampled_s = self.clock.time_s - age_s
        figure = records.intensity(g_per_kwh)._replace(kind=kind)
        self.sampler.rates.now.intensity = figure
        self.pauses._look()

    @property
    def stopped(self) -> list[bool]:
        return [is_stopped(self.job.pid), is_stopped(self.worker)]

    def close(self) -> None:
        self.pauses.close()
        for pid in (self.job.pid, self.worker):  # the worker is ours to wait for when its parent has gone
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        if self.job._pidfd is not None:
            os.close(self.job._pidfd)
        become_subreaper(0)  # else all orphans of later tests would be children of this process


@pytest.fixture
def case() -> Iterator[Case]:
    made = Case()
    yield made
    made.close()


def test_all_of_a_job_stands_still_above_the_limit_and_goes_on_below(
    case: Case, caplog: pytest.LogCaptureFixture
):
    case.look(299.0)
    assert case.stopped == [False, False]
    case.look(301.0)
    wait_until(lambda: case.stopped == [True, True], "the job stands still")
    case.look(301.0)
    case.look(300.0)
    wait_until(lambda: case.stopped == [False, False], "the job goes on")
    assert case.phases == [True, False]
    said = [record.getMessage() for record in caplog.records if "pauses" in record.name]
    assert said == [
        "the job is paused: 301 gCO2e/kWh, above 300; it goes on at or below that",
        "the job goes on after 2 s: 300 gCO2e/kWh",
    ]


@pytest.mark.parametrize(
    ("kind", "age_s"), [("stale", 0.0), ("table", 0.0), ("live", FRESH_S)], ids=["stale", "annual", "hung"]
)
def test_what_is_not_known_keeps_no_job_stopped(case: Case, kind: str, age_s: float):
    case.look(900.0, kind=kind, age_s=age_s)
    assert case.stopped == [False, False]
    case.look(900.0)
    wait_until(lambda: case.stopped == [True, True], "the job stands still")
    case.look(900.0, kind=kind, age_s=age_s)
    wait_until(lambda: case.stopped == [False, False], "the job goes on")


def test_a_pause_of_five_minutes_is_told_once(case: Case, caplog: pytest.LogCaptureFixture):
    for seconds in (1.0, LONG_PAUSE_S - 1.0, 1.0, 1.0):
        case.look(301.0, seconds)
    assert sum("NCCL" in line for line in caplog.messages) == 1
    case.look(1.0)
    case.look(301.0, LEAST_RUN_S)
    case.look(301.0, LONG_PAUSE_S)
    assert sum("NCCL" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_a_job_that_stands_still(case: Case, number: signal.Signals):
    case.look(301.0)
    case.job.send(number)
    _, status = os.waitpid(case.job.pid, 0)
    assert os.WTERMSIG(status) == number
    wait_until(lambda: not is_stopped(case.worker), "its worker goes on as well")


def test_a_signal_that_comes_to_the_job_alone_is_taken(case: Case, caplog: pytest.LogCaptureFixture):
    case.look(301.0)
    os.kill(case.job.pid, signal.SIGTERM)
    case.look(301.0)
    _, status = os.waitpid(case.job.pid, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert "SIGTERM came" in caplog.text


def test_a_signal_that_saves_a_checkpoint_gives_time_and_one_that_ends_the_job_ends_the_pauses(case: Case):
    case.look(301.0)
    case.pauses.signal_came(signal.SIGUSR1)
    wait_until(lambda: case.stopped == [False, False], "the job goes on")
    case.look(301.0, LEAST_RUN_S - 1.0)
    assert case.stopped == [False, False]
    case.look(301.0)
    wait_until(lambda: case.stopped == [True, True], "the job stands still")
    case.pauses.signal_came(signal.SIGTERM)
    case.look(301.0, 10 * LEAST_RUN_S)
    wait_until(lambda: case.stopped == [False, False], "the job goes on")


def test_a_signal_that_the_job_ignores_ends_no_pause(case: Case, monkeypatch: pytest.MonkeyPatch):
    case.look(301.0)
    wait_until(lambda: case.stopped == [True, True], "the job stands still")
    hangup = 1 << (signal.SIGHUP - 1)
    monkeypatch.setattr("carbonmon.service.pauses.ignored_signals", lambda _: hangup)
    case.pauses.signal_came(signal.SIGHUP)
    assert case.stopped == [True, True], "as under nohup, when the terminal is closed"
    case.pauses.signal_came(signal.SIGTERM)
    wait_until(lambda: case.stopped == [False, False], "the job goes on")


def test_a_signal_that_comes_to_the_job_as_it_is_stopped_is_taken(
    case: Case, monkeypatch: pytest.MonkeyPatch
):
    stop = JobProcesses.stop

    def stop_and_signal(processes: JobProcesses, announce: Callable[[list[Process]], bool]) -> bool:
        done = stop(processes, announce)
        wait_until(lambda: is_stopped(case.job.pid), "it stands still")
        os.kill(case.job.pid, signal.SIGTERM)
        return done

    monkeypatch.setattr(JobProcesses, "stop", stop_and_signal)
    case.look(301.0)
    case.look(301.0)
    _, status = os.waitpid(case.job.pid, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_a_process_that_cannot_be_stopped_is_asked_once(case: Case, monkeypatch: pytest.MonkeyPatch):
    asked, kill = list[int](), os.kill

    def refuse(pid: int, number: int) -> None:
        if number == signal.SIGSTOP:
            asked.append(pid)
        if pid == case.worker and number == signal.SIGSTOP:
            raise PermissionError
        kill(pid, number)

    monkeypatch.setattr(os, "kill", refuse)
    case.look(301.0)
    case.look(301.0)
    assert asked.count(case.worker) == 1, "each time costs a walk through all processes of the node"


def test_a_process_that_is_yet_to_stop_has_been_continued_by_nobody(
    case: Case, monkeypatch: pytest.MonkeyPatch
):
    case.look(301.0)
    wait_until(lambda: case.stopped == [True, True], "the job stands still")
    os.kill(case.job.pid, signal.SIGCONT)
    wait_until(lambda: not is_stopped(case.job.pid), "it runs, as if it had never stopped")
    pending = 1 << (signal.SIGSTOP - 1)
    monkeypatch.setattr("carbonmon.service.pauses.processes.pending_signals", lambda _: pending)
    case.look(301.0)
    case.look(301.0)
    wait_until(lambda: case.stopped == [True, True], "the pause goes on")


def test_a_job_that_somebody_continues_runs(case: Case, caplog: pytest.LogCaptureFixture):
    case.look(301.0)
    os.kill(case.job.pid, signal.SIGCONT)
    wait_until(lambda: not is_stopped(case.job.pid), "it runs")
    case.look(301.0)
    case.look(301.0)
    wait_until(lambda: case.stopped == [False, False], "all of it")
    assert "somebody has continued it" in caplog.text


def test_a_job_that_was_continued_with_its_monitor_is_stopped_again(case: Case):
    case.look(301.0)
    os.kill(case.job.pid, signal.SIGCONT)
    wait_until(lambda: not is_stopped(case.job.pid), "it runs")
    case.look(301.0)
    case.pauses.monitor_continued()
    case.look(301.0)
    case.look(301.0)
    wait_until(lambda: case.stopped == [True, True], "the job stands still")


def test_what_a_process_ignores_is_seen():
    with subprocess.Popen(
        ["sh", "-c", "trap '' HUP; echo; exec sleep 600"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        ignored = ignored_signals(process.pid)
        process.kill()
    assert ignored & 1 << (signal.SIGHUP - 1)
    assert not ignored & 1 << (signal.SIGTERM - 1)


def test_without_a_guardian_no_job_is_paused(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(sys, "executable", "/nowhere")
    case.look(301.0)
    assert case.stopped == [False, False]
    case.look(301.0)
    assert len(caplog.messages) == 1


def test_a_job_whose_guardian_is_killed_goes_on(case: Case, caplog: pytest.LogCaptureFixture):
    case.look(301.0)
    os.kill(case.pauses._guard.pids[0], signal.SIGKILL)
    wait_until(lambda: not case.pauses._guard.say("alive"), "the end of the guardian")
    case.look(301.0)
    wait_until(lambda: case.stopped == [False, False], "the job goes on")
    assert "is gone" in caplog.text


def test_a_fault_of_ours_keeps_no_job_stopped(case: Case, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    case.look(301.0)
    monkeypatch.setattr(case.pauses._rule, "look", fail)
    case.sampler.interval_s = 0.01
    case.pauses._run()
    wait_until(lambda: case.stopped == [False, False], "the job goes on")


def test_what_the_guardian_holds_goes_on_when_it_hears_nothing_or_is_left():
    for closes in (False, True):
        with subprocess.Popen(["sleep", "600"]) as sleeper:
            process = Process(sleeper.pid, int(guardian.state_and_start(sleeper.pid)[1]))
            with subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    guardian.__file__,
                    str(os.getpgrp()),
                    "600" if closes else "0.1",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as watching:
                assert watching.stdin is not None
                assert watching.stdout is not None
                watching.stdout.readline()
                os.kill(sleeper.pid, signal.SIGSTOP)
                wait_until(lambda: is_stopped(sleeper.pid), "stopped")
                watching.stdin.write(b"stop %d:%d 1:1\n" % process)
                watching.stdin.flush()
                if closes:
                    watching.stdin.close()
                wait_until(lambda: not is_stopped(sleeper.pid), "it goes on")
                watching.stdin.close()
            sleeper.kill()


def test_an_id_that_another_process_has_by_now_is_left_alone():
    with subprocess.Popen(["sleep", "600"]) as other:
        os.kill(other.pid, signal.SIGSTOP)
        wait_until(lambda: is_stopped(other.pid), "stopped")
        guardian.go_on({b"%d:1" % other.pid: None})
        assert is_stopped(other.pid)
        other.kill()


def test_a_guard_ends_with_its_two_processes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "_group_to_hold", os.getpgrp)
    watching = guard.Guard()
    assert watching.start()
    pids = watching.pids
    assert len(pids) == 2
    assert os.getpgid(pids[0]) == pids[0] != os.getpgrp() == os.getpgid(pids[1]), "one in a group of its own"
    watching.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_the_guardian_finds_the_libraries_of_its_interpreter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/python/lib")
    watching = guard.Guard()
    assert watching.start()
    assert psutil.Process(watching.pids[0]).environ()["LD_LIBRARY_PATH"] == "/opt/python/lib"
    watching.close()


GRID = {"grid": ("uk",)}


@pytest.mark.parametrize(
    ("choices", "launch", "said"),
    [
        ({}, Launch(), "the same at all times"),
        ({"intensity_g_per_kwh": 50.0}, Launch(), "the same at all times"),
        ({"grid": ("table",)}, Launch(), "the same at all times"),
        ({"attach": 1, **GRID}, Launch(), "--attach"),
        (GRID, Launch(world_size=2), "several ranks"),
        (GRID, Launch(nodes=2), "several ranks"),
        (GRID, Launch(world_size=1, nodes=1), ""),
        ({"intensity_file": Path("a.csv")}, Launch(), ""),
    ],
)
def test_what_cannot_be_paused_is_refused(choices: dict[str, Any], launch: Launch, said: str):
    with pytest.raises(ConfigError, match=said) if said else contextlib.nullcontext():
        check(Config(pause_above_g_per_kwh=300.0, **choices), launch)
