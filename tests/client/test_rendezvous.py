"""Where monitors listen, and that the processes of a run start exactly one."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from carbonmon.client import rendezvous
from carbonmon.client.places import MAX_PATH_BYTES, runtime_folder
from carbonmon.client.rendezvous import (
    connect,
    connect_or_start,
    daemon_sockets,
    job_socket,
    locked,
    run_socket,
    start_monitor,
)
from carbonmon.core.errors import ConfigError

MONITOR = """
import os, socket, sys
path = sys.argv[sys.argv.index("--socket") + 1]
with open(path + ".starts", "a") as log:
    log.write("%d %s\\n" % (os.getpid(), " ".join(sys.argv[1:])))
with open(path + ".environ", "w") as log:
    log.write("\\n".join(os.environ))
listening = socket.socket(socket.AF_UNIX)
listening.bind(path)
listening.listen(64)
if os.fork():
    os._exit(0)
listening.settimeout(30)
open(path + ".pid", "w").write(str(os.getpid()))
while True:
    connection, _ = listening.accept()
    if connection.recv(4) == b"stop":
        break
"""
"""A monitor that takes the arguments of the real one, goes to the background and listens."""

RANK = """
import functools, os, sys
from pathlib import Path
from carbonmon.client.rendezvous import connect_or_start, start_monitor
path = Path(sys.argv[1])
start = functools.partial(start_monitor, path, [], os.environ, command=[sys.executable, "-c", sys.argv[2]])
sys.stdin.readline()
with connect_or_start(path, start, 20.0) as connection:
    print("joined", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": os.fspath(tmp_path)}


def stop(path: Path) -> None:
    with connect(path, 5.0) as connection:
        connection.sendall(b"stop")


# Places


def test_the_sockets_are_in_the_user_s_runtime_folder_for_nobody_else(home: dict[str, str], tmp_path: Path):
    folder = runtime_folder(home)
    assert folder == tmp_path / "carbonmon"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert runtime_folder(home) == folder


@pytest.mark.parametrize("key", ["slurm-4242", "x" * 200, "ü" * 60, "a/b", "..", "\ud800"])
def test_every_key_has_a_socket_that_fits(home: dict[str, str], tmp_path: Path, key: str):
    path = run_socket(key, home)
    assert path.parent == tmp_path / "carbonmon"
    assert len(os.fsencode(path)) <= MAX_PATH_BYTES
    assert path == run_socket(key, home)
    assert path != run_socket(key + "1", home)


def bound(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.fspath(path))
    listening.listen()
    return listening


@pytest.fixture
def dead() -> int:
    """The pid of a process that has ended."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_what_a_killed_monitor_left_is_removed_when_the_next_one_starts(home: dict[str, str], dead: int):
    left = run_socket(f"job-{dead}", home)
    bound(left).close()
    other = run_socket("slurm-4242", home)
    bound(other).close()
    path = job_socket(home)
    assert path == run_socket(f"job-{os.getpid()}", home)
    assert sorted(path.parent.iterdir()) == [other], (
        "a run's socket that is no job's is cleared by its next one"
    )


@pytest.mark.parametrize("what", ["it listens", "its process lives", "it is about to listen", "it is a file"])
def test_a_socket_that_may_be_in_use_is_left_alone(home: dict[str, str], dead: int, what: str):
    with subprocess.Popen(["sleep", "60"]) as alive:
        path = run_socket(f"job-{alive.pid if what == 'its process lives' else dead}", home)
        with ExitStack() as closing:
            closing.callback(alive.kill)
            if what == "it is a file":
                path.touch()
            else:
                listening = closing.enter_context(bound(path))
                if what != "it listens":
                    listening.close()
            if what == "it is about to listen":
                closing.enter_context(locked(Path(f"{path}.bind"), 0.0))
            job_socket(home)
            assert path.exists()


def test_where_other_machines_may_have_sockets_nothing_is_removed(tmp_path: Path, dead: int):
    shared = {"TMPDIR": os.fspath(tmp_path)}
    left = run_socket(f"job-{dead}", shared)
    bound(left).close()
    job_socket(shared)
    assert left.exists()


def test_the_user_s_own_daemon_comes_before_the_node_s(home: dict[str, str], tmp_path: Path):
    first, *_, last = daemon_sockets(home)
    assert (first, last) == (tmp_path / "carbonmon" / "daemon.sock", Path("/run/carbonmon/daemon.sock"))


# Connecting


def test_a_monitor_of_another_user_is_not_spoken_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(tmp_path / "m.sock"))
        listening.listen()
        monkeypatch.setattr(rendezvous, "credentials", lambda _: (1, 4711, 4711))
        with pytest.raises(PermissionError, match="4711"):
            connect(tmp_path / "m.sock", 1.0)


@pytest.mark.parametrize("name", ["none.sock", "x" * 120, "a\0b"])
def test_what_cannot_be_connected_to_is_an_oserror(tmp_path: Path, name: str):
    with pytest.raises(OSError, match=r".+"):
        connect(tmp_path / name, 1.0)


# The lock


def test_a_queue_that_is_full_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "m.sock"
    accepted: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(str(path))
        listening.listen(0)
        first.connect(str(path))
        with pytest.raises(BlockingIOError):
            connect(path, 0.0)
        monkeypatch.setattr(rendezvous.time, "sleep", lambda _: accepted.append(listening.accept()[0]))
        connect(path, 20.0).close()
    for each in accepted:
        each.close()
    assert len(accepted) == 1


def test_the_lock_is_held_by_one_and_leaves_no_file(tmp_path: Path):
    path = tmp_path / "m.sock"
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(5):
            with locked(path, 20.0):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 20
    assert max(most) == 1
    assert list(tmp_path.iterdir()) == []


def test_who_waits_too_long_for_the_lock_is_told_so(tmp_path: Path):
    with locked(tmp_path / "m.sock", 1.0):
        with pytest.raises(TimeoutError, match="held by another process"):
            with locked(tmp_path / "m.sock", 0.05):
                raise AssertionError("two hold one lock")


# Starting


def test_four_processes_that_come_at_once_start_one_monitor(tmp_path: Path):
    path = tmp_path / "m.sock"
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, os.fspath(path), MONITOR],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for _ in range(2):  # all begin at the same time, and end when all have joined
        for rank in ranks:
            assert rank.stdin is not None
            rank.stdin.write("\n")
            rank.stdin.flush()
        for rank in ranks:
            assert rank.stdout is not None
            assert rank.stdout.readline() in ("joined\n", "")
    assert [rank.wait(20) for rank in ranks] == [0] * 4
    for rank in ranks:
        rank.communicate()
    assert len(Path(f"{path}.starts").read_text().splitlines()) == 1
    stop(path)


def test_the_monitor_is_started_for_the_node_and_not_for_a_rank(tmp_path: Path):
    path = tmp_path / "m.sock"
    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": "3", "CARBONMON_SOCKET": "x", "CARBONMON_REGION": "DE"}
    start_monitor(path, ["--name=a b"], environ, 20.0, [sys.executable, "-c", MONITOR])
    stop(path)
    assert f"daemon --once --detach --socket {path} --name=a b" in Path(f"{path}.starts").read_text()
    known = Path(f"{path}.environ").read_text().split("\n")
    assert "CARBONMON_REGION" in known
    assert "CUDA_VISIBLE_DEVICES" not in known
    assert "CARBONMON_SOCKET" not in known


def test_the_last_words_of_a_monitor_that_cannot_start_are_the_reason(tmp_path: Path):
    command = [sys.executable, "-c", "raise SystemExit('carbonmon: no click here')"]
    with pytest.raises(ConfigError, match="could not start: carbonmon: no click here"):
        start_monitor(tmp_path / "m.sock", [], os.environ, 20.0, command)


def test_a_monitor_that_takes_too_long_is_given_up_and_ended(tmp_path: Path):
    begin_s = time.monotonic()
    with pytest.raises(ConfigError, match="did not start within"):
        start_monitor(tmp_path / "m.sock", [], os.environ, 0.2, ["sh", "-c", "sleep 60 & sleep 60"])
    assert time.monotonic() - begin_s < 20.0


@pytest.mark.parametrize("command", [["/nonexistent/python"], [sys.executable, "a\0b"]])
def test_what_cannot_be_executed_is_a_clear_error(tmp_path: Path, command: list[str]):
    with pytest.raises(ConfigError, match="cannot be started"):
        start_monitor(tmp_path / "m.sock", [], os.environ, 5.0, command)


def test_a_monitor_that_listens_already_is_not_started_again(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(tmp_path / "m.sock"))
        listening.listen()

        def start(timeout_s: float) -> None:
            raise AssertionError("there is one")

        with closing(connect_or_start(tmp_path / "m.sock", start, 5.0)):
            pass


def test_a_start_that_fails_lets_the_next_one_try_at_once(tmp_path: Path):
    def start(timeout_s: float) -> None:
        raise ConfigError("no")

    begin_s = time.monotonic()
    for _ in range(2):
        with pytest.raises(ConfigError, match="no"):
            connect_or_start(tmp_path / "m.sock", start, 20.0)
    assert time.monotonic() - begin_s < 10.0
    assert list(tmp_path.iterdir()) == []


def test_a_monitor_finds_carbonmon_where_the_training_process_found_it(monkeypatch: pytest.MonkeyPatch):
    root = Path(rendezvous.__file__).resolve().parents[2]
    monkeypatch.setattr(sys, "path", [str(root), *sys.path])
    assert rendezvous._monitor_environ({})["PYTHONPATH"] == str(root)
    monkeypatch.setattr(sys, "path", ["/somewhere", *sys.path])
    assert "PYTHONPATH" not in rendezvous._monitor_environ({})
