"""Finding a place, and the two providers of a constant carbon intensity."""

from __future__ import annotations

import pytest

from carbonmon.core.errors import ConfigError
from carbonmon.core.ports import IntensitySettings
from carbonmon.data import EDITION, rows
from carbonmon.grid import fixed, table
from carbonmon.grid.annual import preferred_rows
from carbonmon.grid.default_intensity import world_default
from carbonmon.grid.nearest_places import nearest
from carbonmon.grid.overheads import pue_for, wue_for
from carbonmon.grid.regions import resolve
from tests.support.rows import for_each_row


@pytest.fixture(autouse=True)
def bundled_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONMON_DATA", "package")


@for_each_row(
    ("text", "zone"),
    [
        ("FR", "FR"),
        ("fr", "FR"),
        (" fr ", "FR"),
        ("FRA", "FR"),
        ("France", "FR"),
        ("US-CA", "US-CA"),
        ("us-ca", "US-CA"),
        ("california", "US-CA"),
        ("CA", "CA"),
        ("EGRID-CAMX", "EGRID-CAMX"),
        ("WORLD", "WORLD"),
        ("north america", "NORTH_AMERICA"),
        ("UK", "GB"),
        ("Québec", "CA-QC"),
        ("aws:us-east-1", "US-VA"),
        ("gcp:europe-west1", "BE"),
        ("azure:westeurope", "NL"),
        ("AZURE:WestEurope", "NL"),
        ("coreweave:lga1", "US-NJ"),
    ],
)
def test_a_place_is_found_by_code_name_or_cloud_region(text: str, zone: str) -> None:
    region = resolve(text)
    assert region.zone == zone
    assert region.intensity.zone == zone
    assert region.intensity.kind == "table"
    assert region.note == region.intensity.note


def test_an_explicit_region_has_no_range_and_says_what_its_figure_means() -> None:
    intensity = resolve("FR").intensity
    assert intensity.g_per_kwh == intensity.low_g_per_kwh == intensity.high_g_per_kwh == 44.18
    assert (intensity.basis, intensity.accounting, intensity.year) == ("lifecycle", "production", 2024)
    assert "Ember" in intensity.source
    assert intensity.timestamp_s is None
    assert intensity.note == ""


def test_the_preferred_row_of_a_zone_wins_over_its_alternatives() -> None:
    assert resolve("US").intensity.basis == "lifecycle"
    assert resolve("US-CA").intensity.g_per_kwh == 199.67
    assert resolve("world").intensity.g_per_kwh == 473.01


def test_a_cloud_region_reports_its_pue_and_applies_none() -> None:
    region = resolve("aws:us-east-1")
    assert region.cloud == ("aws", "us-east-1")
    assert region.name == "Northern Virginia"
    assert (region.region_pue, region.provider_pue) == (1.15, 1.14)
    assert "not applied" in region.pue_note
    assert region.intensity.g_per_kwh == resolve("US-VA").intensity.g_per_kwh
    assert "lies in US-VA (Virginia)" in region.note


def test_a_cloud_region_without_a_stated_pue_has_none() -> None:
    region = resolve("ovh:gra")
    assert region.region_pue is None
    assert region.provider_pue == 1.28


def test_a_plain_place_has_no_cloud_and_no_pue() -> None:
    region = resolve("FR")
    assert (region.cloud, region.region_pue, region.provider_pue, region.pue_note) == (None, None, None, "")


def test_googles_own_figure_is_mentioned_but_not_used() -> None:
    region = resolve("gcp:us-central1")
    assert "412.72 gCO2e/kWh" in region.note
    assert region.intensity.g_per_kwh == resolve("US-IA").intensity.g_per_kwh


def test_figures_of_over_three_years_are_flagged() -> None:
    old = [row for row in preferred_rows() if int(row["data_year"]) <= int(EDITION[:4]) - 4]
    assert {row["zone"] for row in old} >= {"KP", "FK"}
    for row in old:
        assert f"data of {row['data_year']}: the grid may have changed since" in resolve(row["zone"]).note
    assert "may have changed" not in resolve("US-CA@direct").note


@for_each_row(
    ("text", "low", "high", "basis"),
    [
        ("CA-QC", 20, 45, "lifecycle"),
        ("azure:canadaeast", 20, 45, "lifecycle"),
        ("CA-ON", 40, 90, "lifecycle"),
        ("AU-VIC", 700, 800, "direct"),
        ("AU-TAS", 100, 200, "direct"),
        ("AU-WA", 450, 550, "direct"),
    ],
)
def test_canada_and_australia_have_figures_of_2023_that_say_what_they_count(
    text: str, low: float, high: float, basis: str
) -> None:
    intensity = resolve(text).intensity
    assert low < intensity.g_per_kwh < high
    assert (intensity.year, intensity.basis) == (2023, basis)


def test_a_state_of_australia_says_what_its_figure_leaves_out() -> None:
    assert "scope 3 (fuel supply, losses of the grid) adds 90 g/kWh" in resolve("AU-VIC").note


@for_each_row(
    ("text", "g_per_kwh", "basis", "year"),
    [
        ("US-CA@direct", 179.06, "direct", 2023),
        ("US-CA@lifecycle", 199.67, "lifecycle", 2024),
        ("california @ Direct", 179.06, "direct", 2023),
        ("CA-QC@direct", 1.5, "direct", 2019),
        ("aws:us-east-2@direct", 413.41, "direct", 2023),
        ("aws:us-east-2", 475.04, "lifecycle", 2024),
        ("gcp:us-central1@provider", 412.72, "direct", 2024),
    ],
)
def test_a_basis_may_be_chosen(text: str, g_per_kwh: float, basis: str, year: int) -> None:
    intensity = resolve(text).intensity
    assert (intensity.g_per_kwh, intensity.basis, intensity.year) == (g_per_kwh, basis, year)
    assert intensity.low_g_per_kwh == intensity.high_g_per_kwh == g_per_kwh


@for_each_row(
    ("text", "reason"),
    [
        ("FR@direct", "FR@direct: there is no such figure; without @direct it is 44.18 gCO2e/kWh, lifecycle"),
        ("AU-VIC@lifecycle", "there is no such figure"),
        ("aws:us-east-1@provider", "there is no such figure"),
        ("FR@provider", "there is no such figure"),
        ("FR@best", "@best is none of @lifecycle, @direct, @provider"),
        ("nowhere@direct", "'nowhere' is unknown"),
    ],
)
def test_a_basis_that_a_place_has_no_figure_of_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(text)
    assert reason in str(error.value)


def test_a_us_cloud_region_tells_the_figure_of_its_grid_subregion() -> None:
    assert (
        "its grid subregion EGRID-RFCW has 413.41 gCO2e/kWh, direct, 2023 (@direct)"
        in resolve("aws:us-east-2").note
    )
    assert "subregion" not in resolve("aws:eu-west-1").note


def test_the_cloud_regions_of_each_subregion_are_in_the_table() -> None:
    clouds = {f"{row['provider']}:{row['region']}" for row in rows("cloud_regions.csv")}
    listed = [
        name for row in rows("places.csv") if row["kind"] == "subregion" for name in row["names"].split("|")
    ]
    assert set(listed) <= clouds
    assert len(listed) == len(set(listed)) > 40


@for_each_row(
    ("text", "code", "zone"),
    [
        ("oci:us-ashburn-1", "oracle:us-ashburn-1", "US-VA"),
        ("oracle eu-frankfurt-1", "oracle:eu-frankfurt-1", "DE"),
        ("alibaba:cn-hangzhou-b", "alibaba:cn-hangzhou", "CN-ZJ"),
        ("tencent:ap-guangzhou-3", "tencent:ap-guangzhou", "CN-GD"),
        ("huawei:cn-north-4a", "huawei:cn-north-4", "CN-BJ"),
        ("ibm:us-south-1", "ibm:us-south", "US-TX"),
        ("hetzner:fsn1-dc14", "hetzner:fsn1", "DE"),
        ("lambda:us-west-3", "lambda:us-west-3", "US-UT"),
        ("coreweave:US-EAST-04A", "coreweave:US-EAST-04", "US-VA"),
        ("ovh:GRA11", "ovh:gra", "FR"),
        ("ovh:UK1", "ovh:uk", "GB"),
        ("scaleway:fr-par-2", "scaleway:fr-par", "FR"),
        ("aws:eusc-de-east-1", "aws:eusc-de-east-1", "DE"),
        ("azure:usgovvirginia", "azure:usgovvirginia", "US-VA"),
    ],
)
def test_regions_of_more_providers_are_found(text: str, code: str, zone: str) -> None:
    region = resolve(text)
    assert ":".join(region.cloud or ()) == code
    assert region.zone == zone


@for_each_row(
    ("grid", "zone"),
    [
        ("US-CAL-CISO", "US-CA"),
        ("us-tex-erco", "US-TX"),
        ("US-MIDA-PJM", "US"),
        ("JP-TK", "JP"),
        ("IN-WE", "IN"),
    ],
)
def test_electricity_maps_names_of_grids_are_accepted_and_say_whose_figure_they_have(
    grid: str, zone: str
) -> None:
    region = resolve(grid)
    assert (region.zone, region.em_zone, region.intensity.zone) == (grid.upper(), grid.upper(), zone)
    assert f"the table has no figure for the grid {grid.upper()}" in region.note


def test_the_southernmost_swedish_zone_is_called_a_lower_bound() -> None:
    assert "a lower bound: covers 85.05 % of generation" in resolve("SE-SE4").note
    assert "lower bound" not in resolve("SE-SE3").note


@for_each_row("text", ["CF", "CAF", "Western Sahara"])
def test_a_place_without_a_usable_figure_falls_back_to_the_world_and_says_so(text: str) -> None:
    region = resolve(text)
    assert region.intensity.g_per_kwh == 473.01
    assert region.intensity.zone == "WORLD"
    assert region.zone != "WORLD"
    assert "is unusable" in region.note
    assert "World (WORLD) is used instead" in region.note
    assert region.note == region.intensity.note


def test_an_unusable_part_of_a_country_falls_back_to_the_country_that_it_belongs_to() -> None:
    region = resolve("CN-HK")
    assert region.intensity.zone == "HK"
    assert "Hong Kong (HK) is used instead" in region.note


def test_an_unknown_region_is_named_with_its_nearest_matches_and_the_mend() -> None:
    with pytest.raises(ConfigError) as error:
        resolve("Frence")
    assert "'Frence' is unknown" in str(error.value)
    assert "FR (France)" in str(error.value)
    assert "--region FR" in str(error.value)


@for_each_row(
    ("text", "near"),
    [
        ("us-east-1", "aws:us-east-1 (Northern Virginia)"),
        ("aws:us-est-1", "aws:us-east-1 (Northern Virginia)"),
        ("FR-IDF", "FR (France)"),
        ("norway zone 1 oslo", "NO-NO1 (Norway Bidding Zone 1 (Oslo))"),
    ],
)
def test_the_most_like_region_comes_first(text: str, near: str) -> None:
    with pytest.raises(ConfigError, match="is unknown"):
        resolve(text)
    assert nearest(text)[0] == near


@for_each_row("text", ["", "   ", "nowhere", "aws:", ":", "foo:bar"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is unknown"):
        resolve(text)


def test_an_ambiguous_name_is_refused_with_every_meaning() -> None:
    with pytest.raises(ConfigError, match="ambiguous") as error:
        resolve("Georgia")
    assert "GE (Georgia)" in str(error.value)
    assert "US-GA (Georgia)" in str(error.value)
    assert "--region GE" in str(error.value)


def test_as_many_neighbours_come_as_were_asked_for() -> None:
    assert len(nearest("Frence", n=2)) == 2


def test_without_a_region_the_world_stands_in_with_the_range_of_its_countries() -> None:
    world = world_default()
    assert (world.zone, world.g_per_kwh) == ("WORLD", 473.01)
    assert 20 < world.low_g_per_kwh < 100
    assert 700 < world.high_g_per_kwh < 1000
    assert "no region was given" in world.note


def test_the_table_provider_is_constant_in_time() -> None:
    provider = table.open_provider(IntensitySettings(region="FR"))
    assert provider.intensity_at(0.0) == provider.intensity_at(2e9) == resolve("FR").intensity
    provider.close()


def test_the_table_provider_serves_the_world_without_a_region() -> None:
    provider = table.open_provider(IntensitySettings())
    assert provider.intensity_at(0.0) == world_default()


def test_the_table_provider_refuses_an_unknown_region() -> None:
    with pytest.raises(ConfigError):
        table.open_provider(IntensitySettings(region="nowhere"))


def test_a_fixed_figure_is_the_users_own() -> None:
    intensity = fixed.open_provider(IntensitySettings(g_per_kwh=12.5)).intensity_at(0.0)
    assert intensity.g_per_kwh == intensity.low_g_per_kwh == intensity.high_g_per_kwh == 12.5
    assert (intensity.kind, intensity.zone, intensity.source) == ("fixed", "", "user")


def test_a_fixed_figure_of_zero_is_zero() -> None:
    assert fixed.FixedProvider(0.0).intensity_at(0.0).g_per_kwh == 0.0


@for_each_row("g_per_kwh", [-1.0, float("nan"), float("inf")])
def test_an_impossible_figure_is_refused(g_per_kwh: float) -> None:
    with pytest.raises(ConfigError, match="impossible"):
        fixed.FixedProvider(g_per_kwh)


def test_a_fixed_provider_needs_a_figure() -> None:
    with pytest.raises(ConfigError, match="no carbon intensity was given"):
        fixed.open_provider(IntensitySettings(region="FR"))


@for_each_row(
    ("text", "zone"),
    [
        ("CAMX", "EGRID-CAMX"),
        ("egrid-camx", "EGRID-CAMX"),
        ("US_CA", "US-CA"),
        ("us ca", "US-CA"),
        ("CN-GD", "CN-GD"),
        ("IN-KA", "IN-KA"),
        ("IN-OD", "IN-OR"),
        ("IN-UK", "IN-UT"),
        ("NO1", "NO-NO1"),
        ("no-no1", "NO-NO1"),
        ("SE4", "SE-SE4"),
        ("SE-SE4", "SE-SE4"),
    ],
)
def test_a_zone_is_found_under_the_codes_that_people_write(text: str, zone: str) -> None:
    assert resolve(text).zone == resolve(text).intensity.zone == zone


@for_each_row(
    "text",
    [
        "aws/us-east-1",
        "AWS us-east-1",
        "aws us east 1",
        "aws-us-east-1",
        "AWS : us-east-1",
        "amazon us-east-1",
        "aws:us-east-1a",
    ],
)
def test_a_cloud_region_is_found_however_its_parts_are_joined(text: str) -> None:
    assert resolve(text) == resolve("aws:us-east-1")


@for_each_row(
    ("text", "code"),
    [
        ("azure:West Europe", "azure:westeurope"),
        ("Azure West Europe", "azure:westeurope"),
        ("gcp:us-central1-a", "gcp:us-central1"),
        ("google europe-west1-b", "gcp:europe-west1"),
        ("microsoft/eastus2", "azure:eastus2"),
        ("coreweave LGA1", "coreweave:lga1"),
    ],
)
def test_a_cloud_region_is_found_by_its_providers_other_names(text: str, code: str) -> None:
    assert resolve(text) == resolve(code)


@for_each_row("text", ["us-east-1", "aws us-east-9", "aws", "ibm:us-west", "aws:us-east-1g"])
def test_a_cloud_region_is_never_guessed(text: str) -> None:
    with pytest.raises(ConfigError, match="is unknown"):
        resolve(text)


@for_each_row(("text", "zone"), [("DK1", "DK-DK1"), ("DK-DK1", "DK-DK1"), ("dk2", "DK-DK2")])
def test_a_danish_bidding_zone_takes_the_countrys_figure_and_says_so(text: str, zone: str) -> None:
    region = resolve(text)
    assert region.zone == zone
    assert region.intensity.zone == "DK"
    assert region.intensity.g_per_kwh == resolve("DK").intensity.g_per_kwh
    assert "has no figure" in region.note
    assert "Denmark (DK) is used instead" in region.note
    assert region.note == region.intensity.note


def test_a_cloud_region_knows_electricity_maps_name_of_its_grid() -> None:
    assert resolve("aws:us-east-1").em_zone == "US-MIDA-PJM"
    assert resolve("US-VA").em_zone == ""


@for_each_row(
    ("region", "word", "ratio", "source"),
    [
        ("aws:us-east-1", "region", 1.15, "aws us-east-1, 2024"),
        ("aws:us-east-1", "provider", 1.14, "aws fleet, 2025"),
        ("ovh:gra", "provider", 1.28, "ovh fleet, 2023"),
        ("scaleway:fr-par", "provider", 1.37, "PAR sites"),
        (None, "world", 1.54, "average data centre, 2025: Uptime Institute"),
        ("FR", "world", 1.54, "average data centre"),
        ("aws:us-east-1", "world", 1.54, "average data centre"),
    ],
)
def test_a_word_for_the_pue_means_a_stated_figure(
    region: str | None, word: str, ratio: float, source: str
) -> None:
    found, stated = pue_for(None if region is None else resolve(region), word)
    assert found == ratio
    assert source in stated


@for_each_row(
    ("region", "word", "reason"),
    [
        (None, "region", "no region is given"),
        ("FR", "region", "FR is a place, not a cloud region"),
        ("FR", "provider", "FR is a place, not a cloud region"),
        ("ovh:gra", "region", "ovh states none for gra; give --pue provider"),
        ("coreweave:lga1", "provider", "no figure that coreweave publishes"),
        ("aws:us-east-1", "nonsense", "'nonsense' is none of region, provider, world"),
    ],
)
def test_a_word_for_a_pue_that_nobody_states_is_refused_with_the_reason(
    region: str | None, word: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as error:
        pue_for(None if region is None else resolve(region), word)
    assert reason in str(error.value)
    assert str(error.value).startswith("--pue")


def test_a_word_for_water_means_a_stated_figure() -> None:
    assert wue_for(resolve("aws:us-east-1"), "provider")[0] == 0.12
    assert wue_for(resolve("azure:westeurope"), "provider")[0] == 0.3
    l_per_kwh, source = wue_for(None, "world")
    assert l_per_kwh == 0.84
    assert "weak" in source


@for_each_row(
    ("region", "word"), [("gcp:us-central1", "provider"), ("scaleway:fr-par", "provider"), (None, "region")]
)
def test_water_that_nobody_states_is_refused_and_never_0(region: str | None, word: str) -> None:
    with pytest.raises(ConfigError, match="--wue"):
        wue_for(None if region is None else resolve(region), word)
