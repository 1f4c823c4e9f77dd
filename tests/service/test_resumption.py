"""Which folders a daemon goes on with: those that it has made itself, and no others that lie beside them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import EndsWith, ResumePoint
from carbonmon.runs import layout, lookup, summaries
from carbonmon.runs.summary.file import write_summary
from carbonmon.runs.writer import RunFiles
from carbonmon.service import resumption
from tests.fuzz.folders import a_snapshot, write
from tests.support import checkpoints

BOOT = "a boot"


class LivingProcesses:
    """A workload in which every process still runs."""

    def has_process(self, pid: int, start: int) -> bool:
        return True


def left(output: Path, run_id: str = "job-1", ends_with: EndsWith = "processes") -> Path:
    """The folder of a run whose processes still run."""
    folder = output / run_id
    folder.mkdir(parents=True)
    snapshot = a_snapshot()
    (run,) = snapshot.runs
    point = ResumePoint(1.0, 2.0, 0.5, ((4242, 7, False),), (), None)
    info = run.info._replace(id=run_id, ends_with=ends_with)
    run = run._replace(info=info, ended_at_s=None, resume_point=point)
    write(folder, snapshot._replace(runs=(run,)))
    return folder


def resumed(output: Path) -> list[Path]:
    found = resumption.unfinished(output, BOOT, LivingProcesses())  # type: ignore[arg-type]
    return [plan.folder for plan in found.living]


def test_a_copy_of_a_run_beside_it_is_not_gone_on_with(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = left(tmp_path)
    shutil.copytree(folder, tmp_path / "a-copy")
    shutil.copytree(folder, tmp_path / "job-1.of-somewhere-else")
    assert resumed(tmp_path) == [folder]
    assert "a copy?" in caplog.text


def other_owner(folder: Path, target: Path) -> None:
    os.chown(folder, 54321, 54321)


def other_owner_of_a_file(folder: Path, target: Path) -> None:
    os.chown(folder / layout.SERIES_FILE, 54321, 54321)


def open_to_all(folder: Path, target: Path) -> None:
    folder.chmod(0o777)


def link_to_a_folder(folder: Path, target: Path) -> None:
    elsewhere = target.with_name(f"outside-{folder.name}")
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


def link_of(name: str) -> Callable[[Path, Path], None]:
    def plant(folder: Path, target: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return plant


def second_name_of(name: str) -> Callable[[Path, Path], None]:
    def plant(folder: Path, target: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.link(target, folder / name)

    return plant


def pipe_of(name: str) -> Callable[[Path, Path], None]:
    def plant(folder: Path, target: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return plant


def named(run_id: str) -> Callable[[Path, Path], None]:
    def plant(folder: Path, target: Path) -> None:
        for name, key in ((layout.RUN_FILE, "id"), (layout.CHECKPOINT_FILE, "run")):

            def rename(found: dict[str, Any], key: str = key) -> None:
                (found["run"] if key == "id" else found)[key] = run_id

            checkpoints.edit(folder / name, rename)

    return plant


NAMES = (*layout.FILES, layout.SUMMARY_FILE, "monitor.json")
PLANTED = [
    *(link_to_a_folder, open_to_all),
    *((other_owner, other_owner_of_a_file) if os.geteuid() == 0 else ()),
    *(make(name) for name in NAMES for make in (link_of, second_name_of, pipe_of)),
    *map(named, ("../../etc", "/etc/x", "..", "a/b", "job-1\n", "", "x" * 65, "job-2")),
]


def test_no_planted_folder_is_followed_and_nothing_is_written_outside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Each way for several folders: some 200 beside one that is ours."""
    output, target = tmp_path / "runs", tmp_path / "precious"
    target.write_text("as it was")
    own = left(output, "own")
    count = 0
    while count < 200:
        for plant in PLANTED:
            count += 1
            plant(left(output, f"planted-{count}"), target)
    assert resumed(output) == [own]
    assert target.read_text() == "as it was"
    assert 0 < len(caplog.records) < count, "those of others are told in one line"


@pytest.mark.parametrize("plant", [link_of(layout.SERIES_FILE), pipe_of(layout.SERIES_FILE)])
def test_the_series_of_a_run_is_no_link_and_no_pipe(tmp_path: Path, plant: Callable[[Path, Path], None]):
    """A link that comes later, between the look at the folder and its opening, is not followed, either."""
    target = tmp_path / "precious"
    target.write_text("as it was\n")
    folder = left(tmp_path)
    plant(folder, target)
    with pytest.raises(ConfigError, match="cannot be written"):
        RunFiles(folder, BOOT)
    assert target.read_text() == "as it was\n"


def test_an_id_means_the_run_of_the_output_before_a_folder_that_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / layout.RUN_FILE).touch()
    (tmp_path / "runs/mine").mkdir(parents=True)
    assert lookup.named("mine", tmp_path / "runs", "report") == tmp_path / "runs/mine"
    assert lookup.named("./mine", tmp_path / "runs", "report") == Path("mine")


@pytest.mark.parametrize("boot", [BOOT, "another boot"])
def test_a_run_whose_work_ended_without_a_monitor_does_not_say_running_for_ever(tmp_path: Path, boot: str):
    class NoProcesses:
        def has_process(self, pid: int, start: int) -> bool:
            return False

    folder = left(tmp_path)
    write_summary(folder, summaries.summary_of(folder) | {"state": "running"})
    found = resumption.unfinished(tmp_path, boot, NoProcesses())  # type: ignore[arg-type]
    assert (found.living, [plan.folder for plan in found.over]) == ([], [folder])
    resumption.recover(found.over)
    written = json.loads((folder / "summary.json").read_text())
    assert written["state"] == "recovered"
    assert written == summaries.summary_of(folder), "as report tells it"
    before = (folder / "summary.json").stat().st_ino
    resumption.recover(found.over)  # by the next daemon
    assert (folder / "summary.json").stat().st_ino == before, "once"


def test_a_run_of_carbonmon_run_whose_monitor_was_killed_is_left_to_who_resumes_it(tmp_path: Path):
    left(tmp_path, ends_with="job")
    found = resumption.unfinished(tmp_path, BOOT, LivingProcesses())  # type: ignore[arg-type]
    assert (found.living, found.over) == ([], [])
