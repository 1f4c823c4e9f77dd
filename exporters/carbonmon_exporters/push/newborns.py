"""Shows new counter series at 0 before they tell their totals, to whoever cannot say what he has seen.

`increase()` counts from the first sample on that it knows: a series that is first seen at 5000 J loses those
joules for good. A scraper that comes to us is known (`endpoint/scrapers.py`); one that looks at another
server that we send to is not. It is given time to see the 0.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from prometheus_client.core import Metric

from carbonmon.core.model import Snapshot

Key = tuple[str, ...]


class Newborns:
    """Remembers when each counter series was shown first, by the run that it belongs to ("" for none)."""

    def __init__(self, hold_s: float) -> None:
        """Each new series is shown at 0 for so long, on the snapshots' clock; with 0 s, once."""
        self._hold_s = hold_s
        self._shown_s: dict[str, dict[Key, float]] = {}
        self._inherited: frozenset[str] | None = None

    def at_zero(
        self, families: Iterable[Metric], snapshot: Snapshot, over: Collection[str] = ()
    ) -> list[tuple[str, Key]]:
        """Set the counters that are new to 0, in place; returns which were shown for the first time.

        Runs that are `over` tell their totals at once: there is no later time. What an earlier monitor
        began was seen before; a 0 would make it step back.
        """
        if self._inherited is None:
            runs = ("", *(run.info.id for run in snapshot.runs)) if snapshot.continued else ()
            self._inherited = frozenset(runs)
        now_s = snapshot.clock_s
        firsts: dict[str, float] = {}
        shown: list[tuple[str, Key]] = []
        for family in families:
            if family.type != "counter":
                continue
            for number, sample in enumerate(family.samples):
                run_id = sample.labels.get("run_id", "")
                if run_id not in firsts:
                    is_known = run_id in self._inherited and run_id not in self._shown_s
                    firsts[run_id] = -math.inf if is_known else now_s
                series = self._shown_s.setdefault(run_id, {})
                key = (sample.name, *sample.labels.values())
                if key not in series:
                    series[key] = firsts[run_id]
                    shown.append((run_id, key))
                    is_new = series[key] == now_s
                else:
                    is_new = now_s - series[key] < self._hold_s
                if is_new and run_id not in over:
                    family.samples[number] = sample._replace(value=0.0)
        return shown

    def forget(self, shown: Iterable[tuple[str, Key]]) -> None:
        """What was shown for the first time did not arrive: it is as new as before."""
        for run_id, key in shown:
            series = self._shown_s.get(run_id, {})
            series.pop(key, None)
            if not series:
                self._shown_s.pop(run_id, None)

    def keep(self, snapshot: Snapshot) -> None:
        """Forget the runs that are not in the snapshot any more."""
        present = {"", *(run.info.id for run in snapshot.runs)}
        self._shown_s = {run_id: series for run_id, series in self._shown_s.items() if run_id in present}
