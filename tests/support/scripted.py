"""Runs whose phases and power follow a script in real time, charged by the monitor's own accounts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

from carbonmon.core.footprint import Rates
from carbonmon.core.model import Interval, RunState, Snapshot
from carbonmon.monitor.clock import SystemClock
from carbonmon.monitor.meanwhile import NodeTotals
from carbonmon.monitor.run_account import RunAccount
from carbonmon.runs.series_rows import Moment
from tests.support import records

TICK_S = 0.02
SNAPSHOT_S = 0.2
"""What is shown is a checkpoint, some seconds old: here a fifth of a scrape interval of 1 s."""


class Script(NamedTuple):
    """A run: when it begins, its phases with their seconds, and the watts of each of its devices."""

    run_id: str
    begin_s: float
    phases: Sequence[tuple[str, float]]
    watts: tuple[float, ...] = (300.0, 135.0)

    @property
    def end_s(self) -> float:
        return self.begin_s + sum(seconds for _, seconds in self.phases)

    def phase(self, at_s: float) -> str:
        """The phase at so many seconds after the script's start."""
        until_s = self.begin_s
        for name, seconds in self.phases:
            until_s += seconds
            if at_s < until_s:
                return name
        return self.phases[-1][0]


class Runs:
    """Charges the scripted runs in a thread while it is a context; `latest` is what exporters are given."""

    def __init__(self, scripts: Sequence[Script]) -> None:
        self._scripts = scripts
        self._clock = SystemClock()
        self._devices = (records.gpu(), records.package())
        self._accounts: dict[str, RunAccount] = {}
        self._rates = Rates(1e-4, 1e-4, 1e-4, records.intensity())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="scripted-runs")
        self._began_s = self._clock.now_s()
        self.latest = self._snapshot(self._began_s)

    def __enter__(self) -> Runs:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self) -> None:
        """Until the last run has ended."""
        self._thread.join()

    def joules(self) -> dict[tuple[str, str], float]:
        """What each phase of each run was charged, by (run, phase)."""
        totals: dict[tuple[str, str], float] = {}
        for run in self.latest.runs:
            for row in run.totals:
                key = run.info.id, row.phase
                totals[key] = totals.get(key, 0.0) + row.energy_j
        return totals

    def _loop(self) -> None:
        waiting, living = list(self._scripts), list[Script]()
        before_s = shown_s = self._clock.now_s()
        self._began_s = before_s
        while (waiting or living) and not self._stop.wait(TICK_S):
            now_s = self._clock.now_s()
            at_s = now_s - self._began_s
            changes = False
            for script in living:
                self._charge(script, before_s, now_s)
                if at_s >= script.end_s:
                    self._accounts[script.run_id].end(now_s, self._clock.wall_s(), 0, None, NodeTotals({}))
                    changes = True
            living = [script for script in living if at_s < script.end_s]
            for script in [script for script in waiting if at_s >= script.begin_s]:
                waiting.remove(script)
                living.append(script)
                info = records.run_info(script.run_id)._replace(started_at_s=self._clock.wall_s())
                account = self._accounts[script.run_id] = RunAccount(info, self._devices)
                account.begin(now_s, NodeTotals({}))
                account.phases.change(now_s, (script.phase(at_s),))
                changes = True
            before_s = now_s
            if changes or now_s - shown_s >= SNAPSHOT_S:
                shown_s, self.latest = now_s, self._snapshot(now_s)

    def _charge(self, script: Script, begin_s: float, end_s: float) -> None:
        account = self._accounts[script.run_id]
        account.phases.change(end_s, (script.phase(end_s - self._began_s),))
        for device, watts in zip(self._devices, script.watts, strict=True):
            joules = watts * (end_s - begin_s)
            account.add(
                device,
                Interval(device.id, begin_s, end_s, joules, power_w=watts),
                self._rates,
                Moment(1, end_s),
            )

    def _snapshot(self, now_s: float) -> Snapshot:
        runs: list[RunState] = [
            account.state(now_s, NodeTotals({})) for account in list(self._accounts.values())
        ]
        node = records.node(1, 1, 0)
        states = tuple(state._replace(counter_j=0.0, power_j=0.0, tdp_j=0.0) for state in node.devices)
        return node._replace(
            runs=tuple(runs), devices=states, at_s=self._clock.wall_s(), clock_s=now_s, start_s=self._began_s
        )
