"""The intensities that a run was charged with, with the part of its energy of each, from the scrapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import get_args

from carbonmon.analysis.prometheus.client import Api, Labels
from carbonmon.analysis.prometheus.counter_history import CounterHistory
from carbonmon.analysis.prometheus.scan import TargetScrapes
from carbonmon.analysis.prometheus.selectors import of_node, of_run, own_labels, span
from carbonmon.core import metrics as f
from carbonmon.core.model import Intensity, IntensityKind
from carbonmon.core.records import NamedTuple
from carbonmon.grid.annual import WORLD, preferred_rows, table_intensity
from carbonmon.grid.default_intensity import world_default

STEPS = 500
"""A run with several intensities is read in so many equal parts."""

_SHORTEST_STEP_S = 1.0
_EQUAL = 1e-9

Origin = tuple[str, str, IntensityKind]
"""Zone, source and kind."""


class ChargedIntensity(NamedTuple):
    """The last intensity of an origin, and its part of the run's energy and emissions, 0 to 1."""

    intensity: Intensity
    energy_ratio: float
    emissions_ratio: float

    @property
    def has_range(self) -> bool:
        """Whether its bounds are known: the world's average may be of another edition of our table."""
        return self.intensity.zone != WORLD or self.intensity.year is not None


def charged_intensities(
    api: Api, run_id: str, history: CounterHistory, end_s: float | None
) -> list[ChargedIntensity]:
    """The intensities of a run that ended at `end_s`, if that is known; none where Prometheus holds none.

    With one origin the parts are exact. With several they are those of the steps at whose ends each was in
    force, exact to one step.
    """
    last: dict[Origin, float] = {}
    for scraped in history.target_scrapes:
        begin_s, until_s = _times(scraped, end_s)
        query = f"last_over_time({_intensities(run_id, scraped)}[{span(until_s - begin_s)}])"
        for series in api.at(query, until_s):
            origin = _origin(series.labels, scraped)
            if origin is not None:
                last[origin] = series.values[-1]
    if len(last) < 2:
        return [ChargedIntensity(_facts(origin, value), 1.0, 1.0) for origin, value in last.items()]
    in_force: dict[float, Origin] = {}
    joules: dict[float, float] = {}
    grams: dict[float, float] = {}
    for scraped in history.target_scrapes:
        begin_s, until_s = _times(scraped, end_s)
        step_s = max(_SHORTEST_STEP_S, scraped.interval_s or 0.0, (until_s - begin_s) / STEPS)
        times = begin_s, until_s + step_s, step_s
        for series in api.over(_intensities(run_id, scraped), *times):
            origin = _origin(series.labels, scraped)
            if origin is not None:
                in_force.update(dict.fromkeys(series.times_s, origin))
        for family, sums in ((f.RUN_ENERGY, joules), (f.RUN_EMISSIONS, grams)):
            for series in api.over(f"sum({of_run(family.name, run_id, scraped.target)})", *times):
                sums.update(zip(series.times_s, series.values, strict=True))
    energy, emissions = _ratios(joules, in_force), _ratios(grams, in_force)
    origins = dict.fromkeys(in_force[at_s] for at_s in sorted(in_force) if in_force[at_s] in last)
    return [
        ChargedIntensity(_facts(origin, last[origin]), energy.get(origin, 0.0), emissions.get(origin, 0.0))
        for origin in origins
    ]


def _times(scraped: TargetScrapes, end_s: float | None) -> tuple[float, float]:
    until_s = scraped.last_s if end_s is None else min(end_s, scraped.last_s)
    return min(scraped.first_s, until_s - _SHORTEST_STEP_S), until_s


def _intensities(run_id: str, scraped: TargetScrapes) -> str:
    return of_node([f.GRID_INTENSITY.name], run_id, scraped.target)


def _origin(labels: Labels, scraped: TargetScrapes) -> Origin | None:
    own = own_labels(labels, scraped.target)
    for kind in get_args(IntensityKind):
        if own.get("kind") == kind:
            return own.get("zone", ""), own.get("source", ""), kind
    return None


def _ratios(sums: Mapping[float, float], in_force: Mapping[float, Origin]) -> dict[Origin, float]:
    """The part of a sum's growth in the steps at whose ends an origin was in force."""
    grown: dict[Origin, float] = {}
    points: Iterable[tuple[float, float]] = [(float("-inf"), 0.0), *sorted(sums.items())]
    for (_, before), (at_s, value) in pairwise(points):
        origin = in_force.get(at_s)
        if origin is not None:
            grown[origin] = grown.get(origin, 0.0) + max(0.0, value - before)
    whole = sum(grown.values())
    return {origin: amount / whole for origin, amount in grown.items()} if whole else {}


def _facts(origin: Origin, g_per_kwh: float) -> Intensity:
    """The intensity with basis, year and range from our own table, if the table has the same figure."""
    zone, source, kind = origin
    plain = Intensity(g_per_kwh, g_per_kwh, g_per_kwh, zone, source, kind)
    if kind != "table":
        return plain
    rows = (table_intensity(row) for row in preferred_rows() if row["zone"] == zone)
    known = world_default() if zone == WORLD else next(rows, None)
    is_same = known is not None and abs(known.g_per_kwh - g_per_kwh) <= _EQUAL * g_per_kwh
    return known if known is not None and is_same and known.source == source else plain
