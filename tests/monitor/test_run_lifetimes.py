"""Runs that have ended: how long they are shown, how many of them, and not before they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbonmon.core.footprint import Overheads, rates
from carbonmon.core.model import Device, Interval, NodeUsage, ResumePoint, Usage
from carbonmon.core.ports import Roots
from carbonmon.monitor.device_account import DeviceAccount
from carbonmon.monitor.meanwhile import NOTHING
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.run_attribution import RunAttribution
from carbonmon.monitor.run_lifetimes import MAX_ENDED, UNWRITTEN_S, RunLifetimes
from carbonmon.runs.series_rows import Moment
from tests.support.harness import INFO, INTENSITY

RATES = rates(INTENSITY, Overheads())
MOMENT = Moment(1, 1.0)


def lifetimes(retain_s: float) -> RunLifetimes:
    return RunLifetimes(RunAttribution(None, 0.0), retain_s=retain_s)


def begun(runs: RunLifetimes, run_id: str, now_s: float) -> None:
    runs.plan(run_id, Path(run_id))
    runs.begin(RunAccount(INFO._replace(id=run_id), []), None, now_s, NOTHING)


def ended(runs: RunLifetimes, run_id: str, now_s: float) -> None:
    begun(runs, run_id, now_s)
    runs.end(run_id, now_s, 1_700_000_000.0, 0, None, NOTHING)


def shown(runs: RunLifetimes, now_s: float) -> list[str]:
    """The runs that a snapshot of this moment holds; only those have their folders remembered."""
    runs.drop_old(now_s)
    states = [run.info.id for run in runs.states(now_s, NOTHING)]
    assert states == [run.info.id for run in runs.states(now_s + 1e9, NOTHING)], "asking drops no run"
    assert set(runs.folders) == set(states)
    return states


def test_a_run_that_has_ended_is_shown_for_as_long_as_was_asked():
    runs = lifetimes(60.0)
    ended(runs, "a", 10.0)
    runs.written("a")
    assert shown(runs, 70.0) == ["a"]
    assert shown(runs, 70.1) == []


def test_a_run_stays_until_it_is_written_but_a_disk_is_not_waited_for_for_ever():
    runs = lifetimes(0.0)
    ended(runs, "a", 10.0)
    assert shown(runs, 20.0) == ["a"]
    runs.written("a")
    assert shown(runs, 20.0) == []
    ended(runs, "b", 30.0)
    assert shown(runs, 30.0 + UNWRITTEN_S + 0.1) == []


def test_of_many_runs_that_have_ended_the_newest_are_shown():
    runs = lifetimes(1e9)
    for number in range(MAX_ENDED + 50):
        ended(runs, f"run-{number}", float(number))
        runs.written(f"run-{number}")
    assert shown(runs, 1000.0) == [f"run-{number}" for number in range(50, MAX_ENDED + 50)]


def test_a_run_that_begins_again_under_its_id_is_shown_once():
    runs = lifetimes(1e9)
    ended(runs, "a", 10.0)
    begun(runs, "a", 20.0)
    assert shown(runs, 30.0) == ["a"]


class Broken:
    """A workload whose every word is a fault, while it is broken."""

    def __init__(self) -> None:
        self.is_broken = True

    def _may_fail(self) -> None:
        if self.is_broken:
            raise RuntimeError("a bug of ours")

    def add(self, run_id: str, roots: Roots, since: ResumePoint | None = None) -> None:
        self._may_fail()

    def join(self, run_id: str, roots: Roots) -> None:
        self._may_fail()

    def remove(self, run_id: str) -> None:
        self._may_fail()

    def resume_points(self) -> dict[str, ResumePoint]:
        self._may_fail()
        return {}

    def read(self, now_s: float) -> NodeUsage:
        self._may_fail()
        return NodeUsage(1.0, 2.0, {"run-1": Usage(1.0, {})})

    def close(self) -> None:
        pass


def test_a_fault_in_the_workload_ends_no_sampling_and_invents_no_share(caplog: pytest.LogCaptureFixture):
    workload = Broken()
    attribution = RunAttribution(workload, 0.0)
    package = DeviceAccount(Device("package-0", "cpu", "CPU", methods=("counter",)))
    attribution.add(RunAccount(INFO._replace(idle_policy="proportional"), [], 0.0), None)
    attribution.settle(package.device.id, 0.0)
    for second in range(1, 4):
        attribution.look(float(second))
        interval = Interval("package-0", second - 1.0, float(second), 10.0)
        attribution.charge(package, interval, RATES, MOMENT, bridged=False)
    run = attribution.runs[INFO.id].state(3.0, NOTHING)
    assert sum(row.energy_j for row in run.totals) == 0.0
    assert (package.counter_j, package.unattributed_j) == (30.0, 30.0)
    assert len([record for record in caplog.records if "a bug of ours" in record.message]) == 1
    workload.is_broken = False
    attribution.look(4.0)
    attribution.charge(package, Interval("package-0", 3.0, 4.0, 10.0), RATES, MOMENT, bridged=False)
    assert package.unattributed_j == 30.0, "and goes on when it is mended"
