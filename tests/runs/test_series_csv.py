"""`carbonmon report --format csv --series`: runs over time as one table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from click.testing import CliRunner, Result

from carbonmon.cli.report import command
from carbonmon.runs import layout
from carbonmon.runs.series_rows import SeriesRow
from tests.fuzz.folders import scratch
from tests.support import records
from tests.support.rows import for_each_row
from tests.support.series import ROW, series_text, write_series_1

INFO = records.run_info()


def a_run(folder: Path, run_id: str = "one", host: str = "node-1", rows: int = 3) -> Path:
    """The folder of a run with some rows."""
    folder.mkdir()
    info = INFO._replace(id=run_id, host=host)
    device = records.gpu()._replace(id=ROW.device)
    (folder / layout.RUN_FILE).write_text(layout.run_text(info, [device]))
    texts = [series_text(ROW._replace(at_s=100.0 + n)) for n in range(rows)]
    (folder / layout.SERIES_FILE).write_text("".join(texts))
    return folder


def report(*arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments), "--format", "csv", "--series"])


def table(result: Result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.stdout)))


def test_each_row_of_each_run_is_there_with_its_run_and_its_host(tmp_path: Path):
    first, second = a_run(tmp_path / "a"), a_run(tmp_path / "b", "two.or-three", rows=2)
    found = table(report(first, second))
    assert [(row["run_id"], row["at_s"]) for row in found] == [
        ("one", "100.0"),
        ("one", "101.0"),
        ("one", "102.0"),
        ("two.or-three", "100.0"),
        ("two.or-three", "101.0"),
    ]
    assert list(found[0]) == ["run_id", "host", *SeriesRow._fields]
    assert found[0] == {"run_id": "one", "host": "node-1", **{k: str(v) for k, v in ROW._asdict().items()}}


def test_with_merge_an_id_stands_for_all_nodes_and_for_no_other_run(tmp_path: Path):
    for host in ("node-1", "node-2"):
        a_run(tmp_path / f"job.{host}", "job", host)
    a_run(tmp_path / "job.other", "job.other")
    found = table(report("job", "--merge", "--output", tmp_path))
    assert [row["host"] for row in found] == ["node-1"] * 3 + ["node-2"] * 3


def test_a_series_of_version_1_gets_its_components_from_the_run_and_unknown_is_empty(tmp_path: Path):
    snapshot = records.node(1, 1, 0)
    (run,) = snapshot.runs
    devices = [state.device for state in snapshot.devices]
    (tmp_path / layout.RUN_FILE).write_text(layout.run_text(run.info, devices))
    write_series_1(tmp_path, [snapshot], devices)
    found = table(report(tmp_path))
    assert {(row["device"], row["component"]) for row in found} == {
        (device.id, device.component) for device in devices
    }
    assert {(row["power_min_w"], row["power_max_w"]) for row in found} == {("", "")}
    assert sum(float(row["energy_j"]) for row in found) == sum(row.energy_j for row in run.totals)


def test_damaged_lines_are_left_out_and_told_beside_the_table(tmp_path: Path):
    folder = a_run(tmp_path / "a")
    with (folder / layout.SERIES_FILE).open("a") as file:
        file.write('{"at_s":1}\n' + series_text(ROW))
    result = report(folder)
    assert len(table(result)) == 4
    assert "1 damaged lines of the series are left out" in result.stderr


@for_each_row(
    ("options", "said"),
    [
        (["--format", "json", "--series", "RUN"], "not for --format json"),
        (["--format", "csv", "--series", "--embodied", "RUN"], "not for --embodied"),
        (
            ["--format", "csv", "--series", "--prometheus", "http://127.0.0.1:1", "--run-id", "x"],
            "not for --prometheus",
        ),
        (["--format", "csv", "--series", "RUN", "RUN"], "is given twice"),
        (["--format", "csv", "--series", "nothing"], "no run 'nothing'"),
        (["--format", "csv", "--series"], "name a RUN"),
    ],
)
def test_what_it_is_not_for_is_refused_in_words(options: list[str], said: str):
    with scratch() as output:
        a_run(output / "RUN")
        result = CliRunner().invoke(command, [*options, "--output", str(output)])
        assert result.exit_code == 2
        assert said in result.output


def test_a_run_without_a_series_is_named(tmp_path: Path):
    folder = a_run(tmp_path / "a")
    (folder / layout.SERIES_FILE).unlink()
    result = report(folder)
    assert result.exit_code == 2
    assert "series.jsonl: cannot be read" in result.output
