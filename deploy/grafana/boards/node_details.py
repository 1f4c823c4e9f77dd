"""The panels of one node: device by device, sensor by sensor, the grid, and the monitor."""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.boards import promql
from deploy.grafana.boards.common import METHODS, grid_intensity, power_by_method, power_of_runs
from deploy.grafana.boards.node_queries import (
    ANOMALIES,
    DRAWN,
    KNOWN,
    NODE,
    NODE_POWER,
    OF_NO_RUN,
    POWER,
    RUN_POWER,
    SAMPLE,
    SENSORS,
    USE,
    growth,
    last,
    now,
    rate,
)
from deploy.grafana.boards.panels import UP, Column, Query, bars, by_method, chart, figure, listing

_DEVICE = "component, device"


def devices() -> list[Builder[models.Panel]]:
    """Power, use and energy of each device."""
    power = f"max by ({_DEVICE}) ({now(POWER)})"
    runs = f"sum by ({_DEVICE}) ({now(RUN_POWER)})"
    whole = f"sum by ({_DEVICE}) ({last(DRAWN)})"
    measured = f"sum by ({_DEVICE}) ({last(DRAWN, promql.MEASURED)})"
    return [
        listing(
            "Devices",
            "Power and utilisation over the last sampling interval; an empty cell is unknown. Energy since "
            "the node's account began, whoever caused it, and the part of it that belongs to no run.",
            (
                Column("component", "Component"),
                Column("index", "Index"),
                Column("name", "Name"),
                Column("device", "Device"),
                Column("Value #B", "Power", "watt"),
                Column("Value #C", "Utilisation", "percentunit"),
                Column("Value #D", "Energy", "joule"),
                Column("Value #E", "Of no run", "joule"),
                Column("Value #F", "Measured", "percentunit"),
            ),
            f"max by ({_DEVICE}, name, index) ({last('carbonmon_device_info')})",
            power,
            f"max by ({_DEVICE}) ({now(USE)})",
            whole,
            f"sum by ({_DEVICE}) ({last(OF_NO_RUN)})",
            f"({measured} or 0 * {whole}) / ({whole} > 0)",
            span=24,
            order="Component",
            rising=True,
            hidden=("Value #A",),
        ),
        chart(
            "Power by device",
            "Over the last sampling interval before a scrape, measured or estimated; a gap is unknown.",
            "watt",
            Query(power, "{{component}} · {{device}}"),
        ),
        chart(
            "Utilisation by device",
            "As the driver or the kernel says; 100 % of a GPU means only that it was never without work.",
            "percentunit",
            Query(f"max by ({_DEVICE}) ({now(USE)})", "{{component}} · {{device}}"),
            soft_max=1,
        ),
        by_method(
            bars(
                "Energy by component and method",
                f"Since the node's account began. {METHODS}",
                "joule",
                Query(f"sum by (component, method) ({last(DRAWN)})", "{{component}} · {{method}}"),
                span=8,
            )
        ),
        power_by_method(promql.by_method(POWER, DRAWN, *NODE), span=8),
        power_of_runs(f"sum({runs} and {power})", f"sum(clamp_min({power} - {runs}, 0) or {power})", span=8),
        chart(
            "The whole machine and what its devices explain",
            "A node meter measures the devices and the rest: fans, disks, network, losses. The two are never "
            "added. Without a node meter there are the devices alone.",
            "watt",
            Query(f"max by (meter) ({now(NODE_POWER)})", "whole machine · {{meter}}"),
            Query(f"sum({now(POWER)})", "metered devices"),
            span=24,
        ),
    ]


def sensors() -> list[Builder[models.Panel]]:
    """Whether and how fast the sources of power answer."""
    errors, seconds = "carbonmon_sensor_read_errors_total", now("carbonmon_sensor_read_seconds")
    return [
        listing(
            "Sensors",
            "Each source in use: whether its last read succeeded, how long that took, and how many reads "
            "failed so far. A failed read is a gap, or is bridged by the next reading of a counter.",
            (
                Column("sensor", "Sensor"),
                Column("Value #A", "State", words=UP),
                Column("Value #B", "Read", "s"),
                Column("Value #C", "Failed reads", "none"),
            ),
            SENSORS,
            f"max by (sensor) ({seconds})",
            f"sum by (sensor) ({now(errors)}) or 0 * {SENSORS}",
            span=8,
        ),
        chart(
            "Duration of a read",
            "The last read of each sensor before a scrape.",
            "s",
            Query(f"max by (sensor) ({seconds})", "{{sensor}}"),
            span=8,
        ),
        chart(
            "Failed reads",
            "Between scrapes, by sensor and reason; a line of a sensor alone is its zero.",
            "none",
            Query(
                f"sum by (sensor, reason) ({growth(errors)}) or on (sensor) 0 * {SENSORS}",
                "{{sensor}} {{reason}}",
            ),
            span=8,
            soft_max=1,
        ),
        chart(
            "Counter anomalies",
            "Readings of hardware energy counters that were rejected between scrapes, by device and kind.",
            "none",
            Query(f"sum by (device, kind) ({growth(ANOMALIES)})", "{{device}} {{kind}}"),
            soft_max=1,
        ),
        chart(
            "Age of the last sample",
            "At each scrape; a growing age is a monitor that waits for a driver.",
            "s",
            Query(f"time() - max({now(SAMPLE)})", "age"),
            Query(f"max({now('carbonmon_sample_interval_seconds')})", "sampling interval"),
        ),
    ]


def grid() -> list[Builder[models.Panel]]:
    """The intensity, how old it is, and the other figures of the site."""
    errors = growth("carbonmon_grid_fetch_errors_total")
    stated = now("carbonmon_grid_intensity_timestamp_seconds")
    return [
        grid_intensity(now("carbonmon_grid_intensity_grams_per_kilowatt_hour"), span=8),
        chart(
            "Age of the intensity",
            "Since the time for which the figure in force was stated. A table or a fixed figure states none.",
            "s",
            Query(f"time() - max by (zone, source) ({stated})", "{{zone}} · {{source}}"),
            span=8,
        ),
        chart(
            "Questions without an answer",
            "To live sources of intensity, between scrapes, by source and reason. Older or annual figures "
            "stand in meanwhile.",
            "none",
            Query(f"sum by (source, reason) ({errors}) or on () 0 * {KNOWN}", "failed {{source}} {{reason}}"),
            span=8,
            soft_max=1,
        ),
        figure(
            "PUE",
            "Power usage effectiveness that the emissions include.",
            "none",
            Query(f"max({now('carbonmon_pue_ratio')})"),
            span=8,
        ),
        figure(
            "WUE",
            "Litres of water a kWh of device energy.",
            "suffix:L/kWh",
            Query(f"max({now('carbonmon_wue_liters_per_kilowatt_hour')})"),
            span=8,
            unknown="none given",
        ),
        figure(
            "Price of a kWh",
            "In force now, in the currency beside it.",
            "none",
            Query(f"max by (currency) ({now('carbonmon_price_per_kilowatt_hour')})", "{{currency}}"),
            span=8,
            unknown="none given",
        ),
    ]


def monitor() -> list[Builder[models.Panel]]:
    """What carbonmon itself costs, and whether its exporters work."""
    errors = growth("carbonmon_exporter_errors_total")
    return [
        chart(
            "CPU of the monitor",
            "User and system time of the monitor itself, as a part of one CPU.",
            "percentunit",
            Query(f"sum({rate('process_cpu_seconds_total')})", "CPU"),
            span=8,
        ),
        chart(
            "Memory of the monitor",
            "Resident memory of the monitor itself.",
            "bytes",
            Query(f"max({now('process_resident_memory_bytes')})", "resident"),
            span=8,
        ),
        chart(
            "Failures of exporters",
            "Between scrapes, by exporter.",
            "none",
            Query(f"sum by (exporter) ({errors}) or on () 0 * {KNOWN}", "{{exporter}}"),
            span=8,
            soft_max=1,
        ),
    ]
