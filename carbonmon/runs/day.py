"""What the runs of an output have drawn on a day of UTC, for budgets of a day.

A run that began on the day counts whole. One that began before counts with the rows of its series that lie on
the day, a row across midnight in proportion. Runs of other users, and folders that are no runs, do not count.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from carbonmon.core.budget_watch import Amounts
from carbonmon.core.errors import ConfigError
from carbonmon.core.files import absolute
from carbonmon.core.records import NamedTuple
from carbonmon.core.times import known_time
from carbonmon.runs.folders import why_not_ours
from carbonmon.runs.layout import CHECKPOINT_FILES, SUMMARY_FILE
from carbonmon.runs.series import read_lines
from carbonmon.runs.summaries import summary_of

log = logging.getLogger(__name__)


class _Counted(NamedTuple):
    written: tuple[int, ...]
    amounts: Amounts


class DayCount:
    """Counts the other runs of an output again and again: only those that were written since are read again.

    `own` is the folder of the run that asks. Money counts in `currency`.
    """

    def __init__(self, output: Path, own: Path, currency: str) -> None:
        self._output, self._own, self._currency = output, absolute(own), currency
        self._known: dict[Path, _Counted] = {}

    def others(self, day_s: float) -> Amounts:
        """What the other runs have drawn since the day began; it is the newest day."""
        sums = Amounts()
        try:
            folders = [path for path in self._output.iterdir() if absolute(path) != self._own]
        except OSError:
            return sums
        for folder in folders:
            written = _written(folder)
            if not written or max(written) < day_s * 1e9:
                continue
            known = self._known.get(folder)
            if known is None or known.written != written:
                known = self._known[folder] = _Counted(written, self._count(folder, day_s))
            sums = Amounts(*(a + b for a, b in zip(sums, known.amounts, strict=True)))
        return sums

    def own_before(self, day_s: float) -> Amounts:
        """What the run itself had drawn before the day, of one that is resumed."""
        try:
            whole = _totals(summary_of(self._own), self._currency)
        except ConfigError as error:
            log.warning("what run %s drew before today counts as today's: %s", self._own.name, error)
            return Amounts()
        return whole.minus(self._count(self._own, day_s))

    def new_day(self) -> None:
        """Forget what was counted: another day begins."""
        self._known.clear()

    def _count(self, folder: Path, day_s: float) -> Amounts:
        if absolute(folder) != self._own and why_not_ours(folder):
            return Amounts()
        try:
            summary = summary_of(folder)
            began_s = known_time(summary["run"]["started_at"])
            whole = _totals(summary, self._currency)
            return whole if began_s is None or began_s >= day_s else _since(folder, day_s, whole)
        except ConfigError as error:  # damaged, or no run
            log.debug("%s does not count in a budget of a day: %s", folder, error)
            return Amounts()


def _written(folder: Path) -> tuple[int, ...]:
    """When the files with a run's totals were written (ns since 1970); empty for a folder that has none."""
    found = []
    for name in (*CHECKPOINT_FILES, SUMMARY_FILE):
        with suppress(OSError):
            found.append((folder / name).stat().st_mtime_ns)
    return tuple(found)


def _totals(summary: dict[str, Any], currency: str) -> Amounts:
    costs = [cost["amount"] for cost in summary.get("costs") or () if cost["currency"] == currency]
    return Amounts(
        summary["energy"]["total_j"] or 0.0,
        summary["carbon"]["emissions_g"] or 0.0,
        sum(costs),
        summary["run"]["duration_s"] or 0.0,
    )


def _since(folder: Path, day_s: float, whole: Amounts) -> Amounts:
    """The part of a run that lies on a day which began during it."""
    energy_j = emissions_g = 0.0
    seconds: dict[float, float] = {}
    for _, rows in read_lines(folder):
        for row in rows or ():
            if row.at_s <= day_s:
                continue
            ratio = min(1.0, (row.at_s - day_s) / row.duration_s) if row.duration_s else 1.0
            energy_j += row.energy_j * ratio
            emissions_g += row.emissions_g * ratio
            seconds[row.at_s] = max(seconds.get(row.at_s, 0.0), row.duration_s * ratio)
    part = energy_j / whole.energy_j if whole.energy_j else 0.0
    return Amounts(energy_j, emissions_g, whole.cost * part, min(whole.time_s, sum(seconds.values())))
