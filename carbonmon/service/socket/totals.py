"""What a participant is told of its run: totals now, and at its end its windows as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from carbonmon.core.files import absolute
from carbonmon.core.forecast import Forecast
from carbonmon.core.model import RunState
from carbonmon.monitor.run_account import RunAccount
from carbonmon.runs.summary.ranges import is_seen, seen_totals
from carbonmon.runs.summary.work import work_summary
from carbonmon.service.entries import Entry, Participant

Answer = Callable[[dict[str, Any]], None]


def tell_totals(
    entry: Entry, participant: Participant, answer: Answer, run: RunAccount | None, state: RunState | None
) -> None:
    """What training code may log of its run; None where it is unknown."""
    known = {} if state is None else _totals(state, entry, participant)
    answer({"run_id": entry.run_id, **known, **stop_fields(run)})


def tell_leaver(
    entry: Entry,
    participant: Participant,
    answer: Answer,
    now_s: float,
    notes: Sequence[str],
    run: RunAccount | None,
    state: RunState | None,
) -> None:
    """What a participant that leaves is told where its run goes on; `notes`: what is not counted."""
    known = {} if run is None or state is None else last_words(run, state, entry, participant, now_s)
    answer({"last": False, "notes": list(notes), **known})


def last_words(
    run: RunAccount, state: RunState, entry: Entry, participant: Participant, now_s: float
) -> dict[str, Any]:
    """The totals, and the windows that the participant may still ask for, by number."""
    windows = {f"{key[1]}": run.window(key, now_s) for key in run.windows.keys_of(participant.serial)}
    return {"totals": _totals(state, entry, participant), "windows": windows}


def stop_fields(run: RunAccount | None) -> dict[str, Any]:
    """Whether training is to stop, and when it has done how many steps; None: it has told none."""
    stop = None if run is None else run.outlook.stop
    return {"stop": stop is not None, "stop_at_step": None if stop is None else stop.step}


def heard_stop(run: RunAccount | None) -> dict[str, Any]:
    """Whether training is to stop, for training code that asks, and so has heard it."""
    if run is not None and run.outlook.stop is not None:
        run.outlook.is_heard = True
    return stop_fields(run)


def _forecast(made: Forecast | None) -> dict[str, Any]:
    """The forecast of the whole run, as ranges; empty where there is none."""
    if made is None:
        return {}
    ranges = (made.energy_j, made.emissions_g, made.duration_s)
    told: dict[str, Any] = {
        name: span._asdict()
        for name, span in zip(("energy_j", "emissions_g", "duration_s"), ranges, strict=True)
    }
    if made.cost is not None:
        told |= {"cost": made.cost._asdict(), "currency": made.currency}
    return {"done_ratio": made.done_ratio, **told}


def _totals(run: RunState, entry: Entry, participant: Participant) -> dict[str, Any]:
    watts = [power_w for _, power_w in run.power_w if power_w is not None]
    totals = seen_totals(run)
    energy_j = sum(row.energy_j for row in totals)
    measured_j = sum(row.energy_j for row in totals if row.method != "tdp")
    return {
        "run_id": entry.run_id,
        "folder": str(absolute(entry.plan.folder)),
        "energy_j": energy_j if is_seen(run) else None,
        "measured_ratio": measured_j / energy_j if energy_j else None,
        "emissions_g": sum(row.emissions_g for row in totals) if is_seen(run) else None,
        "power_w": sum(watts) if watts else None,
        "duration_s": run.duration_s,
        "phase": participant.phase or run.phase,
        "forecast": _forecast(run.forecast),
        **_work(run),
    }


def _work(run: RunState) -> dict[str, Any]:
    """What the run has done, and the figures of that; nothing where nobody told."""
    return {
        key: value for key, value in (work_summary(run) or {}).items() if key not in {"spans", "each_epoch"}
    }
