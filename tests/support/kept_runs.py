"""Folders of runs with a series as long as they lasted, for reports over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carbonmon.core.model import RunTotal
from carbonmon.runs import layout
from carbonmon.runs.series import streamed
from carbonmon.runs.summaries import Part, find
from carbonmon.runs.summary.document import State, summarize
from carbonmon.runs.summary.file import write_summary
from tests.support import checkpoints, page_states
from tests.support.records import START_S, run_total


def kept_run(
    folder: Path,
    hours: float = 2.0,
    devices: tuple[int, int, int] = (2, 1, 1),
    *,
    host: str = "node-7",
    name: str = "llama-7b fine-tune",
    state: State = "final",
    **more: Any,
) -> Path:
    """A run of GPUs, packages and memory, which is estimated; its totals are those of its series.

    `more` are fields of the run.
    """
    snapshot = page_states.hours_in(*devices)._replace(at_s=START_S + hours * 3600.0)
    (run,) = snapshot.runs
    page_states.day_of(folder, page_states.series_devices(snapshot), snapshot.at_s, hours)
    totals = _totals(folder)
    run = run._replace(
        info=run.info._replace(host=host, name=name, started_at_s=START_S),
        totals=totals,
        phases_s=tuple((phase, hours * 1200.0) for phase in {total.phase: 0 for total in totals}),
        duration_s=hours * 3600.0,
        ended_at_s=snapshot.at_s if state == "final" else None,
        exit_code=0 if state == "final" else None,
    )._replace(**more)
    snapshot = snapshot._replace(runs=(run,))
    known = [each.device for each in snapshot.devices]
    (folder / layout.RUN_FILE).write_text(layout.run_text(run.info, known))
    checkpoints.write(folder, layout.checkpoint_text(snapshot, run, "a boot"))
    write_summary(folder, summarize(snapshot, run, state))
    return folder


def part_of(folder: Path) -> Part:
    """What a report is made of."""
    return find(str(folder), folder.parent)


def _totals(folder: Path) -> tuple[RunTotal, ...]:
    sums: dict[tuple[Any, ...], float] = {}
    for _, rows in streamed(folder):
        for row in rows or ():
            key = row.device, row.component, row.method, row.phase
            sums[key] = sums.get(key, 0.0) + row.energy_j
    return tuple(
        run_total(device, component, method, joules, phase=phase)
        for (device, component, method, phase), joules in sums.items()
    )
