"""Runs of every release before are read, reported, settled and resumed by this one."""

from __future__ import annotations

import csv
import io
import json
import shutil
import time
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from carbonmon.client.protocol import BOOT_CLOCK
from carbonmon.runs.summary.file import SCHEMA_FILE
from tests.fixtures import record
from tests.support import command
from tests.support.strictness import with_new_fields

pytestmark = pytest.mark.e2e

RELEASES = sorted(Path(record.__file__).parent.glob("runs-*"))
FORMS = ("text", "markdown", "model-card", "csv")
NAMES = ("ended", "estimated", "killed")
SCHEMA = json.loads(SCHEMA_FILE.read_bytes())


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of one release's runs, below ./carbonmon-runs."""
    shutil.copytree(request.param, tmp_path / "carbonmon-runs")
    return tmp_path / "carbonmon-runs"


def run(output: Path, *arguments: str, **more: Any) -> str:
    done = command.run(arguments, output.parent, **more)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@cache
def validator() -> Any:
    import jsonschema  # takes seconds: no other worker needs it

    return jsonschema.validators.validator_for(SCHEMA)(SCHEMA)


def validate(document: Any) -> None:
    """Against the schema, which tests/runs/test_summary_document.py checks."""
    validator().validate(document)


def seconds(time: str) -> float:
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()


def test_there_are_runs_of_a_release() -> None:
    assert [release.name for release in RELEASES][:1] == ["runs-0.1.0"]
    for release in RELEASES:
        assert sorted(path.name for path in release.iterdir()) == sorted(NAMES)


def test_no_fixture_tells_where_it_was_recorded() -> None:
    for release in RELEASES:
        for path in release.glob("*/*"):
            text = path.read_text()
            assert "/tmp/" not in text and "/home/" not in text and "/root" not in text, path
            if path.name == "run.json":
                assert json.loads(text)["run"]["host"] == "node-1"


def test_each_run_is_reported_in_every_form(output: Path) -> None:
    for name in NAMES:
        found = json.loads(run(output, "report", name, "--format", "json"))
        validate(found)
        assert found["state"] == ("recovered" if name == "killed" else "final")
        assert (found["energy"]["measured_ratio"] > 0.99) == (name != "estimated")
        kept = json.loads((output / name / "summary.json").read_text())
        if name != "killed":
            assert found == kept
        assert 0.0 < found["energy"]["total_j"] >= kept["energy"]["total_j"]
        for form in set(FORMS) - {"csv"}:
            assert len(run(output, "report", name, "--format", form).splitlines()) > 5, form
        rows = list(csv.reader(io.StringIO(run(output, "report", name, "--format", "csv"))))
        assert len({len(row) for row in rows}) == 1 and len(rows) > 1


def test_a_run_of_a_newer_version_with_fields_that_are_unknown_here_is_reported(output: Path) -> None:
    path = output / "ended" / "summary.json"
    known = {form: run(output, "report", "ended", "--format", form) for form in FORMS}
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(with_new_fields(summary)))
    other = output.parent / "node-2.json"
    other.write_text(json.dumps(summary | {"run": summary["run"] | {"host": "node-2"}}))
    assert {form: run(output, "report", "ended", "--format", form) for form in FORMS} == known
    for form in FORMS:
        run(output, "report", "--merge", "--format", form, str(path), str(other))


def test_the_series_of_each_run_is_shown_over_time_and_adds_up(output: Path) -> None:
    for name in NAMES:
        text = run(output, "report", name, "--format", "csv", "--series")
        rows = list(csv.DictReader(io.StringIO(text)))
        summary = json.loads(run(output, "report", name, "--format", "json"))
        series_j = sum(float(row["energy_j"]) for row in rows)
        if name == "killed":
            assert 0.0 <= series_j <= summary["energy"]["total_j"]
            continue
        assert series_j == pytest.approx(summary["energy"]["total_j"], abs=0.05)
        grams = sum(float(row["emissions_g"]) for row in rows)
        assert grams == pytest.approx(summary["carbon"]["emissions_g"], abs=1e-6)
        assert {row["component"] for row in rows} == set(summary["energy"]["components"])


def test_each_run_is_settled(output: Path) -> None:
    for name in NAMES:
        live = json.loads(run(output, "report", name, "--format", "json"))
        start_s = seconds(live["run"]["started_at"]) // 3600 * 3600
        rows = [
            f"{start_s + hour * 3600:.0f},{live['carbon']['intensity']['mean_g_per_kwh']}"
            for hour in range(3)
        ]
        grid = output.parent / "grid.csv"
        grid.write_text("\n".join(["time,intensity", *rows]) + "\n")
        if name == "killed":  # settling is for runs that ended
            done = command.run(["settle", name, "--intensity-file", str(grid)], output.parent)
            assert "Traceback" not in done.stderr
            continue
        run(output, "settle", name, "--intensity-file", str(grid))
        after = json.loads((output / name / "summary.json").read_text())
        validate(after)
        assert {**after, "settled": None} == {**live, "settled": None}, "the live figures stay"
        assert after["settled"]["emissions_g"] == pytest.approx(live["carbon"]["emissions_g"], rel=0.02)


def test_a_killed_run_is_resumed_after_another_boot(output: Path) -> None:
    before = json.loads((output / "killed" / "checkpoint.json").read_text())
    with record.machine() as machine:
        options = ["--sysfs", str(machine.sysfs), "--interval", "0.1", "--region", "FR", "--gpus", "0,1"]
        run(output, "run", *options, "--resume", "killed", "--", "sleep", "0.5", env=machine.environ)
    found = json.loads((output / "killed" / "summary.json").read_text())
    validate(found)
    energy_j = sum(row[4] for row in before["totals"])
    assert found["state"] == "final"
    assert energy_j + 100.0 < found["energy"]["total_j"] < energy_j + 2000.0, "it goes on from its totals"
    assert found["energy"]["recovered_j"] == 0.0, "no counter knows another boot"
    assert (
        found["run"]["started_at"]
        == json.loads(run(output, "report", "killed", "--format", "json"))["run"]["started_at"]
    )
    assert dict(found["run"]["labels"]) == {"team": "vision"}
    assert all(device["unobserved_s"] > 0.0 for device in found["energy"]["devices"])
    assert len((output / "killed" / "series.jsonl").read_text().splitlines()) >= 3


def test_a_killed_run_is_resumed_on_the_same_boot_though_its_counters_began_anew(output: Path) -> None:
    """The files are the release's; boot and clocks are moved to this machine's, seconds ago."""
    path = output / "killed" / "checkpoint.json"
    document = json.loads(path.read_text())
    document["boot_id"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    document["clock_s"], document["at_s"] = time.clock_gettime(BOOT_CLOCK) - 2.0, time.time() - 2.0
    path.write_text(json.dumps(document))
    with record.machine() as machine:
        options = ["--sysfs", str(machine.sysfs), "--interval", "0.1", "--region", "FR", "--gpus", "0,1"]
        run(output, "run", *options, "--resume", "killed", "--", "sleep", "0.5", env=machine.environ)
    found = json.loads((output / "killed" / "summary.json").read_text())
    validate(found)
    energy_j = sum(row[4] for row in document["totals"])
    assert found["state"] == "final"
    assert energy_j + 100.0 < found["energy"]["total_j"] < energy_j + 3000.0
    gpus = [device for device in found["energy"]["devices"] if device["component"] == "gpu"]
    assert [device["anomalies"]["reset"] for device in gpus] == [1, 1]
