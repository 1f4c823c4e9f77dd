"""A run's folder read again: what is wrong in it is named, and never guessed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carbonmon.core.footprint import Overheads
from carbonmon.core.model import RunInfo, RunState
from carbonmon.core.typed import LARGEST
from carbonmon.monitor.resume import Outage, resume_run
from carbonmon.monitor.run_account import RunAccount
from carbonmon.runs import layout
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.reader import read_checkpoint, read_run
from carbonmon.runs.series import SERIES_1_SCHEMA, read_series
from tests.fuzz.folders import a_snapshot, scratch, series_1_bytes, write
from tests.support import checkpoints, records
from tests.support.harness import FakeClock, FixedIntensity, make_sampler
from tests.support.rows import for_each_row
from tests.support.series import ROW, series_text

SNAPSHOT = a_snapshot()
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a run whose monitor was killed."""
    write(tmp_path, SNAPSHOT)
    return tmp_path


def earlier(document: dict[str, Any], **changes: Any) -> None:
    """As a release that knew nothing of work wrote it."""
    del document["work"], document["work_fields"]
    document.update(changes)


def refused(folder: Path) -> str:
    with pytest.raises(RunFileError) as error:
        read_checkpoint(folder)
    return str(error.value)


def test_a_run_comes_back_from_its_files(folder: Path):
    assert read_checkpoint(folder) == (SNAPSHOT, "a boot")
    assert read_run(folder)[0] == SNAPSHOT.runs[0].info


@pytest.mark.parametrize("name", [layout.RUN_FILE, layout.CHECKPOINT_FILE])
def test_a_newer_schema_is_an_error_that_says_so(folder: Path, name: str):
    checkpoints.edit(folder / name, lambda document: document.update(schema=f"carbonmon.{name[:-5]}/3"))
    message = refused(folder)
    assert message.startswith(f"{folder / name}: schema 'carbonmon.{name[:-5]}/3' is not ")
    assert "read it with that version" in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d["run"].update(labels=5), "labels must be a list, and is 5"),
        (lambda d: d["run"].update(labels=[["team", 5]]), "run.labels of 'team' must be a text, and is 5"),
        (lambda d: d["run"].update(command=["python", None]), "run.command must be a text, and is None"),
        (
            lambda d: d["run"].update(started_at_s=-1),
            "run.started_at_s must be a number of at least 0, and is -1",
        ),
        (lambda d: d["run"].pop("host"), "run.host must be a text, and is None"),
        (
            lambda d: d["run"].update(idle_policy="mine"),
            "run.idle_policy must be one of proportional, exclusive, none, and is 'mine'",
        ),
        (lambda d: d["run"].update(uid=-1), "run.uid must be a whole number of at least 0, and is -1"),
        (lambda d: d.update(devices=[5]), "devices[0] must be an object, and is 5"),
        (lambda d: d["devices"].append(d["devices"][0]), "devices holds the same twice"),
        (
            lambda d: d["devices"][0].update(share_ratio=1.5),
            "devices[0].share_ratio must be a number from 0 to 1, and is 1.5",
        ),
        (
            lambda d: d["devices"][0].update(methods=["guess"]),
            "devices[0].methods must be one of counter, power, tdp, and is 'guess'",
        ),
        (
            lambda d: d["devices"][0]["spec"][1].__setitem__(0, 1.1),
            "spec.uncertainty.low_ratio must be a number from 0 to 1, and is 1.1",
        ),
        (lambda d: d["devices"][0].update(colour="red"), "other fields than this version"),
    ],
)
def test_a_mistake_in_run_json_is_named(folder: Path, change: Edit, expected: str):
    checkpoints.edit(folder / layout.RUN_FILE, change)
    message = refused(folder)
    assert message.startswith(str(folder / layout.RUN_FILE))
    assert expected in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d.update(run="another"), "belongs to run 'another', and run.json to 'slurm-4242'"),
        (lambda d: d.update(at_s=True), "at_s must be a number of at least 0, and is True"),
        (lambda d: d.update(samples=1.5), "samples must be a whole number of at least 0, and is 1.5"),
        (lambda d: d.update(duration_s=10**400), "duration_s must be a number from 0 to 1e+30, and is 1000"),
        (lambda d: d.update(clock_s=2 * LARGEST), "clock_s must be a number from 0 to 1e+30, and is 2e+30"),
        (
            lambda d: d["totals"][0].__setitem__(4, -0.001),
            "totals[0].energy_j must be a number of at least 0, and is -0.001",
        ),
        (lambda d: d["totals"][0].pop(), "totals[0] must have 9 values, and has 8"),
        (lambda d: d["totals"].append(d["totals"][0]), "totals holds the same twice"),
        (lambda d: d["devices"][0].__setitem__(0, "GPU-0"), "devices of 'GPU-0': it is not in run.json"),
        (lambda d: d["devices"].append(d["devices"][0]), "devices holds the same twice"),
        (lambda d: d["meters"].append(d["meters"][0]), "meters holds the same twice"),
        (
            lambda d: d["meters"][0][1].__setitem__(1, "5"),
            ".base_uj must be a whole number of at least 0, and is '5'",
        ),
        (lambda d: d["meters"][0][1].__setitem__(3, [[]]), "444'.fallback must have 5 values, and has 1"),
        (
            lambda d: d.update(phases_s=[["main", None]]),
            "phases_s of 'main' must be a number of at least 0, and is None",
        ),
        (lambda d: d.update(unobserved_s={}), "unobserved_s must be a list, and is an object"),
        (
            lambda d: d["intensity"].__setitem__(5, "guess"),
            "intensity.kind must be one of fixed, table, live, forecast, stale, and is 'guess'",
        ),
        (lambda d: d["total_fields"].reverse(), "total_fields names other fields"),
        (lambda d: d.pop("pue_ratio"), "pue_ratio must be a number of at least 0, and is None"),
        (lambda d: d.pop("device_fields"), "device_fields names other fields"),
        (lambda d: d.update(device_fields=d["device_fields"][:10]), "device_fields names other fields"),
        (lambda d: d["meter_fields"].append("colour"), "meter_fields names other fields"),
        (lambda d: d.update(node_fields=d["node_fields"][:4]), "node_fields names other fields"),
        (lambda d: d["node_fields"].pop(), "node[0] must have 11 values, and has 12"),
        (lambda d: d["devices"][0][1].pop(), "444' must have 21 values, and has 20"),
        (lambda d: d["meters"][0][1].pop(), "444' must have 11 values, and has 10"),
        (
            lambda d: d["node"][0].__setitem__(1, -1.0),
            "node[0].counter_j must be a number of at least 0, and is -1.0",
        ),
        (lambda d: d["node"].append(d["node"][0]), "node holds the same twice"),
        (lambda d: d.update(shares=[["GPU-0", 1]]), "shares of 'GPU-0' must be a text, and is 1"),
        (lambda d: d.update(ranks=[[0, 0]]), "ranks[0] must have 3 values, and has 2"),
        (lambda d: d.update(work=[600.0]), "work must have 11 values, and has 1"),
        (lambda d: d["work_fields"].append("colour"), "work_fields names other fields"),
        (lambda d: d["work"].__setitem__(0, -1.0), "work.steps must be a number of at least 0, and is -1.0"),
        (lambda d: earlier(d, progress=[3]), "progress must hold steps done, steps in all, and has 1"),
        (lambda d: earlier(d, progress=[None, 3.0]), "progress must be a number of at least 0, and is None"),
        (lambda d: d.update(cpu_s=-0.5), "cpu_s must be a number of at least 0, and is -0.5"),
        (lambda d: d.update(phase=None), "phase must be a text, and is None"),
    ],
)
def test_a_mistake_in_a_checkpoint_is_named(folder: Path, change: Edit, expected: str):
    checkpoints.edit(folder / layout.CHECKPOINT_FILE, change)
    message = refused(folder)
    assert message.startswith(str(folder / layout.CHECKPOINT_FILE))
    assert expected in message


def test_files_of_two_runs_are_not_mixed(folder: Path, tmp_path: Path):
    (run,) = SNAPSHOT.runs
    other = SNAPSHOT._replace(runs=(run._replace(info=records.run_info("mine")),))
    checkpoints.write(folder, layout.checkpoint_text(other, other.runs[0], ""))
    assert "belongs to run 'mine'" in refused(folder)


def test_a_deep_value_does_not_make_the_error_itself_fail(folder: Path):
    deep = "[" * 900 + "]" * 900
    text = layout.checkpoint_text(SNAPSHOT, SNAPSHOT.runs[0], "a boot")
    checkpoints.write(folder, text.replace('"samples":3600', f'"samples":{deep}'))
    assert "samples must be a whole number of at least 0, and is a list" in refused(
        folder
    ) or "damaged, not JSON" in refused(folder)


# ---- files of an older version ----

OLD_RUN = ("id", "name", "command", "labels", "host", "started_at_s", "scheduler", "scheduler_job_id")
OLD_CHECKPOINT = (
    *("schema", "run", "boot_id", "at_s", "clock_s", "version", "interval_s", "samples", "pue_ratio"),
    *("intensity", "duration_s", "ended_at_s", "recovered_j", "phases_s", "unobserved_s"),
    *("total_fields", "totals", "device_fields", "devices", "meter_fields", "meters"),
)


def make_old(folder: Path) -> None:
    """The folder as the version wrote it that knew one run alone, which owned the node."""

    def run(document: dict[str, Any]) -> None:
        document["run"] = {key: document["run"][key] for key in OLD_RUN}

    def checkpoint(document: dict[str, Any]) -> None:
        for key in document.keys() - set(OLD_CHECKPOINT):
            del document[key]
        document["schema"] = "carbonmon.checkpoint/1"
        for key, rows, first in (
            ("device_fields", "devices", "emissions_g"),
            ("meter_fields", "meters", "moved_s"),
        ):
            known = document[key].index(first)
            del document[key][known:]
            for _, values in document[rows]:
                del values[known:]

    checkpoints.edit(folder / layout.RUN_FILE, run)
    checkpoints.edit(folder / layout.CHECKPOINT_FILE, checkpoint)


def test_a_run_of_an_older_version_is_read_with_what_it_did_not_know_left_open(folder: Path):
    make_old(folder)
    (now,) = SNAPSHOT.runs
    old = read_checkpoint(folder).snapshot
    info = RunInfo(**{key: getattr(now.info, key) for key in OLD_RUN})
    assert info.idle_policy == "exclusive"
    assert read_run(folder)[0] == info
    assert old.runs == (
        RunState(
            info,
            now.totals,
            now.power_w,
            now.unobserved_s,
            now.phases_s,
            now.duration_s,
            now.ended_at_s,
            recovered_j=now.recovered_j,
            charges=old.runs[0].charges,
            facility_j=old.runs[0].facility_j,
            peaks_w=tuple((state.device.id, state.peak_power_w) for state in SNAPSHOT.devices),
            samples=SNAPSHOT.samples,
        ),
    )
    energy_j = sum(row.energy_j for row in now.totals)
    assert [(charge.source, charge.energy_j) for charge in old.runs[0].charges] == [
        (SNAPSHOT.intensity.source, energy_j)
    ], "one intensity was in force for all of it"
    assert old.runs[0].facility_j == energy_j * SNAPSHOT.pue_ratio
    assert old.devices == tuple(state._replace(emissions_g=0.0) for state in SNAPSHOT.devices)
    assert old.meters == SNAPSHOT.meters


def test_an_older_version_s_run_goes_on_with_its_totals(folder: Path):
    make_old(folder)
    before = read_checkpoint(folder).snapshot
    devices = [state.device for state in before.devices]
    sampler = make_sampler(
        [],
        {device.id: device for device in devices},
        [],
        FixedIntensity(),
        FakeClock(),
        1.0,
        Overheads(),
        "test",
    )
    resume_run(sampler, RunAccount(before.runs[0].info, devices), before, Outage(1.0, same_boot=True))
    (run,) = sampler.latest.runs
    assert sorted(run.totals) == sorted(SNAPSHOT.runs[0].totals)
    assert run.duration_s == SNAPSHOT.runs[0].duration_s + 1.0
    assert [(row.device_id, row.counter_j) for row in run.node] == [(device.id, 0.0) for device in devices], (
        "what the node drew before is not known"
    )


def test_an_older_version_s_short_rows_are_no_excuse_for_shorter_ones(folder: Path):
    make_old(folder)
    checkpoints.edit(folder / layout.CHECKPOINT_FILE, lambda document: document["devices"][1][1].pop())
    assert "'package-0' must have 16 values, and has 15" in refused(folder)


# ---- the series ----

MOMENT = json.loads(series_1_bytes(SNAPSHOT, 1).splitlines()[1])
GOOD = json.loads(series_text(ROW))


def series(folder: Path, *lines: object, end: str = "\n") -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line, separators=(",", ":")) for line in lines]
    (folder / layout.SERIES_FILE).write_text("\n".join(texts) + end)
    return folder


def good(**changes: object) -> dict[str, object]:
    return {**GOOD, **changes}


def test_a_torn_last_row_is_dropped_silently_and_a_damaged_one_is_counted(folder: Path):
    series(folder, good(), '{"at_s":17', good(), "", '{"at_s":17', end="")
    rows, damaged = read_series(folder)
    assert (rows, damaged) == ([ROW, ROW], [2])


@for_each_row(
    "changes",
    [
        {"at_s": -1.0},
        {"at_s": None},
        {"at_s": float("inf")},
        {"duration_s": "1"},
        {"duration_s": True},
        {"device": 0},
        {"device": None},
        {"component": "psu"},
        {"component": []},
        {"phase": None},
        {"method": "guess"},
        {"method": ["counter"]},
        {"energy_j": None},
        {"energy_j": -1.0},
        {"energy_j": 10**400},
        {"energy_j": float("nan")},
        {"power_w": "300"},
        {"power_min_w": -0.1},
        {"power_max_w": [310.0]},
        {"emissions_g": None},
        {"intensity_g_per_kwh": {}},
        {"intensity_kind": None},
    ],
)
def test_a_row_with_a_value_that_cannot_be_is_counted_and_skipped(changes: dict[str, object]):
    with scratch() as folder:
        series(folder, good(), good(**changes), good())
        rows, damaged = read_series(folder)
        assert (rows, damaged) == ([ROW, ROW], [2])
        lacking = {key: value for key, value in GOOD.items() if key not in changes}
        series(folder, good(), lacking, good())
        assert read_series(folder)[1] == [2]


def test_a_row_may_have_columns_that_are_not_known_here_and_powers_that_nobody_knows(folder: Path):
    unknown = {"power_w": None, "power_min_w": None, "power_max_w": None}
    series(folder, good(voltage_v=12.0, **unknown))
    assert read_series(folder) == ([ROW._replace(**unknown)], [])


def test_a_newer_version_in_a_series_is_an_error_with_its_line(folder: Path):
    series(folder, good(), good(series=3), good())
    with pytest.raises(RunFileError, match=r"series\.jsonl: line 2: schema 'carbonmon\.series/3'"):
        read_series(folder)


# ---- a series of version 1, and both in one file ----


def header(*ids: str, schema: str = SERIES_1_SCHEMA) -> dict[str, object]:
    return {"schema": schema, "devices": ids}


def moment(device: object = 0, joules: object = 1.0, **changes: object) -> dict[str, object]:
    return {**MOMENT, "energy_j": [["main", device, "counter", joules]], **changes}


def devices(folder: Path) -> list[str]:
    return [row.device for row in read_series(folder)[0]]


def test_device_numbers_mean_the_header_above_them(folder: Path):
    series(folder, header("a", "b"), moment(1), header("b", "a"), moment(1), moment("gone"))
    assert devices(folder) == ["b", "a", "gone"]
    assert read_series(folder)[1] == []


def test_totals_of_version_1_become_what_was_drawn_between_them(folder: Path):
    series(
        folder,
        header("a"),
        moment(joules=10.0, at_s=100.0, duration_s=4.0, emissions_g=1.0),
        moment(joules=10.0, at_s=110.0, duration_s=14.0, emissions_g=1.0),
        moment(joules=16.0, at_s=112.0, duration_s=16.0, emissions_g=1.5),
    )
    rows, damaged = read_series(folder)
    assert damaged == []
    assert [(row.at_s, row.duration_s, row.energy_j, row.power_w, row.emissions_g) for row in rows] == [
        (100.0, 4.0, 10.0, 2.5, 1.0),
        (112.0, 2.0, 6.0, 3.0, 0.5),
    ]
    assert {(row.component, row.power_min_w, row.power_max_w) for row in rows} == {(None, None, None)}


def test_a_file_that_two_releases_wrote_in_turns_counts_nothing_twice(folder: Path):
    own = good(device="a", energy_j=5.0, at_s=120.0, emissions_g=0.25)
    series(
        folder,
        header("a"),
        moment(joules=10.0, at_s=100.0, duration_s=4.0, emissions_g=1.0),
        own,
        header("a"),
        moment(joules=17.0, at_s=130.0, duration_s=34.0, emissions_g=1.5),
        {**own, "at_s": 140.0},
    )
    rows, damaged = read_series(folder)
    assert ([row.energy_j for row in rows], damaged) == ([10.0, 5.0, 2.0, 5.0], [])
    assert sum(row.emissions_g for row in rows) == 1.75


def test_a_torn_last_line_is_dropped_silently_and_a_damaged_one_is_counted(folder: Path):
    series(folder, header("a"), '{"at_s":17', moment(), "", '{"at_s":17', end="")
    moments, damaged = read_series(folder)
    assert (len(moments), damaged) == (1, [2])


@pytest.mark.parametrize(
    "damaged",
    [
        moment(-1),
        moment(1),
        moment(True),
        moment(None),
        moment(joules=-1.0),
        moment(joules="5"),
        moment(joules=True),
        moment(joules=10**400),
        moment(joules=float("nan")),
        moment(at_s=float("inf")),
        moment(at_s=-1),
        moment(energy_j="main"),
        moment(energy_j=["mac1"]),
        moment(energy_j=[["main", 0, "guess", 1.0]]),
        moment(power_w=[5, "6"]),
        moment(intensity_kind="guess"),
        moment(duration_s=None),
    ],
)
def test_a_moment_with_a_value_that_cannot_be_is_counted_and_skipped(folder: Path, damaged: object):
    series(folder, header("a"), moment(), damaged, moment(joules=2.0))
    rows, numbers = read_series(folder)
    assert ([row.energy_j for row in rows], numbers) == ([1.0, 1.0], [3])


@pytest.mark.parametrize("lost", [[], ['{"sch'], ['{"schema":"carbonmon.series/1","devices":5}'], ["{}"]])
def test_without_its_header_a_session_s_numbers_mean_nothing(folder: Path, lost: list[str]):
    before = [header("a"), moment()] if lost else []
    series(folder, *before, *lost, moment(), moment("b"), header("c"), moment())
    assert devices(folder) == ["a", "b", "c"][not lost :]
    assert len(read_series(folder)[1]) == len(lost) + 1


def test_a_newer_schema_in_a_series_is_an_error_with_its_line(folder: Path):
    series(folder, header("a"), moment(), header("a", schema="carbonmon.series/9"), moment())
    with pytest.raises(RunFileError, match=r"series\.jsonl: line 3: schema 'carbonmon\.series/9'"):
        read_series(folder)
