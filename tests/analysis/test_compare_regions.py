"""The same run in other regions: comparable ones ranked, its own region marked, nothing mixed silently."""

from __future__ import annotations

from typing import Any

import pytest

from carbonmon.analysis import compare_regions as places
from carbonmon.analysis.compare_regions import (
    compare_regions,
    is_place,
    place_name,
    providers,
    with_elsewhere,
    with_what_if,
)
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Intensity
from carbonmon.grid.default_intensity import world_default
from carbonmon.grid.fixed import FixedProvider
from carbonmon.grid.regions import resolve
from carbonmon.runs.report.details import Section, section_text
from carbonmon.runs.report.other_places import sections
from carbonmon.runs.summary.document import summarize
from tests.support.records import node, run_state, run_total, snapshot


def run(region: str = "DE", pue_ratio: float = 1.0) -> dict[str, Any]:
    return charged_with(resolve(region).intensity, pue_ratio)


def charged_with(intensity: Intensity, pue_ratio: float = 1.0) -> dict[str, Any]:
    shown = node(1, 1, 1)._replace(intensity=intensity, pue_ratio=pue_ratio)
    return summarize(shown, shown.runs[0], "final")


def section(summary: dict[str, Any], where: str = "") -> Section:
    """The table of the comparison."""
    (found,) = sections(with_elsewhere(summary, where))
    return found


def own(found: places.Comparison) -> list[places.Place]:
    return [place for place in found.places if place.is_own]


def test_the_energy_is_charged_with_each_places_annual_mean_and_the_runs_own_pue() -> None:
    summary = run("FR", pue_ratio=1.5)
    kwh = summary["energy"]["total_kwh"]
    for place in compare_regions(summary, "countries").places:
        assert place.emissions_g == pytest.approx(kwh * 1.5 * resolve(place.code).intensity.g_per_kwh)


def test_countries_are_a_short_list_of_the_best_the_median_the_worst_and_its_own() -> None:
    found = compare_regions(run("DE"))
    ranks = [place.rank for place in found.places]
    assert len(ranks) == 8
    assert ranks[:5] == [1, 2, 3, 4, 5]
    assert ranks == sorted(rank for rank in ranks if rank)
    assert (found.compared + 1) // 2 in ranks
    assert ranks[-1] == found.compared
    assert [place.code for place in own(found)] == ["DE"]
    emissions = [place.emissions_g for place in found.places]
    assert emissions == sorted(emissions)


def test_a_run_in_a_cloud_region_is_compared_with_the_other_regions_of_its_provider() -> None:
    found = compare_regions(run("aws:us-east-1"))
    assert all(place.code.startswith("aws:") for place in found.places)
    assert len(found.places) > 30
    assert [place.code for place in own(found)] == ["aws:us-east-1"]
    ranked = [place.rank for place in found.places if place.rank is not None]
    assert ranked == list(range(1, found.compared + 1))


@pytest.mark.parametrize("provider", providers())
def test_every_provider_of_the_table_can_be_named(provider: str) -> None:
    found = compare_regions(run("FR"), provider.upper())
    assert any(place.code.startswith(f"{provider}:") for place in found.places)
    assert [place.code for place in own(found)] == ["FR"], "its own place is there to compare with"


def test_what_counts_something_else_is_shown_without_a_rank_and_without_a_difference() -> None:
    summary = run("aws:us-east-1")
    found = compare_regions(summary)
    bases = {(place.intensity.basis, place.intensity.accounting) for place in found.places if place.rank}
    assert bases == {("lifecycle", "production")}
    others = [place for place in found.places if place.rank is None]
    assert "aws:ap-southeast-2" in {place.code for place in others}
    rows = {row[1]: row for row in section(summary).rows}
    rank, *_, change, counted = rows["aws:ap-southeast-2"]
    assert (rank, change, counted) == ("–", "", "direct, consumption, 2023")
    assert any("cannot be compared" in note for note in section(summary).notes)


def test_a_run_whose_own_figure_counts_something_else_has_no_differences() -> None:
    summary = run("AU-VIC")
    found = compare_regions(summary)
    assert found.own_g is None
    assert [(place.code, place.rank) for place in own(found)] == [("AU-VIC", None)]
    assert {row[5] for row in section(summary).rows} == {"", "its own"}


@pytest.mark.parametrize("intensity", [FixedProvider(100.0).intensity_at(0.0), world_default()])
def test_a_run_of_no_known_place_has_no_place_of_its_own(intensity: Intensity) -> None:
    summary = charged_with(intensity)
    assert place_name(summary) == ""
    words = {row[5] for row in section(summary).rows}
    assert "its own" not in words


def test_a_note_of_somebody_else_makes_no_cloud_region() -> None:
    intensity = resolve("FR").intensity._replace(note="aws:nowhere-1 lies in FR (France)")
    assert {place.code for place in own(compare_regions(charged_with(intensity)))} == {"FR"}


def test_a_place_is_named_for_people() -> None:
    assert place_name(run("FR")) == "France (FR)"
    assert place_name(run("aws:us-east-1")) == "Virginia (US-VA), aws:us-east-1"


def test_an_unknown_provider_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"^--elsewhere: region 'mainframe' .* aws, azure, .*, countries"):
        compare_regions(run(), "mainframe")


def test_a_run_that_drew_nothing_can_be_compared_as_well() -> None:
    shown = snapshot((run_state(totals=(run_total("GPU-0", "gpu", "counter", 0.0),)),))
    summary = summarize(shown, shown.runs[0], "final")
    found = compare_regions(summary)
    assert {place.emissions_g for place in found.places} == {0.0}
    assert with_what_if(summary, "SE")["what_if"]["emissions_g"] == 0.0
    assert section_text(section(summary))


def test_a_run_of_which_nothing_was_seen_has_no_figures_elsewhere() -> None:
    shown = snapshot((run_state(),))
    with pytest.raises(ConfigError, match="nothing is known of the energy of run 'slurm-4242'"):
        compare_regions(summarize(shown, shown.runs[0], "final"))


def test_the_section_says_its_pue_its_real_figure_and_that_moving_has_a_cost() -> None:
    summary = run("FR", pue_ratio=1.2)
    text = " ".join(section_text(section(summary)).split())
    assert "The same 345 Wh elsewhere, at the same PUE of 1.20" in text
    assert "As it ran: 124 g CO2e" in text
    assert "Moving has its own cost" in text
    assert "France 44.2 18.3 g its own lifecycle, production, 2024" in text


def test_a_lower_bound_is_called_so() -> None:
    rows = section(run("SE-SE4")).rows
    assert [row[6] for row in rows if row[1] == "SE-SE4"] == ["lifecycle, production, 2025, lower bound"]


# ---- Named places ----


def test_places_of_every_kind_stand_in_one_list_with_the_runs_own() -> None:
    found = compare_regions(run("FR"), "DE, SE,aws:us-east-1,US-CA,Québec,SE")
    assert {place.code for place in found.places} == {"DE", "SE", "aws:us-east-1", "US-CA", "CA-QC", "FR"}
    assert [place.code for place in own(found)] == ["FR"]
    emissions = [place.emissions_g for place in found.places if place.rank is not None]
    assert emissions == sorted(emissions)


def test_a_provider_may_stand_among_places() -> None:
    codes = {place.code for place in compare_regions(run("FR"), "DE,scaleway").places}
    assert "DE" in codes and any(code.startswith("scaleway:") for code in codes)


def test_a_place_with_a_basis_of_its_own_is_named_with_it_and_not_compared() -> None:
    found = compare_regions(run("FR"), "US-CA@direct,US-CA,DE")
    by_code = {place.code: place for place in found.places}
    assert by_code["US-CA@direct"].rank is None
    assert by_code["US-CA@direct"].intensity.basis == "direct"
    assert by_code["US-CA"].rank is not None


@pytest.mark.parametrize("text", ["DE,Swedn", "DE,,SE", "mainframe", "DE,aws:nowhere-1"])
def test_what_is_no_list_of_places_is_none_and_names_the_mistake(text: str) -> None:
    assert not is_place(text)
    with pytest.raises(ConfigError, match="--elsewhere: "):
        compare_regions(run(), text)


def test_the_nearest_places_are_suggested_for_one_that_is_misspelt() -> None:
    with pytest.raises(ConfigError, match=r"'Swedn' is unknown; the nearest are SE \(Sweden\)"):
        compare_regions(run(), "DE,Swedn")


def test_the_comparison_names_unit_sources_and_basis() -> None:
    text = " ".join(section_text(section(run("FR"), "DE,aws:us-east-1")).split())
    assert "g CO2e/kWh by Ember Yearly Electricity Data via Our World in Data, Ember Yearly" in text
    assert "lifecycle, production" in text


# ---- What if ----


def test_a_what_if_is_the_energy_and_its_range_at_the_places_mean_with_the_runs_pue() -> None:
    summary = run("FR", pue_ratio=1.5)
    found = with_what_if(summary, "Sweden")["what_if"]
    g_per_kwh = resolve("SE").intensity.g_per_kwh
    assert (found["place"], found["name"], found["pue"]) == ("SE", "Sweden", 1.5)
    for key, joules in (("emissions_g", "total_j"), ("low_g", "low_j"), ("high_g", "high_j")):
        assert found[key] == pytest.approx(summary["energy"][joules] / 3.6e6 * 1.5 * g_per_kwh)
    assert sum(found["phases"].values()) == pytest.approx(found["emissions_g"])
    assert found["intensity"]["source"].startswith("Ember")


def test_a_what_if_changes_no_figure_of_the_run() -> None:
    summary = run("FR")
    found = with_elsewhere(with_what_if(summary, "SE"), "DE")
    assert {key: value for key, value in found.items() if key not in ("what_if", "elsewhere")} == summary


def test_a_run_at_its_own_place_would_have_caused_the_same() -> None:
    summary = run("FR")
    shown = with_what_if(summary, "FR")["what_if"]["emissions_g"]
    kwh = summary["energy"]["total_kwh"]
    assert shown == pytest.approx(kwh * resolve("FR").intensity.g_per_kwh)
