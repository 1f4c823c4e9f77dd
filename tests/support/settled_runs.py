"""Folders of runs whose emissions are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count, pairwise, takewhile
from pathlib import Path
from typing import Any

from carbonmon.core.model import JOULES_PER_KWH, Snapshot
from carbonmon.core.timeline import Slot
from carbonmon.runs import layout
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.file import write_summary
from tests.support import checkpoints, records
from tests.support.gridsources import HOUR_S, NOON_S, ScriptedSource
from tests.support.series import write_series, write_series_1

PUE = 1.2


START_S = NOON_S + 17.0
"""A run that begins at no round time."""


def curve(hour: int) -> float:
    """What the grid really was, in gCO2e/kWh."""
    return 250.0 + 200.0 * math.sin(hour / 24 * 2 * math.pi) + 7.0 * (hour % 3)


def gpu_j(seconds: float) -> float:
    """Joules of the GPU: 300 W, with a wave of 100 W and seven hours."""
    wave_s = 7 * HOUR_S / (2 * math.pi)
    return 300.0 * seconds + 100.0 * wave_s * (1 - math.cos(seconds / wave_s))


def cpu_j(seconds: float) -> float:
    """Joules of the package: it idles at 50 W, and draws 170 W in the first third of each 90 minutes."""
    whole, rest = divmod(seconds, 5400.0)
    return 50.0 * seconds + 120.0 * (1800.0 * whole + min(rest, 1800.0))


Live = tuple[float, float, float]
"""The live figure before a second of the run, that second, and the live figure after it."""


def charged(joules: Callable[[float], float], seconds: float, live: Live) -> float:
    """What joules were charged with live until a second of the run, in grams."""
    before, switch_s, after = live
    early_j = joules(min(seconds, switch_s))
    return (early_j * before + (joules(seconds) - early_j) * after) / JOULES_PER_KWH * PUE


def a_snapshot(seconds: float, live: Live = (360.0, 0.0, 360.0), *, ended: bool = False) -> Snapshot:
    """The run after so many seconds: of the GPU's joules the first two hours are `warm-up`."""
    gpu, package = records.gpu(), records.package()

    def early_j(at_s: float) -> float:
        return gpu_j(min(at_s, 2 * HOUR_S))

    def late_j(at_s: float) -> float:
        return gpu_j(at_s) - early_j(at_s)

    rows = [(gpu, "warm-up", early_j), (gpu, "main", late_j), (package, "main", cpu_j)]
    totals = tuple(
        records.run_total(
            device.id,
            device.component,
            "counter",
            joules(seconds),
            phase=phase,
            emissions_g=charged(joules, seconds, live),
        )
        for device, phase, joules in rows
    )
    run = records.run_state(
        None,
        totals,
        power_w=((gpu.id, 300.0), (package.id, 50.0)),
        phases_s=(("main", max(0.0, seconds - 7200)), ("warm-up", min(seconds, 7200.0))),
        duration_s=seconds,
        ended_at_s=START_S + seconds if ended else None,
    )
    run = run._replace(info=_at_start(run.info))
    states = (
        records.device_state(gpu, counter_j=gpu_j(seconds)),
        records.device_state(package, counter_j=cpu_j(seconds)),
    )
    found = records.snapshot(
        (run,), states, now=records.intensity(live[2]), pue_ratio=PUE, sensors=(), exporter_errors=()
    )
    return found._replace(at_s=START_S + seconds)


def _at_start(info: Any) -> Any:
    return info._replace(started_at_s=START_S)


def write_run(
    folder: Path,
    seconds: float,
    *,
    killed: bool = False,
    period_s: float = 60.0,
    outage_s: tuple[float, float] = (0.0, 0.0),
    live: Live = (360.0, 0.0, 360.0),
    version: int = 2,
) -> Path:
    """The folder of a run of so many seconds as its monitor left it; between `outage_s` there was none."""
    folder.mkdir()
    devices = [state.device for state in a_snapshot(0.0).devices]
    moments = [
        a_snapshot(at_s, live)
        for at_s in takewhile(lambda at_s: at_s < seconds, count(5.0, period_s))
        if not outage_s[0] < at_s < outage_s[1]
    ]
    final = a_snapshot(seconds, live, ended=not killed)
    if not killed:
        moments.append(final)
        write_summary(folder, summarize(final, final.runs[0], "final"))
    (folder / layout.RUN_FILE).write_text(layout.run_text(final.runs[0].info, devices))
    checkpoints.write(folder, layout.checkpoint_text(final, final.runs[0], "a boot"))
    if version == 1:
        write_series_1(folder, moments, devices)
    else:
        write_series(folder, moments)
    return folder


def expected_g(seconds: float, joules: Callable[[float], float], start_s: float = 0.0) -> float:
    """Grams in closed form: the joules of each hour of the clock times that hour's intensity."""
    bounds = [start_s, *(hour * HOUR_S - 17.0 for hour in range(1, 200)), seconds]
    bounds = sorted({bound for bound in bounds if start_s <= bound <= seconds})
    grams = 0.0
    for from_s, to_s in pairwise(bounds):
        hour = int((from_s + to_s) / 2 + 17.0) // int(HOUR_S)
        grams += (joules(to_s) - joules(from_s)) / JOULES_PER_KWH * curve(hour) * PUE
    return grams


def telling(name: str, hours: range, value: float, **more: Any) -> ScriptedSource:
    slots = [Slot(NOON_S + h * HOUR_S, NOON_S + (h + 1) * HOUR_S, value, **more) for h in hours]
    return ScriptedSource(name, f"{name}-zone", says=lambda now_s: slots)
