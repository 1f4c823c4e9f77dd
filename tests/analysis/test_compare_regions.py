"""The same run in other regions: comparable ones ranked, its own region marked, nothing mixed silently."""

from __future__ import annotations

from typing import Any

import pytest

from carbonmon.analysis import compare_regions as places
from carbonmon.analysis.compare_regions import compare_regions, place_name, providers, section
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Intensity
from carbonmon.grid.default_intensity import world_default
from carbonmon.grid.fixed import FixedProvider
from carbonmon.grid.regions import resolve
from carbonmon.runs.report.details import section_text
from carbonmon.runs.summary.document import summarize
from tests.support.records import node, run_state, run_total, snapshot


def run(region: str = "DE", pue_ratio: float = 1.0) -> dict[str, Any]:
    return charged_with(resolve(region).intensity, pue_ratio)


def charged_with(intensity: Intensity, pue_ratio: float = 1.0) -> dict[str, Any]:
    shown = node(1, 1, 1)._replace(intensity=intensity, pue_ratio=pue_ratio)
    return summarize(shown, shown.runs[0], "final")


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
    rows = {row[1]: row for row in section(summary, found).rows}
    rank, *_, change, counted = rows["aws:ap-southeast-2"]
    assert (rank, change, counted) == ("–", "", "direct, consumption, 2023")
    assert any("cannot be compared" in note for note in section(summary, found).notes)


def test_a_run_whose_own_figure_counts_something_else_has_no_differences() -> None:
    summary = run("AU-VIC")
    found = compare_regions(summary)
    assert found.own_g is None
    assert [(place.code, place.rank) for place in own(found)] == [("AU-VIC", None)]
    assert {row[5] for row in section(summary, found).rows} == {"", "its own"}


@pytest.mark.parametrize("intensity", [FixedProvider(100.0).intensity_at(0.0), world_default()])
def test_a_run_of_no_known_place_has_no_place_of_its_own(intensity: Intensity) -> None:
    summary = charged_with(intensity)
    assert place_name(summary) == ""
    words = {row[5] for row in section(summary, compare_regions(summary)).rows}
    assert "its own" not in words


def test_a_note_of_somebody_else_makes_no_cloud_region() -> None:
    intensity = resolve("FR").intensity._replace(note="aws:nowhere-1 lies in FR (France)")
    assert {place.code for place in own(compare_regions(charged_with(intensity)))} == {"FR"}


def test_a_place_is_named_for_people() -> None:
    assert place_name(run("FR")) == "France (FR)"
    assert place_name(run("aws:us-east-1")) == "Virginia (US-VA), aws:us-east-1"


def test_an_unknown_provider_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'mainframe' .* aws, azure, .*, countries"):
        compare_regions(run(), "mainframe")


def test_a_run_that_drew_nothing_can_be_compared_as_well() -> None:
    shown = snapshot((run_state(totals=(run_total("GPU-0", "gpu", "counter", 0.0),)),))
    summary = summarize(shown, shown.runs[0], "final")
    found = compare_regions(summary)
    assert {place.emissions_g for place in found.places} == {0.0}
    assert section_text(section(summary, found))


def test_a_run_of_which_nothing_was_seen_has_no_figures_elsewhere() -> None:
    shown = snapshot((run_state(),))
    with pytest.raises(ConfigError, match="nothing is known of the energy of run 'slurm-4242'"):
        compare_regions(summarize(shown, shown.runs[0], "final"))


def test_the_section_says_its_pue_its_real_figure_and_that_moving_has_a_cost() -> None:
    summary = run("FR", pue_ratio=1.2)
    text = " ".join(section_text(section(summary, compare_regions(summary))).split())
    assert "The same 345 Wh elsewhere, at the same PUE of 1.20" in text
    assert "As it ran: 124 g CO2e" in text
    assert "Moving has its own cost" in text
    assert "France 44.2 18.3 g its own lifecycle, production, 2024" in text


def test_a_lower_bound_is_called_so() -> None:
    rows = section(run("SE-SE4"), compare_regions(run("SE-SE4"))).rows
    assert [row[6] for row in rows if row[1] == "SE-SE4"] == ["lifecycle, production, 2025, lower bound"]
