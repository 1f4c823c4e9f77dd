"""What is told of one run where many runs and nodes meet: in a folder of files, or on a gateway.

Each run stands for itself there, for good: every sample bears the run's id, so that no two runs of a node
collide. What the node's devices drew for whoever it was is left out, and once a run is over, so is what
was true only at a moment: a file or a gateway would show it for ever.

Totals are told as they stand: whatever was told last may stay for ever, if the monitor is killed. Neither a
file nor a gateway takes the time of a sample, so the 0 at a counter's start cannot be told later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from carbonmon.core import metrics as f
from carbonmon.core.model import RunState, Snapshot
from carbonmon.runs.summary.strings import encodable
from carbonmon_exporters.collector import families as all_families
from carbonmon_exporters.starts import plain

OF_THE_MOMENT = (
    *(f.RUN_POWER, f.RUN_PROCESSES, f.RUN_PHASE, f.RUN_PAUSED, f.GRID_INTENSITY, f.GRID_TIMESTAMP, f.PRICE),
    *(f.RUN_FORECAST_ENERGY, f.RUN_FORECAST_EMISSIONS, f.RUN_FORECAST_COST, f.RUN_FORECAST_END),
)
LASTING = (
    f.RUN_ENERGY,
    f.RUN_EMISSIONS,
    f.RUN_UNOBSERVED,
    f.RUN_NODE_ENERGY,
    *(f.RUN_CHARGED_ENERGY, f.RUN_CHARGED_EMISSIONS),
    *(f.RUN_METER_ENERGY, f.RUN_METER_COVERED, f.RUN_METER_UNOBSERVED),
    f.RUN_CPU,
    f.RUN_PROGRESS,
    *(f.RUN_STEPS, f.RUN_EPOCHS, f.RUN_SAMPLES, f.RUN_TOKENS, f.RUN_FLOPS),
    *(f.RUN_GPU_SECONDS, f.RUN_GPU_IDLE_ENERGY),
    f.RUN_WATER,
    f.RUN_COST,
    f.RUN_BUDGET_LIMIT,
    f.RUN_BUDGET_SPENT,
    f.RUN_PAUSE_SECONDS,
    f.RUN_START,
    f.RUN_END,
    f.RUN_INFO,
    f.DEVICE_INFO,
    f.UNCERTAINTY,
    f.PUE,
    f.WUE,
    f.LAST_SAMPLE,
    f.BUILD_INFO,
)

_LASTING_NAMES = frozenset(family.family_name for family in LASTING)
_NAMES = _LASTING_NAMES | {family.family_name for family in OF_THE_MOMENT}


class Group(Collector):
    """The families of one run, for prometheus_client to write or to push."""

    def __init__(self, run: RunState, families: list[Metric]) -> None:
        self.run = run
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


class RunGroups:
    """Makes the groups of the runs in snapshots, and remembers which runs are told for good."""

    def __init__(self) -> None:
        self._final: dict[str, float] = {}

    def due(self, snapshot: Snapshot, is_last: bool) -> Iterator[Group]:
        """One group for each run that is not told for good; `is_last`: no snapshot will follow this one.

        The caller says of each with `settle` whether it was delivered.
        """
        present = {run.info.id for run in snapshot.runs}
        self._final = {run_id: end_s for run_id, end_s in self._final.items() if run_id in present}
        for run in snapshot.runs:
            if run.ended_at_s is None or self._final.get(run.info.id) != run.ended_at_s:
                yield self._group(snapshot, run, is_last or run.ended_at_s is not None)

    def settle(self, group: Group, is_delivered: bool) -> None:
        """What was delivered of a run that has ended is there for good."""
        if is_delivered and group.run.ended_at_s is not None:
            self._final[group.run.info.id] = group.run.ended_at_s

    def _group(self, snapshot: Snapshot, run: RunState, is_over: bool) -> Group:
        one = snapshot._replace(runs=(run,))
        names = _LASTING_NAMES if is_over else _NAMES
        families = [family for family in all_families(one, plain(one)) if family.name in names]
        run_id = encodable(run.info.id)
        for family in families:
            family.samples = [
                sample
                if "run_id" in sample.labels
                else sample._replace(labels={"run_id": run_id, **sample.labels})
                for sample in family.samples
            ]
        return Group(run, families)
