"""Which runs a daemon removes when their folders take too much, and which stay whatever they take."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import threading
from pathlib import Path
from unittest import mock

import pytest

from carbonmon.runs import layout
from carbonmon.runs.pruning import size_of
from carbonmon.runs.retention import YOUNGEST_S, Kept, keep_size
from carbonmon.service import run_retention
from carbonmon.service.run_retention import FIRST_S, PERIOD_S, RunRetention
from tests.support.harness import FakeClock
from tests.support.run_folders import a_run

DAY_S = 86_400.0
NOW_S = 1_800_000_000.0
OLD = "abcdef"
"""Runs that ended 60, 59 … days ago."""


def ended(output: Path, run_id: str, days_ago: float, **more: object) -> Path:
    end_s = NOW_S - days_ago * DAY_S
    folder = a_run(output, run_id, start_s=end_s - 3600.0, **more)  # type: ignore[arg-type]
    for path in folder.iterdir():
        os.utime(path, (end_s, end_s))
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    output = tmp_path / "runs"
    for number, run_id in enumerate(OLD):
        ended(output, run_id, 60.0 - number)
    return output


def names(output: Path) -> str:
    return "".join(sorted(path.name for path in output.iterdir()))


def kept(output: Path, keep_bytes: float, *shown: str) -> Kept:
    return keep_size(output, keep_bytes, NOW_S, shown)


def test_what_is_no_run_s_takes_no_run_s_place(output: Path):
    """The output may be a folder of everything, and a training may keep its models in a run's folder."""
    size = size_of(output / "a")
    (output / "models").mkdir()
    for folder in ("models", "f"):
        (output / folder / "weights.bin").write_bytes(b"x" * (20 * size))
    assert kept(output, 6.5 * size) == Kept(0, 0, 6 * size)
    assert names(output) == "abcdefmodels"


def test_the_runs_that_ended_first_go_until_the_others_fit(output: Path):
    size = size_of(output / "a")
    result = kept(output, 3.5 * size)
    assert names(output) == "def"
    assert result == Kept(3, 3 * size, 3 * size)
    assert kept(output, 3.5 * size) == Kept(0, 0, 3 * size)


def test_within_the_size_no_file_is_read(output: Path):
    with mock.patch("carbonmon.runs.retention.read_entry", side_effect=AssertionError):
        assert kept(output, 1e9).removed == 0


def test_a_run_stays_for_a_week_and_while_it_is_shown(output: Path):
    ended(output, "y", YOUNGEST_S / DAY_S - 0.01)
    ended(output, "z", YOUNGEST_S / DAY_S + 0.01)
    result = kept(output, 0.0, "b", "e")
    assert names(output) == "bey"
    assert result.left_bytes == sum(size_of(path) for path in output.iterdir())


def test_what_runs_and_what_is_not_an_ended_run_of_ours_stays(output: Path, tmp_path: Path):
    elsewhere = ended(tmp_path / "elsewhere", "target", 90.0)
    (output / "link").symlink_to(elsewhere)
    (output / "a" / "model.pt").write_text("mine")
    (output / "b" / layout.SUMMARY_FILE).write_text("{")
    os.utime(output / "b" / layout.SUMMARY_FILE, (0.0, 0.0))
    (output / "c" / layout.SUMMARY_FILE).unlink()
    (output / "c" / layout.SUMMARY_FILE).symlink_to(elsewhere / layout.SUMMARY_FILE)
    if os.geteuid() == 0:
        os.chown(output / "e" / layout.RUN_FILE, 54321, 54321)
    with (output / "d" / layout.SERIES_FILE).open() as series:
        fcntl.flock(series, fcntl.LOCK_EX)
        kept(output, 0.0)
    assert {path.name for path in output.iterdir()} == {*"abcd", "link", *("e" * (os.geteuid() == 0))}
    assert len(list(elsewhere.iterdir())) == 4


def test_a_run_that_was_lost_within_a_day_may_be_resumed(output: Path):
    ended(output, "lost", 0.5, state=None)
    ended(output, "forgotten", 30.0, state=None)
    kept(output, 0.0)
    assert names(output) == "lost"


def test_a_run_that_was_resumed_lately_is_as_young_as_its_end(output: Path):
    """Its files may have been copied with the times of before."""
    folder = ended(output, "x", 3.0)
    for path in folder.iterdir():
        os.utime(path, (NOW_S - 90 * DAY_S, NOW_S - 90 * DAY_S))
    kept(output, 0.0)
    assert names(output) == "x"


def test_a_disk_that_removes_nothing_ends_nothing(output: Path):
    refused = OSError(30, "Read-only file system")
    with mock.patch("os.unlink", side_effect=refused):
        assert kept(output, 0.0).removed == 0
    assert names(output) == OLD


# ---- in the daemon ----


class Retention(RunRetention):
    """That of a daemon whose time the test moves."""

    def __init__(self, output: Path) -> None:
        self.clock = FakeClock()
        super().__init__(output, self.clock, lambda: ("f",))

    def after(self, seconds: float, keep_bytes: float) -> None:
        self.clock.time_s += seconds
        self.clock.wall_offset_s = NOW_S - self.clock.time_s
        self.look(keep_bytes)
        if self._thread is not None:
            self._thread.join(10.0)


def test_the_daemon_looks_each_hour_and_says_what_it_removed(output: Path, caplog: pytest.LogCaptureFixture):
    size = size_of(output / "a")
    retention = Retention(output)
    retention.after(FIRST_S - 1.0, 0.0)
    assert names(output) == OLD, "not in the midst of a start"
    retention.after(1.0, 4.5 * size)
    assert names(output) == "cdef"
    assert "the 2 runs that ended first were removed" in caplog.text
    retention.after(PERIOD_S - 1.0, 0.0)
    assert names(output) == "cdef"
    retention.after(1.0, math.inf)
    assert names(output) == "cdef"
    caplog.clear()
    for _ in range(2):
        retention.after(PERIOD_S, 0.0)
    assert names(output) == "f"
    assert [record.message for record in caplog.records if "no more may go" in record.message], "it is said"
    assert sum("no more may go" in record.message for record in caplog.records) == 1, "once"


def test_a_look_that_takes_long_holds_nobody_up_and_is_not_begun_twice(output: Path):
    retention, goes_on = Retention(output), threading.Event()

    def slow(*_: object) -> Kept:
        assert goes_on.wait(10.0), "nobody waits for it"
        return Kept(0, 0, 0)

    with mock.patch("carbonmon.runs.retention.keep_size", side_effect=slow) as keep:
        for _ in range(3):
            retention.clock.time_s += PERIOD_S
            retention.look(0.0)
        goes_on.set()
        assert retention._thread is not None
        retention._thread.join(10.0)
        assert not retention._thread.is_alive()
        assert keep.call_count == 1


def test_where_no_thread_is_to_be_had_the_daemon_goes_on(output: Path):
    retention = Retention(output)
    with mock.patch.object(run_retention.threading.Thread, "start", side_effect=RuntimeError("can't start")):
        retention.after(FIRST_S, 0.0)
    assert names(output) == OLD
    retention.after(PERIOD_S, 0.0)
    assert names(output) == "f"


def test_a_folder_that_is_not_there_yet_is_no_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        Retention(tmp_path / "none").after(FIRST_S, 0.0)
    assert not caplog.records
