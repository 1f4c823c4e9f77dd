"""The metric families of what is to come of the runs: their forecasts, their budgets and their pauses."""

from __future__ import annotations

from collections.abc import Iterator

from carbonmon.core import metrics as f
from carbonmon.core.model import Snapshot
from carbonmon.core.pace import Range
from carbonmon.runs.summary.outlook import known_spent
from carbonmon.runs.summary.ranges import is_seen
from carbonmon.runs.summary.strings import encodable
from carbonmon_exporters.families import Gauge, RowFamily, as_counter, as_gauge
from carbonmon_exporters.starts import Starts


def outlook_families(snapshot: Snapshot, starts: Starts) -> Iterator[RowFamily]:
    """Of runs whose training code tells steps, of those with budgets, and of those that may be paused.

    Where nothing is known of a run's energy, nothing of what is to come is, but its end.
    """
    if not any(run.forecast or run.budgets or run.pauses for run in snapshot.runs):
        return
    energy, emissions = as_gauge(f.RUN_FORECAST_ENERGY), as_gauge(f.RUN_FORECAST_EMISSIONS)
    cost, end = as_gauge(f.RUN_FORECAST_COST), as_gauge(f.RUN_FORECAST_END)
    limit, spent = as_gauge(f.RUN_BUDGET_LIMIT), as_gauge(f.RUN_BUDGET_SPENT)
    paused, paused_s = as_gauge(f.RUN_PAUSED), as_counter(f.RUN_PAUSE_SECONDS)
    for run in snapshot.runs:
        run_id, made = encodable(run.info.id), run.forecast
        if made is not None:
            began_s = snapshot.at_s - run.duration_s
            _put(end, made.duration_s.plus(began_s), run_id)
            is_known = is_seen(run)
            if is_known:
                _put(energy, made.energy_j, run_id)
                _put(emissions, made.emissions_g, run_id)
            if is_known and made.cost is not None:
                _put(cost, made.cost, run_id, encodable(made.currency))
        for state in run.budgets:
            limit.add_metric((run_id, encodable(state.text), encodable(state.unit)), state.limit)
            amount = known_spent(run, state)
            if amount is not None:
                spent.add_metric((run_id, encodable(state.text)), amount / state.limit)
        if run.pauses is not None:
            paused.add_metric((run_id,), float(run.pauses.is_paused))
            starts.add_late(paused_s, (run_id,), run.pauses.paused_s, run.start_s)
    yield from (energy, emissions, cost, end, limit, spent, paused, paused_s)


def _put(family: Gauge, span: Range, run_id: str, *more: str) -> None:
    for bound, value in span._asdict().items():
        family.add_metric((run_id, bound, *more), value)
