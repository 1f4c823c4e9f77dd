"""`carbonmon regions`: what it finds, and that it shows what a figure means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from carbonmon.cli.regions import MOST_ROWS, command
from carbonmon.grid.annual import zone_rows
from carbonmon.grid.cloud_regions import cloud_rows
from carbonmon.grid.regions import resolve


@pytest.fixture(autouse=True)
def bundled_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONMON_DATA", "package")


def run(*words: str) -> Result:
    return CliRunner().invoke(command, list(words))


def text(*words: str) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.output


def found(*words: str) -> list[dict[str, Any]]:
    return list(json.loads(text(*words, "--format", "json"))["regions"])


def codes(*words: str) -> list[str]:
    return [place["code"] for place in found(*words)]


def test_without_words_it_counts_what_there_is_and_says_how_to_ask() -> None:
    output = text()
    zones = {row["zone"] for row in zone_rows() if row["zone_type"] == "country"}
    assert f"{len(zones)}  countries" in output
    assert "51  US states" in output
    assert f"{len(list(cloud_rows()))}  cloud regions: aws 39, gcp 45" in output
    assert "carbonmon regions france" in output


def test_without_words_json_has_the_counts() -> None:
    document = json.loads(text("--format", "json"))
    assert document["schema"] == "carbonmon.regions/1"
    assert document["counts"]["bidding_zone"] == 9
    assert document["counts"]["aws"] == 39


@pytest.mark.parametrize("words", [("france",), ("FR",), ("FRA",), ("fr",)])
def test_one_place_is_shown_with_all_that_its_figure_means(words: tuple[str, ...]) -> None:
    output = text(*words)
    assert "FR  France  (country)" in output
    assert "44.18 gCO2e/kWh: lifecycle, production, CO2e(100y), data of 2024" in output
    assert (
        "Ember Yearly Electricity Data via Our World in Data, published 2025, CC-BY-4.0, https://" in output
    )
    assert "aws:eu-west-3" in output
    assert "carbonmon run --region FR -- COMMAND" in output


def test_figures_of_another_basis_are_shown_as_not_used() -> None:
    output = text("US-CA")
    assert "199.67 gCO2e/kWh: lifecycle" in output
    other = next(line for line in output.splitlines() if "also known" in line)
    assert "179.06 gCO2e/kWh: direct, production" in other
    assert "not used" in other


def test_a_country_names_its_parts() -> None:
    assert "US-AL, US-AK" in text("US")
    assert "SE-SE1, SE-SE2, SE-SE3, SE-SE4" in text("sweden")


def test_a_cloud_region_is_shown_with_its_zone_its_pues_and_its_name_for_live_sources() -> None:
    output = text("aws:us-east-1")
    assert "aws:us-east-1  Northern Virginia  (cloud region)" in output
    assert "321.47 gCO2e/kWh" in output
    assert "lies in US-VA (Virginia)" in output
    assert "1.15 for the region (2024), 1.14 for the provider (AWS fleet 2025): stated, not applied" in output
    assert "US-MIDA-PJM" in output
    assert "--region aws:us-east-1" in output


def test_the_providers_own_figure_is_shown_beside_the_one_that_is_used() -> None:
    output = text("gcp", "us-central1")
    assert "241.74 gCO2e/kWh" in output
    assert "412.72 gCO2e/kWh in 2024, by gcp" in output


def test_a_cloud_region_without_a_pue_says_so() -> None:
    assert "none stated" in text("coreweave:lga1")


@pytest.mark.parametrize(
    ("words", "note"),
    [
        ("KP", "data of 2022"),
        ("SE4", "a lower bound"),
        ("CF", "World (WORLD) is used instead"),
        ("DK1", "Denmark (DK) is used instead"),
        ("CN-HK", "Hong Kong (HK) is used instead"),
    ],
)
def test_what_a_reader_ought_to_know_is_noted(words: str, note: str) -> None:
    assert note in text(words)
    assert note in found(words)[0]["note"]


def test_several_hits_make_a_table() -> None:
    lines = text("frankfurt").splitlines()
    assert lines[0].split() == [
        *("CODE", "NAME", "g/kWh", "BASIS", "ACCOUNTING", "YEAR", "ZONE", "PUE", "SOURCE")
    ]
    assert [line.split()[0] for line in lines[1:4]] == [
        *("aws:eu-central-1", "gcp:europe-west3", "azure:germanywestcentral")
    ]
    assert lines[1].split()[1:8] == [
        *("Frankfurt", "344.14", "lifecycle", "production", "2024", "DE", "1.35")
    ]
    assert "8 places have 'frankfurt'" in lines[-1]


def test_an_ambiguous_name_lists_its_meanings() -> None:
    assert {"GE", "US-GA"} <= set(codes("georgia"))
    assert "GE  " in text("Georgia")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("aws",), {"aws:us-east-1", "aws:eu-west-3", "aws:cn-north-1"}),
        (("aws", "ohio"), {"aws:us-east-2", "aws:us-gov-east-1"}),
        (("nordic",), {"DK", "FI", "IS", "NO", "SE", "NO-NO1", "SE-SE4", "azure:denmarkeast"}),
        (("IN-",), {"IN-DL", "IN-WB", "aws:ap-south-1"}),
        (("egrid",), {"EGRID-CAMX", "EGRID-NEWE"}),
        (("sao", "paulo"), {"aws:sa-east-1", "azure:brazilsouth"}),
    ],
)
def test_places_are_found_that_have_each_word(words: tuple[str, ...], expected: set[str]) -> None:
    assert expected <= set(codes(*words))


def test_every_word_must_fit_a_place() -> None:
    assert all(code.startswith("aws:") for code in codes("aws", "us"))
    assert not any("aus" in code for code in codes("azure", "us"))


def test_a_short_word_is_no_part_of_a_longer_one() -> None:
    assert "AT" not in codes("aws", "us")
    assert all("east" in code for code in codes("us", "east") if code.startswith("aws"))


def test_a_long_table_is_cut_and_says_how_many_more_there_are() -> None:
    lines = text("azure").splitlines()
    assert sum(line.startswith("azure:") for line in lines) == MOST_ROWS
    assert f"and {70 - MOST_ROWS} more" in "\n".join(lines)
    assert len(codes("azure")) == 70


def test_a_table_of_different_bases_warns_against_comparing() -> None:
    assert "do not compare" in text("aws").splitlines()[0]
    assert "do not compare" not in text("frankfurt")


def test_a_table_notes_which_of_its_places_have_old_data() -> None:
    note = next(line for line in text("korea").splitlines() if "data of 2022" in line)
    assert "KP" in note
    assert "KR" not in note


def test_the_first_line_of_a_place_says_that_its_figure_is_direct_or_old() -> None:
    assert "direct emissions only" in text("AU-VIC").splitlines()[0]
    assert "data of 2022" in text("KP").splitlines()[0]
    assert text("FR").splitlines()[0] == "FR  France  (country)"


def test_a_figure_of_a_chosen_basis_is_shown_with_its_own_source_and_how_to_use_it() -> None:
    output = text("US-CA@direct")
    assert "179.06 gCO2e/kWh: direct, production" in output
    assert "--region US-CA@direct" in output
    (place,) = found("gcp:us-central1@provider")
    assert (place["g_per_kwh"], place["basis"], place["licence"]) == (412.72, "direct", None)
    assert run("FR@provider").exit_code == 2


def test_the_part_of_a_country_is_said_where_the_country_is_shown() -> None:
    assert "England is a part of United Kingdom (GB)" in text("England")
    assert "that of California (US-CA) is used instead" in text("US-CAL-CISO")


def test_a_place_without_a_usable_figure_shows_none_in_a_table() -> None:
    lines = text("hong").splitlines()
    row = next(line for line in lines if line.startswith("CN-HK"))
    assert "–" in row
    assert "710" not in row
    assert "  CN-HK: no figure that may be used: a wider zone's is used instead" in lines


@pytest.mark.parametrize("word", ["xyzzy", "Frence", "aws:us-est-1", "@@@"])
def test_no_hit_names_the_nearest_and_exits_with_2(word: str) -> None:
    for extra in ((), ("--format", "json")):
        result = run(word, *extra)
        assert result.exit_code == 2
        assert "is unknown; the nearest are" in result.output
        assert "--region" not in result.output


def test_json_has_every_figure_with_its_provenance() -> None:
    (place,) = found("gcp:us-central1")
    assert place == {
        "code": "gcp:us-central1",
        "name": "Council Bluffs, Iowa",
        "type": "cloud_region",
        "g_per_kwh": 241.74,
        "zone": "US-IA",
        "basis": "lifecycle",
        "accounting": "production",
        "gases": "CO2e(100y)",
        "year": 2024,
        "source": "Ember Yearly Electricity Data (US states)",
        "licence": "CC-BY-4.0",
        "url": "https://ember-energy.org/data/yearly-electricity-data/",
        "note": resolve("gcp:us-central1").note,
        "cloud": {
            "provider": "gcp",
            "region": "us-central1",
            "zone": "US-IA",
            "region_pue": 1.1,
            "provider_pue": 1.09,
            "provider_g_per_kwh_2024": 412.72,
            "em_zone": "US-MIDW-MISO",
        },
        "alternatives": [
            {
                "g_per_kwh": 287.65,
                "basis": "direct",
                "accounting": "production",
                "gases": "CO2e",
                "year": 2023,
                "source": "EPA eGRID2023 rev2 STC2ERTA (via CodeCarbon 3.3.2)",
                "note": "lb/MWh x 0.45359237",
            }
        ],
    }


def test_what_is_unknown_in_json_is_null() -> None:
    (place,) = found("ovh:gra")
    assert place["cloud"]["region_pue"] is None
    assert place["cloud"]["provider_g_per_kwh_2024"] is None
    (zone,) = found("FR")
    assert zone["cloud"] is None
    assert zone["note"] is None


def test_every_code_that_the_command_prints_is_a_region_of_run() -> None:
    for words in (("nordic",), ("ovh",), ("georgia",)):
        for code in codes(*words):
            assert resolve(code).intensity.g_per_kwh >= 0
