"""A daemon in the background: it says where it is, tells how it is, and ends when it is told to."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from carbonmon.client.protocol import SOCKET_VARIABLE
from tests.support import command

pytestmark = pytest.mark.e2e


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    """Where the daemon of a test listens; whatever the test leaves of it is killed."""
    path = tmp_path / "daemon.sock"
    yield path
    for process in psutil.process_iter(["cmdline"]):
        if str(path) in (process.info["cmdline"] or ()):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def call(socket: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return command.run(["daemon", *words, "--socket", str(socket)], socket.parent, env=more)


def detached(socket: Path, *words: str) -> str:
    """What the command says that starts a daemon in the background."""
    done = call(
        socket,
        *("--detach", "--listen", "127.0.0.1:0", "--sensor", "tdp", "--cpu-tdp", "100"),
        *("--output", str(socket.parent / "runs"), *words),
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_daemon_that_does_not_begin_has_one_exit_code_with_and_without_detach(socket: Path):
    words = ("--exporter", f"textfile:{socket.parent / 'none'}")
    for done in (call(socket, *words), call(socket, "--detach", *words)):
        assert (done.returncode, done.stdout) == (2, "")
        assert "there is no such folder" in done.stderr


def test_a_daemon_goes_to_the_background_without_standard_streams(socket: Path):
    words = [
        "--detach",
        "--listen",
        "127.0.0.1:0",
        "--sensor",
        "tdp",
        "--output",
        str(socket.parent / "runs"),
    ]
    closed = 'exec "$0" "$@" <&- >&- 2>&-'
    daemon = ["sh", "-c", closed, command.CARBONMON, "daemon", "--socket", str(socket), *words]
    done = subprocess.run(daemon, env=command.environ(), check=False, timeout=command.DEADLINE_S)
    assert done.returncode == 0
    assert call(socket, "--status").returncode == 0
    assert call(socket, "--stop").returncode == 0


def test_a_daemon_in_the_background_says_its_process_and_log_and_ends_when_told_to(socket: Path):
    said = detached(socket)
    match = re.search(r"process (\d+) · log (\S+)", said)
    assert match is not None, said
    process = psutil.Process(int(match[1]))
    assert Path(match[2]).exists()

    status = call(socket, "--status")
    assert status.returncode == 0, status.stderr
    lines = {line.split()[0]: line for line in status.stdout.splitlines()[1:]}
    assert str(process.pid) in lines["process"]
    assert re.search(r"http://127\.0\.0\.1:\d+/metrics", lines["address"])
    assert str(socket) in lines["socket"]
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d[+-]\d\d:\d\d", lines["since"])
    assert match[2] in lines["log"]
    assert "tdp used" in lines["sensors"]
    assert "none" in lines["runs"]

    stopped = call(socket, "--stop")
    assert stopped.returncode == 0, stopped.stderr
    assert f"process {process.pid} has ended; the runs are in {socket.parent / 'runs'}" in stopped.stdout
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert not socket.exists()

    gone = call(socket, "--status")
    assert (gone.returncode, gone.stdout) == (3, f"carbonmon daemon: none serves at {socket}\n")
    again = call(socket, "--stop")
    assert (again.returncode, again.stdout) == (0, f"carbonmon daemon: none serves at {socket}\n")


def test_a_run_in_the_folder_of_a_daemon_that_writes_no_summary_is_listed_once(socket: Path):
    detached(socket, "--exporter", "prometheus")
    runs, environ = socket.parent / "runs", {SOCKET_VARIABLE: str(socket)}
    done = command.run(
        ["run", "--output", str(runs), "--name", "mine", "--", "true"], socket.parent, env=environ
    )
    assert done.returncode == 0, done.stderr
    listed = command.run(["runs", "--output", str(runs), "--format", "json"], socket.parent)
    assert [(run["name"], run["state"]) for run in json.loads(listed.stdout)["runs"]] == [("mine", "final")]
    assert call(socket, "--stop").returncode == 0


def test_what_goes_on_without_the_daemon_is_named_and_the_next_one_resumes_it(socket: Path):
    detached(socket)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as job:
        words = [
            "register",
            "--run-id",
            "mine",
            "--name",
            "a\nb",
            "--pid",
            f"{job.pid}",
            "--socket",
            str(socket),
        ]
        assert command.run(words, socket.parent).returncode == 0
        assert r"mine (a\nb, of " in call(socket, "--status").stdout
        listed = command.run(["runs", "--daemon"], socket.parent, env={SOCKET_VARIABLE: str(socket)})
        assert listed.returncode == 0 and "mine" in listed.stdout, listed.stderr
        said = call(socket, "--stop").stdout
        where = socket.parent / "runs"
        assert f"1 run goes on without it (mine): the next daemon with --output {where} resumes it" in said
        detached(socket)
        assert "mine (" in call(socket, "--status").stdout
        job.communicate(b"\n")
    assert call(socket, "--stop").returncode == 0


@pytest.mark.parametrize("words", [(), ("--user-names",)])
def test_the_name_of_a_run_s_user_is_in_the_metrics_only_where_it_was_asked_for(
    socket: Path, words: tuple[str, ...]
):
    detached(socket, "--checkpoint", "0.2", "--interval", "0.2", *words)
    done = command.run(["register", "--run-id", "mine", "--socket", str(socket)], socket.parent)
    assert done.returncode == 0, done.stderr
    found = re.search(r"http://\S+/metrics", call(socket, "--status").stdout)
    assert found is not None
    line = command.wait_for(lambda: run_info(found[0]), "the run in the metrics")
    assert f'uid="{os.geteuid()}"' in line
    name = pwd.getpwuid(os.geteuid()).pw_name
    assert (f'user="{name}"' in line) is bool(words)
    assert call(socket, "--stop").returncode == 0


def run_info(address: str) -> str | None:
    lines = command.get(address).splitlines()
    return next((line for line in lines if line.startswith("carbonmon_run_info{")), None)


def test_a_monitor_of_a_job_is_not_ended_but_shown(tmp_path: Path):
    """A signal would end the job: inside of one CARBONMON_SOCKET names its monitor."""
    words = ["sh", "-c", '"$0" daemon --stop; echo "stop $?"; "$0" daemon --status', command.CARBONMON]
    done = command.run(["run", "--own-monitor", "--listen", "127.0.0.1:0", "--", *words], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "is that of a job, and ends with it" in done.stderr
    assert "stop 1" in done.stdout
    assert "a monitor of a job serves" in done.stdout


def test_a_service_of_systemd_is_left_to_systemctl(socket: Path):
    words = [
        command.CARBONMON,
        "daemon",
        "--socket",
        str(socket),
        "--listen",
        "127.0.0.1:0",
        "--sensor",
        "tdp",
    ]
    log = socket.parent / "log"
    with log.open("w") as stderr:
        service = subprocess.Popen(
            ["sh", "-c", 'SYSTEMD_EXEC_PID=$$ exec "$@"', "sh", *words],
            cwd=socket.parent,
            env=command.environ(),
            stderr=stderr,
        )
    try:
        command.wait_for(lambda: "daemon: http://" in log.read_text(), "the daemon")
        done = call(socket, "--stop")
        assert done.returncode == 1
        assert "it is a service of systemd: systemctl stop " in done.stderr
        assert service.poll() is None
        assert "service" in call(socket, "--status").stdout
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(command.DEADLINE_S) == 0


def test_a_daemon_that_does_not_end_is_named(socket: Path, monkeypatch: pytest.MonkeyPatch):
    from carbonmon.service import daemon_control

    said = detached(socket)
    match = re.search(r"process (\d+)", said)
    assert match is not None
    serving = daemon_control.find([socket])
    assert serving is not None and serving.pid == int(match[1])
    os.kill(serving.pid, signal.SIGSTOP)
    try:
        assert not daemon_control.stop(serving, within_s=0.1)
    finally:
        os.kill(serving.pid, signal.SIGCONT)
    command.wait_for(lambda: not socket.exists(), "its end")


@pytest.mark.parametrize(
    "words", [("--status", "--once"), ("--stop", "--region", "FR"), ("--stop", "--status")]
)
def test_what_is_for_a_start_is_refused_with_them(words: tuple[str, ...], tmp_path: Path):
    done = call(tmp_path / "daemon.sock", *words)
    assert done.returncode == 2
    assert "begins nothing: leave --" in done.stderr
