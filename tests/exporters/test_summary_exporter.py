"""summary.json: its shape, its ranges, its nulls, and that it is written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from carbonmon_exporters.summary import SummaryExporter, open_exporter

from carbonmon.core.model import RunState, Snapshot
from carbonmon.core.ports import ExporterSettings
from carbonmon.runs.summary.file import own_peak_rss_bytes, write_summary
from tests.support.records import (
    START_S,
    node,
    run_info,
    run_state,
    snapshot,
)
from tests.support.summaries import VALIDATOR, ended, read

# The file


def folder_of(tmp_path: Path, name: str = "slurm-4242") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


def test_the_file_is_in_the_runs_folder_and_obeys_the_schema(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    exporter = open_exporter(ExporterSettings(run_folders={"slurm-4242": folder}))
    running = node()
    shown = running._replace(runs=(running.runs[0]._replace(ended_at_s=START_S + 60.0),))
    place = exporter.start(lambda: shown)
    assert not (folder / "summary.json").exists()
    exporter.finish(shown)
    assert place == str(folder / "summary.json")
    summary = json.loads(Path(place).read_text(encoding="utf-8"))
    VALIDATOR.validate(summary)
    assert summary["state"] == "final"
    assert summary["monitor"]["own_cpu_s"] > 0
    assert summary["monitor"]["own_peak_rss_bytes"] > 1_000_000
    assert [path.name for path in folder.iterdir()] == ["summary.json"]


def test_a_run_that_goes_on_without_this_monitor_is_left_as_running(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    exporter = open_exporter(ExporterSettings(run_folders={"slurm-4242": folder}))
    exporter.finish(node())
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["state"] == "running"


def test_the_file_can_be_read_by_the_group_and_by_nobody_else(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        path = write_summary(tmp_path, {})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_summary(tmp_path, {"old": True})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_summary(tmp_path, {"new": True})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"old": True}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_file_system_that_cannot_sync_a_folder_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, calls = os.fsync, []

    def sync_files_only(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_files_only)
    write_summary(tmp_path, {"new": True})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"new": True}


def test_a_missing_folder_is_an_os_error_for_the_guard(tmp_path: Path) -> None:
    exporter = open_exporter(ExporterSettings(run_folders={"slurm-4242": tmp_path / "gone"}))
    with pytest.raises(FileNotFoundError):
        exporter.finish(node(1, 0, 0))


def folders_of(tmp_path: Path, *run_ids: str) -> dict[str, Path]:
    return {run_id: folder_of(tmp_path, f"{run_id}-node-7") for run_id in run_ids}


def with_runs(*runs: RunState, samples: int = 1) -> Snapshot:
    return snapshot(runs, samples=samples)


def going(run_id: str) -> RunState:
    return run_state(run_info(run_id))


def test_without_a_run_there_is_no_place_to_name_and_nothing_to_write(tmp_path: Path) -> None:
    exporter = open_exporter(ExporterSettings())
    shown = with_runs(going("a"))
    assert exporter.start(lambda: shown) == ""
    exporter.checkpoint(shown)
    exporter.finish(shown)


def test_with_several_runs_there_is_no_one_place_to_name(tmp_path: Path) -> None:
    exporter = open_exporter(ExporterSettings(run_folders=folders_of(tmp_path, "a", "b")))
    assert exporter.start(with_runs) == ""


def test_each_run_is_written_into_its_own_folder_whatever_the_folders_name(tmp_path: Path) -> None:
    folders = {"a": folder_of(tmp_path, "b"), "b": folder_of(tmp_path, "c")}
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    exporter.checkpoint(with_runs(going("a"), going("b"), going("without a folder")))
    assert {run_id: read(folder)["run"]["id"] for run_id, folder in folders.items()} == {"a": "a", "b": "b"}
    assert {read(folder)["state"] for folder in folders.values()} == {"running"}


def test_a_run_that_comes_later_is_written_at_its_first_sight(tmp_path: Path) -> None:
    folders: dict[str, Path] = {}
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    exporter.checkpoint(with_runs())
    folders.update(folders_of(tmp_path, "a"))
    exporter.checkpoint(with_runs(going("a"), samples=5))
    assert read(folders["a"])["monitor"]["samples"] == 5


def test_a_running_summary_is_written_once_a_minute(tmp_path: Path) -> None:
    folders = folders_of(tmp_path, "a", "b")
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    exporter.checkpoint(with_runs(going("a"), samples=10))
    exporter.checkpoint(with_runs(going("a"), going("b"), samples=40))
    exporter.checkpoint(with_runs(going("a"), going("b"), samples=69))
    assert read(folders["a"])["monitor"]["samples"] == 10
    exporter.checkpoint(with_runs(going("a"), going("b"), samples=70))
    assert read(folders["a"])["monitor"]["samples"] == 70
    assert read(folders["b"])["monitor"]["samples"] == 40


def test_the_final_summary_of_a_run_is_written_once_and_at_once(tmp_path: Path) -> None:
    folders = folders_of(tmp_path, "a")
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    exporter.checkpoint(with_runs(going("a"), samples=10))
    exporter.checkpoint(with_runs(ended("a"), samples=15))
    assert (read(folders["a"])["state"], read(folders["a"])["monitor"]["samples"]) == ("final", 15)
    exporter.checkpoint(with_runs(ended("a"), samples=90))
    exporter.finish(with_runs(ended("a"), samples=95))
    assert read(folders["a"])["monitor"]["samples"] == 15


def test_at_the_end_each_run_that_has_no_final_summary_gets_one(tmp_path: Path) -> None:
    folders = folders_of(tmp_path, "a", "b")
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    exporter.checkpoint(with_runs(ended("a"), going("b"), samples=10))
    exporter.finish(with_runs(ended("a"), ended("b"), samples=12))
    assert [(read(folder)["state"], read(folder)["monitor"]["samples"]) for folder in folders.values()] == [
        ("final", 10),
        ("final", 12),
    ]


def test_a_run_that_is_resumed_runs_again_and_ends_again(tmp_path: Path) -> None:
    folders = folders_of(tmp_path, "a")
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    exporter.checkpoint(with_runs(going("a"), samples=10))
    exporter.checkpoint(with_runs(ended("a"), samples=15))
    exporter.checkpoint(with_runs(going("a"), samples=20))
    assert read(folders["a"])["state"] == "running"
    exporter.checkpoint(with_runs(ended("a", 1_795_009_999.0), samples=25))
    assert (read(folders["a"])["state"], read(folders["a"])["monitor"]["samples"]) == ("final", 25)


def test_one_run_that_cannot_be_written_keeps_no_other_from_it_and_is_tried_again(tmp_path: Path) -> None:
    folders = {"a": tmp_path / "gone", **folders_of(tmp_path, "b"), "c": tmp_path / "gone too"}
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    runs = (going("a"), going("b"), going("c"))
    with pytest.raises(FileNotFoundError, match=r"gone/"):
        exporter.checkpoint(with_runs(*runs, samples=10))
    assert read(folders["b"])["state"] == "running"
    folders["a"].mkdir()
    folders["c"].mkdir()
    exporter.checkpoint(with_runs(*runs, samples=15))
    assert read(folders["a"])["monitor"]["samples"] == 15
    assert read(folders["b"])["monitor"]["samples"] == 10
    folders["a"].rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        exporter.finish(with_runs(*map(ended, "abc")))
    assert (read(folders["b"])["state"], read(folders["c"])["state"]) == ("final", "final")


def test_runs_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    folders = folders_of(tmp_path, "a", "b")
    exporter = SummaryExporter(folders, tmp_path)
    exporter.checkpoint(with_runs(going("a"), ended("b")))
    exporter.checkpoint(with_runs())
    assert (exporter._due_samples, exporter._final) == ({}, {})


def test_the_monitors_peak_memory_comes_from_the_given_procfs(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n")
    assert own_peak_rss_bytes(tmp_path) == 2048 * 1024


@pytest.mark.parametrize("status", [None, "Name:\tx\n", "VmHWM:\n", "VmHWM:\tmany kB\n"])
def test_peak_memory_that_cannot_be_read_is_unknown(tmp_path: Path, status: str | None) -> None:
    if status is not None:
        (tmp_path / "self").mkdir()
        (tmp_path / "self" / "status").write_text(status)
    assert own_peak_rss_bytes(tmp_path) is None
