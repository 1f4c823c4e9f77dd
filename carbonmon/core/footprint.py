"""From joules to grams, litres and money: what a joule of a device costs while it is drawn; pure."""

from __future__ import annotations

import math

from carbonmon.core.model import JOULES_PER_KWH, Intensity
from carbonmon.core.records import NamedTuple
from carbonmon.core.timeline import Timeline


class Tariff(NamedTuple):
    """The price of a kWh from the grid: one figure, or a timeline of them; in its gaps it is unknown.

    `currency` is the ISO 4217 code. A price may be negative, as wholesale prices are at times.
    """

    currency: str
    per_kwh: float | None = None
    timeline: Timeline | None = None
    source: str = ""

    def at(self, wall_s: float) -> float | None:
        """The price of a kWh at a Unix time, None where it is unknown."""
        if self.timeline is None:
            return self.per_kwh
        slot = self.timeline.at(wall_s)
        return None if slot is None else slot.value

    def over(self, start_s: float, end_s: float) -> float | None:
        """The mean price of a kWh over a stretch of Unix time, None where part of it is unknown."""
        if self.timeline is None:
            return self.per_kwh
        mean = self.timeline.mean(start_s, end_s, lambda *_: math.nan)
        return None if math.isnan(mean) else mean


class Overheads(NamedTuple):
    """PUE, WUE and price as the user chose them; each with its source.

    `pue_ratio` is facility energy over device energy, 1 unless the user gave another. `wue_l_per_kwh` is
    the site's water per kWh of device energy, as The Green Grid defines WUE: no PUE comes on top.
    """

    pue_ratio: float = 1.0
    pue_source: str = ""
    wue_l_per_kwh: float | None = None
    wue_source: str = ""
    tariff: Tariff | None = None


class Rates(NamedTuple):
    """What one joule of a device costs: grams of CO2e (figure, low, high), litres of water, and money.

    `cost` is in the tariff's currency, None where the price is unknown. `intensity` and `pue_ratio` are what
    the grams are calculated with.
    """

    grams: float
    low_grams: float
    high_grams: float
    intensity: Intensity
    litres: float | None = None
    cost: float | None = None
    currency: str = ""
    pue_ratio: float = 1.0


def rates(intensity: Intensity, overheads: Overheads, price_per_kwh: float | None = None) -> Rates:
    """The rates that are in force with an intensity and a price.

    Grams are E[kWh] × PUE × intensity[g/kWh], the location-based method of the GHG Protocol's Scope 2
    guidance applied to the energy of the data centre. Money is E × PUE × price: the meter at the wall counts
    the overhead as well. Water is E × WUE.
    """
    factor = overheads.pue_ratio / JOULES_PER_KWH
    wue = overheads.wue_l_per_kwh
    return Rates(
        intensity.g_per_kwh * factor,
        intensity.low_g_per_kwh * factor,
        intensity.high_g_per_kwh * factor,
        intensity,
        None if wue is None else wue / JOULES_PER_KWH,
        None if price_per_kwh is None else price_per_kwh * factor,
        "" if overheads.tariff is None else overheads.tariff.currency,
        overheads.pue_ratio,
    )
