"""What real stores have of real runs, way by way: totals, power, grams an hour and the end, beside the truth.

Some 5 minutes. Debian's servers, or those that stand first on PATH.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carbonmon.analysis import prometheus as prometheus_report
from carbonmon.core.errors import CarbonmonError
from tests.bench.store_runs import (
    GRAMS_AN_HOUR,
    LATE_S,
    NODE_W,
    NODES,
    POOLS,
    SHAPES,
    Run,
    Seen,
    Store,
    stores_and_runs,
)
from tests.bench.store_servers import SCRAPE_S, PrometheusStore
from tests.bench.table import Row
from tests.support import prometheus

TOTAL = "carbonmon_run_energy_joules_total"
POWER = "carbonmon_run_power_watts"
END = "carbonmon_run_end_time_seconds"
INTENSITY = '{__name__=~"carbonmon_grid_intensity_grams_per_(kilowatt_hour|kWh)"}'
WINDOW = "15m"
STEP_S = 5.0

Key = tuple[str, str]
"""A scrape pool (node-number; "" where nobody scrapes) and a run."""


def rows(quick: bool) -> Iterator[Row]:
    shapes = SHAPES[:2] if quick else SHAPES
    with (
        tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as name,
        stores_and_runs(Path(name), shapes) as seen,
    ):
        how = (
            f"{NODES} simulated nodes of {NODE_W:g} W, on each at once runs of "
            f"{', '.join(f'{seconds} s with phases of {phase} s' for seconds, phase in shapes)}; a scrape "
            f"each {SCRAPE_S:g} s by {NODES * POOLS} pools of Prometheus, of VictoriaMetrics by {NODES}"
        )
        errors = [
            sum(run.joules.values()) / (NODE_W * (run.end_s - run.start_s)) - 1.0
            for run in seen.runs.values()
        ]
        yield Row("the runs' summaries beside the power of the machine", "", _span(errors), how)
        version = ".".join(map(str, prometheus.version()))
        for store, way, pools in seen.stores:
            of = f" {version}" if isinstance(store, PrometheusStore) else ""
            yield Row(f"{store.kind}{of}: {way}", "within 1 %", _measured(seen, store, pools), how)


def _measured(seen: Seen, store: Store, pools: int) -> str:
    keys = [
        (f"{run.node}-{number}" if pools else "", run_id)
        for run_id, run in seen.runs.items()
        if store is not seen.late or run.shape != SHAPES[0]
        for number in range(max(1, pools))
    ]
    found: dict[Key, dict[str, float]] = {key: {} for key in keys}
    for row in store.query(f"sum by (pool, run_id, phase) (last_over_time({TOTAL}[{WINDOW}]))"):
        labels = row["metric"]
        found[labels.get("pool", ""), labels["run_id"]][labels["phase"]] = float(row["value"][1])
    lost = [
        (key, phase)
        for key, phases in found.items()
        for phase, joules in seen.runs[key[1]].joules.items()
        if joules > 0.0 and not phases.get(phase)
    ]
    sys.stderr.write("".join(f"{store.kind} at {store.url}: {where} is lost\n" for where in lost))
    errors = [
        sum(phases.values()) / sum(seen.runs[key[1]].joules.values()) - 1.0 for key, phases in found.items()
    ]
    parts = [f"last values {_span(errors)}, {len(lost)} phases lost in {len(keys)} copies of a run"]
    parts.append(f"increase() {_span(_increases(seen, store, keys))}")
    parts.append(f"report {_reported(seen, store, keys)}")
    late_s = LATE_S if store is seen.late else 0.0
    for what, query, truth in (("power", "{power}", NODE_W), ("grams an hour", _GRAMS, GRAMS_AN_HOUR)):
        shown = [
            value / truth - 1.0
            for run_id, run in seen.runs.items()
            if run.shape[0] > 3 * SCRAPE_S
            for value in _over_time(store, query.format(power=_POWER % run_id), run, late_s)
        ]
        parts.append(f"{what} {_span(shown)} of {len(shown)} steps")
    ended = {_key(row) for row in store.query(f"last_over_time({END}[{WINDOW}])")} & set(keys)
    staying = {_key(row) for row in store.query(POWER)} & set(keys)
    parts.append(f"end in {len(ended)} of {len(keys)}, power left in {len(staying)}")
    if isinstance(store, PrometheusStore):
        parts.append(f"{store.warnings()} warnings in its log")
    return "; ".join(parts)


_POWER = f'sum by (pool) ({POWER}{{run_id="%s"}})'
_GRAMS = (
    "{power} * on (pool) max by (pool) (carbonmon_pue_ratio) * on (pool) max by (pool) ("
    + INTENSITY.replace("{", "{{").replace("}", "}}")
    + ") / 1000"
)


def _key(row: dict[str, Any]) -> Key:
    return row["metric"].get("pool", ""), row["metric"]["run_id"]


def _increases(seen: Seen, store: Store, keys: list[Key]) -> list[float]:
    """Asked for the moment of a run's last sample: increase() goes on with the last slope behind it."""
    last_s: dict[Key, float] = {}
    for row in store.query(f"{TOTAL}[{WINDOW}]"):
        last_s[_key(row)] = max(last_s.get(_key(row), 0.0), float(row["values"][-1][0]))
    errors = []
    for key in keys:
        pool, run_id = key
        query = f'sum(increase({TOTAL}{{run_id="{run_id}",pool="{pool}"}}[{WINDOW}]))'
        result = store.query(query, last_s[key]) if key in last_s else []
        joules = float(result[0]["value"][1]) if result else 0.0
        errors.append(joules / sum(seen.runs[run_id].joules.values()) - 1.0)
    return errors


def _reported(seen: Seen, store: Store, keys: list[Key]) -> str:
    """What `report --prometheus` says of each run, whoever scraped it."""
    errors, refused = [], []
    for run_id in {run_id for _, run_id in keys}:
        try:
            parts = prometheus_report.find(store.url, run_id, environ={}).parts
        except CarbonmonError as error:  # noqa: PERF203 (an answer takes far longer)
            refused.append(str(error))
        else:
            joules = sum(part.summary["energy"]["total_j"] for part in parts)
            errors.append(joules / sum(seen.runs[run_id].joules.values()) - 1.0)
    return "; ".join([*([_span(errors)] if errors else []), *refused[:1]])


def _over_time(store: Store, query: str, run: Run, late_s: float) -> list[float]:
    """Values at each step between the second scrape and the run's end."""
    end_s = run.end_s - 1.0
    span_s = end_s - (run.start_s + late_s + 2 * SCRAPE_S + STEP_S)
    return [
        float(value) for row in store.query_range(query, span_s, STEP_S, end_s) for _, value in row["values"]
    ]


def _span(errors: list[float]) -> str:
    return f"{min(errors):+.2%} to {max(errors):+.2%}" if errors else "none"
