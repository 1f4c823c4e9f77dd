"""What an estimate states beside energy and emissions: market-based grams, water off site, queries; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.analysis.estimate.figures import number_text
from carbonmon.analysis.estimate.inference import Inference
from carbonmon.analysis.estimate.load import Load
from carbonmon.analysis.estimate.records import Place
from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.runs.summary.figures import co2e_text, energy_text, figure, fine_mass_text, percent_text

MARKET_SOURCE = "as given; market-based (GHG Protocol, Scope 2 guidance, 2015)"
WATER_SOURCE = "as given; facility energy × litres a kWh of generation (Li et al. 2023, arXiv:2304.03271)"


def add_beside(
    summary: dict[str, Any],
    loads: Sequence[Load],
    places: Mapping[str, Place],
    uses: Mapping[str, Inference],
) -> None:
    """Put into the summary what was asked for; `places` has one for each part, `uses` those that serve."""
    energy = summary["energy"]
    facility_j = {
        part: sum(load.energy_j for load in loads if load.part == part) * place.overheads.pue_ratio
        for part, place in places.items()
    }
    if any(place.market_g_per_kwh is not None for place in places.values()):
        summary["carbon"]["market_based"] = _market_based(places, facility_j)
    if any(place.water_l_per_kwh is not None for place in places.values()):
        summary["water_off_site"] = _water_off_site(places, facility_j)
    if uses:
        phases = {name: (phase["energy_j"], phase["emissions_g"]) for name, phase in energy["phases"].items()}
        summary["inference"] = _inference(uses, phases)


def _market_based(places: Mapping[str, Place], facility_j: Mapping[str, float]) -> dict[str, Any]:
    """Grams with the factor of the electricity that was bought; location-based where a part has none."""
    grams = {part: j / JOULES_PER_KWH * _market(places[part]) for part, j in facility_j.items()}
    total_kwh = sum(facility_j.values()) / JOULES_PER_KWH
    without = [part for part, place in places.items() if place.market_g_per_kwh is None]
    note = f"; {', '.join(without)}: location-based, for want of a factor" if without else ""
    return {
        "emissions_g": sum(grams.values()),
        "mean_g_per_kwh": sum(grams.values()) / total_kwh if total_kwh else None,
        "source": f"{MARKET_SOURCE}{note}",
    }


def _market(place: Place) -> float:
    return place.intensity.g_per_kwh if place.market_g_per_kwh is None else place.market_g_per_kwh


def _water_off_site(places: Mapping[str, Place], facility_j: Mapping[str, float]) -> dict[str, Any]:
    known = {part: place.water_l_per_kwh for part, place in places.items()}
    litres = sum(facility_j[part] / JOULES_PER_KWH * each for part, each in known.items() if each is not None)
    covered_j = sum(facility_j[part] for part, each in known.items() if each is not None)
    total_j = sum(facility_j.values())
    return {
        "litres": litres,
        "l_per_kwh": litres / (covered_j / JOULES_PER_KWH) if covered_j else None,
        "known_ratio": min(1.0, covered_j / total_j) if total_j else None,
        "source": WATER_SOURCE,
    }


def _inference(uses: Mapping[str, Inference], phases: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """Figures a query and a token, and after how many queries they have drawn what all other parts did."""
    used_j, used_g = (sum(phases[part][at] for part in uses) for at in (0, 1))
    queries = sum(use.queries for use in uses.values())
    has_tokens = all(use.tokens_out is not None for use in uses.values())
    tokens = sum(use.queries * (use.tokens_out or 0.0) for use in uses.values()) if has_tokens else None
    before_j = sum(joules for part, (joules, _) in phases.items() if part not in uses)
    per_query_j = used_j / queries
    return {
        "queries": queries,
        "tokens": tokens,
        "energy_j": used_j,
        "emissions_g": used_g,
        "energy_per_query_j": per_query_j,
        "emissions_per_query_g": used_g / queries,
        "energy_per_token_j": used_j / tokens if tokens else None,
        "emissions_per_token_g": used_g / tokens if tokens else None,
        "before_j": before_j if before_j else None,
        "break_even_queries": before_j / per_query_j if before_j and per_query_j else None,
    }


def beside_texts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Labels and texts of the same for people."""
    texts: list[tuple[str, str]] = []
    market = summary["carbon"].get("market_based")
    if market is not None:
        rate = (
            "" if market["mean_g_per_kwh"] is None else f" at {number_text(market['mean_g_per_kwh'])} g/kWh"
        )
        texts.append(
            (
                "market",
                f"{co2e_text(market['emissions_g'])}{rate}, {market['source']}; emissions above are "
                "location-based",
            )
        )
    water = summary.get("water_off_site")
    if water is not None:
        known = water["known_ratio"]
        part = (
            ""
            if known is None or known > 0.9999
            else f" for {percent_text(known)} of the energy; of the rest unknown"
        )
        texts.append(("off site", f"{number_text(water['litres'])} L of water{part}, {water['source']}"))
    use = summary.get("inference")
    if use is not None:
        texts.append(
            (
                "query",
                f"{figure(use['energy_per_query_j'] / 3600.0)} Wh and "
                f"{fine_mass_text(use['emissions_per_query_g'])} CO2e, "
                f"the mean of {use['queries']:,.0f} queries",
            )
        )
        if use["energy_per_token_j"] is not None:
            per_token = energy_text(use["energy_per_token_j"])
            texts.append(
                (
                    "token",
                    f"{per_token} and {fine_mass_text(use['emissions_per_token_g'])} CO2e "
                    "a token that comes out",
                )
            )
        if use["break_even_queries"] is not None:
            times = use["queries"] / use["break_even_queries"]
            texts.append(
                (
                    "break-even",
                    f"after {_four(use['break_even_queries']):,.0f} queries the use has drawn what the rest "
                    f"did ({energy_text(use['before_j'])}); the queries given are {times:.3g} times that",
                )
            )
    return texts


def _four(number: float) -> float:
    """The number with four significant digits."""
    return float(f"{number:.4g}")
