"""What the meters of the whole machine measured during a run, and its part of it, from the last scrapes."""

from __future__ import annotations

from collections.abc import Iterator

from carbonmon.analysis.prometheus.totals import Totals
from carbonmon.core import metrics as f
from carbonmon.core.node_meter import NodeCharge, NodeEnergy


def node_energies(totals: Totals, duration_s: float) -> Iterator[NodeEnergy]:
    """The energy by each meter over the run; a monitor that does not show them (0.2 and older) has none."""
    methods = {
        (sample.labels.get("meter", ""), sample.labels.get("method", "")): sample.value
        for sample in totals.of(f.RUN_METER_ENERGY)
    }
    covered = by_meter(totals, f.RUN_METER_COVERED)
    for meter, lost_s in by_meter(totals, f.RUN_METER_UNOBSERVED).items():
        counter_j, power_j = methods.get((meter, "counter"), 0.0), methods.get((meter, "power"), 0.0)
        observed_s = max(0.0, duration_s - lost_s) if meter in covered else 0.0
        yield NodeEnergy(meter, counter_j, power_j, covered.get(meter, 0.0), observed_s, lost_s)


def node_charges(totals: Totals, bounds: tuple[float, float]) -> Iterator[NodeCharge]:
    """The run's part of what each meter measured (`--charge node`); `bounds` are those of the intensity."""
    grams = by_meter(totals, f.RUN_CHARGED_EMISSIONS)
    low, high = bounds
    for meter, energy_j in by_meter(totals, f.RUN_CHARGED_ENERGY).items():
        own_g = grams.get(meter, 0.0)
        yield NodeCharge(meter, energy_j, own_g, own_g * low, own_g * high)


def by_meter(totals: Totals, family: f.Family) -> dict[str, float]:
    """The values of a family by the meter's name."""
    return {sample.labels.get("meter", ""): sample.value for sample in totals.of(family)}
