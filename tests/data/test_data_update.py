"""A yearly update from recorded releases: what moves, in the output and in a file, and what is refused."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from carbonmon import data
from carbonmon.cli.data import command
from carbonmon.data import PACKAGE
from carbonmon.data.table import read_table

FOLDER = "codecarbon/data/private_infra/"
RECORDED: dict[str, Any] = {  # cut down from CodeCarbon 3.3.2
    "2023/usa_emissions.json": {
        "_unit": {"emissions": "lbs/MWh", "regionCode": "2 digit state/region code"},
        "_source": {"name": "EPA eGRID2023, annual CO2 equivalent total output emission rate", "year": 2023},
        "alabama": {"emissions": 713.976, "regionCode": "AL"},
        "alaska": {"emissions": 814.457, "regionCode": "AK"},
        "usa": {"emissions": 770.9, "regionCode": "USA"},
    },
    "2023/china_provincial_emissions.json": {
        "data": {"CN-BJ": {"emission_factor": 555.4, "year": 2023}},
        "metadata": {"announcement": "2025 No. 47"},
    },
    "nordic_emissions.json": {
        "data": {
            "SE1": {"emission_factor": 25.9, "year": 2025, "coverage": "99.59% (uncovered: Other 0.41%)"},
            "FI": {"emission_factor": 72.0, "year": 2025},
        }
    },
}
OWID = "Entity,Code,Year,Carbon intensity of electricity - gCO2/kWh\n" + "".join(
    f"{name},{code},2025,{grams}\n"  # Our World in Data, the places of the package and newer figures
    for name, code, grams in (
        *(
            ("France", "FRA", 41.4),
            ("Germany", "DEU", 329.7),
            ("Poland", "POL", 588.6),
            ("Spain", "ESP", 153.6),
        ),
        *(("Belgium", "BEL", 149.8), ("Sweden", "SWE", 35.3), ("India", "IND", 670.1)),
    )
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CARBONMON_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "carbonmon"


def wheel(folder: Path, version: str = "3.3.2", **changed: Any) -> Path:
    """A wheel with the recorded files, some of them changed: by the beginning of their name."""
    path = folder / f"codecarbon-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, document in RECORDED.items():
            start = Path(name).name.split("_")[0]
            archive.writestr(FOLDER + name, json.dumps(changed.get(start, document)))
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(command, ["update", *(str(word) for word in words)])


def row(folder: Path, zone: str, part_of_source: str) -> dict[str, str]:
    records = read_table(folder / "carbon_intensity.csv").records
    return next(r.row for r in records if r.row["zone"] == zone and part_of_source in r.row["source"])


def test_the_release_that_the_tables_are_from_changes_nothing(tmp_path: Path, home: Path) -> None:
    result = run("--from", wheel(tmp_path))
    assert result.exit_code == 0, result.output
    assert "503 rows, as they were" in result.output
    assert "nothing to write" in result.output
    assert not home.exists()


def test_a_newer_release_moves_its_rows_with_year_and_source(tmp_path: Path, home: Path) -> None:
    states = {**RECORDED["2023/usa_emissions.json"], "_source": {"year": 2024}}
    zones = {"data": {"SE1": {"emission_factor": 24.4, "year": 2026, "coverage": "99.9% (uncovered: Other)"}}}
    result = run("--from", wheel(tmp_path, "4.0.0", usa=states, nordic=zones))
    assert result.exit_code == 0, result.output
    alabama, sweden = row(home, "US-AL", "eGRID"), row(home, "SE-SE1", "CodeCarbon")
    assert (alabama["intensity_gco2eq_per_kwh"], alabama["data_year"]) == ("323.85", "2024")
    assert alabama["source"] == "EPA eGRID2024 STC2ERTA (via CodeCarbon 4.0.0)"
    assert (sweden["intensity_gco2eq_per_kwh"], sweden["note"]) == ("24.4", "99.9% (uncovered: Other)")
    assert "CodeCarbon 4.0.0 nordic_emissions.json" in sweden["source"]
    assert row(home, "CN-BJ", "China") == row(PACKAGE, "CN-BJ", "China")
    assert row(home, "US-AL", "Ember") == row(PACKAGE, "US-AL", "Ember")


def test_an_older_figure_and_a_zone_that_is_new_are_told_and_left_out(tmp_path: Path, home: Path) -> None:
    provinces = {
        "data": {
            "CN-BJ": {"emission_factor": 600, "year": 2022},
            "CN-XZ": {"emission_factor": 1, "year": 2024},
        }
    }
    output = run("--from", wheel(tmp_path, "3.0.0", china=provinces)).output
    assert "CN-BJ: the table's figure of 2023 is newer" in output
    assert "CN-XZ is no row of the table that is from there: left out" in output
    assert not home.exists()


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"_source": {}}, "usa_emissions.json is not as it used to be: KeyError('year')"),
        ({"_source": {"year": 2024}, "x": {"emissions": "many", "regionCode": "AL"}}, "could not convert"),
        ([], "usa_emissions.json is not as it used to be"),
        ({"_source": {"year": 2024}, "x": {"emissions": 9e9, "regionCode": "AL"}}, "no number from 0 to"),
    ],
)
def test_a_release_that_has_become_another_is_refused(
    tmp_path: Path, home: Path, document: Any, reason: str
) -> None:
    result = run("--from", wheel(tmp_path, "9.0.0", usa=document))
    assert result.exit_code == 1
    assert reason in result.output
    assert not home.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"PK\x05\x06" + 18 * b"\0"])
def test_a_file_that_is_only_called_a_wheel_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "codecarbon-4.0.0-py3-none-any.whl"
    path.write_bytes(content)
    result = run("--from", path)
    assert result.exit_code == 1
    assert "no wheel that can be read" in result.output or "it has no usa_emissions.json" in result.output


# ---- the diff ----


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Everything that is newer this year, in one folder."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "carbon-intensity-electricity.csv").write_text(OWID, encoding="utf-8")
    states = {**RECORDED["2023/usa_emissions.json"], "alabama": {"emissions": 700, "regionCode": "AL"}}
    wheel(folder, "4.0.0", usa=states)
    return folder


def test_a_folder_of_sources_is_one_update_and_says_what_moves(sources: Path, home: Path) -> None:
    result = run("--from", sources)
    assert result.exit_code == 0, result.output
    assert "8 figures move: half of them by -5% to +3%" in result.output
    assert "BE: 117.58 → 149.8 (+27%)" in result.output
    assert row(home, "FR", "Ember")["intensity_gco2eq_per_kwh"] == "41.4"
    assert row(home, "US-AL", "eGRID")["intensity_gco2eq_per_kwh"] == "317.51"


def test_a_dry_run_says_the_same_and_writes_nothing(sources: Path, home: Path) -> None:
    dry = run("--from", sources, "--dry-run")
    assert dry.exit_code == 0
    assert "a dry run: no table is written" in dry.output
    assert not home.exists()
    wet = run("--from", sources).output
    assert dry.output.splitlines()[:-1] == wet.splitlines()[: len(dry.output.splitlines()) - 1]


def test_every_cell_that_changes_is_in_the_file(sources: Path, tmp_path: Path) -> None:
    diff = tmp_path / "diff.csv"
    assert run("--from", sources, "--dry-run", "--diff", diff).exit_code == 0
    with diff.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    belgium = [each for each in rows if each["row"].startswith("BE | Ember")]
    assert [(each["column"], each["old"], each["new"]) for each in belgium] == [
        ("intensity_gco2eq_per_kwh", "117.58", "149.8"),
        ("data_year", "2024", "2025"),
        ("source_year", "2025", "2026"),
    ]
    clouds = {each["row"] for each in rows if each["table"] == "cloud_regions.csv"}
    assert "gcp | europe-west1" in clouds
    egrid = [(each["column"], each["old"], each["new"]) for each in rows if "US-AL | EPA" in each["row"]]
    assert egrid == [
        ("intensity_gco2eq_per_kwh", "323.85", "317.51"),
        (
            "source",
            "EPA eGRID2023 rev2 STC2ERTA (via CodeCarbon 3.3.2)",
            "EPA eGRID2023 STC2ERTA (via CodeCarbon 4.0.0)",
        ),
    ]


def test_a_diff_that_cannot_be_written_is_told(sources: Path, tmp_path: Path) -> None:
    result = run("--from", sources, "--dry-run", "--diff", tmp_path / "no" / "diff.csv")
    assert result.exit_code == 2
    assert "No such file or directory" in result.output


def test_the_bundled_tables_stay_as_they_are(sources: Path) -> None:
    before = (PACKAGE / "carbon_intensity.csv").read_bytes()
    run("--from", sources)
    assert (PACKAGE / "carbon_intensity.csv").read_bytes() == before
    assert data.data_file("carbon_intensity.csv").parent != PACKAGE
