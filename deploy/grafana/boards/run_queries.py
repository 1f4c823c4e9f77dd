"""The queries of one run, which the variable `run_id` names."""

from __future__ import annotations

from deploy.grafana.boards import promql

RUN = 'run_id="$run_id"'
ENERGY, GRAMS = "carbonmon_run_energy_joules_total", "carbonmon_run_emissions_grams_total"
POWER, PHASE = "carbonmon_run_power_watts", "carbonmon_run_phase_info"
NODES, INFO = "carbonmon_run_node_energy_joules_total", "carbonmon_run_info"
START, END = "carbonmon_run_start_time_seconds", "carbonmon_run_end_time_seconds"


def now(metric: str) -> str:
    """The run's series as they are."""
    return promql.series(metric, RUN)


def last(metric: str, *matchers: str) -> str:
    """The run's newest values within the time range."""
    return promql.last(metric, RUN, *matchers)


def rate(metric: str) -> str:
    """The growth of the run's totals in a second."""
    return promql.rate(metric, RUN)


KWH = (
    f"sum(sum by (job, instance) ({last(ENERGY)}) * on (job, instance) "
    f"{promql.one('job, instance', promql.last('carbonmon_pue_ratio'))}) / 3.6e6"
)
"""The run's energy at the sites' meters."""
