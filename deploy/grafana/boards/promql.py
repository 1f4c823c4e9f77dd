"""Pieces of queries. `$__range` is Grafana's time range, `$__rate_interval` at least four scrapes."""

from __future__ import annotations

MEASURED = 'method!="tdp"'
NODE, DEVICE = "job, instance", "job, instance, component, device"

_INTENSITY = "carbonmon_grid_intensity_grams_per_kilowatt_hour"


def series(metric: str, *matchers: str) -> str:
    """The series of a metric as they are now."""
    return f"{metric}{{{', '.join(matchers)}}}" if matchers else metric


def last(metric: str, *matchers: str) -> str:
    """The newest values within the time range, also of a run or a node that is gone by now.

    carbonmon keeps its totals over restarts, so that these are whole totals, and nothing is extrapolated.
    """
    return f"last_over_time({series(metric, *matchers)}[$__range])"


def one(labels: str, expr: str) -> str:
    """One value for each set of these labels: files and gateways hold what is a node's once a run."""
    return f"max by ({labels}) ({expr})"


def rate(metric: str, *matchers: str) -> str:
    """The growth in a second, as the mean of some scrapes, of the series that are as old as that.

    Prometheus divides by the whole window also where a series is younger, and shows too little.
    """
    own = series(metric, *matchers)
    return f"(rate({own}[$__rate_interval]) and {own} offset $__rate_interval)"


def lately(metric: str, *matchers: str) -> str:
    """The newest values of the last scrapes, for lines over time.

    Where a counter is new, VictoriaMetrics 1.79 marks it as gone in its second scrape, beside its value.
    """
    return f"last_over_time({series(metric, *matchers)}[$__rate_interval])"


def by_method(power: str, energy: str, *matchers: str) -> str:
    """Watts of each device by method: the power now, split as the energy grew in the last scrapes.

    What a store makes of the age of a series cancels in the shares; the parts add up to the power. Where
    nothing grew, as between two scrapes of one reading, the totals are the shares.
    """
    total = f"({series(energy, *matchers)})"
    grown = f"(rate({series(energy, *matchers)}[$__rate_interval]))"
    share = " or ".join(
        f"sum by ({DEVICE}, method) {part} / on ({DEVICE}) group_left () (sum by ({DEVICE}) {part} > 0)"
        for part in (grown, total)
    )
    return f"({share}) * on ({DEVICE}) group_left () {one(DEVICE, series(power, *matchers))}"


def grams_an_hour(power: str) -> str:
    """g CO2e an hour of powers in W: times PUE and g/kWh of the node, by 1000 W/kW. Right at each scrape."""
    pue, intensity = one(NODE, "carbonmon_pue_ratio"), one(NODE, _INTENSITY)
    return f"({power} * on ({NODE}) group_left () ({pue} * {intensity}) / 1000)"


def with_machine(expr: str) -> str:
    """The expression with a label `machine`: two monitors of one machine have the same, and the same devices.

    It is the boot of the kernel; the instance where a node does not tell that.
    """
    boot = 'label_replace(carbonmon_machine_info, "machine", "$1", "boot_id", "(.+)")'
    other = 'label_replace(carbonmon_build_info, "machine", "$1", "instance", "(.+)")'
    return f"{expr} * on ({NODE}) group_left (machine) topk by ({NODE}) (1, {boot} or on ({NODE}) {other})"


def or_zero(expr: str, known: str) -> str:
    """The expression, or 0 where `known` has a value: what is unknown stays so."""
    return f"({expr}) or 0 * {known}"


def labelled(expr: str, **labels: str) -> str:
    """The expression with fixed labels; raises ValueError for a text that cannot stand in a query."""
    for name, text in labels.items():
        if set(text) & set('"\\$'):
            raise ValueError(f"{name}: {text!r} cannot stand in a query")
        expr = f'label_replace({expr}, "{name}", "{text}", "", "")'
    return expr
