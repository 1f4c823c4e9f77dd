"""The panels of one run over time, by part, and at other places."""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.boards import promql
from deploy.grafana.boards.common import METHODS, NODE_LINK, grid_intensity, power_by_method
from deploy.grafana.boards.panels import (
    GRAMS_PER_HOUR,
    GRAMS_PER_KWH,
    Column,
    Query,
    bars,
    by_method,
    chart,
    listing,
)
from deploy.grafana.boards.places import intensities
from deploy.grafana.boards.promql import labelled
from deploy.grafana.boards.run_queries import (
    ENERGY,
    GRAMS,
    INFO,
    KWH,
    NODES,
    PHASE,
    POWER,
    RUN,
    last,
    now,
    rate,
)

_CHANGES = f"max by (phase) (changes({now(ENERGY)}[$__range]))"


def power() -> list[Builder[models.Panel]]:
    """Watts and joules by what drew them."""
    device = promql.DEVICE
    there = f"carbonmon_device_power_watts and on ({promql.NODE}) {now(PHASE)}"
    named = f"group_left (name) {promql.one(f'{device}, name', 'carbonmon_device_info')}"
    return [
        chart(
            "Power by device",
            "The run's part of each device over the last sampling interval before a scrape; a gap is "
            "unknown.",
            "watt",
            Query(
                f"{now(POWER)} * on ({device}) {named}",
                "{{instance}} · {{device}} · {{name}}",
            ),
        ),
        chart(
            "Power by component",
            "The run's part of all devices over the last sampling interval before a scrape.",
            "watt",
            Query(f"sum by (component) ({now(POWER)})", "{{component}}"),
            stacked=True,
        ),
        power_by_method(promql.by_method(POWER, ENERGY, RUN)),
        by_method(
            bars(
                "Energy by component and method",
                f"The run's energy by what drew it and how it was known. {METHODS}",
                "joule",
                Query(f"sum by (component, method) ({last(ENERGY)})", "{{component}} · {{method}}"),
            )
        ),
        chart(
            "Power of the run and of its nodes",
            "Power at each scrape of the run, and of all metered devices of its nodes, whoever caused it.",
            "watt",
            Query(f"sum({now(POWER)})", "run"),
            Query(f"sum({promql.one(promql.DEVICE, there)})", "nodes"),
        ),
        listing(
            "Energy of the run and of its nodes",
            "What the run was charged, and what all metered devices of its nodes drew while it lasted.",
            (
                Column("component", "Component"),
                Column("Value #A", "Run", "joule"),
                Column("Value #B", "Nodes", "joule"),
                Column("Value #C", "Share", "percentunit"),
            ),
            f"sum by (component) ({last(ENERGY)})",
            f"sum by (component) ({last(NODES)})",
            f"sum by (component) ({last(ENERGY)}) / (sum by (component) ({last(NODES)}) > 0)",
            order="Run",
        ),
    ]


def carbon() -> list[Builder[models.Panel]]:
    """Grams, the grid behind them, and the same energy elsewhere."""
    own = {"place": "as it ran", "counted": "at the intensities while it ran"}
    grams = f"sum({last(GRAMS)})"
    return [
        chart(
            "Emissions so far",
            "CO2 equivalent since the run's start, PUE included.",
            "massg",
            Query(f"sum by (component) ({promql.lately(GRAMS, RUN)})", "{{component}}"),
            stacked=True,
        ),
        chart(
            "Emissions an hour",
            "At each scrape: power times PUE times the grid's intensity.",
            GRAMS_PER_HOUR,
            Query(f"sum by (component) ({promql.grams_an_hour(now(POWER))})", "{{component}}"),
            stacked=True,
        ),
        grid_intensity(
            f"carbonmon_grid_intensity_grams_per_kilowatt_hour and on (job, instance) {now(INFO)}"
        ),
        listing(
            "The same energy elsewhere",
            "The run's energy with its PUE at the annual mean intensity of other places, from the table "
            "that comes with carbonmon: an estimate. Moving has its own cost, and a mean says nothing of "
            "an hour. A live source of the run's own figure may count other emissions than the table does.",
            (
                Column("place", "Place"),
                Column("Value #A", "Emissions", "massg"),
                Column("Value #B", "Intensity", GRAMS_PER_KWH),
                Column("counted", "Counted"),
            ),
            f"({intensities()}) * on () group_left () ({KWH}) or {labelled(grams, **own)}",
            f"{intensities()} or {labelled(f'{grams} / ({KWH} > 0)', **own)}",
            order="Emissions",
            rising=True,
        ),
    ]


def phases() -> list[Builder[models.Panel]]:
    """What the training code said of itself, its processes, and the run's labels."""
    phase = f"topk by ({promql.NODE}) (1, {now(PHASE)})"
    return [
        listing(
            "Phases",
            "Energy and emissions by the phase that the training code named. Time is a share of the time "
            "range, counted in scrapes: a phase shorter than a scrape may be missing from it.",
            (
                Column("phase", "Phase"),
                Column("Value #A", "Energy", "joule"),
                Column("Value #B", "Emissions", "massg"),
                Column("Value #C", "Energy share", "percentunit"),
                Column("Value #D", "Time, about", "percentunit"),
            ),
            f"sum by (phase) ({last(ENERGY)})",
            f"sum by (phase) ({last(GRAMS)})",
            f"sum by (phase) ({last(ENERGY)}) / on () group_left () (sum({last(ENERGY)}) > 0)",
            f"{_CHANGES} / on () group_left () (sum({_CHANGES}) > 0)",
            order="Energy",
        ),
        chart(
            "Power by phase",
            "Power at each scrape under the phase that the run is in; of several at once, that of the most "
            "participants. A phase between two scrapes is in the table alone.",
            "watt",
            Query(
                f"sum by (phase) ({now(POWER)} * on ({promql.NODE}) group_left (phase) {phase})", "{{phase}}"
            ),
            stacked=True,
        ),
        chart(
            "CPUs in use",
            "CPU seconds a second of the run's processes, by node.",
            "none",
            Query(f"sum by (instance) ({rate('carbonmon_run_cpu_seconds_total')})", "{{instance}}"),
        ),
        chart(
            "Processes",
            "Processes of the run that live, by node; absent where nobody counts them.",
            "none",
            Query(f"sum by (instance) ({now('carbonmon_run_processes')})", "{{instance}}"),
        ),
        listing(
            "What the run is",
            "The labels of carbonmon_run_info, those that the user gave among them; a row for each node.",
            (
                Column("run_id", "Run"),
                Column("name", "Name"),
                Column("job", "Job"),
                Column("instance", "Instance", link=NODE_LINK),
            ),
            last(INFO),
            span=24,
            height=6,
            hidden=("Value",),
        ),
    ]
