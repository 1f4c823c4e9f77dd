"""The truth behind each query of power, energy and emissions: what its panel should show of the script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.support import grafana
from tests.support.scripted_run import FIRST, GRAMS_PER_J, NODE_W, SECOND, THIRD, Seen

ALL = (FIRST, SECOND, THIRD)

Truth = Callable[[Seen, float], float | None]
"""Watts at a Unix time; None where there is nothing to be shown."""

Key = tuple[str, str, str]
"""A query: dashboard, panel and letter."""


def of_run(seen: Seen, at_s: float) -> float | None:
    return seen.watts(FIRST, at_s)


def of_runs(seen: Seen, at_s: float) -> float | None:
    found = [watts for run_id in ALL if (watts := seen.watts(run_id, at_s)) is not None]
    return sum(found) if found else None


def of_runs_of_the_node(seen: Seen, at_s: float) -> float | None:
    """Those that the node's own monitor has."""
    found = [watts for run_id in (FIRST, SECOND) if (watts := seen.watts(run_id, at_s)) is not None]
    return sum(found) if found else None


def of_no_run(seen: Seen, at_s: float) -> float | None:
    return NODE_W - (of_runs(seen, at_s) or 0.0)


def of_no_run_of_the_node(seen: Seen, at_s: float) -> float | None:
    return NODE_W - (of_runs_of_the_node(seen, at_s) or 0.0)


def of_the_node(seen: Seen, at_s: float) -> float | None:
    return NODE_W


def while_the_run_lasts(seen: Seen, at_s: float) -> float | None:
    return None if seen.watts(FIRST, at_s) is None else NODE_W


POWER: dict[Key, Truth] = {
    ("carbonmon-run", "Power now", "A"): of_run,
    ("carbonmon-run", "Power by device", "A"): of_run,
    ("carbonmon-run", "Power by component", "A"): of_run,
    ("carbonmon-run", "Power by method", "A"): of_run,
    ("carbonmon-run", "Power by phase", "A"): of_run,
    ("carbonmon-run", "Power of the run and of its nodes", "A"): of_run,
    ("carbonmon-run", "Power of the run and of its nodes", "B"): while_the_run_lasts,
    ("carbonmon-run", "Emissions an hour", "A"): of_run,
    ("carbonmon-node", "Power now", "A"): of_the_node,
    ("carbonmon-node", "Devices", "B"): of_the_node,
    ("carbonmon-node", "Power by device", "A"): of_the_node,
    ("carbonmon-node", "Power by method", "A"): of_the_node,
    ("carbonmon-node", "Power of runs and of no run", "A"): of_runs_of_the_node,
    ("carbonmon-node", "Power of runs and of no run", "B"): of_no_run_of_the_node,
    ("carbonmon-fleet", "Power now", "A"): of_the_node,
    ("carbonmon-fleet", "Carbon now", "A"): of_the_node,
    ("carbonmon-fleet", "Power by component", "A"): of_the_node,
    ("carbonmon-fleet", "Power by method", "A"): of_the_node,
    ("carbonmon-fleet", "Power of runs and of no run", "A"): of_runs,
    ("carbonmon-fleet", "Power of runs and of no run", "B"): of_no_run,
    ("carbonmon-fleet", "Power by run", "A"): of_runs,
    ("carbonmon-fleet", "The runs by emissions", "D"): of_runs,
    ("carbonmon-fleet", "Carbon by zone", "A"): of_the_node,
}
"""Panels of watts and of grams an hour, and the power that is behind what they show."""

RATES: dict[str, Truth] = {
    "instance:carbonmon_emissions_grams:rate5m": of_the_node,
    "run:carbonmon_power_watts:sum": of_runs,
}

RECORDED = (
    "run:carbonmon_energy_joules:total",
    "run:carbonmon_measured_joules:total",
    "run:carbonmon_emissions_grams:total",
    "run:carbonmon_facility_energy_joules:total",
    "fleet:carbonmon_energy_joules:total1d",
    "fleet:carbonmon_emissions_grams:total1d",
    "user:carbonmon_energy_joules:total1d",
    "user:carbonmon_emissions_grams:total1d",
)

PER_INSTANCE = {("carbonmon-fleet", "Nodes", "C"), ("carbonmon-fleet", "Nodes", "D")}
"""The same of each monitor: where two stand on one machine both show it."""

JOULES, GRAMS = "joules", "grams"
TOTALS: dict[Key, str] = {
    ("carbonmon-run", "Energy", "A"): JOULES,
    ("carbonmon-run", "Energy by component and method", "A"): JOULES,
    ("carbonmon-run", "Energy of the run and of its nodes", "A"): JOULES,
    ("carbonmon-run", "Phases", "A"): JOULES,
    ("carbonmon-run", "Phases", "B"): GRAMS,
    ("carbonmon-run", "Emissions", "A"): GRAMS,
    ("carbonmon-run", "Emissions so far", "A"): GRAMS,
}
"""Panels of what the first run drew and caused."""

RISING: set[Key] = {
    ("carbonmon-run", "Energy", "B"),
    ("carbonmon-run", "Energy", "C"),
    ("carbonmon-run", "Site's meter", "A"),
    ("carbonmon-run", "Water", "A"),
    ("carbonmon-run", "Cost", "A"),
    ("carbonmon-run", "Energy of the run and of its nodes", "B"),
    ("carbonmon-node", "Devices", "D"),
    ("carbonmon-node", "Devices", "E"),
    ("carbonmon-node", "Energy by component and method", "A"),
    *(
        ("carbonmon-fleet", panel, ref)
        for panel, refs in (
            ("Energy of the runs", "A"),
            ("Emissions of the runs", "A"),
            ("The runs by emissions", "AB"),
            ("By zone", "BC"),
            ("By scheduler", "BC"),
            ("By $label", "BC"),
        )
        for ref in refs
    ),
}
"""Other totals: they never fall."""

ELSEWHERE: set[Key] = {("carbonmon-run", "The same energy elsewhere", "A")}
"""A total times a table's figures."""

WHOLE_MACHINE: set[Key] = {
    ("carbonmon-node", "The whole machine and what its devices explain", ref) for ref in ("A", "B")
}
"""The scripted nodes have no meter of the whole machine; tests/e2e/test_node_meters.py compares one."""

A_UNIT: set[Key] = {("carbonmon-run", "Energy a step", "A"), ("carbonmon-run", "Energy a token", "A")}
"""The scripted run tells no steps: their rules are compared in deploy/prometheus/carbonmon.rules.test.yml."""


def amounts() -> dict[Key, str]:
    """The queries that show watts, joules, grams, litres or money, with the units of panels and columns."""
    found: dict[Key, str] = {}
    for uid, board in grafana.BOARDS.items():
        for panel in grafana.panels(board):
            for target in panel["targets"]:
                unit = panel["fieldConfig"]["defaults"]["unit"]
                if panel["type"] == "table":
                    unit = _column_unit(panel, target["refId"])
                if (
                    unit in ("watt", "joule", "massg", "kwatth", "litre", "si:g/h")
                    or panel["title"] == "Cost"
                ):
                    found[uid, panel["title"], target["refId"]] = unit
    return found


def _column_unit(panel: Mapping[str, Any], ref: str) -> str:
    (organize,) = [each["options"] for each in panel["transformations"] if each["id"] == "organize"]
    name = organize["renameByName"].get(f"Value #{ref}")
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == name:
            for each in override["properties"]:
                if each["id"] == "unit":
                    return str(each["value"])
    return ""


UNITS = amounts()
QUERIES: dict[Key, str] = {
    (target.board, target.panel, target.ref): target.expr
    for board in grafana.BOARDS.values()
    for target in grafana.targets(board)
}


def factor(unit: str) -> float:
    """What makes the unit of a panel of W."""
    return 3600.0 * GRAMS_PER_J if unit == "si:g/h" else 1.0
