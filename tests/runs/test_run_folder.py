"""Where a run is kept whose output takes no files: a job starts whatever the disks are like."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carbonmon.client import places
from carbonmon.core.config import DEFAULT_OUTPUT
from carbonmon.core.errors import ConfigError
from carbonmon.core.files import DISK_FAULTS
from carbonmon.monitor.guard import Guard
from carbonmon.runs import layout
from carbonmon.runs.holder import boot_id
from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.writer import RunFiles
from carbonmon.service import run_folder
from tests.fuzz.folders import a_snapshot

FAULTS = sorted(DISK_FAULTS)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The machine's /tmp; its path is short."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="cm-") as name:
        monkeypatch.setattr(places, "LOCAL_FOLDERS", (Path(name),))
        yield Path(name)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Below a folder nothing can be made: every call fails with this errno."""
    real_mkdir, real_open = os.mkdir, os.open

    def break_it(below: Path, number: int) -> None:
        def mkdir(path: object, *more: object, **named: object) -> None:
            fail(path)
            real_mkdir(path, *more, **named)  # type: ignore[arg-type]

        def open_(path: object, flags: int, *more: object, **named: object) -> int:
            if flags & os.O_CREAT:
                fail(path)
            return real_open(path, flags, *more, **named)  # type: ignore[arg-type]

        def fail(path: object) -> None:
            if str(path).startswith(str(below)):
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "mkdir", mkdir)
        monkeypatch.setattr(os, "open", open_)

    return break_it


@pytest.mark.parametrize("number", FAULTS, ids=[errno.errorcode[number] for number in FAULTS])
def test_where_the_disk_takes_nothing_the_run_is_kept_in_the_temporary_folder(
    tmp_path: Path,
    temporary: Path,
    number: int,
    broken: Callable[[Path, int], None],
    caplog: pytest.LogCaptureFixture,
):
    broken(tmp_path / "runs", number)
    folder = run_folder.create(tmp_path / "runs", "mine", "train", environ={})
    assert folder == temporary / f"carbonmon-{os.geteuid()}" / "runs" / "mine"
    assert folder.is_dir()
    assert f"give a folder that can: --output DIR; this run is kept in {folder}" in caplog.text
    again = run_folder.create(tmp_path / "runs", "mine", "train", environ={})
    assert again == folder.with_name("mine-2"), "the id was free in the output that was asked for"


def test_a_working_folder_that_nobody_may_write_into_is_no_mistake_of_the_user(
    tmp_path: Path, temporary: Path, broken: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    broken(DEFAULT_OUTPUT, errno.EACCES)
    environ = {"XDG_RUNTIME_DIR": os.fspath(tmp_path)}
    folder = run_folder.create(DEFAULT_OUTPUT, None, "train", environ=environ)
    assert temporary in folder.parents, "what is in $XDG_RUNTIME_DIR ends with the session"


def test_a_working_folder_that_was_removed_is_no_mistake_of_the_user(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert temporary in run_folder.create(DEFAULT_OUTPUT, None, "train", environ={}).parents


def test_an_output_that_was_asked_for_and_may_not_be_written_does_not_keep_the_job_from_starting(
    tmp_path: Path, temporary: Path, broken: Callable[[Path, int], None]
):
    broken(tmp_path / "runs", errno.EACCES)
    assert temporary in run_folder.create(tmp_path / "runs", None, "train", environ={}).parents


def test_an_output_that_can_be_no_folder_is_a_mistake(tmp_path: Path, temporary: Path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file/runs", tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError, match="--output"):
            run_folder.create(output, None, "train", environ={})
    assert list(temporary.iterdir()) == []


def test_where_no_disk_takes_anything_the_run_is_written_once_one_does(
    tmp_path: Path, broken: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(places, "LOCAL_FOLDERS", ())
    snapshot = a_snapshot()
    with monkeypatch.context() as patch:
        broken(tmp_path / "runs", errno.EDQUOT)
        folder = run_folder.create(tmp_path / "runs", None, "train", environ={})
        assert folder == tmp_path / "runs" / "train"
        files = RunFiles(folder, boot_id(Path("/proc")))
        with pytest.raises(OSError, match="quota"):
            files.write(snapshot, snapshot.runs[0], 0.0)
        patch.undo()
    monkeypatch.undo()
    files.write(snapshot, snapshot.runs[0], 0.0)
    files.close()
    assert read_checkpoint(folder).snapshot.samples == snapshot.samples
    assert {path.name for path in folder.iterdir()} == set(layout.FILES) - {layout.CHECKPOINT_FILES[1]}


def test_a_disk_that_is_full_at_the_start_is_said_once(
    tmp_path: Path, broken: Callable[[Path, int], None], caplog: pytest.LogCaptureFixture
):
    broken(tmp_path, errno.ENOSPC)
    snapshot = a_snapshot()
    files, guard = RunFiles(tmp_path, "a boot"), Guard("journal")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert not guard.attempt("cannot write", lambda: files.write(snapshot, snapshot.runs[0], 0.0))
    assert len(caplog.records) == 1
    files.close()
