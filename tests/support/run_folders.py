"""Folders of runs as their monitors leave them, for what lists, looks up, compares and removes runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from carbonmon.cli import main
from carbonmon.core.model import Snapshot
from carbonmon.runs import layout
from carbonmon.runs.summary.document import State, summarize
from carbonmon.runs.summary.file import write_summary
from tests.support import checkpoints, records
from tests.support.series import ROW, series_text

KWH_J = 3.6e6


def a_run(
    output: Path,
    run_id: str,
    *,
    name: str = "train",
    start_s: float = 1_795_000_000.0,
    duration_s: float = 3600.0,
    kwh: float = 1.0,
    host: str = "node-1",
    uid: int | None = None,
    labels: tuple[tuple[str, str], ...] = (),
    state: State | None = "final",
    folder: str = "",
    drawn: Sequence[tuple[float, float]] = (),
    measured: bool = True,
) -> Path:
    """A run of one GPU at 360 g/kWh. `drawn` are its series' rows: when each ends, and its joules.

    `state` None is a run whose monitor was killed before it wrote a summary.
    """
    snapshot = a_snapshot(run_id, name, start_s, duration_s, kwh, host, uid, labels, state, measured)
    (run,) = snapshot.runs
    place = output / (folder or run_id)
    place.mkdir(parents=True)
    devices = [each.device for each in snapshot.devices]
    (place / layout.RUN_FILE).write_text(layout.run_text(run.info, devices))
    checkpoints.write(place, layout.checkpoint_text(snapshot, run, "a boot"))
    rows = [
        ROW._replace(at_s=at_s, device=devices[0].id, energy_j=joules, emissions_g=joules * 1e-4)
        for at_s, joules in drawn
    ]
    (place / layout.SERIES_FILE).write_text("".join(map(series_text, rows)))
    if state is not None:
        write_summary(place, summarize(snapshot, run, state))
    return place


def a_snapshot(
    run_id: str,
    name: str,
    start_s: float,
    duration_s: float,
    kwh: float,
    host: str,
    uid: int | None,
    labels: tuple[tuple[str, str], ...],
    state: State | None,
    measured: bool,
) -> Snapshot:
    info = records.run_info(run_id, name=name, labels=labels)._replace(
        host=host, started_at_s=start_s, uid=uid
    )
    gpu = records.gpu()
    joules = kwh * KWH_J
    method = "counter" if measured else "tdp"
    device = records.device_state(gpu, **{f"{method}_j": joules})
    totals = (records.run_total(gpu.id, "gpu", method, joules),) if kwh else ()
    run = records.run_state(
        info,
        totals,
        duration_s=duration_s,
        phases_s=(("main", duration_s),),
        ended_at_s=start_s + duration_s if state == "final" else None,
        exit_code=0 if state == "final" else None,
    )
    return records.snapshot((run,), (device,))._replace(at_s=start_s + duration_s)


def carbonmon(*arguments: object, code: int = 0, **more: Any) -> Result:
    """The command in this process, with its exit code."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments], **more)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done
