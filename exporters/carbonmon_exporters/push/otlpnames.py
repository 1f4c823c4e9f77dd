"""What our metrics are called in OpenTelemetry: the table of families with dots, and the unit set apart.

Prometheus and Mimir make the names of a scrape out of these again (`carbonmon.run.energy` in J becomes
`carbonmon_run_energy_joules_total`), with few exceptions, for units that they do not know.
"""

from __future__ import annotations

from carbonmon.core import metrics as f

UNITS = (
    ("_grams_per_kilowatt_hour", "g/kWh"),
    ("_liters_per_kilowatt_hour", "L/kWh"),
    ("_per_kilowatt_hour", "{currency}/kWh"),
    ("_joules", "J"),
    ("_watts", "W"),
    ("_grams", "g"),
    ("_liters", "L"),
    ("_seconds", "s"),
    ("_ratio", "1"),
)
"""Endings of our names and the units that they stand for (UCUM; grams are of CO2 equivalent)."""

_COUNTS = {
    f.RUN_PROCESSES.name: "{process}",
    f.RUN_COST.name: "{currency}",
    f.RUN_FORECAST_COST.name: "{currency}",
    f.RUN_STEPS.name: "{step}",
    f.RUN_EPOCHS.name: "{epoch}",
    f.RUN_SAMPLES.name: "{sample}",
    f.RUN_TOKENS.name: "{token}",
    f.RUN_FLOPS.name: "{operation}",
    f.ANOMALIES.name: "{anomaly}",
    f.GRID_ERRORS.name: "{error}",
    f.SENSOR_ERRORS.name: "{error}",
    f.EXPORTER_ERRORS.name: "{error}",
}
_NAMESPACES = ("run", "device", "node", "grid", "sensor", "exporter")


def otlp_name(family: f.Family) -> tuple[str, str]:
    """Name and unit of a family; the unit is "" for what has none."""
    words = family.name.removeprefix("carbonmon_")
    if family.kind == "counter":
        words = words.removesuffix("_total")
    unit = _COUNTS.get(family.name, "")
    for ending, symbol in UNITS:
        if words.endswith(ending):
            words, unit = words.removesuffix(ending), symbol
            break
    first, _, rest = words.partition("_")
    return f"carbonmon.{first}.{rest}" if first in _NAMESPACES and rest else f"carbonmon.{words}", unit
