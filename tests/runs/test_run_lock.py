"""One monitor writes a run at a time, also where the file system has no locks or another host has the run."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from carbonmon.core.errors import ConfigError
from carbonmon.runs import holder, lock
from carbonmon.runs.folders import why_not_ours
from carbonmon.runs.holder import MONITOR_FILE, STALE_S, Holder, boot_id, holder_text, this_process
from carbonmon.runs.layout import CHECKPOINT_FILE, SERIES_FILE
from carbonmon.runs.lock import has_monitor
from carbonmon.runs.writer import RunFiles

NO_LOCKS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL]

WRITER = """
import fcntl, sys, time
from pathlib import Path
from carbonmon.runs.writer import RunFiles
def flock(descriptor, operation):
    raise OSError(int(sys.argv[2]), "no locks")
if sys.argv[2] != "0":
    fcntl.flock = flock
files = RunFiles(Path(sys.argv[1]), "a boot")
print("taken", flush=True)
sys.stdin.readline()
files.close()
"""


@pytest.fixture(params=NO_LOCKS, ids=[errno.errorcode[number] for number in NO_LOCKS])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """No file system has locks; the error is what flock(2) says."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)
    return int(request.param)


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times that were waited; the clocks go on as if they had been, and nobody sleeps."""
    waited: list[float] = []
    monkeypatch.setattr(lock.time, "sleep", waited.append)
    monkeypatch.setattr(lock.time, "monotonic", lambda: sum(waited))
    return waited


def written_by(folder: Path, age_s: float = 0.0, **what: Any) -> None:
    """A run of a monitor elsewhere, which wrote its last checkpoint so long ago."""
    own = this_process(5.0)._replace(host="nid0042", token="theirs")
    (folder / MONITOR_FILE).write_text(holder_text(own._replace(**what)))
    for name in (SERIES_FILE, CHECKPOINT_FILE):
        (folder / name).touch()
    for name in (MONITOR_FILE, CHECKPOINT_FILE):
        at_s = time.time() - age_s
        os.utime(folder / name, (at_s, at_s))


def take(folder: Path) -> None:
    """Begin to write the run, and end at once."""
    RunFiles(folder, "a boot").close()


def started(folder: Path, number: int, closing: ExitStack) -> subprocess.Popen[str]:
    """Another process that writes the run."""
    argv = [sys.executable, "-c", WRITER, str(folder), str(number)]
    process = closing.enter_context(
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )
    closing.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    return process


# ---- a file system without locks ----


def test_without_locks_a_living_monitor_is_seen_and_keeps_others_out(
    tmp_path: Path, no_locks: int, closing: ExitStack
):
    process = started(tmp_path, no_locks, closing)
    assert has_monitor(tmp_path)
    with pytest.raises(ConfigError, match=rf"another monitor is writing it \(process {process.pid} on host "):
        take(tmp_path)
    process.communicate("\n")
    assert not has_monitor(tmp_path)
    take(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [SERIES_FILE], "an end leaves nothing behind"


def test_without_locks_a_killed_monitor_is_dead_at_once(tmp_path: Path, no_locks: int, closing: ExitStack):
    process = started(tmp_path, no_locks, closing)
    process.kill()
    while holder._start_of(process.pid) != 0:  # a zombie: nobody has waited for it yet
        time.sleep(0.001)
    assert not has_monitor(tmp_path)
    process.wait()
    assert not has_monitor(tmp_path)
    take(tmp_path)


def test_without_locks_one_process_does_not_write_a_run_twice(
    tmp_path: Path, no_locks: int, closing: ExitStack
):
    files = RunFiles(tmp_path, "a boot")
    assert has_monitor(tmp_path)
    with pytest.raises(ConfigError, match="another monitor"):
        take(tmp_path)
    files.close()
    take(tmp_path)


def test_without_locks_a_monitor_whose_pid_is_another_process_s_now_is_dead(tmp_path: Path, no_locks: int):
    written_by(tmp_path, start=1)
    assert not has_monitor(tmp_path)
    take(tmp_path)


def test_of_many_monitors_that_come_at_once_without_locks_one_takes_a_dead_run(
    tmp_path: Path, no_locks: int, closing: ExitStack
):
    for round_ in range(20):
        folder = tmp_path / str(round_)
        folder.mkdir()
        written_by(folder, start=1)
        taken: list[RunFiles] = []
        together = threading.Barrier(4)

        def try_it(folder: Path = folder, taken: list[RunFiles] = taken, together: Any = together) -> None:
            together.wait()
            with suppress(ConfigError):
                taken.append(RunFiles(folder, "a boot"))

        threads = [threading.Thread(target=try_it) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
        for files in taken:
            files.close()


def test_a_series_that_is_removed_without_locks_is_begun_anew_by_its_own_monitor(
    tmp_path: Path, no_locks: int
):
    files = RunFiles(tmp_path, "a boot")
    (tmp_path / SERIES_FILE).unlink()
    files._series.open()
    assert has_monitor(tmp_path)
    files.close()
    assert not (tmp_path / MONITOR_FILE).exists()


def test_files_of_the_first_release_have_no_holder_and_are_free(tmp_path: Path, no_locks: int):
    (tmp_path / SERIES_FILE).touch()
    (tmp_path / CHECKPOINT_FILE).touch()
    assert not has_monitor(tmp_path)
    take(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": "carbonmon.monitor/2"}', '{"schema": 7}', "\0" * 99]
)
def test_a_damaged_holder_counts_while_it_is_fresh(
    tmp_path: Path, no_locks: int, content: str, waits: list[float]
):
    written_by(tmp_path)
    (tmp_path / MONITOR_FILE).write_text(content)
    assert has_monitor(tmp_path)
    take(tmp_path)
    assert STALE_S - 1.0 <= sum(waits) <= STALE_S + 1.0, "nobody wrote meanwhile"
    written_by(tmp_path, 60.0)
    (tmp_path / MONITOR_FILE).write_text(content)
    os.utime(tmp_path / MONITOR_FILE, (1.0, 1.0))
    assert not has_monitor(tmp_path)


# ---- another host, another boot, another container ----

ELSEWHERE: dict[str, dict[str, Any]] = {
    "another host, locks of its own": {"boot_id": "another", "has_lock": True},
    "another host without locks": {"boot_id": "another"},
    "another container without locks": {"pid_namespace": "pid:[1]"},
    "the boot is unknown": {"boot_id": ""},
    "the start is unknown": {"start": None},
}


@pytest.mark.parametrize("where", ELSEWHERE)
def test_a_monitor_elsewhere_lives_while_its_checkpoint_is_fresh(
    tmp_path: Path, where: str, waits: list[float]
):
    written_by(tmp_path, 3.0, **ELSEWHERE[where])
    assert has_monitor(tmp_path)
    written_by(tmp_path, STALE_S + 5.0, **ELSEWHERE[where])
    assert not has_monitor(tmp_path)
    take(tmp_path)
    assert waits == []


def test_a_new_monitor_waits_until_one_elsewhere_is_certainly_dead(
    tmp_path: Path, waits: list[float], caplog: pytest.LogCaptureFixture
):
    written_by(tmp_path, 10.0, boot_id="another")
    take(tmp_path)
    assert 4.0 <= sum(waits) <= 6.0
    assert "waiting up to 5 s for its monitor on host nid0042" in caplog.text


def test_a_new_monitor_gives_way_to_one_elsewhere_that_writes_meanwhile(
    tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
):
    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            os.utime(tmp_path / CHECKPOINT_FILE)

    monkeypatch.setattr(lock.time, "sleep", sleep)
    written_by(tmp_path, 10.0, boot_id="another")
    with pytest.raises(ConfigError, match="on host nid0042"):
        take(tmp_path)
    assert len(waits) == 3


def test_one_elsewhere_that_writes_seldom_is_not_waited_for(tmp_path: Path, waits: list[float]):
    written_by(tmp_path, 60.0, boot_id="another", stale_s=3 * 3600.0)
    assert has_monitor(tmp_path)
    with pytest.raises(ConfigError, match="another monitor"):
        take(tmp_path)
    assert waits == []


@pytest.mark.parametrize("our_time_s", [1e9, 4e9])
def test_the_file_server_s_clock_counts_and_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, our_time_s: float
):
    written_by(tmp_path, 3.0, boot_id="another")
    monkeypatch.setattr(lock.time, "time", lambda: our_time_s)
    assert has_monitor(tmp_path)


def test_what_a_monitor_that_was_killed_while_it_took_a_run_has_left_is_no_obstacle(
    tmp_path: Path, no_locks: int
):
    taking = tmp_path / f".{MONITOR_FILE}.taking"
    written_by(tmp_path, start=1)
    taking.touch()
    with pytest.raises(ConfigError, match="another monitor"):
        take(tmp_path)
    os.utime(taking, (1.0, 1.0))
    take(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_file_system_without_links_has_a_holder_all_the_same(
    tmp_path: Path, no_locks: int, monkeypatch: pytest.MonkeyPatch
):
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    files = RunFiles(tmp_path, "a boot")
    assert has_monitor(tmp_path)
    with pytest.raises(ConfigError, match="another monitor"):
        take(tmp_path)
    files.close()


def test_a_folder_that_may_only_be_read_is_judged_by_our_own_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = os.open

    def only_read(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *more, **named)

    for age_s in (3.0, 30.0):
        written_by(tmp_path, age_s, boot_id="another")
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", only_read)
            assert has_monitor(tmp_path) == (age_s < STALE_S)


# ---- with locks ----


def test_with_locks_a_monitor_of_this_boot_is_dead_once_its_lock_is_free(tmp_path: Path, waits: list[float]):
    """Also one in another container, whose pids say nothing here."""
    written_by(tmp_path, has_lock=True, pid_namespace="pid:[1]")
    assert not has_monitor(tmp_path)
    take(tmp_path)
    assert waits == []


@pytest.mark.parametrize("signal", ["end", "kill"])
def test_with_locks_the_end_of_a_monitor_is_seen_at_once(tmp_path: Path, signal: str, closing: ExitStack):
    process = started(tmp_path, 0, closing)
    assert has_monitor(tmp_path)
    with pytest.raises(ConfigError, match=f"process {process.pid}"):
        take(tmp_path)
    if signal == "kill":
        process.kill()
        process.wait()
    else:
        process.communicate("\n")
    assert not has_monitor(tmp_path)
    take(tmp_path)


def test_a_monitor_that_had_no_lock_lives_also_where_there_are_locks_now(tmp_path: Path, closing: ExitStack):
    started(tmp_path, errno.ENOLCK, closing)
    assert has_monitor(tmp_path)
    with pytest.raises(ConfigError, match="another monitor"):
        take(tmp_path)


def test_a_full_disk_that_takes_no_holder_does_not_keep_a_monitor_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if b"monitor/1" in data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    files = RunFiles(tmp_path, "a boot")
    assert has_monitor(tmp_path)
    files.close()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_holder_that_is_no_file_does_not_hang(
    tmp_path: Path, make: Callable[[Path], object], waits: list[float]
):
    make(tmp_path / MONITOR_FILE)
    with suppress(ConfigError):
        take(tmp_path)
    has_monitor(tmp_path)


# ---- the holder ----


def test_the_holder_is_this_process(tmp_path: Path):
    own = this_process(60.0)
    assert (own.pid, own.host, own.stale_s) == (os.getpid(), os.uname().nodename, 180.0)
    assert own.boot_id == boot_id(Path("/proc"))
    assert own.is_running(lock_is_free=False) is True
    assert holder.read_holder(tmp_path / "none") is None
    (tmp_path / MONITOR_FILE).write_text(holder_text(own))
    assert holder.read_holder(tmp_path / MONITOR_FILE) == own
    assert json.loads(holder_text(own))["schema"] == "carbonmon.monitor/1"


def test_a_process_that_proc_hides_is_judged_by_its_files(monkeypatch: pytest.MonkeyPatch):
    """hidepid=2 (proc(5)): a process of another user can be signalled by nobody, and is not in /proc."""

    def kill(pid: int, signal: int) -> None:
        raise PermissionError

    own = this_process(5.0)
    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(holder, "_start_of", lambda pid: None)
    assert own.is_running(lock_is_free=False) is None


@pytest.mark.parametrize("pid", [0, 2**22 + 1, 2**31, 2**70])
def test_a_pid_that_no_process_has_is_no_error(pid: int):
    assert Holder(*this_process(5.0)[:3], pid=pid, start=1).is_running(False) in (False, None)


@pytest.mark.parametrize("written", [0, 10])
def test_a_disk_that_is_full_leaves_no_holder_of_whom_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
):
    """The next monitor would take it for one elsewhere, and leave the run alone."""
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if b"carbonmon.monitor" not in data:
            return real(descriptor, data)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[:written])

    monkeypatch.setattr(os, "write", write)
    files = RunFiles(tmp_path, "a boot")
    (tmp_path / CHECKPOINT_FILE).touch()
    assert not (tmp_path / MONITOR_FILE).exists()
    assert has_monitor(tmp_path), "by its lock"
    files.close()
    assert not has_monitor(tmp_path)


KILLED_AT = ("open", "write", "link", "unlink", "close")
"""The system calls by which a run is taken: it is tried with a monitor that is killed before each of them."""


def killed_at(folder: Path, call: int) -> bool:
    """Whether a monitor that takes a run was killed before this one of its calls; else it has done."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which this child does not use
        child = os.fork()
    if child == 0:
        try:
            left = itertools.count(call, -1)

            def counting(real: Callable[..., Any]) -> Callable[..., Any]:
                def counted(*words: Any, **named: Any) -> Any:
                    if next(left) == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*words, **named)

                return counted

            for name in KILLED_AT:
                setattr(os, name, counting(getattr(os, name)))
            RunFiles(folder, "a boot")
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("is_resumed", [False, True])
def test_wherever_a_monitor_is_killed_that_takes_a_run_the_next_one_takes_it(
    tmp_path: Path, is_resumed: bool
):
    for call in itertools.count():
        folder = tmp_path / str(call)
        folder.mkdir()
        if is_resumed:
            (folder / SERIES_FILE).touch()
            assert killed_at(folder, 10_000) is False, "it has left without a word"
        if not killed_at(folder, call):
            break
        assert why_not_ours(folder) == "", f"call {call}"
        files = RunFiles(folder, "a boot")
        files.close()
        assert not (folder / MONITOR_FILE).exists()
    assert call > 5, "all of it is tried"
