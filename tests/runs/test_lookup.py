"""A word means one run, or the error says which it may mean: an id, a prefix, a name, `last`."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbonmon.core.config import parse_run_word
from carbonmon.core.errors import ConfigError
from carbonmon.core.times import local_text
from carbonmon.runs.lookup import MOST_CANDIDATES, find, named
from tests.support import command
from tests.support.rows import for_each_row
from tests.support.run_folders import a_run, carbonmon

START_S = 1_795_000_000.0


@pytest.fixture
def output(tmp_path: Path) -> Path:
    a_run(tmp_path, "20261118-train", name="train", start_s=START_S)
    a_run(tmp_path, "20261119-train", name="train", start_s=START_S + 86_400.0)
    a_run(tmp_path, "20261120-vit", name="vit", start_s=START_S + 2 * 86_400.0)
    a_run(tmp_path, "slurm-4", name="bert", start_s=START_S - 5.0)
    a_run(tmp_path, "slurm-42", name="slurm-4", start_s=START_S - 6.0)
    return tmp_path


@for_each_row(
    ("word", "run_id"),
    [
        ("20261120-vit", "20261120-vit"),
        ("20261120", "20261120-vit"),
        ("vit", "20261120-vit"),
        ("bert", "slurm-4"),
        ("last", "20261120-vit"),
        ("slurm-4", "slurm-4"),
        ("slurm-42", "slurm-42"),
    ],
)
def test_a_run_is_found_by_id_by_how_it_begins_by_name_and_as_the_last_one(
    word: str, run_id: str, output: Path
):
    assert find(output, word).name == run_id
    assert f"run {run_id}" in carbonmon("report", word, "--output", output).stdout


def test_of_several_all_are_named_with_their_dates(output: Path):
    for word in ("train", "2026111"):
        with pytest.raises(ConfigError) as refused:
            find(output, word, "report")
        text = str(refused.value)
        assert text.startswith(f"report: {word!r} in {output} may be any of 2 runs")
        assert text.index("20261119-train") < text.index("20261118-train"), "the newest first"
        assert local_text(START_S) in text
    assert carbonmon("report", "train", "--output", output, code=2)


def test_of_very_many_the_newest_are_named(tmp_path: Path):
    for number in range(MOST_CANDIDATES + 3):
        a_run(tmp_path, f"r-{number:02}", start_s=START_S + number)
    with pytest.raises(ConfigError, match="and 3 older ones") as refused:
        find(tmp_path, "r-")
    assert "r-12" in str(refused.value)
    assert "r-02" not in str(refused.value)


def test_a_word_that_means_no_run_gets_the_nearest_ids(output: Path):
    with pytest.raises(ConfigError, match=r"no run '20261121-vit' in .*; nearest: 20261120-vit"):
        find(output, "20261121-vit")
    with pytest.raises(ConfigError, match=r"no run 'last' in .*; that folder is not there: .* --output DIR"):
        find(output / "nowhere", "last")


def test_damaged_folders_and_those_of_no_run_are_not_in_the_way(output: Path):
    (output / "vit-old").mkdir()
    (output / "broken").mkdir()
    (output / "broken" / "run.json").write_text('{"run": []}')
    assert find(output, "vit").name == "20261120-vit"


def test_a_path_is_a_path(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(output)
    assert named("./slurm-4", tmp_path / "elsewhere", "report") == Path("slurm-4")
    assert named(str(output / "slurm-4" / "summary.json"), tmp_path, "report") == output / "slurm-4"


def test_the_nodes_of_a_run_are_one_with_merge_and_several_without(tmp_path: Path):
    for host in ("node-1", "node-2"):
        a_run(tmp_path, "job-7", name="pretrain", host=host, folder=f"job-7.{host}")
    for word in ("job-7", "job", "pretrain", "last"):
        merged = carbonmon("report", word, "--merge", "--output", tmp_path).stdout
        assert "2.00 kWh" in merged, word
    text = carbonmon("report", "job-7", "--output", tmp_path, code=2).output
    assert "may be any of the 2 nodes of a run" in text
    assert "job-7.node-2" in text


def test_a_damaged_node_is_not_left_out_of_the_sum(tmp_path: Path):
    for host in ("node-1", "node-2"):
        folder = a_run(tmp_path, "job-7", host=host, folder=f"job-7.{host}")
    (folder / "summary.json").write_text("{")
    text = carbonmon("report", "job-7", "--merge", "--output", tmp_path, code=2).output
    assert "damaged" in text


@for_each_row("word", ["", ".", "..", "a/b", "/etc", "a\0b"])
def test_to_resume_takes_no_path(word: str):
    with pytest.raises(ConfigError, match=r"--resume: .* is no run's id or name"):
        parse_run_word(word)


def test_settle_takes_the_same_words(output: Path):
    arguments = ("settle", "vit", "--intensity-file", output / "none.csv", "--output", output)
    assert "none.csv" in carbonmon(*arguments, code=2).output


@pytest.mark.e2e
def test_to_resume_takes_them_too(output: Path):
    done = command.run(["run", "--resume", "train", "--output", ".", "--own-monitor", "--", "true"], output)
    assert (done.returncode, "may be any of 2 runs" in " ".join(done.stderr.split())) == (2, True)
