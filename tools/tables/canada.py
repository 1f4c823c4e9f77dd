"""Lifecycle carbon intensity of Canada's provinces: the mix of generation × the median of each technology.

    python tools/tables/canada.py

prints the figures that carbon_intensity.csv has, in gCO2e/kWh. Sources:

- the mix of 2023 in percent, `canada_mix_2023.csv`: from the Canada Energy Regulator's provincial energy
  profiles, as CodeCarbon 3.3.2 has it (codecarbon/data/private_infra/2023/canada_energy_mix.json, MIT
  licence);
- medians: IPCC AR5, working group III, annex III, table A.III.2 (2014); oil, which that table lacks: IPCC
  special report on renewable energy (SRREN), annex II, table A.II.4 (2011).

The shares of a province add up to 99.8 to 100.2 % by rounding: they are divided by their sum.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

MIX = Path(__file__).with_name("canada_mix_2023.csv")
MEDIANS_G_PER_KWH = {
    "coal": 820.0,
    "gas": 490.0,
    "oil": 840.0,
    "biomass": 230.0,
    "hydro": 24.0,
    "nuclear": 12.0,
    "solar": 48.0,
    "wind": 11.0,
    "tidal": 17.0,
}
"""gCO2e/kWh over a power station's life; solar: photovoltaic, utility scale; wind: onshore; biomass:
dedicated."""


def intensities() -> dict[str, float]:
    """gCO2e/kWh by zone, to one decimal. Raises ValueError for generation of an unknown technology."""
    with MIX.open(encoding="utf-8", newline="") as file:
        return {row.pop("zone"): _intensity(row) for row in csv.DictReader(file)}


def _intensity(row: dict[str, str]) -> float:
    shares = {technology: float(percent) for technology, percent in row.items()}
    if shares.pop("other"):
        raise ValueError("the mix has generation of a technology without a median")
    grams = sum(percent * MEDIANS_G_PER_KWH[technology] for technology, percent in shares.items())
    return round(grams / sum(shares.values()), 1)


if __name__ == "__main__":
    sys.stdout.writelines(f"{zone} {g_per_kwh}\n" for zone, g_per_kwh in intensities().items())
