"""The queries of all nodes and runs. The variable `label` names a label of runs."""

from __future__ import annotations

from deploy.grafana.boards import promql

INFO, BUILD = "carbonmon_run_info", "carbonmon_build_info"
POWER, DRAWN = "carbonmon_device_power_watts", "carbonmon_device_energy_joules_total"
INTENSITY = "carbonmon_grid_intensity_grams_per_kilowatt_hour"
SAMPLE, INTERVAL = "carbonmon_last_sample_timestamp_seconds", "carbonmon_sample_interval_seconds"
RUN_POWER = "carbonmon_run_power_watts"

_OWN = "machine, component, device"
DEVICES = promql.one(_OWN, promql.with_machine(POWER))
"""Watts of each device, once: where two runs on a node have a monitor each, both show all devices."""

CARBON = promql.one(_OWN, promql.with_machine(promql.grams_an_hour(POWER)))
"""g CO2e an hour of each device, once."""

NODES = f"and on (job, instance) {promql.last(BUILD)}"
"""Leaves the targets that were carbonmon within the time range."""


def total(name: str) -> str:
    """A recorded total of each run that was scraped within the time range."""
    return f"(max_over_time(run:carbonmon_{name}:total[$__range]) and on (run_id) {promql.last(INFO)})"


JOULES, GRAMS, MEASURED = total("energy_joules"), total("emissions_grams"), total("measured_joules")


def with_labels(*labels: str) -> str:
    """Gives the runs on the left labels of their info, `label` being the one that the variable names.

    A run whose labels changed has one set of them.
    """
    named = ", ".join(labels)
    info = f'label_replace({promql.last(INFO)}, "label", "$1", "$label", "(.*)")'
    return f"* on (run_id) group_left ({named}) topk by (run_id) (1, max by (run_id, {named}) ({info}))"
