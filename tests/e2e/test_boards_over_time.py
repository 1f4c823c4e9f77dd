"""Each panel of power, energy and emissions at every step of a scripted run, beside the simulator's truth.

The run has phases of few scrapes, a monitor that is killed and started again, an outage of the stores, a
second run on the node, and a third one whose monitor stands beside the node's. The queries are those of the
boards, on a real Prometheus and a real VictoriaMetrics.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
import yaml

from tests.support import grafana, prometheus, scripted_run
from tests.support.scripted_run import FIRST, GRAMS_PER_J, NODE_W, SECOND, THIRD, Seen

SCRAPE_S = 1.0
RANGE_S = 300
DEPLOYED = grafana.FOLDER.parent / "prometheus"
RULES = [DEPLOYED / name for name in ("carbonmon.rules.yml", "carbonmon.alerts.yml")]
TOLERANCE = 0.02
LAG_S = 1.0
"""How old what is shown may be: what is not safe on disk yet is not shown."""

ALL = (FIRST, SECOND, THIRD)

Truth = Callable[[Seen, float], float | None]
Key = tuple[str, str, str]


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
    ("carbonmon-run", "At the site's meter", "A"),
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

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(prometheus.binary() is None, reason="no Prometheus, and no apt-get to fetch it"),
]


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


def test_every_panel_of_an_amount_is_compared_here() -> None:
    assert UNITS.keys() == POWER.keys() | TOTALS.keys() | RISING | PER_INSTANCE | ELSEWHERE


class Board:
    """The boards' queries as Grafana sends them, and the sums over their series at each step."""

    def __init__(self, seen: Seen, store: str) -> None:
        self._seen, self._store = seen, seen.stores[store]
        self._recorded = _recorded() if store != "prometheus" else {}
        self._values = {
            "__range": f"{RANGE_S}s",
            # As Grafana has it: four scrapes, or the step and a scrape.
            "__rate_interval": f"{4 * seen.scrape_s:g}s",
            "label": "user",
            "run_id": FIRST,
            "job": "carbonmon",
            "instance": seen.targets[0],
        }

    def sums(self, expr: str, instance: str | None = None) -> dict[int, float]:
        """The sum over the series of a query (those of an instance) at each step that has one."""
        seen = self._seen
        filled = grafana.filled(_expanded(expr, self._recorded), self._values)
        series = self._store.query_range(filled, seen.end_s - seen.start_s, seen.scrape_s, seen.end_s)
        found: dict[int, float] = {}
        for each in series:
            if instance is None or each["metric"]["instance"] == instance:
                for at_s, text in each["values"]:
                    step = round((float(at_s) - seen.start_s) / seen.scrape_s)
                    found[step] = found.get(step, 0.0) + float(text)
        return found


def _recorded() -> dict[str, str]:
    """The rules' expressions by name, for a store that evaluates none."""
    groups = yaml.safe_load(RULES[0].read_text())["groups"]
    return {rule["record"]: rule["expr"] for group in groups for rule in group["rules"]}


def _expanded(expr: str, recorded: Mapping[str, str]) -> str:
    """The query with recorded series replaced by what they are made of; in a window by a subquery."""
    for name, inner in recorded.items():
        if name in expr:
            whole = f"({_expanded(inner, recorded)})"
            window = f"{whole}[{RANGE_S}s:{SCRAPE_S:g}s]"
            expr = re.sub(rf"(?<![\w:]){name}\[[^\]]*\]", lambda _, text=window: text, expr)
            expr = re.sub(rf"(?<![\w:]){name}(?![\w:])", lambda _, text=whole: text, expr)
    return expr


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("boards")
    rules = [folder / path.name for path in RULES]
    for path, copy in zip(RULES, rules, strict=True):
        copy.write_text(re.sub(r"interval: \d+m", f"interval: {SCRAPE_S:g}s", path.read_text()))
    with scripted_run.played(folder, SCRAPE_S, rules) as played:
        yield played


def steps(seen: Seen) -> Iterator[tuple[int, float]]:
    """The number of each step and its Unix time."""
    for step in range(int((seen.end_s - seen.start_s) / seen.scrape_s)):
        yield step, seen.start_s + step * seen.scrape_s


def within(stretches: Sequence[scripted_run.Stretch], at_s: float, late_s: float) -> bool:
    return any(each.start_s <= at_s < each.end_s + late_s for each in stretches)


def misses(seen: Seen, shown: Mapping[int, float], truth: Truth, factor: float = 1.0) -> list[str]:
    """Steps at which a panel is empty, or wrong by 2 % of the node's power; `factor` makes its unit of W.

    Two scrapes after a change are left out. A gap is right where the monitor or the stores were down.
    """
    late_s = 2.0 * seen.scrape_s + LAG_S
    found, compared = [], 0
    changes_s = [seen.start_s, *seen.changes_s(ALL)]
    for step, at_s in steps(seen):
        true_w = truth(seen, at_s)
        is_new = any(0.0 <= at_s - each < late_s for each in changes_s)
        if is_new or within(seen.silent, at_s, late_s):
            continue
        value = shown.get(step)
        if value is None and (true_w is None or within(seen.paused, at_s, late_s)):
            continue
        compared += 1
        if value is None or true_w is None or abs(value - factor * true_w) > TOLERANCE * NODE_W * factor:
            found.append(f"step {step}: {value}, not {true_w if true_w is None else factor * true_w}")
    assert compared > 3
    return found


def falls(shown: Mapping[int, float]) -> list[str]:
    values = [shown[step] for step in sorted(shown)]
    assert len(values) > 3
    return [f"{before} then {after}" for before, after in pairwise(values) if after < before - 1e-9 * before]


def strays(seen: Seen, shown: Mapping[int, float], run_id: str, factor: float = 1.0) -> list[str]:
    """Steps at which a total is more than the truth then, or less than that of three scrapes before."""
    late_s = 3.0 * seen.scrape_s + LAG_S
    found = []
    for step, at_s in steps(seen):
        gaps = [each.start_s for each in (*seen.silent, *seen.paused) if within([each], at_s, late_s)]
        least = factor * seen.joules(run_id, min([at_s, *gaps]) - late_s)
        most = factor * seen.joules(run_id, at_s)
        slack = 0.01 * factor * seen.joules(run_id, seen.end_s)
        value = shown.get(step)
        if value is not None and not least - slack <= value <= most + slack:
            found.append(f"step {step}: {value}, not {least} to {most}")
    last = max(shown)
    true = factor * seen.joules(run_id, seen.end_s)
    if abs(shown[last] - true) > 0.01 * true:
        found.append(f"at last {shown[last]}, not {true}")
    return found


QUERIES = {
    (target.board, target.panel, target.ref): target.expr
    for board in grafana.BOARDS.values()
    for target in grafana.targets(board)
}
every_store = pytest.mark.parametrize("store", ["prometheus", "victoria"])


def board_of(seen: Seen, store: str) -> Board:
    if store not in seen.stores:
        pytest.skip("no VictoriaMetrics, and no apt-get to fetch it")
    return Board(seen, store)


@every_store
def test_power_and_grams_an_hour_are_right_at_every_step(seen: Seen, store: str) -> None:
    board = board_of(seen, store)
    wrong = {}
    for key, truth in POWER.items():
        factor = 3600.0 * GRAMS_PER_J if UNITS[key] == "si:g/h" else 1.0
        wrong[key] = misses(seen, board.sums(QUERIES[key]), truth, factor)
    for key in PER_INSTANCE:
        factor = 3600.0 * GRAMS_PER_J if UNITS[key] == "si:g/h" else 1.0
        wrong[key] = misses(seen, board.sums(QUERIES[key], seen.targets[0]), of_the_node, factor)
    for name, truth in RATES.items():
        factor = GRAMS_PER_J if "grams" in name else 1.0
        instance = seen.targets[0] if name.startswith("instance:") else None
        wrong["rule", name, ""] = misses(seen, board.sums(name, instance), truth, factor)
    assert not {key: found for key, found in wrong.items() if found}


@every_store
def test_totals_never_fall_and_are_the_truth(seen: Seen, store: str) -> None:
    board = board_of(seen, store)
    wrong = {}
    for key, unit in TOTALS.items():
        shown = board.sums(QUERIES[key])
        factor = GRAMS_PER_J if unit == GRAMS else 1.0
        wrong[key] = [*falls(shown), *strays(seen, shown, FIRST, factor)]
    for key in RISING | ELSEWHERE:
        wrong[key] = falls(board.sums(QUERIES[key]))
    for name in RECORDED:
        wrong["rule", name, ""] = falls(board.sums(name))
    total = board.sums(f'{RECORDED[0]} and on (run_id) label_replace(vector(1), "run_id", "{FIRST}", "", "")')
    wrong["rule", RECORDED[0], FIRST] = strays(seen, total, FIRST)
    assert not {key: found for key, found in wrong.items() if found}
