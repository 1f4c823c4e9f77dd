"""`--pause-above` as users meet it: a job that stands still, and goes on whatever becomes of the monitor."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from carbonmon.service.pauses import guardian
from tests.support import command

pytestmark = pytest.mark.e2e

JOB = """
import signal, sys, time
def end(number, frame):
    print("saved", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGHUP, lambda *_: open("hup", "w").close())
while True:
    time.sleep(0.05)
    open("beat", "a").write(".")
"""

SHELL = """
import os, signal, sys
pid = os.fork()
if not pid:
    os.setpgid(0, 0)
    os.execv(sys.argv[1], sys.argv[1:])
os.waitpid(pid, 0)
os.read(0, 1)
"""
"""What an interactive shell is to its command: a session, of which the command is a group."""


def intensities(folder: Path, *figures: tuple[float, float]) -> str:
    """A file of intensities; each begins so many seconds from now."""
    now = datetime.datetime.now(datetime.timezone.utc)
    times = [now + datetime.timedelta(seconds=after_s) for after_s, _ in figures]
    rows = [f"{at:%Y-%m-%dT%H:%M:%SZ},{g}\n" for at, (_, g) in zip(times, figures, strict=True)]
    (folder / "intensity.csv").write_text("time,g_per_kwh\n" + "".join(rows))
    return "intensity.csv"


def words(file: str) -> list[str]:
    how = ["--pause-above", "300", "--intensity-file", file, "--interval", "0.1", "--sensor", "tdp"]
    return ["run", *how, "--", sys.executable, "-c", JOB]


def job_of(monitor: int) -> psutil.Process:
    """The job, which is the only child of the monitor with our program."""

    def find() -> psutil.Process | None:
        children = psutil.Process(monitor).children()
        return next((each for each in children if JOB in each.cmdline()), None)

    return command.wait_for(find, "the job")


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    command.wait_for(lambda: is_so() or None, what)


def is_stopped(job: psutil.Process) -> bool:
    return job.status() == psutil.STATUS_STOPPED


def interrupted(monitor: subprocess.Popen[str]) -> None:
    """Interrupt it until it ends: a Python that was stopped while it started may lose a KeyboardInterrupt."""

    def has_ended() -> bool:
        monitor.send_signal(signal.SIGINT)
        try:
            monitor.wait(1.0)
        except subprocess.TimeoutExpired:
            return False
        return True

    wait_until(has_ended, "the end")


def has_ended(process: psutil.Process) -> bool:
    """Also of one that nobody has waited for: a test in this process may have made it a subreaper."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def paused(folder: Path, in_session: bool = True) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A monitor in a group of its own, and its job, which stands still; in a session of its own, as under a
    scheduler, or in that of its parent, as under an interactive shell."""
    file = intensities(folder, (-60, 500), (3600, 500))
    set_up = {"start_new_session": True} if in_session else {"preexec_fn": os.setpgrp}
    with command.start(words(file), folder, **set_up) as monitor:
        job = job_of(monitor.pid)
        try:
            wait_until(lambda: is_stopped(job), "a pause")
            yield monitor, job
        finally:
            for process in (monitor, job):
                if process.is_running() if isinstance(process, psutil.Process) else process.poll() is None:
                    process.kill()


def beats(folder: Path) -> bool:
    """Whether the job works: it does something that it had not done."""
    before = (folder / "beat").stat().st_size if (folder / "beat").exists() else 0
    wait_until(lambda: (folder / "beat").exists() and (folder / "beat").stat().st_size > before, "work")
    return True


def test_a_job_is_paused_and_the_summary_says_for_how_long(tmp_path: Path):
    file = intensities(tmp_path, (-60, 500), (10, 100), (3600, 100))
    how = ["--pause-above", "300", "--intensity-file", file, "--interval", "0.1", "--sensor", "tdp"]
    began_s = time.time()
    done = command.run(["run", *how, "--", "sleep", "1"], tmp_path, env={"SLURM_JOB_ID": "17"})
    assert done.returncode == 0
    assert time.time() - began_s >= 9.0
    assert "the time limit of the scheduler's job runs on while the job is paused" in done.stderr
    assert done.stderr.count("the job is paused: 500 gCO2e/kWh, above 300") == 1
    assert done.stderr.count("100 gCO2e/kWh\n") == 1
    assert "phase  paused" in done.stderr
    summary = command.summary(tmp_path)
    pauses, phases = summary["run"]["pauses"], summary["energy"]["phases"]
    assert pauses["count"] == 1
    assert phases["paused"]["duration_s"] == pytest.approx(pauses["paused_s"], abs=0.01)
    total_s = phases["paused"]["duration_s"] + phases["main"]["duration_s"]
    assert total_s == pytest.approx(summary["run"]["duration_s"], abs=0.01)


def test_a_job_that_stands_still_handles_a_sigterm(tmp_path: Path):
    with paused(tmp_path) as (monitor, _):
        monitor.terminate()
        out, said = monitor.communicate(timeout=command.DEADLINE_S)
    assert monitor.returncode == 7
    assert out == "saved\n"
    assert "the job goes on after" in said


def test_a_job_goes_on_when_its_monitor_is_killed_in_a_pause(tmp_path: Path):
    with paused(tmp_path) as (monitor, job):
        helpers = [each for each in psutil.Process(monitor.pid).children(recursive=True) if each != job]
        monitor.kill()
        assert beats(tmp_path)
        wait_until(lambda: all(has_ended(each) for each in helpers), "nothing of ours is left")
        assert job.is_running()


def test_a_job_under_an_interactive_shell_gets_no_sighup_when_its_monitor_is_killed(tmp_path: Path):
    file = intensities(tmp_path, (-60, 500), (3600, 500))
    shell = subprocess.Popen(
        [sys.executable, "-c", SHELL, command.CARBONMON, *words(file)],
        cwd=tmp_path,
        env=command.environ(CARBONMON_LISTEN="127.0.0.1:0"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with shell:
        (monitor,) = command.wait_for(psutil.Process(shell.pid).children, "the monitor")
        job = job_of(monitor.pid)
        wait_until(lambda: is_stopped(job), "a pause")
        monitor.kill()
        assert beats(tmp_path)
        assert not (tmp_path / "hup").exists(), "a group that is left alone with a stopped process gets it"
        job.kill()
        shell.kill()


@pytest.mark.parametrize("in_session", [True, False], ids=["scheduler", "shell"])
def test_a_job_whose_guardian_is_killed_goes_on_and_gets_no_sighup(tmp_path: Path, in_session: bool):
    with paused(tmp_path, in_session) as (monitor, job):
        for each in psutil.Process(monitor.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # ended meanwhile
                if guardian.__file__ in each.cmdline():
                    each.kill()
        assert beats(tmp_path)
        assert not (tmp_path / "hup").exists(), "a group that is left alone with a stopped process gets it"
        assert job.is_running()


def test_ctrl_z_stops_both_and_after_fg_the_job_is_still_paused(tmp_path: Path):
    with paused(tmp_path, in_session=False) as (monitor, job):
        os.killpg(monitor.pid, signal.SIGTSTP)
        wait_until(lambda: is_stopped(psutil.Process(monitor.pid)), "the monitor stands still as well")
        os.killpg(monitor.pid, signal.SIGCONT)
        wait_until(lambda: not is_stopped(psutil.Process(monitor.pid)), "the monitor goes on")
        wait_until(lambda: is_stopped(job), "the pause goes on")
        interrupted(monitor)
        _, said = monitor.communicate(timeout=command.DEADLINE_S)
    assert monitor.returncode == 128 + signal.SIGINT
    assert "SIGINT came" in said


@pytest.mark.parametrize(
    ("more", "environ", "said"),
    [
        (["--intensity", "50"], {}, "the intensity is the same at all times"),
        (["--region", "FR"], {}, "the intensity is the same at all times"),
        (["--grid", "uk"], {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, "several ranks"),
    ],
)
def test_what_cannot_be_paused_ends_before_the_job(
    tmp_path: Path, more: list[str], environ: dict[str, str], said: str
):
    done = command.run(["run", "--pause-above", "300", *more, "--", "touch", "ran"], tmp_path, env=environ)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "ran").exists()


def test_a_variable_for_other_jobs_stops_none_from_starting(tmp_path: Path):
    done = command.run(["run", "--", "true"], tmp_path, env={"CARBONMON_PAUSE_ABOVE": "300"})
    assert done.returncode == 0
    assert "not followed: --pause-above: the intensity is the same at all times" in done.stderr
