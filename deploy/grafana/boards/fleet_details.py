"""The panels of all nodes and runs: rankings, lines over time, and who is silent."""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.boards import promql
from deploy.grafana.boards.common import NODE_LINK, RUN_LINK, grid_intensity, power_by_method, power_of_runs
from deploy.grafana.boards.fleet_queries import (
    GRAMS,
    INTENSITY,
    JOULES,
    MEASURED,
    NODES,
    POWER,
    RUN_POWER,
    SAMPLE,
    total,
    with_labels,
)
from deploy.grafana.boards.panels import GRAMS_PER_HOUR, GRAMS_PER_KWH, UP, Column, Query, chart, listing
from deploy.grafana.boards.promql import labelled

_ALERTS = 'ALERTS{alertname=~"Carbonmon.+"}'


def runs() -> list[Builder[models.Panel]]:
    """The runs one by one, and by what they have in common."""
    by_run = "sum by (run_id) ({})"
    started = promql.last("carbonmon_run_start_time_seconds")
    return [
        listing(
            "The runs by emissions",
            "Runs that were scraped within the time range, each as a whole. Energy without PUE, emissions "
            "with it. Label is the one that is named above; it is empty where a run has none.",
            (
                Column("run_id", "Run", link=RUN_LINK),
                Column("name", "Name"),
                Column("label", "Label"),
                Column("zone", "Zone"),
                Column("scheduler", "Scheduler"),
                Column("Value #A", "Energy", "joule"),
                Column("Value #B", "Emissions", "massg"),
                Column("Value #C", "Measured", "percentunit"),
                Column("Value #D", "Power now", "watt"),
                Column("Value #E", "Started", "dateTimeAsIso"),
                Column("Value #F", "Unobserved", "s"),
            ),
            "sum by (run_id, name, label, zone, scheduler) "
            f"({JOULES} {with_labels('name', 'label', 'zone', 'scheduler')})",
            by_run.format(GRAMS),
            f"({by_run.format(MEASURED)} or 0 * {by_run.format(JOULES)}) / ({by_run.format(JOULES)} > 0)",
            by_run.format(RUN_POWER),
            f"min by (run_id) ({started}) * 1000",  # Grafana's dates are milliseconds
            by_run.format(total("unobserved_seconds")),
            span=24,
            height=12,
            order="Emissions",
            limit=100,
        ),
        _grouped("By zone", "zone", "Zone", "The zone of the grid that a run was in."),
        _grouped("By scheduler", "scheduler", "Scheduler", "What started the run: Slurm and the like."),
        _grouped("By $label", "label", "Label", "The label of runs that is named above."),
    ]


def _grouped(title: str, label: str, name: str, about: str) -> Builder[models.Panel]:
    def grouped(operator: str, runs: str) -> str:
        found = f"{operator} by ({label}) ({runs} {with_labels(label)})"
        return f'label_replace({found}, "{label}", "none", "{label}", "")'

    return listing(
        title,
        f"{about} Whole runs that were scraped within the time range.",
        (
            Column(label, name),
            Column("Value #A", "Runs", "none"),
            Column("Value #B", "Energy", "joule"),
            Column("Value #C", "Emissions", "massg"),
        ),
        grouped("count", JOULES),
        grouped("sum", JOULES),
        grouped("sum", GRAMS),
        span=8,
        order="Emissions",
    )


def over_time() -> list[Builder[models.Panel]]:
    """Watts and grams of everything that is metered."""
    return [
        chart(
            "Power by component",
            "All metered devices of all nodes, each once, as last recorded; without PUE.",
            "watt",
            Query("sum by (component) (component:carbonmon_power_watts:sum)", "{{component}}"),
            stacked=True,
        ),
        power_by_method("method:carbonmon_power_watts:sum"),
        power_of_runs(
            "sum(fleet:carbonmon_run_power_watts:sum)", "sum(fleet:carbonmon_unattributed_power_watts:sum)"
        ),
        chart(
            "Power by run",
            "The ten runs that draw most, measured or estimated.",
            "watt",
            Query(f"topk(10, sum by (run_id) ({RUN_POWER}))", "{{run_id}}"),
        ),
        chart(
            "Carbon by zone",
            "Power of all metered devices times PUE and intensity, as last recorded, whoever caused it.",
            GRAMS_PER_HOUR,
            Query("sum by (zone) (zone:carbonmon_emissions_grams_per_hour:sum)", "{{zone}}"),
            stacked=True,
        ),
        grid_intensity(INTENSITY),
    ]


def nodes() -> list[Builder[models.Panel]]:
    """The nodes one by one, the silent ones first, and the alerts."""
    down = "count by (job, instance) (carbonmon_sensor_up == 0)"
    return [
        listing(
            "Nodes",
            "Targets that were carbonmon within the time range. Age is that of the last sample; an empty "
            "cell is unknown.",
            (
                Column("instance", "Instance", link=NODE_LINK),
                Column("job", "Job"),
                Column("Value #A", "State", words=UP),
                Column("Value #B", "Age", "s"),
                Column("Value #C", "Power", "watt"),
                Column("Value #D", "Carbon", GRAMS_PER_HOUR),
                Column("Value #E", "Intensity", GRAMS_PER_KWH),
                Column("Value #F", "Sensors down", "none"),
            ),
            f"max by (job, instance) (up {NODES})",
            f"time() - max by (job, instance) ({promql.last(SAMPLE)})",
            f"sum by (job, instance) ({POWER})",
            f"sum by (job, instance) ({promql.grams_an_hour(POWER)})",
            f"max by (job, instance) ({INTENSITY})",
            f"{down} or 0 * count by (job, instance) (carbonmon_sensor_up)",
            span=14,
            height=10,
            order="State",
            rising=True,
        ),
        listing(
            "Alerts",
            "Pending and firing alerts of carbonmon.alerts.yml; one row none where there are none.",
            (
                Column("alertname", "Alert"),
                Column("alertstate", "State"),
                Column("severity", "Severity"),
                Column("instance", "Instance"),
                Column("run_id", "Run", link=RUN_LINK),
            ),
            f"{_ALERTS} or on () {labelled('vector(0)', alertname='none')}",
            span=10,
            height=10,
            hidden=("Value",),
        ),
    ]
