"""What a store shows for the boards' queries at every step of a scripted run, compared with the truth."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import yaml

from tests.support import grafana
from tests.support.panel_truth import ALL, Truth
from tests.support.scripted_run import FIRST, NODE_W, Seen, Stretch

TOLERANCE = 0.02
STEPS_OFF = 2
"""So many steps of a panel may be off: a change and a scrape of it meet."""

RULES = grafana.FOLDER.parent / "prometheus" / "carbonmon.rules.yml"


class Board:
    """The boards' queries as Grafana sends them, and the sums over their series at each step."""

    def __init__(self, seen: Seen, store: str) -> None:
        self.seen, self._store = seen, seen.stores[store]
        self._recorded = _recorded() if store != "prometheus" else {}
        self._values = {
            "__range": f"{seen.range_s:g}s",
            # As Grafana has it: four scrapes, or the step and a scrape.
            "__rate_interval": f"{4 * seen.scrape_s:g}s",
            "label": "user",
            "run_id": FIRST,
            "job": "carbonmon",
            "instance": seen.targets[0],
        }
        # Where no CPU is free the simulated counters stand still between two samples: no panel's doing.
        node = self.sums(f'sum(carbonmon_device_power_watts{{instance="{seen.targets[0]}"}})')
        self.starved = {step for step, watts in node.items() if abs(watts - NODE_W) > TOLERANCE * NODE_W}
        assert len(self.starved) < len(node) / 3

    def sums(self, expr: str, instance: str | None = None) -> dict[int, float]:
        """The sum over the series of a query (those of an instance) at each step that has one."""
        seen = self.seen
        window = f"[{seen.range_s:g}s:{seen.scrape_s:g}s]"
        filled = grafana.filled(_expanded(expr, self._recorded, window), self._values)
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
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["record"]: rule["expr"] for group in groups for rule in group["rules"]}


def _expanded(expr: str, recorded: Mapping[str, str], window: str) -> str:
    """The query with recorded series replaced by what they are made of; in a window by that of a subquery."""
    for name, inner in recorded.items():
        if name in expr:
            whole = f"({_expanded(inner, recorded, window)})"
            expr = re.sub(rf"(?<![\w:]){name}\[[^\]]*\]", lambda _, text=whole + window: text, expr)
            expr = re.sub(rf"(?<![\w:]){name}(?![\w:])", lambda _, text=whole: text, expr)
    return expr


def steps(seen: Seen) -> Iterator[tuple[int, float]]:
    """The number of each step and its Unix time."""
    for step in range(int((seen.end_s - seen.start_s) / seen.scrape_s)):
        yield step, seen.start_s + step * seen.scrape_s


def within(stretches: Sequence[Stretch], at_s: float, late_s: float) -> bool:
    return any(each.start_s <= at_s < each.end_s + late_s for each in stretches)


def compared(
    board: Board, shown: Mapping[int, float], truth: Truth
) -> Iterator[tuple[int, float | None, float | None]]:
    """(step, what a panel shows, what is true in W) of the steps that count.

    Two scrapes after a change are left out. A gap is right where the monitor or the stores were down.
    """
    seen = board.seen
    late_s = 2.0 * seen.scrape_s + seen.lag_s
    changes_s = [seen.start_s, *seen.changes_s(ALL)]
    for step, at_s in steps(seen):
        is_new = any(0.0 <= at_s - each < late_s for each in changes_s)
        if is_new or step in board.starved or within(seen.silent, at_s, late_s):
            continue
        value, true_w = shown.get(step), truth(seen, at_s)
        if value is not None or (true_w is not None and not within(seen.paused, at_s, late_s)):
            yield step, value, true_w


def misses(board: Board, shown: Mapping[int, float], truth: Truth, factor: float = 1.0) -> list[str]:
    """Steps at which a panel is empty, or wrong by 2 % of the node's power, if they are more than a few.

    `factor` makes its unit of W.
    """
    found, number = [], 0
    for step, value, true_w in compared(board, shown, truth):
        number += 1
        if value is None or true_w is None or abs(value - factor * true_w) > TOLERANCE * NODE_W * factor:
            found.append(f"step {step}: {value}, not {true_w if true_w is None else factor * true_w}")
    assert number > 3
    return found if len(found) > STEPS_OFF else []


def falls(shown: Mapping[int, float]) -> list[str]:
    values = [shown[step] for step in sorted(shown)]
    assert len(values) > 3
    return [f"{before} then {after}" for before, after in pairwise(values) if after < before - 1e-9 * before]


def strays(seen: Seen, shown: Mapping[int, float], run_id: str, factor: float = 1.0) -> list[str]:
    """Steps at which a total is more than the truth then, or less than that of three scrapes before."""
    late_s = 3.0 * seen.scrape_s + seen.lag_s
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
