"""What the boards show of a scripted run beside the truth, on a real Prometheus and a real VictoriaMetrics.

Some 15 minutes at a scrape interval of 15 s; --quick scrapes each second. Beside the boards' queries stand
those with rate() that they had in 0.2.0.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.table import Row
from tests.support.boards_over_time import TOLERANCE, Board, compared, strays
from tests.support.panel_truth import POWER, QUERIES, TOTALS, UNITS, Truth, factor, of_run, of_the_node
from tests.support.scripted_run import FIRST, GRAMS_PER_J, NODE_W, played

_CARBON = (
    "sum(sum by (job, instance) (rate(carbonmon_device_energy_joules_total[5m])) / 1000 * on (job, instance) "
    "(max by (job, instance) (carbonmon_pue_ratio) "
    "* max by (job, instance) (carbonmon_grid_intensity_grams_per_kilowatt_hour)))"
)
BEFORE: dict[str, tuple[str, Truth, str]] = {
    "Power by component, of 0.2.0": (
        'sum(rate(carbonmon_run_energy_joules_total{run_id="$run_id"}[$__rate_interval]))',
        of_run,
        "watt",
    ),
    "Carbon now, of 0.2.0": (_CARBON, of_the_node, "si:g/h"),
}


def rows(quick: bool) -> Iterator[Row]:
    with (
        tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as name,
        played(Path(name), 1.0 if quick else 15.0) as seen,
    ):
        boards = {store: Board(seen, store) for store in seen.stores}
        late = max(len(board.starved) for board in boards.values())
        how = (
            f"scrapes of {seen.scrape_s:g} s; simulated, {NODE_W:g} W; steps after the second scrape but "
            f"{late} when the simulated counters were late"
        )
        for what, (expr, truth, unit) in BEFORE.items():
            yield Row(what, "", _shown(boards, expr, truth, unit), how)
        for key, truth in POWER.items():
            measured = _shown(boards, QUERIES[key], truth, UNITS[key])
            yield Row(" / ".join(key), f"within {TOLERANCE:.0%}", measured, how)
        for key, unit in TOTALS.items():
            scale = GRAMS_PER_J if unit == "grams" else 1.0
            true = scale * seen.joules(FIRST, seen.end_s)
            parts = []
            for store, board in boards.items():
                shown = board.sums(QUERIES[key])
                wrong = len(strays(seen, shown, FIRST, scale))
                parts.append(
                    f"{store}: {shown[max(shown)]:.6g} of {true:.6g} {unit} in the end, {wrong} steps off"
                )
            yield Row(" / ".join(key), "within 1 %", "; ".join(parts), how)


def _shown(boards: dict[str, Board], expr: str, truth: Truth, unit: str) -> str:
    """The range of what is shown as a part of what is true."""
    parts = []
    for store, board in boards.items():
        pairs = [(value, true_w) for _, value, true_w in compared(board, board.sums(expr), truth)]
        gaps = sum(value is None for value, _ in pairs)
        errors = [
            (value / factor(unit) - true_w) / NODE_W
            for value, true_w in pairs
            if value is not None and true_w is not None
        ]
        text = f"{min(errors):+.1%} to {max(errors):+.1%} of {len(errors)} steps"
        parts.append(f"{store}: {text}" + (f", {gaps} gaps" if gaps else ""))
    return "; ".join(parts)
