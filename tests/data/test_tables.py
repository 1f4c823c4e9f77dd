"""Making the tables from their sources: what is taken, what is refused; a refusal replaces nothing."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from carbonmon import data
from carbonmon.cli.data import command
from carbonmon.core.errors import ConfigError
from carbonmon.data import FORMATS, PACKAGE, Row, editions
from carbonmon.data.corrections import WHOLE_ROW
from carbonmon.data.table import Place, Record, TableError, read_table
from carbonmon.grid.default_intensity import world_default
from carbonmon.grid.regions import resolve
from carbonmon.hardware.spec_sheets import gpu_spec


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with a home of his own, who has no tables yet."""
    monkeypatch.delenv("CARBONMON_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "carbonmon"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of source tables: the package's without their corrections."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in uncorrected().items():
        (folder / name).write_bytes(content)
    return folder


@functools.cache
def uncorrected() -> dict[str, bytes]:
    """The package's tables given back what the corrections took."""
    found = {name: read_table(PACKAGE / name) for name in editions.SOURCES}
    corrections = read_table(PACKAGE / "corrections.csv")
    keys = {name: [table.key(record) for record in table.records] for name, table in found.items()}
    for correction in reversed(corrections.records):
        row, table = correction.row, found[correction.row["table"]]
        at = keys[table.name].index(row["key"])
        if row["column"] == WHOLE_ROW and not row["old"]:
            del table.records[at], keys[table.name][at]
        elif row["column"] == WHOLE_ROW:
            cells = next(csv.reader([row["old"]]))
            gone = dict(zip(table.format.columns, cells, strict=True))
            table.records.insert(at, Record(gone, Place(table.path, 0)))
            keys[table.name].insert(at, table.key(table.records[at]))
        else:
            table.records[at].row[row["column"]] = row["old"]
            keys[table.name][at] = table.key(table.records[at])
    editions.fill_defaults(found["cloud_regions.csv"], found["carbon_intensity.csv"])
    return {name: table.csv() for name, table in found.items()}


def changed(path: Path, change: Callable[[Row], None], only: Callable[[Row], bool]) -> None:
    """Rewrite a table with some rows changed."""
    table = read_table(path)
    hits = [row for row, _ in table.records if only(row)]
    assert hits
    for row in hits:
        change(row)
    path.write_bytes(table.csv())


def setting(column: str, value: str) -> Callable[[Row], None]:
    return lambda row: row.__setitem__(column, value)


def having(column: str, value: str) -> Callable[[Row], bool]:
    return lambda row: row[column] == value


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


# ---- the package's own tables ----


def test_the_sources_with_their_corrections_are_the_packages_tables_to_the_byte(
    source: Path, tmp_path: Path
) -> None:
    assert (source / "gpus.csv").read_bytes() != (PACKAGE / "gpus.csv").read_bytes()
    update = editions.update(source, tmp_path / "into")
    for name in editions.SOURCES:
        assert (tmp_path / "into" / name).read_bytes() == (PACKAGE / name).read_bytes(), name
    assert update.corrected == len(read_table(PACKAGE / "corrections.csv").records)
    assert update.notes == ()
    assert {path.name for path in update.written} == set(editions.SOURCES)


def test_an_update_that_brings_nothing_new_writes_nothing(source: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    editions.update(source, into)
    stamps = {path.name: path.stat().st_mtime_ns for path in into.iterdir()}
    again = editions.update(source, into)
    assert again.written == ()
    assert {path.name: path.stat().st_mtime_ns for path in into.iterdir()} == stamps


def test_what_the_package_has_already_is_not_copied_into_the_users_folder(source: Path, home: Path) -> None:
    result = run("update", "--from", source)
    assert result.exit_code == 0
    assert "nothing to write" in result.output
    assert files(home) == {}


def test_a_newer_table_lands_in_the_users_folder_and_is_used_from_then_on(source: Path, home: Path) -> None:
    changed(source / "gpus.csv", setting("tdp_w", "170"), having("model", "A30"))
    result = run("update", "--from", source)
    assert result.exit_code == 0, result.output
    assert "A30: 165 → 170 (+3%)" in result.output
    assert set(files(home)) == {"gpus.csv"}
    spec = gpu_spec("NVIDIA A30")
    assert spec is not None
    assert spec.tdp_w == 170
    assert f"before them gpus.csv: {home}" in run().output


def test_tables_that_no_look_up_will_use_are_called_that(
    source: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(source / "gpus.csv", setting("tdp_w", "170"), having("model", "A30"))
    monkeypatch.setenv("CARBONMON_DATA", "package")
    output = run("update", "--from", source).output
    assert "CARBONMON_DATA is set, so that look-ups do not use them" in output
    assert set(files(home)) == {"gpus.csv"}


def test_rows_that_came_and_went_are_named(source: Path, tmp_path: Path) -> None:
    table = read_table(source / "pue_water.csv")
    table.records = [record for record in table.records if record.row["provider"] != "equinix"]
    new = dict(table.records[0].row, provider="hetzner", scope="fleet", pue_ratio="1.16")
    table.records.append(Record(new, table.top))
    (source / "pue_water.csv").write_bytes(table.csv())
    result = run("update", "--from", source / "pue_water.csv", "--into", tmp_path / "into")
    assert result.exit_code == 0, result.output
    assert "22 rows, now 22: 1 added, 1 removed" in result.output
    assert "+ hetzner | fleet | 2025" in result.output
    assert "- equinix | fleet | 2023" in result.output


def test_columns_in_another_order_are_the_same_table(source: Path, tmp_path: Path) -> None:
    with (source / "cpus.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    with (source / "cpus.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(row[::-1] for row in rows)
    editions.update(source / "cpus.csv", tmp_path / "into")
    assert (tmp_path / "into" / "cpus.csv").read_bytes() == (PACKAGE / "cpus.csv").read_bytes()


# ---- corrections ----


def test_a_source_that_mended_itself_is_left_as_it_is(source: Path, tmp_path: Path) -> None:
    changed(source / "cpus.csv", setting("tdp_w", "125"), having("match_key", "core i7-12700k"))
    update = editions.update(source, tmp_path / "into")
    assert update.notes == ()
    assert (tmp_path / "into" / "cpus.csv").read_bytes() == (PACKAGE / "cpus.csv").read_bytes()


def test_a_source_that_says_a_third_thing_is_believed_and_the_correction_reported(
    source: Path, tmp_path: Path
) -> None:
    changed(source / "cpus.csv", setting("tdp_w", "120"), having("match_key", "core i7-12700k"))
    update = editions.update(source, tmp_path / "into")
    assert len(update.notes) == 1
    assert "cpus.csv: core i7-12700k: tdp_w is '120' now, neither old nor new" in update.notes[0]
    table = read_table(tmp_path / "into" / "cpus.csv")
    assert next(r.row for r in table.records if r.row["match_key"] == "core i7-12700k")["tdp_w"] == "120"


def test_a_source_that_has_an_added_row_by_now_is_believed(source: Path, tmp_path: Path) -> None:
    table = read_table(source / "cpus.csv")
    own = dict(table.records[0].row, match_key="epyc 9r14", name="AMD EPYC 9R14", tdp_w="370", cores="96")
    table.records.append(Record(own, table.top))
    (source / "cpus.csv").write_bytes(table.csv())
    update = editions.update(source, tmp_path / "into")
    assert len(update.notes) == 1
    assert "cpus.csv: epyc 9r14 is a row of the source by now" in update.notes[0]
    rows = [r.row for r in read_table(tmp_path / "into" / "cpus.csv").records]
    assert [row["tdp_w"] for row in rows if row["match_key"] == "epyc 9r14"] == ["370"]


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("epyc 1,EPYC 1,100", "new has 3 fields, a row of cpus.csv has 6"),
        ("x,X,1,1,s,", "new is not the row of this key"),
    ],
)
def test_an_added_row_that_is_none_is_a_fault_of_the_corrections(
    tmp_path: Path, new: str, reason: str
) -> None:
    table = read_table(PACKAGE / "corrections.csv")
    cells = ("cpus.csv", "epyc 1", WHOLE_ROW, "", new, "a reason", "a source")
    table.records.append(Record(dict(zip(table.format.columns, cells, strict=True)), table.top))
    (tmp_path / "corrections.csv").write_bytes(table.csv())
    result = run("check", tmp_path)
    assert result.exit_code == 1
    assert reason in result.output


def test_a_correction_of_a_row_that_is_gone_is_reported(source: Path, tmp_path: Path) -> None:
    table = read_table(source / "cpus.csv")
    table.records = [r for r in table.records if r.row["match_key"] != "core i7-1270p"]
    (source / "cpus.csv").write_bytes(table.csv())
    notes = editions.update(source, tmp_path / "into").notes
    assert notes
    assert all("core i7-1270p is no row of the table any more" in note for note in notes)


# ---- Our World in Data ----

OWID = """Entity,Code,Year,Carbon intensity of electricity - gCO2/kWh
Africa,,2025,500
ASEAN (Ember),,2025,600
Atlantis,ATL,2025,3
Central African Republic,CAF,2025,24.4
France,FRA,2024,44.1
France,FRA,2025,41.987
Germany,DEU,2025,330
Ireland,IRL,2020,100
Kosovo,OWID_KOS,2025,940.5
Western Sahara,ESH,2009,666.67
World,OWID_WRL,2025,460.3
"""


@pytest.fixture
def owid(tmp_path: Path) -> Path:
    path = tmp_path / "carbon-intensity-electricity.csv"
    path.write_text(OWID, encoding="utf-8")
    return path


def test_the_newest_year_of_each_country_is_taken_and_other_rows_stay(owid: Path, home: Path) -> None:
    result = run("update", "--from", owid)
    assert result.exit_code == 0, result.output
    assert "FR: 44.18 → 41.99 (-5%)" in result.output
    france = resolve("FR").intensity
    assert (france.g_per_kwh, france.year) == (41.99, 2025)
    assert resolve("XK").intensity.g_per_kwh == 940.5
    assert world_default().g_per_kwh == 460.3
    assert resolve("IE").intensity.year == 2024  # the file's is older
    before, after = (
        [row for row, _ in read_table(folder / "carbon_intensity.csv").records] for folder in (PACKAGE, home)
    )
    differ = {new["zone"] for old, new in zip(before, after, strict=True) if new != old}
    assert differ == {"CF", "EH", "FR", "DE", "XK", "WORLD"}  # EH: the edition alone


def test_what_the_file_has_and_the_table_cannot_take_is_said(owid: Path, tmp_path: Path) -> None:
    output = run("update", "--from", owid, "--into", tmp_path / "into").output
    assert "Atlantis (ATL) is no place of the table: left out" in output
    assert "Ireland (IRL): the table's figure of 2024 is newer" in output


def test_a_country_whose_figure_has_become_possible_is_used_again(owid: Path, tmp_path: Path) -> None:
    assert "is unusable" in resolve("CF").note
    editions.update(owid, data.user_folder() or tmp_path)
    assert resolve("CF").intensity.zone == "CF"
    assert resolve("CF").intensity.g_per_kwh == 24.4
    assert resolve("CF").note == ""
    assert "is unusable" in resolve("EH").note  # still of 2009


def test_an_impossible_zero_is_not_used(owid: Path, home: Path) -> None:
    owid.write_text(OWID.replace("FRA,2025,41.987", "FRA,2025,0") + "Chad,TCD,2025,0\n", encoding="utf-8")
    result = run("update", "--from", owid)
    assert result.exit_code == 1  # cloud regions lie in France
    assert "FR has no figure that may be used" in result.output
    owid.write_text(OWID + "Chad,TCD,2025,0\n", encoding="utf-8")
    assert run("update", "--from", owid).exit_code == 0
    assert "impossible zero" in resolve("TD").note


def test_the_cloud_regions_follow_the_figures_of_their_zones(owid: Path, home: Path) -> None:
    run("update", "--from", owid)
    rows = [r.row for r in read_table(home / "cloud_regions.csv").records if r.row["zone"] == "FR"]
    assert rows
    assert {(row["default_gco2eq_per_kwh"], row["default_year"]) for row in rows} == {("41.99", "2025")}
    assert resolve("aws:eu-west-3").intensity.g_per_kwh == 41.99


def test_a_newer_edition_comes_on_top_of_the_users_own_tables(owid: Path, home: Path) -> None:
    run("update", "--from", owid)
    owid.write_text("Entity,Code,Year,Value\nFrance,FRA,2026,40\n", encoding="utf-8")
    run("update", "--from", owid)
    assert (resolve("FR").intensity.year, resolve("DE").intensity.year) == (2026, 2025)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("France,FRA,2025,many", "is no number"),
        ("France,FRA,this year,40", "is no number"),
        ("France,FRA,2025,nan", "is no number"),
        ("France,FRA,2025,-3", "no number from 0 to 1500"),
        ("France,FRA,2025,41987", "no number from 0 to 1500"),
        ("France,FRA,2025", "3 fields, where the header has 4"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_its_file_and_line(
    owid: Path, home: Path, row: str, reason: str
) -> None:
    owid.write_text(f"Entity,Code,Year,Value\nGermany,DEU,2025,330\n{row}\n", encoding="utf-8")
    result = run("update", "--from", owid)
    assert result.exit_code == 1
    assert f"{owid}, line 3: " in result.output
    assert reason in result.output
    assert files(home) == {}


# ---- places ----


@pytest.mark.parametrize(
    ("cell", "text", "reason"),
    [
        ("zone", "XX", "XX is no zone of carbon_intensity.csv"),
        ("names", "deutschland|france", "'france' is another zone's name"),
        ("names", "deutschland|deutschland", "names has an empty one, or one twice"),
        ("kind", "town", "none of name, part, grid, subregion"),
    ],
)
def test_a_place_that_means_nothing_or_another_zone_is_a_fault(
    tmp_path: Path, cell: str, text: str, reason: str
) -> None:
    for name in editions.SOURCES:
        (tmp_path / name).write_bytes((PACKAGE / name).read_bytes())
    (tmp_path / "places.csv").write_bytes((PACKAGE / "places.csv").read_bytes())
    assert run("check", tmp_path).exit_code == 0
    changed(tmp_path / "places.csv", setting(cell, text), lambda row: row["kind"] + row["zone"] == "nameDE")
    result = run("check", tmp_path)
    assert result.exit_code == 1
    assert reason in result.output


def test_a_new_edition_of_the_intensities_alone_takes_the_cloud_regions_along(
    source: Path, home: Path
) -> None:
    lone = source / "carbon_intensity.csv"
    changed(lone, setting("intensity_gco2eq_per_kwh", "111.5"), having("zone", "DE"))
    update = editions.update(lone, home)
    assert update.notes == ()
    clouds = {row["region"]: row for row, _ in read_table(home / "cloud_regions.csv").records}
    assert clouds["fsn1"]["default_gco2eq_per_kwh"] == "111.5"
    assert editions.update(lone, home).written == ()


# ---- what is refused ----

REFUSED = [
    ("carbon_intensity.csv", "zone", "FR", "intensity_gco2eq_per_kwh", "1600", "no number from 0 to 1500"),
    ("carbon_intensity.csv", "zone", "FR", "intensity_gco2eq_per_kwh", "nan", "no number from 0 to 1500"),
    ("carbon_intensity.csv", "zone", "FR", "intensity_gco2eq_per_kwh", "0.0", "a figure that is used is 0"),
    ("carbon_intensity.csv", "zone", "FR", "basis", "both", "none of lifecycle, direct"),
    ("carbon_intensity.csv", "zone", "FR", "licence", "", "licence is empty"),
    ("carbon_intensity.csv", "zone", "FR", "data_year", "24", "no year"),
    ("carbon_intensity.csv", "zone", "FR", "iso_alpha3", "EU", "has an iso_alpha3"),
    ("carbon_intensity.csv", "zone", "WORLD", "preferred", "0", "WORLD has no preferred row"),
    ("carbon_intensity.csv", "zone", "US", "preferred", "1", "US has two preferred rows"),
    ("carbon_intensity.csv", "zone", "US-VA", "zone", "US-XX", "US-VA has no figure that may be used"),
    ("cloud_regions.csv", "region", "us-east-1", "zone", "US-XX", "US-XX has no figure that may be used"),
    ("cloud_regions.csv", "region", "us-east-1", "region_pue", "0.9", "no number from 1 to 3"),
    ("cloud_regions.csv", "region", "us-east-2", "region", "us-east-1", "is there twice, also on line 2"),
    ("gpus.csv", "model", "A30", "tdp_w", "16500", "no number from 10 to 2000"),
    ("gpus.csv", "model", "T4", "idle_w", "80", "no number from 1 to 70"),
    ("gpus.csv", "model", "A30", "name_regex", "A30(", "is no regular expression"),
    ("gpus.csv", "model", "A30", "name_regex", "A30 PCIe", "does not fit 'NVIDIA A30', as NVML names it"),
    ("gpus.csv", "model", "A30", "name_regex", "A30", "fits 'NVIDIA A30X', that of A30X"),
    ("gpus.csv", "model", "GeForce RTX 4090", "name_regex", "RTX 4090", "that of a board which the table"),
    ("gpus.csv", "model", "A30", "model", "a40", "is there twice"),
    ("cpus.csv", "match_key", "epyc 7763", "tdp_w", "many", "no number from 0.01 to 1000"),
    ("cpus.csv", "match_key", "1075t", "tdp_w", "", "neither tdp_w nor cores is known"),
    ("cpus.csv", "match_key", "epyc 7763", "match_key", "epyc", "only a family's name"),
    ("pue_water.csv", "provider", "meta", "pue_ratio", "0.98", "no number from 1 to 5"),
    ("pue_water.csv", "provider", "aws", "preferred", "1", "aws has two preferred rows"),
]


@pytest.mark.parametrize(("name", "column", "value", "cell", "text", "reason"), REFUSED)
def test_a_table_that_breaks_a_rule_is_refused_with_its_line_and_nothing_is_replaced(
    source: Path, tmp_path: Path, name: str, column: str, value: str, cell: str, text: str, reason: str
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (into / "cpus.csv").write_bytes((PACKAGE / "cpus.csv").read_bytes())
    before = files(into)
    changed(source / name, setting(cell, text), having(column, value))
    changed(source / "cpus.csv", setting("tdp_w", "279"), having("match_key", "epyc 7713"))
    with pytest.raises(TableError) as error:
        editions.update(source, into)
    assert reason in str(error.value)
    assert f"{source / name}, line " in str(error.value) or "cloud_regions.csv, line " in str(error.value)
    assert files(into) == before


def test_the_line_of_a_fault_is_that_of_the_file(source: Path, tmp_path: Path) -> None:
    changed(source / "gpus.csv", setting("tdp_w", "16500"), having("model", "A30"))
    lines = (source / "gpus.csv").read_text(encoding="utf-8").splitlines()
    at = next(i for i, line in enumerate(lines, start=1) if ",16500," in line)
    with pytest.raises(TableError) as error:
        editions.update(source, tmp_path / "into")
    assert f"gpus.csv, line {at}: tdp_w is '16500'" in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("zone,zone_type\nFR,country\n", "not the columns of carbon_intensity.csv: it lacks iso_alpha2"),
        ("", "not the columns of carbon_intensity.csv"),
        ('a,b\n"1,2\n', "not a CSV file"),
    ],
)
def test_a_file_with_a_tables_name_must_be_that_table(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "carbon_intensity.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=reason):
        editions.update(path, tmp_path / "into")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "gpus.csv"
    path.write_bytes(b"vendor,model\n\xff\xfe,x\n")
    with pytest.raises(TableError, match="not a CSV file in UTF-8"):
        editions.update(path, tmp_path / "into")


def test_files_of_other_formats_are_left_out_and_named(source: Path, tmp_path: Path) -> None:
    (source / "notes.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (source / "SOURCES.md").write_text("text", encoding="utf-8")
    assert editions.update(source, tmp_path / "into").notes == (
        "notes.csv is of no format that is known here: left out",
    )


@pytest.mark.parametrize("content", [{}, {"notes.csv": "a,b\n1,2\n"}, {"notes.txt": "text"}])
def test_a_source_without_any_table_is_refused(tmp_path: Path, content: dict[str, str]) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="what can be taken are"):
        editions.update(folder, tmp_path / "into")


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    result = run("update", "--from", tmp_path / "nowhere.csv")
    assert result.exit_code == 2
    assert "cannot be read" in result.output


def test_the_same_table_twice_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "zz.csv").write_bytes((source / "gpus.csv").read_bytes())
    with pytest.raises(ConfigError, match=r"zz\.csv and gpus\.csv are both gpus\.csv"):
        editions.update(source, tmp_path / "into")


def test_a_damaged_table_of_the_users_own_can_be_replaced(source: Path, home: Path) -> None:
    home.mkdir(parents=True)
    (home / "gpus.csv").write_text("damaged\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="carbonmon data check"):
        gpu_spec("NVIDIA A30")
    assert run("check").exit_code == 1
    assert run("update", "--from", source / "gpus.csv").exit_code == 0
    assert gpu_spec("NVIDIA A30") is not None
    assert run("check").exit_code == 0


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be written"):
        editions.update(source, tmp_path / "file" / "into")


def test_tables_can_be_read_by_everybody(source: Path, tmp_path: Path) -> None:
    editions.update(source, tmp_path / "into")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "into").iterdir()} == {0o644}


# ---- the commands ----


def test_data_lists_every_table_with_its_rows_edition_and_licence() -> None:
    result = run()
    assert result.exit_code == 0
    for name in FORMATS:
        rows = len(read_table(PACKAGE / name).records)
        assert any(line.split()[:2] == [name, str(rows)] for line in result.output.splitlines()), name
    assert "data to 2025" in result.output
    assert data.EDITION in result.output
    assert "CC-BY-4.0" in result.output
    assert "SOURCES.md" in result.output


def test_data_check_finds_the_bundled_tables_sound() -> None:
    result = run("check")
    assert result.exit_code == 0, result.output
    assert result.output.count("sound") == len(FORMATS)
    assert "not in force" not in result.output


def test_data_check_of_a_folder_says_what_is_wrong_and_where(tmp_path: Path) -> None:
    table = read_table(PACKAGE / "cpus.csv")
    table.records[9].row["tdp_w"] = "-1"
    (tmp_path / "cpus.csv").write_bytes(table.csv())
    result = run("check", tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path / 'cpus.csv'}, line 11: tdp_w is '-1'" in result.output


def test_data_check_says_which_corrections_a_table_does_not_show(source: Path) -> None:
    (source / "gpus.csv").write_bytes((PACKAGE / "gpus.csv").read_bytes())
    (source / "cpus.csv").write_bytes((PACKAGE / "cpus.csv").read_bytes())
    result = run("check", source)
    assert result.exit_code == 0, result.output
    assert "a correction is not in force: corrections.csv, line " in result.output
    assert "coreweave | LGA1" in result.output


def test_data_check_of_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert run("check", tmp_path / "nowhere").exit_code == 2


def test_data_check_of_a_folder_without_a_table_calls_nothing_sound(tmp_path: Path) -> None:
    result = run("check", tmp_path)
    assert result.exit_code == 2
    assert "no table is in" in result.output


def test_no_more_faults_are_listed_than_anybody_reads(tmp_path: Path) -> None:
    table = read_table(PACKAGE / "cpus.csv")
    for row, _ in table.records:
        row["tdp_w"] = "?"
    (tmp_path / "cpus.csv").write_bytes(table.csv())
    result = run("check", tmp_path)
    assert len(result.output.splitlines()) == 21
    assert f"and {len(table.records) - 20} more" in result.output
