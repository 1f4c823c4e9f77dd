"""What a run is like: sentences of a sensible size, each with its source, nothing about nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.runs.report.details import details_text
from carbonmon.runs.report.equivalents import equivalents
from carbonmon.runs.summary.document import summarize
from tests.support.records import node


def run(
    grams: float, kwh: float, spread: tuple[float, float] | None = (1.0, 1.0), pue: float = 1.0
) -> dict[str, Any]:
    """What a equivalent looks at; the range as factors of the figure, None for an unknown one."""
    low, high = spread or (None, None)

    def ends(amount: float) -> tuple[float | None, float | None]:
        return (None, None) if low is None or high is None else (amount * low, amount * high)

    return {
        "carbon": {
            "emissions_g": grams,
            "low_g": ends(grams)[0],
            "high_g": ends(grams)[1],
            "pue": pue,
        },
        "energy": {"total_j": kwh * 3.6e6, "low_j": ends(kwh * 3.6e6)[0], "high_j": ends(kwh * 3.6e6)[1]},
    }


def sentences(summary: dict[str, Any]) -> list[str]:
    return [equivalent.sentence for equivalent in equivalents(summary)]


@pytest.mark.parametrize(
    ("grams", "way"),
    [
        (0.001, "4.10 mm"),
        (0.01, "4.10 cm"),
        (2.44, "10.0 m"),
        (244.0, "1.00 km"),
        (552_000_000.0, "2,260,000 km"),
    ],
)
def test_a_way_by_car_is_said_in_the_unit_that_suits_it(grams: float, way: str) -> None:
    assert sentences(run(grams, 0.0))[0] == f"driving {way} in a petrol car"


@pytest.mark.parametrize(
    ("kwh", "sentence"),
    [
        (0.012, "charging a smartphone 1.00 times"),
        (1.2, "charging a smartphone 100 times"),
        (120.0, "charging a smartphone 10,000 times"),
        (0.003, "25.0 % of a smartphone's charge"),
    ],
)
def test_charges_are_counted_by_electricity_whatever_the_grid(kwh: float, sentence: str) -> None:
    assert sentence in sentences(run(0.0, kwh))
    assert sentence in sentences(run(kwh * 900, kwh))


def test_the_charges_hold_the_pue_as_the_emissions_do() -> None:
    assert sentences(run(0.0, 1.2, pue=1.5))[:1] == ["charging a smartphone 150 times"]


@pytest.mark.parametrize(
    ("grams", "sentence"),
    [
        (0.0012, "what a tree seedling takes up in 6.31 seconds"),
        (6_000 / 365.25, "what a tree seedling takes up in 1.00 days"),
        (12_000.0, "what a tree seedling takes up in 2.00 years"),
        (600_000.0, "what 10.0 tree seedlings take up in ten years"),
    ],
)
def test_seedlings_are_counted_in_the_years_that_their_figure_is_of(grams: float, sentence: str) -> None:
    assert sentences(run(grams, 0.0))[-1] == sentence


def test_nothing_is_like_nothing() -> None:
    assert equivalents(run(0.0, 0.0)) == []


def test_a_crumb_is_like_nothing_that_anybody_knows() -> None:
    assert equivalents(run(1e-9, 1e-12)) == []


def test_a_range_is_said_where_it_is_wide_and_known() -> None:
    assert sentences(run(244.0, 0.0, (0.5, 2.0)))[0] == "driving 1.00 km (0.500 to 2.00) in a petrol car"
    assert sentences(run(244.0, 0.0, (0.99, 1.01)))[0] == "driving 1.00 km in a petrol car"
    assert sentences(run(244.0, 0.0, None))[0] == "driving 1.00 km in a petrol car"


def test_every_likeness_names_its_factor_and_whose_it_is() -> None:
    sources = [equivalent.source for equivalent in equivalents(run(100.0, 1.0))]
    assert len(sources) == 5
    assert all(re.search(r"\d.*(?:EPA.* 2024|EIA 2020|10 CFR 430)", source) for source in sources)


@pytest.mark.parametrize(
    ("kwh", "household", "refrigerator"),
    [
        (
            10_500.0,
            "the electricity of a US household in 1.00 years",
            "running 26.6 refrigerators for a year",
        ),
        (395.0, "the electricity of a US household in 13.7 days", "running a refrigerator for 1.00 years"),
        (
            433_000.0,
            "the electricity of 41.2 US households in a year",
            "running 1,100 refrigerators for a year",
        ),
    ],
)
def test_households_and_refrigerators_are_counted_by_electricity(
    kwh: float, household: str, refrigerator: str
) -> None:
    assert sentences(run(0.0, kwh))[-2:] == [household, refrigerator]


def test_settled_emissions_are_what_a_settled_run_is_like() -> None:
    settled = {
        **run(244.0, 1.0),
        "settled": {"emissions_g": 488.0, "low_g": None, "high_g": None, "pue": 1.0},
    }
    assert sentences(settled)[0] == "driving 2.00 km in a petrol car"


@given(st.floats(0, 1e15), st.floats(0, 1e12))
def test_no_amount_makes_nonsense(grams: float, kwh: float) -> None:
    for sentence in sentences(run(grams, kwh, (0.5, 2.0))):
        first = re.search(r"[\d,.]+", sentence.replace("10.0 tree", "10 tree"))
        assert first is not None
        assert float(first[0].replace(",", "")) > 0, sentence
        assert "e+" not in sentence
        assert "inf" not in sentence


def test_the_lines_of_a_report_are_no_wider_than_its_table() -> None:
    shown = node(1, 1, 1)
    text = details_text(summarize(shown, shown.runs[0], "final"))
    assert "  basis      lifecycle emissions, production-based, annual mean of 2024\n" in text
    assert (text.count("EPA 2024"), text.count("EPA, before 2024")) == (2, 1)
    assert max(map(len, text.splitlines())) <= 100
