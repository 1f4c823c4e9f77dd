"""Files of intensities and prices over time: what is plainly right is read, everything else is named."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Intensity
from carbonmon.core.ports import IntensityProvider, IntensitySettings
from carbonmon.core.timeline import Slot
from carbonmon.grid import timefile
from carbonmon.grid.file import open_provider
from carbonmon.grid.timefile import read_timefile, read_timeline

NOON_S = datetime(2026, 11, 21, 12, tzinfo=timezone.utc).timestamp()
HOUR_S = 3600.0
TWO_HOURS = (
    Slot(NOON_S, NOON_S + HOUR_S, 100, "fixed"),
    Slot(NOON_S + HOUR_S, NOON_S + 2 * HOUR_S, 250.5, "fixed"),
)

EXPORT = (
    "Datetime (UTC),Country,Zone name,Zone id,Carbon intensity gCO₂eq/kWh (direct),"
    "Carbon intensity gCO₂eq/kWh (Life cycle),Carbon-free energy percentage (CFE%),"
    "Renewable energy percentage (RE%),Data source,Data estimated,Data estimation method\n"
    "2026-11-21 12:00:00,Germany,Germany,DE,70,100,60,50,entsoe.eu,false,\n"
    "2026-11-21 13:00:00,Germany,Germany,DE,200,250.5,60,50,entsoe.eu,true,TIME_SLICER_AVERAGE\n"
)
"""The columns of Electricity Maps' yearly CSV files."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "grid.csv"


def refused(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as mistake:
        read_timeline(path)
    message = str(mistake.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    "text",
    [
        "time,intensity\n2026-11-21T12:00Z,100\n2026-11-21T13:00Z,250.5\n",
        "time,intensity\r\n2026-11-21T12:00Z,100\r\n2026-11-21T13:00Z,250.5",
        "\ufeffTime;Carbon Intensity\n2026-11-21 13:00:00+01:00;100\n2026-11-21T08:00:00.000-0500;250.5\n",
        '"timestamp","g_per_kwh","remark"\n1795262400,100,"a, b"\n\n1795266000.0,2.505e2,\n',
        "to,from,value\n2026-11-21T13:00Z,2026-11-21T12:00Z,100\n2026-11-21T14:00Z,2026-11-21T13:00Z,250.5\n",
        "HourUTC,HourDK,intensity\n2026-11-21T12:00,x,100\n2026-11-21T13:00,x,250.5\n",
        '[{"time": "2026-11-21T12:00:00Z", "intensity": 100}, {"time": 1795266000, "intensity": "250.5"}]',
        '{"start": 1795262400, "value": 100}\n\n{"start": 1795266000, "value": 250.5}\n',
        '{"zone": "DE", "history": [{"carbonIntensity": 100, "datetime": "2026-11-21T12:00:00.000Z"},'
        '{"carbonIntensity": 250.5, "datetime": "2026-11-21T13:00:00.000Z"}]}',
        EXPORT,
    ],
)
def test_it_reads_csv_and_json_with_any_sensible_columns(path: Path, text: str):
    path.write_text(text, encoding="utf-8", newline="")
    assert tuple(read_timeline(path).slots) == TWO_HOURS


def test_of_electricity_maps_export_it_takes_lifecycle_figures_and_says_so(path: Path):
    path.write_text(EXPORT, encoding="utf-8")
    found = read_timefile(path)
    assert (found.zone, found.basis) == ("DE", "lifecycle")


def test_of_an_export_with_direct_figures_alone_it_takes_those_and_says_so(path: Path):
    path.write_text(
        "Datetime (UTC),Carbon Intensity gCO₂eq/kWh (direct)\n"
        "2026-11-21 12:00:00,100\n2026-11-21 13:00:00,5\n",
        encoding="utf-8",
    )
    found = read_timefile(path)
    assert ([slot.value for slot in found.timeline.slots], found.basis) == ([100, 5], "direct")


def test_without_ends_a_slot_lasts_until_the_next_and_the_last_as_long_as_the_one_before(path: Path):
    path.write_text("time,value\n1795262400,1\n1795266000,2\n1795266300,3\n")
    assert [slot.end_s - slot.start_s for slot in read_timeline(path).slots] == [3600, 300, 300]


def test_with_ends_there_may_be_holes(path: Path):
    path.write_text("start,end,value\n1795262400,1795262500,1\n1795266000,1795269600,2\n")
    assert read_timeline(path).gaps(NOON_S, NOON_S + HOUR_S) == [(NOON_S + 100, NOON_S + HOUR_S)]


def test_the_hour_that_comes_twice_when_summer_time_ends_is_two_hours(path: Path):
    path.write_text(
        "time,value\n2026-10-25T01:00+02:00,1\n2026-10-25T02:00+02:00,2\n"
        "2026-10-25T02:00+01:00,3\n2026-10-25T03:00+01:00,4\n"
    )
    slots = read_timeline(path).slots
    assert [slot.end_s - slot.start_s for slot in slots] == [HOUR_S] * 4
    assert read_timeline(path).at(datetime(2026, 10, 25, 1, 30, tzinfo=timezone.utc).timestamp()) == slots[2]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "2026-11-21T12:00,100\n",
            "line 2: '2026-11-21T12:00' has no zone: write 2026-11-21T20:00Z, or +01:00",
        ),
        ("2026-11-21,100\n", "line 2: '2026-11-21' has no zone"),
        ("noon,100\n", "line 2: 'noon' is no time: give 2026-11-21T20:00Z, or Unix seconds"),
        ("2026-02-30T12:00Z,100\n", "line 2: '2026-02-30T12:00Z' is no valid date"),
        ("2026-11-21T25:00Z,100\n", "line 2: '2026-11-21T25:00Z' is no valid date"),
        ("2026-11-21T12:00+99:00,100\n", "is no time"),
        ("1795262400000,100\n", "line 2: 1795262400000 is no Unix time in seconds"),
        ("2026,100\n", "line 2: 2026 is no Unix time in seconds"),
        (",100\n", "line 2: no time in 'time': give each line its time"),
        ("2026-11-21T12:00Z,\n", "line 2: no value in 'value': give each line its value"),
        ("2026-11-21T12:00Z\n", "line 2: no value in 'value'"),
        ("2026-11-21T12:00Z,nan\n", "line 2: 'nan' is no number of gCO2e/kWh: give a number"),
        ("2026-11-21T12:00Z,inf\n", "line 2: 'inf' is no number"),
        ("2026-11-21T12:00Z,1e999\n", "line 2: '1e999' is no number"),
        ("2026-11-21T12:00Z,1_000\n", "line 2: '1_000' is no number"),
        ("2026-11-21T12:00Z,n/a\n", "line 2: 'n/a' is no number"),
        (
            '2026-11-21T12:00Z,"12,5"\n',
            "line 2: '12,5' is no number of gCO2e/kWh: write a point and no comma",
        ),
        ("2026-11-21T12:00Z,12,5\n", "line 2: 3 cells under 2 columns"),
        ("2026-11-21T12:00Z,-1\n", "line 2: -1 gCO2e/kWh is impossible: give from 0 to 5000"),
        ("2026-11-21T12:00Z,5001\n", "line 2: 5001 gCO2e/kWh is impossible"),
        (
            "2026-11-21T12:00Z,1\n\n2026-11-21T13:00+01:00,2\n",
            "line 4: 2026-11-21T12:00:00Z has the same time as line 2: sort the file, each time once",
        ),
        (
            "2026-11-21T12:00Z,1\n2026-11-21T11:00Z,2\n",
            "line 3: 2026-11-21T11:00:00Z is earlier than line 2: sort the file",
        ),
        (
            '2026-11-21T12:00Z,1\n2026-11-21T13:00Z,"2',
            "line 3: no CSV: unexpected end of data: correct the quotes",
        ),
        ("2026-11-21T12:00Z,1\n", "one time alone does not say how long it lasts; add a column 'end'"),
        ("", "no line with a time and a value; give at least one"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_how_to_mend_it(path: Path, body: str, expected: str):
    assert expected in refused(path, f"time,value\n{body}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "there is no column for the time: the file has none: name one start or time or datetime"),
        (
            "root:$6$hunter2:19000,b\n1,2\n",
            "there is no column for the time: the file has 2 with other names",
        ),
        (
            "time,price\n1795262400,1\n",
            "there is no column for the value in gCO2e/kWh: the file has 'time, price'",
        ),
        ("time,value,value\n1795262400,1,2\n", "there are several columns 'value': keep one"),
        (
            "start,end,value\n1795262400,1795262400,1\n",
            "line 2: it ends at 2026-11-21T12:00:00Z, not after its start: correct its times",
        ),
        (
            "start,end,value\n1795262400,1795266001,1\n1795266000,1795269600,1\n",
            "line 3: it begins at 2026-11-21T13:00:00Z, and line 2 ends at 2026-11-21T13:00:01Z: "
            "slots must not overlap",
        ),
        ("start,end,value\n1795262400,,1\n", "line 2: no time in 'end'"),
        (
            "time,zone,value\n1795262400,DE,1\n1795266000,FR,1\n",
            "line 3: figures of several zones, 'DE' and 'FR': keep the lines of one",
        ),
        ('[{"time": 1795262400, "value": NaN}]', "no JSON: NaN is no number: correct it"),
        ('[{"time": 1795262400,\n "value": }]', "line 2: no JSON: Expecting value: correct it"),
        ('{"time": 1795262400, "value": 1}\n{"time": \n', "line 2: no JSON: Expecting value: correct it"),
        ('{"time": 1795262400, "value": 1}\n{"time": 1795266000}\n', "line 2: no value in 'value'"),
        ('[{"time": 1795262400, "value": 1}, 5]', "entry 2: it is no object"),
        ('[{"time": 1795262400, "value": true}]', "entry 1: True is no number of gCO2e/kWh"),
        ('[{"time": 1795262400, "value": [1]}]', "entry 1: a list is no number of gCO2e/kWh"),
        ('[{"time": null, "value": 1}]', "entry 1: no time in 'time'"),
        ("[]", "there is no column for the time: the file has none"),
        ("[" * 100_000, "no JSON: "),
    ],
)
def test_a_mistake_of_the_file_as_a_whole_is_named(path: Path, text: str, expected: str):
    assert expected in refused(path, text)


def test_a_file_that_is_not_utf8_is_named_with_the_line(path: Path):
    text = "time,value\n1795262400,1\n1795266000,größe\n".encode("latin-1")
    assert refused(path, text) == "line 3: it is not UTF-8: save the file as UTF-8"


def test_a_file_that_cannot_be_read_or_is_too_large_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_timeline(path)
    monkeypatch.setattr(timefile, "LIMIT_BYTES", 100)
    assert "longer than 100 bytes" in refused(path, b" " * 101)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="no regular file"):
        read_timeline(path)


def test_a_price_may_be_negative_and_is_no_intensity(path: Path):
    path.write_text("time,price,intensity\n1795262400,-0.05,100\n1795266000,0.30,200\n")
    prices = read_timeline(path, unit="EUR/kWh", lowest=None, highest=1e6)
    assert [slot.value for slot in prices.slots] == [-0.05, 0.3]
    with pytest.raises(ConfigError, match=r"line 3: 0\.3 EUR/kWh is impossible: give at most 0\.2"):
        read_timeline(path, unit="EUR/kWh", lowest=None, highest=0.2)


def test_a_year_of_five_minutes_is_read_whole(path: Path):
    rows = [{"time": 1795262400 + 300 * i, "value": i % 700} for i in range(105_120)]
    path.write_text("\n".join(map(json.dumps, rows)))
    slots = read_timeline(path).slots
    assert len(slots) == 105_120
    assert sum(slot.value for slot in slots) == sum(i % 700 for i in range(105_120))


# The provider of such a file.


def a_provider(path: Path, region: str | None = "FR") -> IntensityProvider:
    path.write_text("time,value\n2026-11-21T12:00Z,100\n2026-11-21T13:00Z,250.5\n")
    return open_provider(IntensitySettings(region=region, file=path))


def test_the_file_s_figure_bears_the_file_s_name_and_the_region_s_zone(path: Path):
    now = a_provider(path).intensity_at(NOON_S + 60)
    assert now == Intensity(100, 100, 100, "FR", "file grid.csv", "fixed", timestamp_s=NOON_S)
    assert a_provider(path, None).intensity_at(NOON_S).zone == ""


def test_zone_and_basis_of_an_export_are_those_that_it_names_where_no_region_is_given(path: Path):
    path.write_text(EXPORT, encoding="utf-8")
    now = open_provider(IntensitySettings(file=path)).intensity_at(NOON_S)
    assert (now.zone, now.basis) == ("DE", "lifecycle")


def test_figures_of_a_zone_are_not_called_those_of_another_region(path: Path):
    path.write_text(EXPORT, encoding="utf-8")
    provider = open_provider(IntensitySettings(region="FR", file=path))
    assert provider.intensity_at(NOON_S).zone == "DE", "the file says whose figures they are"
    assert provider.intensity_at(0.0).zone == "FR", "beyond them it is the region's annual figure"


def test_after_the_file_s_end_its_last_figure_is_stale_for_two_hours_then_the_table_s_stands_in(path: Path):
    provider = a_provider(path)
    end_s = NOON_S + 2 * HOUR_S
    stale = provider.intensity_at(end_s + 2 * HOUR_S - 1)
    assert (stale.g_per_kwh, stale.kind, stale.source) == (250.5, "stale", "file grid.csv")
    table = provider.intensity_at(end_s + 2 * HOUR_S)
    assert (table.kind, table.zone) == ("table", "FR")
    assert table.note.startswith("file grid.csv has no figure for this time")
    assert provider.intensity_at(NOON_S - 1).kind == "table"


def test_outside_the_file_without_a_region_the_world_s_average_stands_in_with_its_range(path: Path):
    now = a_provider(path, None).intensity_at(NOON_S - 1)
    assert now.zone == "WORLD"
    assert now.low_g_per_kwh < now.g_per_kwh < now.high_g_per_kwh


def test_the_provider_needs_a_file():
    with pytest.raises(ConfigError, match="--intensity-file FILE"):
        open_provider(IntensitySettings())
