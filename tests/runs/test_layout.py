"""The texts of a run's files: one shape, always UTF-8, never a number that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carbonmon.core.model import (
    Device,
    DeviceState,
    FallbackMeter,
    Meter,
    NodeTotal,
    Part,
    RunTotal,
    Snapshot,
)
from carbonmon.runs import layout
from carbonmon.runs.reader import read_run
from carbonmon.runs.series_rows import SeriesRow
from tests.support import records
from tests.support.rows import for_each_row
from tests.support.series import ROW, series_text


def monitored() -> Snapshot:
    node = records.node(1, 1, 0)
    return node._replace(
        meters=tuple((state.device.id, Meter(1.5, 7, 1.5, FallbackMeter())) for state in node.devices)
    )


def written(snapshot: Snapshot, boot_id: str) -> str:
    """The checkpoint of the only run of a snapshot."""
    (run,) = snapshot.runs
    return layout.checkpoint_text(snapshot, run, boot_id)


def test_a_checkpoint_names_its_schema_its_run_and_the_order_of_its_values():
    text = written(monitored(), "a boot")
    document = json.loads(text)
    assert text.count("\n") == 1
    assert (document["schema"], document["run"], document["boot_id"]) == (
        layout.CHECKPOINT_SCHEMA,
        "slurm-4242",
        "a boot",
    )
    assert document["total_fields"] == list(RunTotal._fields)
    assert document["device_fields"] == list(DeviceState._fields[1:])
    assert document["meter_fields"] == list(layout.METER_FIELDS)
    assert document["node_fields"] == list(NodeTotal._fields)
    assert all(len(row) == len(RunTotal._fields) for row in document["totals"])
    assert all(len(row) == len(layout.DEVICE_FIELDS) for _, row in document["devices"])
    assert [len(row) for row in document["node"]] == [len(NodeTotal._fields)] * 2


def test_the_keys_of_release_0_1_0_stay_so_that_all_releases_read_one_another(tmp_path: Path):
    text = layout.run_text(records.run_info()._replace(ends_with="participants"), [])
    assert json.loads(text)["run"]["lives_by"] == "participants"
    (tmp_path / layout.RUN_FILE).write_text(text, encoding="utf-8")
    assert read_run(tmp_path)[0].ends_with == "participants"
    document = json.loads(written(monitored(), "a boot"))
    old_fields = ["settled_s", "base_uj", "base_s", "shadow", "ahead_j", "open_s"]
    assert document["meter_fields"][: len(old_fields)] == old_fields
    assert "followed" in document


def test_the_name_of_a_user_is_only_where_it_is_asked_for_so_that_older_releases_read_the_run(tmp_path: Path):
    assert "user" not in json.loads(layout.run_text(records.run_info(), []))["run"]
    (tmp_path / layout.RUN_FILE).write_text(layout.run_text(records.run_info(user="ada"), []))
    info, _ = read_run(tmp_path)
    assert (info.user, info.uid) == ("ada", 1000)


@for_each_row("text", [*records.HOSTILE_TEXTS, records.UNDECODABLE, "\ud800", 'a"\udcff\\'])
def test_any_text_is_written_as_utf_8_and_stays_one_line_of_the_series(text: str):
    info = records.run_info(name=text, command=(text,), labels=(("key", text),))
    run = json.loads(layout.run_text(info, [records.gpu()]).encode())["run"]
    assert (run["name"], run["command"], run["labels"]) == (text, [text], [["key", text]])
    phase = records.run_state(info, (records.run_total("gone", "gpu", "counter", 5.0, phase=text),))
    snapshot = records.snapshot((phase,))
    assert json.loads(written(snapshot, text).encode())["totals"][0][0] == text
    line = series_text(ROW._replace(phase=text))
    assert json.loads(line.encode())["phase"] == text
    assert line.count("\n") == line.encode().count(b"\n") == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_is_not_written(value: float):
    snapshot = monitored()
    for make in (
        lambda: written(snapshot._replace(at_s=value), ""),
        lambda: series_text(ROW._replace(energy_j=value)),
    ):
        with pytest.raises(ValueError, match="JSON compliant"):
            make()


def test_a_row_of_the_series_is_flat_and_names_its_version_and_time_is_its_first_column():
    row = json.loads(series_text(ROW._replace(power_min_w=None)))
    assert list(row) == [*SeriesRow._fields, "series"]
    assert next(iter(row)) == "at_s", "releases until 0.2 look for it at the begin of a line"
    assert row == {**ROW._asdict(), "power_min_w": None, "series": 2}


def test_what_a_device_contains_is_kept_and_a_device_that_is_only_itself_is_as_in_release_0_1_0(
    tmp_path: Path,
):
    module = Device("module-0", "module", "chip", 0, contains=(Part("gpu", None, "GPU-1"), Part("dram")))
    plain = Device("GPU-2", "gpu", "chip", 1)
    text = layout.run_text(records.run_info(), [module, plain])
    (tmp_path / layout.RUN_FILE).write_text(text, encoding="utf-8")
    assert read_run(tmp_path)[1] == [module, plain]
    assert "contains" not in json.loads(text)["devices"][1]
