"""How far the true value may lie from a sum of a run's totals.

The errors of a method are systematic: a TDP that is 30 % too high is so in every second and on every
device. So the bounds of the parts are summed linearly, and do not shrink as root of n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from carbonmon.core.model import MEASURED_METHODS, DeviceState, RunState, RunTotal, Uncertainty
from carbonmon.core.records import NamedTuple

_EDGES_S = 1.0
"""Of a run on a busy machine; milliseconds on others."""


class Row(NamedTuple):
    """One of a run's totals with the uncertainty of its device and method, None if it is unknown."""

    total: RunTotal
    uncertainty: Uncertainty | None


def with_uncertainty(total: RunTotal, devices: dict[str, DeviceState]) -> Row:
    """Pair a total with the uncertainty of its method: that of the sensor, or of the specification."""
    state = devices.get(total.device_id)
    if state is None:
        return Row(total, None)
    if total.method in MEASURED_METHODS:
        return Row(total, state.device.measured_uncertainty)
    return Row(total, state.device.spec.uncertainty if state.device.spec else None)


def seen_devices(run: RunState) -> set[str]:
    """The devices of which something is known: they drew something, or were observed for some of the time.

    Of the others the energy is unknown, which is not 0 J. A device is first read a little after a run begins
    and last read a little before it ends, and what was never read may seem observed for so long.
    """
    edges_s = min(_EDGES_S, run.duration_s / 2.0)
    lost_s = dict(run.unobserved_s)
    drew = {total.device_id for total in run.totals if total.energy_j}
    used = {*dict(run.power_w), *(total.device_id for total in run.totals)}
    return drew | {each for each in used if run.duration_s - lost_s.get(each, 0.0) > edges_s}


def is_seen(run: RunState) -> bool:
    """Whether anything is known of the energy of a run: of its devices, or of others that it did not use."""
    drawn = any(total.counter_j or total.power_j or total.tdp_j for total in run.node)
    return drawn or bool(seen_devices(run))


def seen_totals(run: RunState) -> list[RunTotal]:
    """A run's totals without those of devices of which nothing is known."""
    seen = seen_devices(run)
    return [total for total in run.totals if total.device_id in seen]


def energy_j(rows: Iterable[Row]) -> float:
    return sum(row.total.energy_j for row in rows)


def emissions_g(rows: Iterable[Row]) -> float:
    return sum(row.total.emissions_g for row in rows)


def known(amount: Callable[[list[Row]], float], rows: list[Row]) -> float | None:
    """An amount of a device's rows; None where there are none: nothing was seen of it."""
    return amount(rows) if rows else None


def energy_range_j(rows: Iterable[Row]) -> tuple[float | None, float | None]:
    """The least and the most joules that the rows may stand for; None where a part's range is unknown."""
    rows = list(rows)
    return (
        _sum_known(_low(row.total.energy_j, row.uncertainty) for row in rows),
        _sum_known(_high(row.total.energy_j, row.uncertainty) for row in rows),
    )


def emissions_range_g(rows: Iterable[Row]) -> tuple[float | None, float | None]:
    """The same for grams: the intensity's own range, widened by the range of the energy."""
    rows = list(rows)
    return (
        _sum_known(_low(row.total.emissions_low_g, row.uncertainty) for row in rows),
        _sum_known(_high(row.total.emissions_high_g, row.uncertainty) for row in rows),
    )


def measured_ratio(rows: Iterable[Row]) -> float | None:
    """The part of the energy that a sensor measured; None where there is no energy to be a part of."""
    rows = list(rows)
    total_j = energy_j(rows)
    measured_j = energy_j(row for row in rows if row.total.method in MEASURED_METHODS)
    return measured_j / total_j if total_j else None


def grouped(rows: Iterable[Row], key: Callable[[RunTotal], str]) -> dict[str, list[Row]]:
    """The rows by a property of their totals, in order of first appearance."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row.total), []).append(row)
    return groups


def _low(amount: float, uncertainty: Uncertainty | None) -> float | None:
    if not amount:
        return 0.0  # nothing is nothing, whatever the method's uncertainty
    return amount * (1 - uncertainty.low_ratio) if uncertainty else None


def _high(amount: float, uncertainty: Uncertainty | None) -> float | None:
    if not amount:
        return 0.0
    return amount * (1 + uncertainty.high_ratio) if uncertainty else None


def _sum_known(amounts: Iterable[float | None]) -> float | None:
    total = 0.0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
