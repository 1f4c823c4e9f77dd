"""A signal reaches the job once, however it is sent: to the monitor alone, to its group, or to each process.

The job's exit code is how often its handlers ran until a second after the first, or the last one awaited.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.support import command

pytestmark = pytest.mark.e2e

COUNTS = """
import os, signal, sys, time
hits = []

def hit(number, frame):
    hits.append(number)
    print("hit", flush=True)

for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGXCPU, signal.SIGRTMIN + 3):
    signal.signal(number, hit)
print("ready", os.getpid(), flush=True)
awaited, until = int(sys.argv[1]) if sys.argv[1:] else 1, None
while until is None or time.monotonic() < until:
    time.sleep(0.01)
    if len(hits) >= awaited and until is None:
        until = time.monotonic() + 1.0
os._exit(len(hits))
"""


@pytest.fixture
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A monitored job that is ready, in a group of its own. A parameter: how many signals it waits for."""
    awaited = str(getattr(request, "param", 1))
    process = command.start(
        ["run", "--own-monitor", "--", sys.executable, "-c", COUNTS, awaited],
        tmp_path,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        command.wait_for(lambda: len(psutil.Process(process.pid).children()) == 2, "the witness")
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def to_monitor(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)


def to_group(process: subprocess.Popen[str], number: int) -> None:
    os.killpg(process.pid, number)


def to_monitor_and_group(process: subprocess.Popen[str], number: int) -> None:
    """As timeout(1) does."""
    process.send_signal(signal.SIGSTOP)
    process.send_signal(number)
    os.killpg(process.pid, number)
    process.send_signal(signal.SIGCONT)


def to_each(process: subprocess.Popen[str], number: int) -> None:
    """As systemd and Slurm do, which go through a cgroup in the order of process ids."""
    everybody = sorted([process.pid, *(child.pid for child in psutil.Process(process.pid).children())])
    process.send_signal(signal.SIGSTOP)  # however busy the machine is, no more time passes in between
    for pid in everybody:
        os.kill(pid, number)
    process.send_signal(signal.SIGCONT)


SENT = {
    "SIGUSR1": signal.SIGUSR1,
    "SIGTERM": signal.SIGTERM,
    "SIGXCPU": signal.SIGXCPU,  # of Grid Engine, before a limit is reached
    "a real-time signal": signal.SIGRTMIN + 3,
}


@pytest.mark.parametrize("number", SENT.values(), ids=SENT)
@pytest.mark.parametrize("send", [to_monitor, to_group, to_monitor_and_group, to_each])
def test_a_signal_reaches_the_job_once(
    job: subprocess.Popen[str], send: Callable[[subprocess.Popen[str], int], None], number: int
):
    send(job, number)
    assert job.wait(command.DEADLINE_S) == 1


@pytest.mark.skipif(shutil.which("perl") is None, reason="needs perl, which can set an alarm and execute")
def test_an_alarm_that_was_set_before_ends_the_job_as_without_us(tmp_path: Path):
    """As `perl -e 'alarm 10; exec @ARGV' COMMAND`, which many use as timeout(1)."""
    words = [command.CARBONMON, "run", "--own-monitor", "--quiet", "--", "sleep", str(2 * command.DEADLINE_S)]
    alarm = ["perl", "-e", "alarm 2; exec @ARGV", *words]
    done = subprocess.run(
        alarm, cwd=tmp_path, env=command.environ(CARBONMON_LISTEN="127.0.0.1:0"), check=False
    )
    assert done.returncode == 128 + signal.SIGALRM
    assert command.summary(tmp_path)["run"]["signal"] == signal.SIGALRM


@pytest.mark.parametrize("job", [4], indirect=True)
def test_the_next_signal_reaches_the_job_once_as_well(job: subprocess.Popen[str]):
    """Each witness dies of what it sees, and another one takes its place."""
    assert job.stdout is not None
    for send in (to_group, to_monitor, to_group, to_monitor):
        before = {child.pid for child in psutil.Process(job.pid).children()}
        send(job, signal.SIGUSR1)
        assert job.stdout.readline() == "hit\n"
        if send is to_group:
            command.wait_for(partial(has_new_child, job.pid, before), "the next witness")
    assert job.wait(command.DEADLINE_S) == 4


def has_new_child(pid: int, before: set[int]) -> bool:
    return bool({child.pid for child in psutil.Process(pid).children()} - before)


def test_what_stands_beside_the_job_ends_with_the_monitor_and_counts_as_no_process_of_the_job(
    job: subprocess.Popen[str],
):
    address = command.metrics_address(job)
    assert command.wait_for(
        lambda: "carbonmon_run_processes{" in (text := command.get(address)) and text, "it"
    )
    lines = [
        line for line in command.get(address).splitlines() if line.startswith("carbonmon_run_processes{")
    ]
    assert [line.split()[-1] for line in lines] == ["1.0"]
    children = psutil.Process(job.pid).children()
    job.kill()
    (witness,) = [child for child in children if child.name() == "cat"]
    psutil.wait_procs([witness], timeout=command.DEADLINE_S)
    assert not psutil.pid_exists(witness.pid) or witness.status() == psutil.STATUS_ZOMBIE
    (running,) = [child for child in children if child is not witness]
    running.kill()


def test_what_timeout_passes_on_reaches_the_job_once(tmp_path: Path):
    """Told to end, it does what it does when its time is over: it signals the monitor and its group."""
    words = ["timeout", "600", command.CARBONMON, "run", "--own-monitor", "--quiet", "--"]
    with subprocess.Popen(
        [*words, sys.executable, "-c", COUNTS],
        cwd=tmp_path,
        env=command.environ(CARBONMON_LISTEN="127.0.0.1:0"),
        stdout=subprocess.PIPE,
        text=True,
    ) as timeout:
        assert timeout.stdout is not None
        assert timeout.stdout.readline().startswith("ready")
        (monitor,) = psutil.Process(timeout.pid).children()
        command.wait_for(lambda: len(monitor.children()) == 2, "the witness")
        timeout.terminate()
    assert command.summary(tmp_path)["run"]["exit_code"] == 1
