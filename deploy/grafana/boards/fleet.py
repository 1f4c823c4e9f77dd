"""The dashboard of all nodes and runs: who draws and emits most, where, and which nodes are silent.

Totals of runs are recorded series (deploy/prometheus/carbonmon.rules.yml), so that a month of a thousand runs
stays cheap. They hold whole runs; the largest value within the time range counts, because a node of a run
that ended early drops out of them after some hours.
"""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.boards import board, fleet_details, promql
from deploy.grafana.boards.common import runs_now
from deploy.grafana.boards.fleet_queries import (
    BUILD,
    CARBON,
    DEVICES,
    DRAWN,
    GRAMS,
    INTERVAL,
    JOULES,
    MEASURED,
    NODES,
    SAMPLE,
)
from deploy.grafana.boards.panels import GRAMS_PER_HOUR, Query, figure
from deploy.grafana.boards.promql import or_zero

_KNOWN = f"sum({promql.last(BUILD)})"
_STALE = f"time() - {SAMPLE} > 60 + 4 * {INTERVAL}"
"""As the alert CarbonmonSamplesStale has it."""
_FAULTS = ((None, "green"), (1.0, "red"))
_SHARES = ((None, "orange"), (0.9, "green"))


def _now() -> list[Builder[models.Panel]]:
    firing = 'count(ALERTS{alertname=~"Carbonmon.+", alertstate="firing"})'
    return [
        figure(
            "Nodes up",
            "Targets that were carbonmon within the time range and answer now.",
            "none",
            Query(or_zero(f"count(up == 1 {NODES})", _KNOWN)),
            span=3,
        ),
        figure(
            "Nodes down",
            "Targets that were carbonmon within the time range and do not answer now. A run's own monitor is "
            "down between two runs.",
            "none",
            Query(or_zero(f"count(up == 0 {NODES})", _KNOWN)),
            span=3,
            limits=_FAULTS,
        ),
        figure(
            "Silent nodes",
            "Monitors that answer with samples older than a minute and four sampling intervals.",
            "none",
            Query(or_zero(f"count({_STALE})", _KNOWN)),
            span=3,
            limits=_FAULTS,
        ),
        figure(
            "Alerts firing",
            "Of carbonmon.alerts.yml.",
            "none",
            Query(or_zero(firing, _KNOWN)),
            span=3,
            limits=_FAULTS,
        ),
        runs_now(_KNOWN),
        figure(
            "Power now",
            "All metered devices of all nodes, measured or estimated; without PUE.",
            "watt",
            Query(f"sum({DEVICES})"),
            span=3,
        ),
        figure(
            "Carbon now",
            "Power of all metered devices times the PUE and the intensity of their nodes, whoever caused it.",
            GRAMS_PER_HOUR,
            Query(f"sum({CARBON})"),
            span=3,
        ),
        figure(
            "Measured share",
            "Part of the energy of all metered devices in the time range that hardware counters or power "
            "sensors measured; the rest is estimated.",
            "percentunit",
            Query(_measured_share()),
            span=3,
            limits=_SHARES,
        ),
    ]


def _measured_share() -> str:
    """By growth within the time range; over the same window, what increase() extrapolates cancels."""
    whole = f"sum(increase({DRAWN}[$__range]))"
    measured = f"sum(increase({promql.series(DRAWN, promql.MEASURED)}[$__range]))"
    return f"({measured} or 0 * {whole}) / ({whole} > 0)"


def _totals() -> list[Builder[models.Panel]]:
    seen = "Runs that were scraped within the time range, each as a whole."
    return [
        figure("Runs", seen, "none", Query(or_zero(f"count({JOULES})", _KNOWN)), span=6),
        figure("Energy of the runs", f"Without PUE. {seen}", "joule", Query(f"sum({JOULES})"), span=6),
        figure("Emissions of the runs", f"PUE included. {seen}", "massg", Query(f"sum({GRAMS})"), span=6),
        figure(
            "Measured share of the runs",
            f"Part of their energy that was measured; the rest is estimated. {seen}",
            "percentunit",
            Query(f"(sum({MEASURED}) or 0 * sum({JOULES})) / (sum({JOULES}) > 0)"),
            span=6,
            limits=_SHARES,
        ),
    ]


def dashboard() -> models.Dashboard:
    """The dashboard."""
    about = "A label of carbonmon_run_info by which runs are grouped: user, team, …"
    return board.build(
        "carbonmon-fleet",
        "carbonmon / fleet",
        "All nodes and runs: who draws and emits most, where, and which nodes are silent. Needs the "
        "recording rules of deploy/prometheus.",
        "24h",
        [board.text_of("user", "label", "Label", about)],
        [
            ("Now", _now()),
            ("Runs", [*_totals(), *fleet_details.runs()]),
            ("Over time", fleet_details.over_time()),
            ("Nodes and alerts", fleet_details.nodes()),
        ],
    )
