"""Panels that more than one dashboard has, for the series that `matchers` pick."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat, timeseries

from deploy.grafana.boards import promql
from deploy.grafana.boards.panels import GRAMS_PER_KWH, Query, by_method, chart, figure
from deploy.grafana.boards.promql import or_zero

METHODS = "Counter and power are measured, tdp is estimated."
RUN_LINK = "/d/carbonmon-run?var-datasource=${datasource}&var-run_id=${__value.raw}&${__url_time_range}"
NODE_LINK = (
    "/d/carbonmon-node?var-datasource=${datasource}&var-job=${__data.fields.Job}"
    "&var-instance=${__value.raw}&${__url_time_range}"
)

_START, _END = "carbonmon_run_start_time_seconds", "carbonmon_run_end_time_seconds"


def power_by_method(expr: str, span: int = 12) -> timeseries.Panel:
    """What of the power is measured, of a query that keeps the method."""
    panel = chart(
        "Power by method",
        f"Power now, split as the energy of the last scrapes was known. {METHODS}",
        "watt",
        Query(f"sum by (method) ({expr})", "{{method}}"),
        stacked=True,
        span=span,
    )
    return by_method(panel)


def power_of_runs(runs: str, rest: str, span: int = 12) -> timeseries.Panel:
    """The power of all devices, split into that of runs and the rest."""
    return chart(
        "Power of runs and of no run",
        "Power of all metered devices: the part that is charged to runs, and the rest.",
        "watt",
        Query(runs, "runs"),
        Query(rest, "no run"),
        stacked=True,
        span=span,
    )


def grid_intensity(expr: str, span: int = 12) -> timeseries.Panel:
    """The intensity in force, of a query that keeps zone, source and kind."""
    return chart(
        "Grid intensity",
        "In force there. Kind live is the grid's own figure, forecast a prediction, table an annual mean, "
        "fixed one that the user gave, stale an old live figure.",
        GRAMS_PER_KWH,
        Query(f"max by (zone, source, kind) ({expr})", "{{zone}} · {{kind}} · {{source}}"),
        span=span,
    )


def runs_now(known: str, *matchers: str) -> stat.Panel:
    """How many runs go on, 0 where `known` has a value."""
    start, end = promql.series(_START, *matchers), promql.series(_END, *matchers)
    running = f"count(count by (run_id) ({start} unless on (job, instance, run_id) {end}))"
    return figure("Runs now", "Runs that have not ended.", "none", Query(or_zero(running, known)), span=3)
