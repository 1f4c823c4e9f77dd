"""The metric families of what the runs have done, and of the time of the GPUs that they hold.

Energy a token is a quotient of two counters, which a query makes over any time: `docs/use/python-api.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from carbonmon.core import metrics as f
from carbonmon.core.gpu_time import GpuTime
from carbonmon.core.metrics import Family
from carbonmon.core.model import Snapshot
from carbonmon.core.work import Count
from carbonmon.runs.summary.strings import encodable
from carbonmon_exporters.families import RowFamily, as_counter
from carbonmon_exporters.starts import Starts

_DONE: Mapping[Count, Family] = {
    "steps": f.RUN_STEPS,
    "epochs": f.RUN_EPOCHS,
    "samples": f.RUN_SAMPLES,
    "tokens": f.RUN_TOKENS,
    "flops": f.RUN_FLOPS,
}


def work_families(snapshot: Snapshot, starts: Starts) -> Iterator[RowFamily]:
    """Counters that appear with their first value, and were 0 until then."""
    if all(run.work is None and run.gpu_time is None for run in snapshot.runs):
        return
    done = {what: as_counter(family) for what, family in _DONE.items()}
    held, idle_j = as_counter(f.RUN_GPU_SECONDS), as_counter(f.RUN_GPU_IDLE_ENERGY)
    for run in snapshot.runs:
        run_id = encodable(run.info.id)
        for span in () if run.work is None else run.work.spans:
            starts.add_late(done[span.what], (run_id,), span.done, run.start_s)
        if run.gpu_time is not None:
            for state, seconds in _by_state(run.gpu_time):
                starts.add_late(held, (run_id, state), seconds, run.start_s)
            if run.gpu_time.unknown_s < run.gpu_time.held_s:
                starts.add_late(idle_j, (run_id,), run.gpu_time.idle_j, run.start_s)
    yield from (*done.values(), held, idle_j)


def _by_state(time: GpuTime) -> tuple[tuple[str, float], ...]:
    busy_s = max(0.0, time.held_s - time.idle_s - time.unknown_s)
    return ("busy", busy_s), ("idle", time.idle_s), ("unknown", time.unknown_s)
