"""Runs that have ended: how long they are shown, how many of them, and not before they are written."""

from __future__ import annotations

import dataclasses

from carbonmon.ledger import RunAccount
from carbonmon.tenants import MAX_ENDED, UNWRITTEN_S, Tenants
from tests.harness import INFO


def ended(tenants: Tenants, run_id: str, now_s: float) -> None:
    info = dataclasses.replace(INFO, id=run_id)
    tenants.add(RunAccount(info, [], now_s), None)
    tenants.end(run_id, now_s, 1_700_000_000.0, 0, None, {})


def shown(tenants: Tenants, now_s: float) -> list[str]:
    return [run.info.id for run in tenants.states(now_s, {})]


def test_a_run_that_has_ended_is_shown_for_as_long_as_was_asked():
    tenants = Tenants(None, 0.0, retain_s=60.0)
    ended(tenants, "a", 10.0)
    tenants.forget("a")
    assert shown(tenants, 70.0) == ["a"]
    assert shown(tenants, 70.1) == []


def test_a_run_stays_until_it_is_written_but_a_disk_is_not_waited_for_for_ever():
    tenants = Tenants(None, 0.0, retain_s=0.0)
    ended(tenants, "a", 10.0)
    assert shown(tenants, 20.0) == ["a"]
    tenants.forget("a")
    assert shown(tenants, 20.0) == []
    ended(tenants, "b", 30.0)
    assert shown(tenants, 30.0 + UNWRITTEN_S + 0.1) == []


def test_of_many_runs_that_have_ended_the_newest_are_shown():
    tenants = Tenants(None, 0.0, retain_s=1e9)
    for number in range(MAX_ENDED + 50):
        ended(tenants, f"run-{number}", float(number))
        tenants.forget(f"run-{number}")
    assert shown(tenants, 1000.0) == [f"run-{number}" for number in range(50, MAX_ENDED + 50)]


def test_a_run_that_begins_again_under_its_id_is_shown_once():
    tenants = Tenants(None, 0.0, retain_s=1e9)
    ended(tenants, "a", 10.0)
    tenants.add(RunAccount(dataclasses.replace(INFO, id="a"), [], 20.0), None)
    assert shown(tenants, 30.0) == ["a"]
