"""The dashboard of one node: its devices, its sensors, its grid, and what the monitor itself costs."""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.boards import board, node_details
from deploy.grafana.boards.common import runs_now
from deploy.grafana.boards.node_queries import (
    ANOMALIES,
    BUILD,
    DRAWN,
    KNOWN,
    NODE,
    OF_NO_RUN,
    POWER,
    SAMPLE,
    last,
    now,
)
from deploy.grafana.boards.panels import NAME, UP, Query, figure
from deploy.grafana.boards.promql import or_zero

# Shares of growth over the same window: what increase() extrapolates cancels.
_UNATTRIBUTED = f"sum(increase({now(OF_NO_RUN)}[$__range])) / (sum(increase({now(DRAWN)}[$__range])) > 0)"


def _summary() -> list[Builder[models.Panel]]:
    return [
        figure(
            "Monitor",
            "Whether Prometheus could scrape the monitor. A run's own monitor is down between two runs.",
            "none",
            Query(f"max({now('up')})"),
            words=UP,
            span=3,
        ),
        figure(
            "Last sample",
            "Age of the newest sample shown. Some 5 s are normal: only what is safe on disk is shown.",
            "s",
            Query(f"time() - max({now(SAMPLE)})"),
            span=3,
            limits=((None, "green"), (60.0, "orange"), (300.0, "red")),
        ),
        figure(
            "Power now",
            "All metered devices over the last sampling interval, measured or estimated; without PUE.",
            "watt",
            Query(f"sum({now(POWER)})"),
            span=3,
        ),
        runs_now(KNOWN, *NODE),
        figure(
            "Of no run",
            "Part of the energy in the time range that belongs to no run: idle devices, and work that is not "
            "metered as a run.",
            "percentunit",
            Query(_UNATTRIBUTED),
            span=3,
        ),
        figure(
            "Sensors down",
            "Sensors whose last read failed. Their devices fall back to a coarser method, or are unknown.",
            "none",
            Query(or_zero(f"count({now('carbonmon_sensor_up')} == 0)", KNOWN)),
            span=3,
            limits=((None, "green"), (1.0, "red")),
        ),
        figure(
            "Rejected",
            "Readings of hardware energy counters that were rejected, because the counter was reset or "
            "jumped.",
            "none",
            Query(or_zero(f"sum({last(ANOMALIES)})", KNOWN)),
            span=3,
            limits=((None, "green"), (1.0, "orange")),
        ),
        figure(
            "Version",
            "The running version of carbonmon.",
            "none",
            Query(f"max by (version) ({last(BUILD)})", "{{version}}"),
            span=3,
            shown=NAME,
        ),
    ]


def dashboard() -> models.Dashboard:
    """The dashboard."""
    within = "Of those that were scraped within the time range."
    return board.build(
        "carbonmon-node",
        "carbonmon / node",
        "One node: devices, sensors and the grid behind them, with what is measured and what is estimated.",
        "6h",
        [
            board.values_of("job", BUILD, "job", "Job", within),
            board.values_of("instance", f'{BUILD}{{job="$job"}}', "instance", "Node", within),
        ],
        [
            ("The node", _summary()),
            ("Devices", node_details.devices()),
            ("Sensors", node_details.sensors()),
            ("Grid", node_details.grid()),
            ("The monitor itself", node_details.monitor()),
        ],
    )
