"""The queries of one node, which the variables `job` and `instance` name."""

from __future__ import annotations

from deploy.grafana.boards import promql

NODE = ('job="$job"', 'instance="$instance"')
BUILD = "carbonmon_build_info"
DRAWN, OF_NO_RUN = (
    "carbonmon_device_energy_joules_total",
    "carbonmon_device_unattributed_energy_joules_total",
)
POWER, USE = "carbonmon_device_power_watts", "carbonmon_device_utilization_ratio"
NODE_POWER = "carbonmon_node_power_watts"
RUN_POWER = "carbonmon_run_power_watts"
ANOMALIES, SAMPLE = "carbonmon_counter_anomalies_total", "carbonmon_last_sample_timestamp_seconds"


def now(metric: str) -> str:
    """The node's series as they are."""
    return promql.series(metric, *NODE)


def last(metric: str, *matchers: str) -> str:
    """The node's newest values within the time range."""
    return promql.last(metric, *NODE, *matchers)


def rate(metric: str) -> str:
    """The growth of the node's totals in a second."""
    return promql.rate(metric, *NODE)


def growth(metric: str) -> str:
    """How often something happened between scrapes."""
    return f"increase({now(metric)}[$__rate_interval])"


KNOWN = f"sum({now(BUILD)})"
"""Has a value where the monitor answers."""
SENSORS = f"max by (sensor) ({now('carbonmon_sensor_up')})"
