"""Who writes a run's folder, what a failing disk leaves there, and what exporters show meanwhile."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.errors import ConfigError
from carbonmon.core.files import append_whole, read_file, replace_file
from carbonmon.core.model import Snapshot
from carbonmon.monitor.guard import Guard
from carbonmon.monitor.recorder import FINISH_TIMEOUT_S, Recorder
from carbonmon.monitor.snapshots import Snapshots
from carbonmon.runs import layout
from carbonmon.runs.checkpoint_slots import CheckpointSlots
from carbonmon.runs.holder import boot_id
from carbonmon.runs.lock import has_monitor
from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.series import read_series
from carbonmon.runs.writer import RunFiles
from tests.fuzz.folders import a_snapshot, series_bytes
from tests.support import checkpoints, records
from tests.support.command import wait_for
from tests.support.harness import FakeClock
from tests.support.series import ROW, series_text, sums, times, totals_of, write_series_1

NODE = a_snapshot()
RUN_ID = NODE.runs[0].info.id


def at(samples: int) -> Snapshot:
    """A snapshot after so many samples, a minute each, in which the same was drawn."""
    (run,) = NODE.runs
    totals = tuple(
        row._replace(energy_j=row.energy_j * samples, emissions_g=row.emissions_g * samples)
        for row in run.totals
    )
    run = run._replace(totals=totals, duration_s=60.0 * samples)
    return NODE._replace(samples=samples, at_s=60.0 * samples, clock_s=60.0 * samples, runs=(run,))


def is_whole(folder: Path, samples: int) -> bool:
    """Whether the series of a folder adds up to the totals after so many samples."""
    rows, damaged = read_series(folder)
    return damaged == [] and sums(rows) == pytest.approx(totals_of(at(samples).runs[0].totals), abs=0.01)


def final(samples: int) -> Snapshot:
    """The last snapshot after so many samples: its run has ended."""
    last = at(samples)
    return last._replace(runs=(last.runs[0]._replace(ended_at_s=last.at_s),))


class Run:
    """A run's folder, its recorder, and the snapshot that the sampler would have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.recorder = Recorder(self.clock, [], Snapshots(self.clock, at(1)), Guard("journal"))
        self.recorder.add(RUN_ID, RunFiles(folder, boot_id(Path("/proc"))))

    def write(self, samples: int) -> None:
        self.clock.time_s += 60.0
        self.recorder.write(at(samples))

    def saved(self) -> int:
        return read_checkpoint(self.folder).snapshot.samples

    def close(self) -> None:
        self.recorder.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    folder = tmp_path / "run"
    folder.mkdir()
    with closing(Run(folder)) as run:
        yield run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- the lock ----


def test_one_monitor_at_a_time_writes_a_run(run: Run):
    with pytest.raises(ConfigError, match="run run: another monitor is writing it"):
        Run(run.folder)
    assert has_monitor(run.folder)
    run.close()
    assert not has_monitor(run.folder)
    Run(run.folder).close()


def test_the_lock_of_a_killed_monitor_is_free(tmp_path: Path):
    script = (
        "import sys, time; from pathlib import Path; from tests.runs.test_recorder import Run;"
        "run = Run(Path(sys.argv[1])); print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        assert has_monitor(tmp_path)
        process.kill()
    assert not has_monitor(tmp_path)
    Run(tmp_path).close()


def test_a_report_that_looks_at_the_lock_does_not_keep_a_monitor_out(tmp_path: Path):
    with (tmp_path / layout.SERIES_FILE).open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.08, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        Run(tmp_path).close()


@pytest.mark.parametrize("what", ["nothing", "folder", "pipe"])
def test_a_folder_without_a_series_is_not_watched(tmp_path: Path, what: str):
    path = tmp_path / layout.SERIES_FILE
    if what != "nothing":
        path.mkdir() if what == "folder" else os.mkfifo(path)
    assert not has_monitor(tmp_path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_series_that_is_no_file_is_refused_in_words(tmp_path: Path, make: Callable[[Path], object]):
    make(tmp_path / layout.SERIES_FILE)
    with pytest.raises(ConfigError, match="cannot be written"):
        Run(tmp_path)


def test_closing_ends_the_thread_and_the_lock_also_before_the_run_is_finished(run: Run):
    run.recorder.start()
    run.close()
    before = checkpoints.written_ns(run.folder)
    assert not has_monitor(run.folder)
    time.sleep(0.05)
    assert checkpoints.written_ns(run.folder) == before


def test_where_no_thread_can_be_started_the_run_ends_as_ever(run: Run, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    run.recorder.start()
    assert run.recorder.finish(final(2))
    run.recorder.abandon()
    run.close()
    assert not has_monitor(run.folder)


def test_a_boot_id_that_is_no_text_is_unknown(tmp_path: Path):
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_bytes(b"\xff\xfe")
    assert boot_id(tmp_path) == ""


# ---- the files ----


def test_a_finished_run_has_its_last_snapshot_in_its_files(run: Run):
    run.recorder.start()
    assert run.recorder.finish(final(7))
    assert run.saved() == 7
    assert read_series(run.folder)[0][-1].at_s == 420.0
    assert is_whole(run.folder, 7)
    run.close()
    assert names(run.folder) == sorted(layout.FILES)


@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o640), (0o022, 0o640), (0o077, 0o600)])
def test_the_files_are_for_owner_and_group_and_a_stricter_umask_counts(tmp_path: Path, umask: int, mode: int):
    before = os.umask(umask)
    try:
        with closing(Run(tmp_path)) as run:
            run.write(2)
            assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}
    finally:
        os.umask(before)


def test_a_command_that_is_not_utf_8_is_written_and_read_back(run: Run):
    info = records.run_info(command=("train", records.UNDECODABLE), name="\ud800")
    run.recorder.write(NODE._replace(runs=(NODE.runs[0]._replace(info=info),)))
    assert read_checkpoint(run.folder).snapshot.runs[0].info == info


@pytest.mark.parametrize("torn", [b'{"at_s":17', b'{"schema":"carbonm', b"{"])
def test_a_line_that_a_crash_tore_stays_alone_and_is_not_lacking(tmp_path: Path, torn: bytes):
    path = tmp_path / layout.SERIES_FILE
    before = series_bytes(NODE, 2)
    path.write_bytes(before + torn)
    with closing(Run(tmp_path)) as run:
        run.write(3)
    rows, damaged = read_series(tmp_path)
    lines = before.count(b"\n")
    assert (len(rows), damaged) == (lines * 3 // 2, [lines + 1])
    assert sums(rows) == pytest.approx(totals_of(at(3).runs[0].totals), abs=0.01)


def test_a_resumed_run_of_an_older_release_goes_on_in_rows(tmp_path: Path):
    devices = [state.device for state in NODE.devices]
    write_series_1(tmp_path, [at(1), at(2)], devices)
    with closing(Run(tmp_path)) as run:
        run.write(3)
        run.write(4)
    assert is_whole(tmp_path, 4)
    assert times(tmp_path) == [60.0, 120.0, 180.0, 240.0]
    write_series_1(tmp_path, [at(5)], devices)
    with closing(Run(tmp_path)) as run:
        run.write(6)
    assert is_whole(tmp_path, 6)


def test_a_series_of_a_newer_release_is_not_gone_on_with(tmp_path: Path):
    line = series_text(ROW).replace('"series":2', '"series":3')
    (tmp_path / layout.SERIES_FILE).write_text(line)
    with pytest.raises(ConfigError, match=r"carbonmon\.series/3.* another version"):
        Run(tmp_path)
    assert (tmp_path / layout.SERIES_FILE).read_text() == line


def test_a_resumed_run_adds_its_part_to_the_series(tmp_path: Path):
    for samples in (2, 3):
        with closing(Run(tmp_path)) as run:
            run.write(samples)
    assert times(tmp_path) == [120.0, 180.0]
    assert is_whole(tmp_path, 3)


# ---- several runs ----


def of(samples: int, *run_ids: str, ended: tuple[str, ...] = ()) -> Snapshot:
    """A snapshot of several runs on one node."""
    (run,) = at(samples).runs
    runs = []
    for run_id in run_ids:
        now = run._replace(info=run.info._replace(id=run_id), recovered_j=float(samples))
        runs.append(now._replace(ended_at_s=60.0 * samples) if run_id in ended else now)
    return at(samples)._replace(runs=tuple(runs))


class Several:
    """The folders of several runs, and the recorder of all of them."""

    def __init__(self, base: Path, *run_ids: str) -> None:
        self.folders = {run_id: base / run_id for run_id in run_ids}
        self.clock = FakeClock()
        self.snapshots = Snapshots(self.clock, of(1, *run_ids))
        self.recorder = Recorder(self.clock, [], self.snapshots, Guard("journal"))
        for run_id, folder in self.folders.items():
            folder.mkdir()
            self.recorder.add(run_id, RunFiles(folder, "a boot"))

    def tick(self) -> None:
        """A sample, so late that a checkpoint of it is due."""
        self.clock.time_s += self.recorder.period_s
        self.snapshots.publish(self.snapshots.latest._replace(clock_s=self.clock.time_s))

    def saved(self) -> dict[str, int]:
        return {run_id: read_checkpoint(folder).snapshot.samples for run_id, folder in self.folders.items()}

    def close(self) -> None:
        self.recorder.close()


def test_each_run_has_its_own_account_in_its_own_folder(tmp_path: Path):
    with closing(Several(tmp_path, "one", "two")) as node:
        node.recorder.write(of(4, "two", "one", "a stranger"))
        for run_id, folder in node.folders.items():
            (run,) = read_checkpoint(folder).snapshot.runs
            assert (run.info.id, run.recovered_j) == (run_id, 4.0)
            assert has_monitor(folder)
    assert not any(map(has_monitor, node.folders.values()))


def test_a_run_whose_folder_cannot_be_written_keeps_no_other_run_from_being_written(tmp_path: Path):
    with closing(Several(tmp_path, "one", "two", "three")) as node:
        node.recorder.write(of(2, "one", "two", "three"))
        shutil.rmtree(node.folders["two"])
        node.folders["two"].write_text("in the way")
        with pytest.raises(OSError):
            node.recorder.write(of(3, "one", "two", "three"))
        assert node.recorder.shown().samples == 2, "not all of it is safe"
        node.folders.pop("two").unlink()
        assert node.saved() == {"one": 3, "three": 3}


def test_a_run_that_ends_is_written_once_more_and_let_go_while_the_others_go_on(tmp_path: Path):
    with closing(Several(tmp_path, "one", "two")) as node:
        node.recorder.start()
        done = threading.Event()
        node.snapshots.publish(of(5, "one", "two", ended=("one",)))
        node.recorder.end("one", done.set)
        assert done.wait(10.0)
        assert read_checkpoint(node.folders["one"]).snapshot.runs[0].ended_at_s == 300.0
        assert read_series(node.folders["one"])[0][-1].at_s == 300.0
        # Else a monitor that is killed now gives what the one drew last to the others once more.
        assert node.saved() == {"one": 5, "two": 5}, "the checkpoints of all are of one sample"
        assert [has_monitor(folder) for folder in node.folders.values()] == [False, True]
        node.snapshots.publish(of(6, "two"))
        assert node.recorder.finish(of(7, "one", "two", ended=("one", "two")))
        assert node.saved() == {"one": 5, "two": 7}


def test_the_end_of_a_run_waits_for_its_disk_but_not_for_ever(tmp_path: Path):
    with closing(Several(tmp_path, "one")) as node:
        shutil.rmtree(node.folders["one"])
        node.folders["one"].write_text("in the way")
        node.recorder.start()
        node.snapshots.publish(of(5, "one", ended=("one",)))
        done = threading.Event()
        errors = node.recorder.guard.errors
        node.recorder.end("one", done.set)
        wait_for(lambda: node.recorder.guard.errors > errors, "a failure to write the end")
        errors = node.recorder.guard.errors
        node.tick()
        wait_for(lambda: node.recorder.guard.errors > errors, "another failure")
        assert not done.is_set()
        node.clock.time_s += FINISH_TIMEOUT_S
        node.tick()
        assert done.wait(10.0), "given up"


def test_a_disk_that_is_back_gets_the_end_of_a_run(tmp_path: Path):
    with closing(Several(tmp_path, "one")) as node:
        shutil.rmtree(node.folders["one"])
        node.folders["one"].write_text("in the way")
        node.recorder.start()
        node.snapshots.publish(of(5, "one", ended=("one",)))
        done = threading.Event()
        node.recorder.end("one", done.set)
        node.folders["one"].unlink()
        node.tick()
        assert done.wait(10.0)
        assert node.saved() == {"one": 5}


# ---- a disk that fails ----


class FailingDisk:
    """Lets the calls that change files pass, but for one: that fails, half done where it can be."""

    def __init__(self, step: int, number: int) -> None:
        self.left = step
        self.error = OSError(number, os.strerror(number))

    def __enter__(self) -> FailingDisk:
        self._patches = [
            mock.patch.object(os, name, self._wrapped(name))
            for name in ("write", "fsync", "fdatasync", "open")
        ]
        self._patches.append(mock.patch.object(Path, "replace", self._wrapped("rename", Path.replace)))
        self._patches.append(mock.patch.object(Path, "mkdir", self._wrapped("mkdir", Path.mkdir)))
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *error: object) -> None:
        for patch in self._patches:
            patch.stop()

    def _wrapped(self, name: str, call: Any = None) -> Callable[..., Any]:
        call = call or getattr(os, name)

        def wrapped(*arguments: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                if name == "write" and self.left == -1:
                    return call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                if self.left >= -2:
                    raise self.error
            return call(*arguments, **more)

        return wrapped


@pytest.mark.parametrize("begun", [0, 1, 2, 3])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_whichever_step_fails_the_last_checkpoint_stays_whole_and_nothing_is_left_over(
    begun: int, number: int
):
    """Half of a write and then no more is what a full disk does."""
    failures = 0
    for step in range(40):
        with tempfile.TemporaryDirectory() as folder, closing(Run(Path(folder))) as run:
            for samples in range(1, 1 + begun):
                run.write(samples)
            with FailingDisk(step, number) as disk:
                try:
                    run.write(begun + 1)
                except OSError as error:
                    assert error.errno == number
                    failures += 1
            if disk.left >= 0:
                break
            assert not [name for name in names(run.folder) if name.endswith(".tmp")]
            if begun:
                assert run.saved() in (begun, begun + 1)
            assert has_monitor(run.folder)
            run.write(6)
            assert run.saved() == 6
            assert times(run.folder)[-1] == 360.0
            assert is_whole(run.folder, 6)
    else:
        pytest.fail("a checkpoint takes fewer steps")
    assert failures >= (8 if begun < 2 else 4), "of those who overwrite there are fewer steps"


def test_a_file_that_cannot_be_replaced_keeps_what_it_had(tmp_path: Path):
    path = tmp_path / "file"
    replace_file(path, b"old")
    for step in range(4):
        with FailingDisk(step, errno.ENOSPC), suppress(OSError):
            replace_file(path, b"new")
        assert read_file(path, 10) in (b"old", b"new")
        assert names(tmp_path) == ["file"]


def test_half_a_line_is_taken_back(tmp_path: Path):
    path = tmp_path / "lines"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        append_whole(descriptor, b"first\n")
        with FailingDisk(0, errno.ENOSPC), pytest.raises(OSError, match="No space"):
            append_whole(descriptor, b"second\n")
        append_whole(descriptor, b"third\n")
    finally:
        os.close(descriptor)
    assert path.read_bytes() == b"first\nthird\n"


def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="longer than 4 bytes"):
        read_file(tmp_path / "file", 4)
    with pytest.raises(OSError, match="no regular file"):
        read_file(Path("/dev/zero"), 4)


# ---- a folder that goes away ----


def test_a_folder_that_was_removed_is_made_anew_with_everything(run: Run):
    run.write(2)
    shutil.rmtree(run.folder)
    run.write(3)
    assert run.saved() == 3
    assert times(run.folder) == [180.0]
    assert is_whole(run.folder, 3)
    assert has_monitor(run.folder)


def test_a_folder_that_was_moved_is_left_alone_and_made_anew(run: Run):
    run.write(2)
    moved = run.folder.rename(run.folder.with_name("moved"))
    run.write(3)
    assert run.saved() == 3
    assert has_monitor(run.folder)
    assert not has_monitor(moved)
    assert is_whole(moved, 2)


def test_a_series_that_was_removed_alone_is_begun_anew_under_the_lock(run: Run):
    run.write(2)
    (run.folder / layout.SERIES_FILE).unlink()
    run.write(3)
    assert times(run.folder) == [180.0]
    assert is_whole(run.folder, 3)
    assert has_monitor(run.folder)


def test_while_a_folder_cannot_be_made_anew_no_other_file_is_written(run: Run, tmp_path: Path):
    """The descriptor of the old series is closed by then, and its number may be anybody's."""
    run.write(2)
    shutil.rmtree(run.folder)
    run.folder.write_text("in the way")
    with pytest.raises(OSError):
        run.write(3)
    with (tmp_path / "bystander").open("w+") as bystander:
        with pytest.raises(OSError):
            run.write(4)
        assert bystander.read() == ""
    run.folder.unlink()
    run.write(5)
    assert run.saved() == 5


# ---- what exporters show ----

EVENTS = st.lists(
    st.sampled_from(["sample", "write", "fail", "wait", "long wait", "look"]), min_size=1, max_size=40
)


@given(EVENTS, st.booleans())
def test_what_is_shown_never_steps_back(events: list[str], resumed: bool):
    """Safe and unsafe snapshots may alternate in any way; what was seen once stays the least to be seen."""
    with tempfile.TemporaryDirectory() as folder:
        samples = 10
        snapshots = Snapshots(FakeClock(), at(samples))
        clock = FakeClock()
        before = at(5) if resumed else None
        shown: list[int] = []
        watch = Recorder(clock, [], snapshots, Guard("journal"), before=before)
        watch.add(RUN_ID, RunFiles(Path(folder), "a boot"))
        with closing(watch):
            for event in events:
                if event == "sample":
                    samples += 1
                    snapshots.latest = at(samples)
                elif event == "write":
                    watch.write(snapshots.latest)
                elif event == "fail":
                    full = OSError(errno.ENOSPC, "No space left on device")
                    with mock.patch.object(CheckpointSlots, "write", side_effect=full), suppress(OSError):
                        watch.write(snapshots.latest)
                else:
                    clock.time_s += {"look": 0.0, "wait": 5.0, "long wait": 100.0}[event]
                shown.append(watch.shown().samples)
                if event == "write" or (event == "long wait" and samples >= shown[-1]):
                    assert shown[-1] == samples, "what is safe is shown, and for want of it what is new"
        assert shown == sorted(shown)


def test_where_no_thread_can_be_had_the_end_is_written_all_the_same(run: Run):
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")):
        run.recorder.start()
    assert run.recorder.finish(final(9))
    assert run.saved() == 9
