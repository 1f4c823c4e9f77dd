"""Counts a training's steps, and asks the monitor what they drew when the training logs.

A training is cut where it logs, evaluates and saves; each stretch is a window of the monitor. A stretch with
steps in it is training; the others count for the totals only. Nothing here waits but `figures`.
"""

from __future__ import annotations

import math
import time
from typing import Any

from carbonmon.client.connection import warn_once
from carbonmon.client.run import Run
from carbonmon.core.work import known_total
from carbonmon.integrations.evaluations import Evaluations
from carbonmon.integrations.figures import Counts, Spent, Totals, keys, since_begin, since_log

LEAST_S = 1.0
"""Least time between two figures: of less, the edges of a GPU's counter, up to 0.1 s old (`core.windows`),
are a large part."""

WAITING_RATIO = 0.005
"""The part of the time that may go by waiting for figures: after an answer that took 10 ms none for 2 s."""

TELLING_S = 0.5
"""Least time between two words of progress: a monitor samples once a second."""

MOST_STRETCHES = 8
"""So many stretches of training are kept before they are asked for; a monitor keeps a thousand."""


def _known_length(length: Any) -> float | None:
    """Steps in all, None where that is unknown, or no number."""
    try:
        return known_total(None if length is None else float(length))
    # An array may raise anything when it is asked for its number.
    except Exception as error:  # noqa: BLE001
        warn_once("progress total", "carbonmon's progress: total is left out: %s", str(error)[:200])
        return None


_ended: dict[str | None, dict[str, float]] = {}
"""What this process had told of its last run when the last training ended."""


class Meter:
    """What one training draws, on this node. `length` is its number of steps.

    A training that begins at step 0 comes after all that this process has told before; one that begins later
    goes on from a checkpoint.
    """

    def __init__(self, run: Run, begin: Counts, length: Any, precision: object = None) -> None:
        self.run = run
        self.has_steps = False
        """Whether the present stretch is one of training."""
        self._part = run._part
        self._precision = precision
        self._told = {} if begin.steps else self._part.told or _ended.get(run.id, {})
        self._length = _known_length(length)
        self._counts = self._logged = begin
        self._evaluations: Evaluations = (None, None)
        self.tell()
        self._begin = self._totals()
        self._spent: Spent | None = Spent()
        self._stretches: list[tuple[int, bool]] = []
        self._due_s = -math.inf
        self._window = self._part.cut(None)

    def count(self, counts: Counts) -> None:
        """A step has ended, after which these are the counts."""
        self._counts = counts
        self.has_steps = True
        if time.monotonic() - self._told_s >= TELLING_S:
            self.tell()

    def cut(self, on_host: bool = True) -> None:
        """A stretch ends here. `on_host`: what its last step computed has arrived, so its work is done."""
        ended, self._window = self._window, self._part.cut(self._window)
        if self.has_steps:
            self.tell()
            if ended is None or self._window is None:
                self._spent = None
            else:
                self._stretches.append((ended, on_host))
        elif ended is not None:
            self._part.phases.forget(ended)
        self.has_steps = False
        if len(self._stretches) >= MOST_STRETCHES:
            self._add_stretches()

    def figures(self, *, on_host: bool = True, always: bool = False) -> dict[str, float]:
        """What a log gets, by key.

        It waits for the monitor, and so gives nothing where that would be too often; `always`: all the same.
        """
        asked_s = time.monotonic()
        if asked_s < self._due_s and not always:
            return {}
        if self.has_steps:
            self.cut(on_host)
        self._add_stretches()
        totals = self._totals()
        now_s = time.monotonic()
        self._due_s = now_s + max(LEAST_S, (now_s - asked_s) / WAITING_RATIO)
        found = since_begin(self._begin, totals)
        if self._spent is not None:
            found |= since_log(self._spent, self._logged, self._counts, totals)
        self._logged, self._spent = self._counts, Spent()
        return keys(found)

    def end(self) -> None:
        """The training is over: its last window goes."""
        self.tell()
        _ended.clear()
        _ended[self.run.id] = self._part.told
        if self._window is not None:
            self._part.phases.forget(self._window)

    def announce(self, evaluations: Evaluations) -> None:
        """From the next word of progress on the monitor knows when evaluations come.

        Behind another training of this process its steps are not those that the monitor is told.
        """
        if not self._told.get("step"):
            self._evaluations = evaluations

    def tell(self) -> None:
        """Tell the monitor the counts."""
        self._told_s = time.monotonic()
        counts, told = self._counts, self._told
        if told:
            before = (told.get(name, 0.0) for name in ("step", "epoch", "samples", "tokens", "flops"))
            pairs = zip(counts, before, strict=True)
            counts = Counts(*(None if now is None else now + done for now, done in pairs))  # type: ignore[arg-type]
        self.run.progress(
            counts.steps,
            None if self._length is None else self._length + told.get("step", 0.0),
            epoch=counts.epoch,
            samples=counts.samples,
            tokens=counts.tokens,
            flops=counts.flops,
            precision=self._precision,
            evaluation_every=self._evaluations[0],
            evaluation_steps=self._evaluations[1],
        )

    def _totals(self) -> Totals | None:
        """None without an answer: what was known before is no figure of now."""
        if not self._part.ask():
            return None
        known = self._part.known
        energy_j, ratio = known.get("energy_j"), known.get("measured_ratio")
        if energy_j is None:
            return None
        measured_j = 0.0 if not energy_j else None if ratio is None else energy_j * ratio
        more = (known.get(name) for name in ("emissions_g", "job_ratio", "peak_flop_per_s"))
        return Totals(energy_j, measured_j, *more)

    def _add_stretches(self) -> None:
        """Ask for the stretches that have ended; where one is not known, what was spent is unknown."""
        stretches, self._stretches = self._stretches, []
        for number, on_host in stretches:
            found = self._part.window(number)
            self._part.phases.forget(number)
            if found is None or self._spent is None:
                self._spent = None
                continue
            self._spent = Spent(
                self._spent.energy_j + float(found["energy_j"]),
                self._spent.duration_s + float(found["duration_s"]),
                self._spent.is_interpolated or bool(found["is_interpolated"]) or not on_host,
            )
