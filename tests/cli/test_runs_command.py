"""`carbonmon runs`: what is listed, summed up and removed."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.analysis.months import by_month, months_between
from carbonmon.cli import terminal
from carbonmon.core.errors import ConfigError
from carbonmon.core.spans import Month, month_of, parse_bytes, parse_local_moment, parse_month, parse_span
from carbonmon.runs import layout, pruning
from carbonmon.runs.index import read_index
from tests.support import checkpoints
from tests.support.rows import for_each_row
from tests.support.run_folders import KWH_J, a_run, carbonmon

NOW_S = 1_795_000_000.0
END_OF_OCTOBER_S = datetime(2026, 11, 1).timestamp()


def listed(output: Path, *arguments: object) -> list[dict[str, str]]:
    done = carbonmon("runs", *arguments, "--format", "csv", "--output", output)
    return list(csv.DictReader(io.StringIO(done.stdout)))


def as_json(output: Path, *arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        carbonmon("runs", *arguments, "--format", "json", "--output", output).stdout
    )
    return found


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Five runs of three users on two machines."""
    folder = tmp_path / "runs"
    a_run(folder, "a", name="vit", start_s=NOW_S, kwh=1.0, uid=4001, labels=(("team", "vision"),))
    a_run(folder, "b", name="vit", start_s=NOW_S + 100, kwh=3.0, uid=4001, host="node-2")
    a_run(folder, "c", name="bert", start_s=NOW_S + 200, kwh=0.5, uid=4002, measured=False)
    a_run(folder, "d", name="bert", start_s=NOW_S - 100, kwh=0.0, uid=4003)
    a_run(folder, "e", name="gone", start_s=NOW_S + 300, kwh=2.0, uid=4003, state=None)
    return folder


# ---- The list ----


def test_runs_are_listed_from_the_first_to_the_last_with_their_figures(output: Path):
    rows = listed(output)
    assert [row["run_id"] for row in rows] == ["d", "a", "b", "c", "e"]
    assert rows[1] | {"duration_s": "3600", "energy_kwh": "1", "measured_ratio": "1"} == rows[1]
    assert rows[1] | {"uid": "4001", "user": "4001", "host": "node-1", "label:team": "vision"} == rows[1]
    assert float(rows[1]["emissions_kg"]) == pytest.approx(0.36)
    assert [row["state"] for row in rows] == ["final"] * 4 + ["recovered"]


def test_a_run_of_which_no_energy_was_seen_has_no_figure_and_not_zero(output: Path):
    (row, *_) = listed(output)
    assert (row["run_id"], row["energy_kwh"], row["emissions_kg"], row["measured_ratio"]) == ("d", "", "", "")
    total = as_json(output, "--sum")["total"]
    assert (total["runs"], total["runs_without_energy"]) == (5, 1)
    assert total["energy_kwh"] == pytest.approx(6.5)
    assert total["measured_ratio"] == pytest.approx(6.0 / 6.5)


@for_each_row(
    ("arguments", "ids"),
    [
        (("--name", "vit"), "ab"),
        (("--name", "v*", "--host", "node-2"), "b"),
        (("--name", "vit", "--name", "bert"), "dabc"),
        (("--label", "team=vision"), "a"),
        (("--label", "team=speech"), ""),
        (("--user", "4003"), "de"),
        (("--state", "recovered"), "e"),
        (("--since", "2026-11-18T11:06:40Z", "--until", "2026-11-18T11:10:00Z"), "ab"),
        (("--until", "2026-11-18T11:06:40Z"), "d"),
        (("--sort", "energy"), "dcaeb"),
        (("--sort", "energy", "--reverse"), "beacd"),
        (("--sort", "name"), "dcgab".replace("g", "e")),
    ],
)
def test_filters_and_orders(output: Path, arguments: tuple[str, ...], ids: str):
    assert "".join(row["run_id"] for row in listed(output, *arguments)) == ids


def test_repeats_of_a_run_have_a_mean_and_the_standard_deviation_of_a_sample(output: Path):
    a_run(output, "f", name="vit", start_s=NOW_S + 400, kwh=2.6)
    groups = {group["keys"]["name"]: group for group in as_json(output, "--by", "name")["groups"]}
    kwh = [1.0, 3.0, 2.6]
    assert groups["vit"]["runs"] == 3
    assert groups["vit"]["energy_mean_kwh"] == pytest.approx(statistics.mean(kwh))
    assert groups["vit"]["energy_sd_kwh"] == pytest.approx(statistics.stdev(kwh))
    assert groups["gone"]["energy_kwh"] == pytest.approx(2.0)
    assert groups["gone"]["energy_mean_kwh"] is None, "it did not end: no mean of whole runs"
    assert groups["bert"]["energy_sd_kwh"] is None, "one run has no deviation"


def test_groups_can_have_several_keys_and_those_of_labels(output: Path):
    groups = as_json(output, "--by", "user,label:team")["groups"]
    assert [(group["keys"]["user"], group["keys"]["label:team"], group["runs"]) for group in groups] == [
        *(("4001", "", 1), ("4001", "vision", 1), ("4002", "", 1), ("4003", "", 2))
    ]


def test_damaged_and_foreign_folders_are_notes(output: Path):
    (output / "lost+found").mkdir()
    (output / "damaged").mkdir()
    (output / "damaged" / layout.SUMMARY_FILE).write_text("{")
    (output / "odd").mkdir()
    summary = json.loads((output / "a" / layout.SUMMARY_FILE).read_text())
    summary["energy"]["total_j"] = "much"
    (output / "odd" / layout.SUMMARY_FILE).write_text(json.dumps(summary))
    found = as_json(output)
    assert len(found["runs"]) == 5
    notes = "\n".join(found["notes"])
    assert f"{output / 'damaged' / layout.SUMMARY_FILE}: damaged" in notes
    assert "energy.total_j must be of type number" in notes
    assert "'lost+found'" in notes
    assert "damaged" in carbonmon("runs", "--output", output).stderr


def test_a_folder_that_nobody_named_may_not_be_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    done = carbonmon("runs")
    assert (done.stdout, "is not there yet" in done.stderr) == ("no run is in carbonmon-runs\n", True)
    monkeypatch.setenv("CARBONMON_OUTPUT", "elsewhere")
    assert carbonmon("runs", "--format", "json").exit_code == 0


def test_the_runs_of_the_daemon_are_where_it_says(output: Path, monkeypatch: pytest.MonkeyPatch):
    def ask(op: str, message: object, path: object) -> dict[str, Any]:
        assert op == "settings"
        return {"settings": {"output": str(output)}}

    monkeypatch.setattr("carbonmon.cli.talk.ask", ask)
    assert len(json.loads(carbonmon("runs", "--daemon", "--format", "json").stdout)["runs"]) == 5
    assert "would go: 5 runs" in carbonmon("runs", "--daemon", "prune", "--older-than", "1s").stdout
    assert "would go: 5 runs" in carbonmon("runs", "prune", "--daemon", "--older-than", "1s").stdout


@for_each_row(
    ("arguments", "said"),
    [
        (("--sum", "--format", "csv"), "--sum is for --format text and json"),
        (("--month", "November"), "--month: 'November' is no month; give for example 2026-11"),
        (("--since", "soon"), "--since: 'soon' is no time"),
        (("--since", "1d", "--until", "2d"), "--since must be before --until"),
        (("--user", "nobody-here"), "--user: this machine knows no user 'nobody-here'"),
        (("--by", "nmae"), "did you mean 'name'?"),
        (("--by", ""), "--by: give one or several of"),
        (("--by", "label:"), "--by: 'label:' is nothing that runs have"),
        (("--label", "team"), "--label: 'team' is not KEY=VALUE"),
        (("--output", "/nowhere"), "--output: /nowhere cannot be listed"),
        (("prune",), "give --older-than SPAN, --keep-size SIZE, or both"),
        (("prune", "--older-than", "30"), "--older-than: '30' is no span of time"),
        (("prune", "--keep-size", "1"), "--keep-size: '1' is no size; give for example 500MB or 2GiB"),
        (("--name", "vit", "prune", "--older-than", "1d"), "--name is for the list of runs, not for prune"),
    ],
)
def test_a_mistake_is_named_with_its_mend(output: Path, arguments: tuple[str, ...], said: str):
    folder = () if "--output" in arguments else ("--output", output)
    done = carbonmon("runs", *folder, *arguments, code=2)
    assert said in " ".join(done.output.split())


# ---- The table ----


def test_a_table_in_a_pipe_is_whole(output: Path):
    lines = carbonmon("runs", "--output", output, "--sum").stdout.splitlines()
    columns = ("ID", "NAME", "STATE", "START", "DURATION", "ENERGY", "MEASURED", "EMISSIONS", "USER", "HOST")
    assert [word for word in lines[0].split() if not word.startswith("(")] == list(columns)
    assert lines[-1].startswith("total: 5 runs")
    assert "  6.50 kWh  " in lines[-1]


@for_each_row("width", [120, 80, 60, 50])
def test_a_table_on_a_terminal_is_no_wider_than_that_and_tells_what_it_left_out(
    width: int, output: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(terminal, "width", lambda **_: width)
    text = carbonmon("runs", "--output", output, "--sum").stdout
    assert max(map(len, text.splitlines())) <= width
    left_out = text.partition("not shown")[2]
    assert ("user" in left_out) != ("USER" in text)
    energies = "~500 Wh" if "MEASURED" not in text else "500 Wh"
    assert energies in text, "what is estimated is told from what is measured"
    by_name = carbonmon("runs", "--output", output, "--by", "name,user").stdout
    assert max(map(len, by_name.splitlines())) <= width


# ---- Months ----


def at_month_s_end(output: Path, **more: Any) -> Path:
    """A run from two hours before November to one hour into it: most of its energy is drawn in November."""
    start_s = END_OF_OCTOBER_S - 7200.0
    drawn = [(start_s + 3600.0 * hour, joules * KWH_J) for hour, joules in ((1, 0.5), (2, 0.5), (3, 3.0))]
    rows = [(at_s, joules) for at_s, joules in drawn]
    return a_run(output, "cut", start_s=start_s, duration_s=10_800.0, kwh=4.0, drawn=rows, **more)


def test_a_run_over_the_end_of_a_month_is_divided_by_its_series(tmp_path: Path):
    at_month_s_end(tmp_path, uid=4001)
    a_run(tmp_path, "other", start_s=END_OF_OCTOBER_S + 86400.0, kwh=1.0, uid=4001)
    groups = as_json(tmp_path, "--by", "user,month")["groups"]
    assert [(group["keys"]["month"], group["runs"]) for group in groups] == [("2026-10", 1), ("2026-11", 2)]
    assert [group["energy_kwh"] for group in groups] == pytest.approx([1.0, 4.0])
    assert [group["emissions_kg"] for group in groups] == pytest.approx([0.36, 0.36 * 3 + 0.36])
    (row,) = listed(tmp_path, "--month", "2026-10")
    assert (row["month"], float(row["energy_kwh"])) == ("2026-10", pytest.approx(1.0))
    assert float(row["duration_s"]) == pytest.approx(7200.0)
    assert as_json(tmp_path, "--month", "2026-10")["notes"] == []


def test_a_month_s_total_of_each_user_has_only_what_was_drawn_in_it(tmp_path: Path):
    """Two users have runs over the end of October, which drew most of their energy behind it."""
    at_month_s_end(tmp_path / "runs", uid=4001, labels=(("team", "vision"),))
    start_s = END_OF_OCTOBER_S - 86400.0
    drawn = [(END_OF_OCTOBER_S - 3600.0, 2.0 * KWH_J), (END_OF_OCTOBER_S + 3600.0, 1.0 * KWH_J)]
    a_run(
        *(tmp_path / "runs", "other"),
        start_s=start_s,
        duration_s=90_000.0,
        kwh=3.0,
        drawn=drawn,
        uid=4002,
    )
    a_run(tmp_path / "runs", "later", start_s=END_OF_OCTOBER_S + 10.0, kwh=5.0, uid=4002)
    words = ("--by", "user", "--month")
    totals = {
        (row["user"], month): float(row["energy_kwh"])
        for month in ("2026-10", "2026-11", "2026-12")
        for row in listed(tmp_path / "runs", *words, month)
    }
    assert totals == pytest.approx(
        {
            ("4001", "2026-10"): 1.0,
            ("4001", "2026-11"): 3.0,
            ("4002", "2026-10"): 2.5,
            ("4002", "2026-11"): 5.5,
        }
    ), "the row across midnight is divided by its time"
    mine = as_json(tmp_path / "runs", "--month", "2026-11", "--user", "4001", "--sum")
    assert mine["total"]["energy_kwh"] == pytest.approx(3.0)


def test_a_run_that_paused_over_the_end_of_a_month_and_has_not_ended_is_divided_too(tmp_path: Path):
    """Its duration leaves the pause out, and would have it end in October."""
    start_s, resumed_s = END_OF_OCTOBER_S - 7200.0, END_OF_OCTOBER_S + 3 * 86400.0
    drawn = [(start_s + 3600.0, 1.0 * KWH_J), (resumed_s, 0.0), (resumed_s + 60.0, 2.0 * KWH_J)]
    folder = a_run(
        tmp_path, "cut", start_s=start_s, duration_s=3660.0, kwh=3.0, drawn=drawn, state=None, uid=4001
    )
    checkpoints.replace(folder, at_s=resumed_s + 60.0)
    groups = as_json(tmp_path, "--by", "user,month")["groups"]
    assert [(group["keys"]["month"], group["energy_kwh"]) for group in groups] == [
        ("2026-10", pytest.approx(1.0)),
        ("2026-11", pytest.approx(2.0)),
    ]
    (row,) = listed(tmp_path, "--month", "2026-11")
    assert float(row["energy_kwh"]) == pytest.approx(2.0)


def test_a_run_without_a_series_is_divided_by_time_and_that_is_said(tmp_path: Path):
    folder = at_month_s_end(tmp_path)
    (folder / layout.SERIES_FILE).unlink()
    found = as_json(tmp_path, "--month", "2026-11")
    assert found["runs"][0]["energy_kwh"] == pytest.approx(4.0 / 3)
    assert "cut: 100.0 % of its energy is divided by time" in found["notes"][0]


def test_a_settled_run_keeps_the_proportions_of_its_live_emissions(tmp_path: Path):
    folder = at_month_s_end(tmp_path)
    path = folder / layout.SUMMARY_FILE
    summary = json.loads(path.read_text())
    summary["settled"] = {
        **{key: summary["carbon"][key] for key in ("low_g", "high_g", "pue", "intensity")},
        **{"emissions_g": 800.0, "settled_at": "2026-11-24T10:00:00.000Z", "covered_ratio": 1.0},
    }
    summary["settled"]["intensity"]["kind"] = "live"
    path.write_text(json.dumps(summary))
    (row,) = listed(tmp_path, "--month", "2026-11")
    assert (float(row["emissions_kg"]), row["is_settled"]) == (pytest.approx(0.6), "true")


@given(st.lists(st.tuples(st.floats(0.0, 90 * 86400.0), st.floats(0.0, 9.0)), min_size=1, max_size=6))
def test_the_parts_of_a_run_add_up_to_it(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]):
    rows = sorted({round(at_s, 3): kwh for at_s, kwh in rows}.items())
    output = tmp_path_factory.mktemp("parts")
    start_s = END_OF_OCTOBER_S - 15 * 86400.0
    kwh = sum(each for _, each in rows)
    a_run(
        *(output, "one"),
        start_s=start_s,
        duration_s=rows[-1][0],
        kwh=kwh,
        drawn=[(start_s + at_s, each * KWH_J) for at_s, each in rows],
    )
    ((entry,), _) = read_index(output)
    parts, _ = by_month([entry])
    months = months_between(start_s, start_s + rows[-1][0])
    assert [part.month for part in parts] == list(map(str, months))
    for whole, of in ((entry.energy_j, "energy_j"), (entry.emissions_g, "emissions_g")):
        amounts = [getattr(part.entry, of) for part in parts]
        assert whole is None or math.fsum(amounts) == pytest.approx(whole)
    assert math.fsum(part.entry.duration_s or 0.0 for part in parts) == pytest.approx(entry.duration_s)


# ---- Times and sizes ----


def test_a_day_and_a_time_without_a_zone_are_those_of_this_machine():
    assert parse_local_moment("2026-11-01", "--since", NOW_S) == END_OF_OCTOBER_S
    assert parse_local_moment("2026-11-01T01:30", "--since", NOW_S) == END_OF_OCTOBER_S + 5400.0
    assert parse_local_moment("2026-11-18T11:06:40Z", "--since", NOW_S) == NOW_S
    assert parse_local_moment("7d", "--since", NOW_S) == NOW_S - 7 * 86400.0


@for_each_row("text", ["2026-13-01", "yesterday", "", "1969-01-01", "2026-11-01T25:00"])
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(ConfigError, match="is no time"):
        parse_local_moment(text, "--since", NOW_S)


def test_months_follow_one_another():
    assert str(parse_month("2026-12").next()) == "2027-01"
    assert month_of(END_OF_OCTOBER_S) == Month(2026, 11)
    assert month_of(END_OF_OCTOBER_S - 0.001) == Month(2026, 10)
    assert Month(2026, 10).end_s == END_OF_OCTOBER_S
    assert list(map(str, months_between(END_OF_OCTOBER_S - 1.0, END_OF_OCTOBER_S))) == ["2026-10"]


def test_spans_and_sizes():
    assert [parse_span(text, "x") for text in ("90s", "1.5h", "30d", "2w")] == [
        90.0,
        5400.0,
        2.592e6,
        1.2096e6,
    ]
    assert [parse_bytes(text, "x") for text in ("500MB", "1 GiB", "10B", "1.5kb")] == [5e8, 2**30, 10, 1500.0]


# ---- Removing ----


def prune(output: Path, *arguments: object, code: int = 0) -> str:
    return carbonmon("runs", "prune", "--output", output, *arguments, code=code).output


def test_without_yes_nothing_is_removed_and_it_is_said_what_would_be(output: Path):
    text = prune(output, "--older-than", "1s")
    assert "would go: 5 runs of 5" in text
    assert "Remove them: --yes" in text
    assert len(list(output.iterdir())) == 5


def test_old_runs_go_and_younger_ones_stay(output: Path):
    a_run(output, "new", start_s=4_000_000_000.0)
    text = prune(output, "--older-than", "7d", "--yes")
    assert "removed: 5 runs of 6" in text
    assert [path.name for path in output.iterdir()] == ["new"]


def test_the_oldest_go_until_the_rest_is_small_enough(output: Path):
    size = sum(512 * file.stat().st_blocks for file in (output / "a").iterdir())
    prune(output, "--keep-size", f"{2 * size + size // 2}B", "--yes")
    assert sorted(path.name for path in output.iterdir()) == ["c", "e"]


def test_nothing_goes_that_is_not_an_ended_run_of_ours(output: Path, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    target = a_run(elsewhere, "target")
    (output / "link").symlink_to(target)
    (output / "notes").mkdir()
    (output / "notes" / "precious.txt").write_text("mine")
    (output / "a" / "model.pt").write_text("mine")
    (output / "b" / layout.SUMMARY_FILE).unlink()
    (output / "b" / layout.SUMMARY_FILE).symlink_to(target / layout.SUMMARY_FILE)
    (output / "c" / layout.SUMMARY_FILE).write_text("{")
    text = prune(output, "--older-than", "1s", "--yes")
    assert {path.name for path in output.iterdir()} == {"link", "notes", "a", "b", "c"}
    assert "'a' stays: it holds 'model.pt', which is no file of a run" in text
    assert "'link' stays: it is no folder" in text
    assert len(list(target.iterdir())) == 4


def test_a_run_that_a_monitor_writes_stays(output: Path):
    import fcntl

    with (output / "a" / layout.SERIES_FILE).open() as series:
        fcntl.flock(series, fcntl.LOCK_EX)
        text = prune(output, "--older-than", "1s", "--yes")
    assert "'a' stays: it is running" in text
    assert [path.name for path in output.iterdir()] == ["a"]


def test_a_run_whose_monitor_was_just_lost_stays_for_a_day(output: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("time.time", lambda: NOW_S + 300 + 3600 + 80_000.0)
    assert "'e' stays: its monitor was lost within a day" in prune(output, "--keep-size", "1B")
    monkeypatch.setattr("time.time", lambda: NOW_S + 300 + 3600 + 90_000.0)
    assert "would go: 5 runs" in prune(output, "--keep-size", "1B")


def test_what_a_killed_writer_left_goes_with_its_run(output: Path):
    (output / "a" / ".checkpoint.json.123.tmp").write_text("half")
    prune(output, "--older-than", "1s", "--yes")
    assert not (output / "a").exists()


def test_a_hidden_file_of_the_user_s_keeps_the_run(output: Path):
    (output / "a" / ".weights.tmp").write_text("mine")
    assert "'a' stays: it holds '.weights.tmp'" in prune(output, "--older-than", "1s", "--yes")
    assert [path.name for path in output.iterdir()] == ["a"]


def test_a_config_behind_the_word_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "carbonmon-runs", "here")
    a_run(tmp_path / "other", "there")
    (tmp_path / "other.toml").write_text('output = "other"\n')
    words = ("--older-than", "1s", "--yes")
    assert "other/there" in carbonmon("runs", "prune", "--config", "other.toml", *words).output
    assert (tmp_path / "carbonmon-runs" / "here").exists()
    assert not (tmp_path / "other" / "there").exists()


def test_of_two_folders_to_remove_from_none_is_taken(output: Path):
    words = ("prune", "--daemon", "--output", output, "--older-than", "1s", "--yes")
    assert "exclude one another" in carbonmon("runs", *words, code=2).output
    assert len(list(output.iterdir())) == 5


def test_a_run_that_was_resumed_ended_when_it_ended(output: Path, monkeypatch: pytest.MonkeyPatch):
    """Its duration leaves out the forty days in which it did not run."""
    path = output / "a" / layout.SUMMARY_FILE
    summary = json.loads(path.read_text())
    summary["run"]["ended_at"] = "2026-12-31T00:00:00Z"
    path.write_text(json.dumps(summary))
    monkeypatch.setattr("time.time", lambda: datetime(2027, 1, 2).timestamp())
    prune(output, "--older-than", "7d", "--yes")
    assert [path.name for path in output.iterdir()] == ["a"]
    assert [row["run_id"] for row in listed(output, "--month", "2026-12")] == ["a"]


def test_another_prune_may_have_been_faster(output: Path):
    pruning.remove(output / "a")
    pruning.remove(output / "a")


def test_a_file_that_comes_between_the_look_and_the_removal_is_kept(output: Path):
    (output / "a" / "model.pt").write_text("mine")
    with pytest.raises(ConfigError, match="cannot be removed: Directory not empty"):
        pruning.remove(output / "a")
    assert [path.name for path in (output / "a").iterdir()] == ["model.pt"]


def test_a_link_in_the_place_of_a_run_is_not_followed(output: Path):
    (output / "link").symlink_to(output / "a")
    with pytest.raises(ConfigError, match="cannot be removed"):
        pruning.remove(output / "link")
    assert len(list((output / "a").iterdir())) == 4
