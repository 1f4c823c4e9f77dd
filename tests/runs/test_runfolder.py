"""A run's folder: made once, never shared, and a clear word where it cannot be made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from carbonmon.core.errors import ConfigError
from carbonmon.runs.folders import create


def test_the_folder_is_made_with_those_above_it(tmp_path: Path):
    folder = create(tmp_path / "a" / "b", None, "train")
    assert folder == tmp_path / "a" / "b" / "train"
    assert folder.is_dir()


def test_a_default_id_is_made_unique_and_a_given_one_is_taken_as_it_is(tmp_path: Path):
    assert [create(tmp_path, None, "train").name for _ in range(3)] == ["train", "train-2", "train-3"]
    assert create(tmp_path, "mine", "train").name == "mine"


def test_the_folders_of_several_nodes_are_told_apart_where_their_runs_have_one_id(tmp_path: Path):
    assert create(tmp_path, "mine", "train", ".node-1").name == "mine.node-1"
    assert create(tmp_path, "mine", "train", ".node-2").name == "mine.node-2"
    assert [create(tmp_path, None, "train", ".node-1").name for _ in range(2)] == [
        "train.node-1",
        "train-2.node-1",
    ]
    with pytest.raises(ConfigError, match="--run-id: 'mine' exists already"):
        create(tmp_path, "mine", "train", ".node-1")


def test_runs_that_start_at_once_never_share_a_folder(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: create(tmp_path, None, "train"), range(40)))
    assert len(set(folders)) == 40


@pytest.mark.parametrize(("summary", "state"), [(True, "has already finished"), (False, "exists already")])
def test_a_given_id_that_is_taken_is_refused_with_what_is_there(tmp_path: Path, summary: bool, state: str):
    folder = create(tmp_path, "mine", "train")
    if summary:
        (folder / "summary.json").write_text('{"state": "final"}')
    with pytest.raises(ConfigError, match=f"--run-id: 'mine' {state}") as mistake:
        create(tmp_path, "mine", "train")
    assert "--resume mine" in str(mistake.value)


@pytest.mark.parametrize("run_id", [None, "mine"])
def test_an_output_that_is_a_file_is_no_folder(tmp_path: Path, run_id: str | None):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--output: .*file is not a folder"):
        create(tmp_path / "file", run_id, "train")
    with pytest.raises(ConfigError, match="cannot be written"):
        create(tmp_path / "file" / "below", run_id, "train")


def test_an_output_that_cannot_be_written_is_named_with_the_reason():
    with pytest.raises(ConfigError, match=r"--output: /proc/nowhere cannot be written \(.+\); give a folder"):
        create(Path("/proc/nowhere"), None, "train")
