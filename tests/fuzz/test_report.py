"""`carbonmon report` on any folder: a summary, or exit code 2 and a message that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.cli import report, runs
from carbonmon.runs.index import read_index
from carbonmon.runs.summary.document import SCHEMA, summarize
from carbonmon.runs.summary.file import write_summary
from tests.fuzz.folders import a_snapshot, invoke, is_possible, scratch, write
from tests.fuzz.strategies import HOSTILE_FILES, TEXT, damaged_bytes, damaged_json
from tests.support.effort import examples
from tests.support.rows import for_each_row
from tests.support.strictness import without_unknown

pytestmark = pytest.mark.timeout(240)

SNAPSHOT = a_snapshot()
SUMMARY = "summary.json"
FINAL = summarize(SNAPSHOT, SNAPSHOT.runs[0], "final")
with scratch() as _folder:
    write(_folder, SNAPSHOT)
    write_summary(_folder, FINAL)
    FILES = {path.name: path.read_bytes() for path in _folder.iterdir()}


def reported(folder: Path, *named: str) -> None:
    """The outcome is the same in both forms, and every number in it is possible."""
    for form in ("text", "json"):
        done = invoke(report.command, folder, "--format", form)
        if done.exit_code == 2:
            assert any(str(folder / name) in done.output for name in named), done.output
            assert len(done.output) < 1000
        else:
            assert "nan" not in done.output.lower().split()
            done.output.encode()
    if done.exit_code == 0:
        summary = without_unknown(
            json.loads(done.stdout)
        )  # a newer version's fields are passed on as they are
        assert is_possible([summary["energy"], summary["carbon"], summary["run"]["duration_s"]])


@given(
    st.sampled_from(sorted(FILES)).flatmap(lambda name: st.tuples(st.just(name), damaged_bytes(FILES[name])))
)
@examples(60)
def test_a_run_with_damaged_bytes_is_reported_or_its_file_is_named(change: tuple[str, bytes]):
    name, data = change
    with scratch() as folder:
        write(folder, SNAPSHOT)
        (folder / name).write_bytes(data)
        reported(folder, *FILES)


@given(damaged_json(FINAL))
@examples(150)
def test_a_summary_with_other_values_is_reported_or_named(data: bytes):
    with scratch() as folder:
        write(folder, SNAPSHOT)
        (folder / SUMMARY).write_bytes(data)
        reported(folder, SUMMARY)


@for_each_row("content", HOSTILE_FILES)
def test_a_hostile_summary_is_named(content: str):
    with scratch() as folder:
        write(folder, SNAPSHOT)
        (folder / SUMMARY).write_bytes(HOSTILE_FILES[content](SCHEMA))
        done = invoke(report.command, folder)
        assert done.exit_code == 2
        assert str(folder / SUMMARY) in done.output


def test_what_the_final_summary_says_is_what_is_reported():
    with scratch() as folder:
        (folder / SUMMARY).write_bytes(FILES[SUMMARY])
        assert json.loads(invoke(report.command, folder, "--format", "json").stdout) == FINAL
        assert json.loads(invoke(report.command, folder / SUMMARY, "--format", "json").stdout) == FINAL


@given(
    st.text(st.characters(exclude_characters="\0"), max_size=300)
    | TEXT
    | st.just("x" * 5000)
    | st.just("a/" * 3000)
)
@examples(60)
def test_any_name_of_a_run_is_found_or_refused(name: str):
    with scratch() as folder:
        done = invoke(report.command, "--output", folder, "--", name)
        assert done.exit_code == 2


@given(damaged_json(FINAL))
@examples(100)
def test_a_summary_with_other_values_is_listed_or_noted(data: bytes):
    with scratch() as output:
        (output / "one").mkdir()
        (output / "one" / SUMMARY).write_bytes(data)
        entries, notes = read_index(output)
        assert len(entries) + len(notes) == 1
        for entry in entries:
            assert is_possible([entry.energy_j, entry.measured_ratio, entry.emissions_g, entry.duration_s])
        for arguments in ((), ("--by", "name,month", "--sum"), ("--format", "csv"), ("--format", "json")):
            invoke(runs.command, "--output", output, *arguments).output.encode()
