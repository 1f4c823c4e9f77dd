"""Which folders a daemon goes on with: those that it has made itself, and no others that lie beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from carbonmon.core.errors import ConfigError
from carbonmon.runs import layout, lookup, summaries
from carbonmon.runs.summary.file import write_summary
from carbonmon.runs.writer import RunFiles
from carbonmon.service import resumption
from tests.support.planted import PLANTED, left, link_of, pipe_of

BOOT = "a boot"


class LivingProcesses:
    """A workload in which every process still runs."""

    def has_process(self, pid: int, start: int) -> bool:
        return True


def resumed(output: Path) -> list[Path]:
    found = resumption.unfinished(output, BOOT, LivingProcesses())  # type: ignore[arg-type]
    return [plan.folder for plan in found.living]


def test_a_copy_of_a_run_beside_it_is_not_gone_on_with(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = left(tmp_path)
    shutil.copytree(folder, tmp_path / "a-copy")
    shutil.copytree(folder, tmp_path / "job-1.of-somewhere-else")
    assert resumed(tmp_path) == [folder]
    assert "a copy?" in caplog.text


@pytest.mark.parametrize("data", [b"", b"{", b'{"schema":"carbonmon.node-checkpoint/2","runs":[]}'])
def test_where_what_was_known_of_all_runs_is_damaged_their_own_checkpoints_count(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
):
    folder, together = left(tmp_path), tmp_path / ".checkpoints.host.json"
    together.write_bytes(data)
    found = resumption.unfinished(tmp_path, BOOT, LivingProcesses(), together)  # type: ignore[arg-type]
    assert [plan.folder for plan in found.living] == [folder]
    assert f"{together}: damaged" in caplog.text


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


@pytest.mark.parametrize("state", [None, "running", "final"])
def test_a_run_without_a_whole_checkpoint_is_said_unless_its_summary_is_final(
    tmp_path: Path, state: str | None, caplog: pytest.LogCaptureFixture
):
    folder = left(tmp_path)
    if state is not None:
        write_summary(folder, summaries.summary_of(folder) | {"state": state})
    for name in layout.CHECKPOINT_FILES:
        if (folder / name).exists():
            (folder / name).write_bytes((folder / name).read_bytes()[:200])
    (tmp_path / "no-run").mkdir()
    assert resumed(tmp_path) == []
    told = [record.getMessage() for record in caplog.records if "cannot be resumed" in record.getMessage()]
    assert len(told) == (0 if state == "final" else 1)
    assert all(f"{folder / layout.CHECKPOINT_FILE}: damaged" in line for line in told)


def test_a_run_of_carbonmon_run_whose_monitor_was_killed_is_left_to_who_resumes_it(tmp_path: Path):
    left(tmp_path, ends_with="job")
    found = resumption.unfinished(tmp_path, BOOT, LivingProcesses())  # type: ignore[arg-type]
    assert (found.living, found.over) == ([], [])
