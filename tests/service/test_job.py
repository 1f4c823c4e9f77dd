"""The job's exit code by the shell's rules; its signals and streams: tests/e2e/test_run.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.errors import ConfigError
from carbonmon.service import job
from tests.support.command import wait_for
from tests.support.rows import for_each_row


@given(st.integers(0, 255))
def test_an_exit_code_is_passed_on(code: int):
    assert job.Outcome(code, None).shell_code == code


@for_each_row("number", list(signal.valid_signals()))
def test_a_signal_is_128_and_its_number(number: int):
    assert job.Outcome(None, number).shell_code == 128 + number


@pytest.mark.parametrize(
    ("command", "code"),
    [("no-such-command-anywhere", 127), ("./no/such/file", 127), ("./text", 126), ("./folder", 126)],
)
def test_a_command_that_cannot_be_started_has_the_shell_s_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, code: int
):
    (tmp_path / "text").write_text("not a program")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    try:
        with pytest.raises(OSError) as error:
            job.Command([command], os.environ).start(set())
    finally:
        job.become_subreaper(0)
    assert job.start_error_code(error.value) == code
    assert not job.can_start(command)


@for_each_row("command", ["sh", "/bin/sh", "./program"])
def test_what_can_be_executed_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str):
    (tmp_path / "program").touch(0o755)
    monkeypatch.chdir(tmp_path)
    assert job.can_start(command)


def test_the_job_has_the_environment_and_the_mask_that_it_is_given():
    program = (
        "import os, signal\n"
        "blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "os._exit(10 * (blocked == {signal.SIGUSR2}) + (os.environ.get('MINE') == 'yes'))"
    )
    command = job.Command([sys.executable, "-c", program], {**os.environ, "MINE": "yes"})
    try:
        command.start({signal.SIGUSR2})
        _, status = os.waitpid(command.pid, 0)
    finally:
        job.become_subreaper(0)
        if command._pidfd is not None:
            os.close(command._pidfd)
    assert os.waitstatus_to_exitcode(status) == 11


def test_what_schedulers_and_terminals_send_is_forwarded_and_what_ends_the_wait_is_not():
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP} <= job.FORWARDED
    assert not {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP} & job.FORWARDED


def test_attaching_to_a_process_that_is_not_there_is_a_clear_error():
    with pytest.raises(ConfigError, match="--attach: process 4194305"):
        job.Attached(4194305)  # one more than Linux' largest process id


def test_an_attached_process_is_known_by_its_command_and_environment():
    with subprocess.Popen(["sleep", "60"], env={"CUDA_VISIBLE_DEVICES": "3"}) as process:
        try:
            # Popen returns a moment before the kernel has laid out the new command line.
            wait_for(lambda: psutil.Process(process.pid).cmdline(), "its command line")
            attached = job.Attached(process.pid)
            assert attached.command == ("sleep", "60")
            assert attached.environ["CUDA_VISIBLE_DEVICES"] == "3"
        finally:
            process.kill()


def test_a_job_takes_our_place_also_where_stderr_is_closed(monkeypatch: pytest.MonkeyPatch):
    taken: list[object] = []
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(os, "execvpe", lambda *words: taken.extend(words))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    job.Command(["true"], {}).take_our_place(set(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    assert taken == ["true", ("true",), {}]
