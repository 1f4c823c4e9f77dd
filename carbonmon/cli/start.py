"""`carbonmon run --start greenest`: waits for the greenest start. Loaded only where that is asked for."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from carbonmon.analysis.next_hours import NoForecast
from carbonmon.cli.when import SOON_S, advise, local_text
from carbonmon.client.launcher import read_launch
from carbonmon.runs.summary.figures import duration_text, figure

LOOK_S = 30.0
"""The longest sleep: the clock may be set, and a machine may be suspended."""


def wait(
    ctx: click.Context,
    values: Mapping[str, Any],
    run_h: float,
    within_h: float,
    say: Callable[[str], object],
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Return when a job of `run_h` hours is to start, within `within_h` hours; `say` hears what it waits for.

    Without a forecast the job starts now, and a line says why. Raises `UsageError` for wrong options.
    """
    run_s, within_s = 3600.0 * run_h, 3600.0 * within_h
    now_s = clock()
    try:
        figures, advice = advise(ctx, values, now_s, run_s, within_s)
    except NoForecast as error:
        say(f"no greener hour is known, so the job starts now: {error}")
        return
    wait_s = advice.best.start_s - now_s
    mean = f"{figure(advice.best.g_per_kwh)} gCO2e/kWh over {duration_text(run_s)}"
    if 0.0 < wait_s <= SOON_S:
        say(f"the greenest start is in {wait_s:.0f} s, so the job starts now: {mean} ({figures.label})")
        return
    if wait_s <= 0.0:
        say(f"now is the greenest start within {duration_text(within_s)}: {mean} ({figures.label})")
        return
    instead = "" if advice.now is None else f"; now {figure(advice.now.g_per_kwh)}"
    when = f"{local_text(advice.best.start_s)}, in {duration_text(wait_s)}"
    say(f"the job starts {when}: {mean}{instead} ({figures.label})")
    if read_launch(os.environ).scheduler:
        say("the time limit of the scheduler's job runs on while it waits")
    try:
        while (left_s := advice.best.start_s - clock()) > 0.0:
            sleep(min(left_s, LOOK_S))
    except KeyboardInterrupt:
        raise click.exceptions.Exit(128 + signal.SIGINT) from None
