"""Since when each total counts: between the last snapshot without it and the first one that has it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.footprint import Rates
from carbonmon.core.model import Interval
from carbonmon.monitor.meanwhile import NodeTotals
from carbonmon.monitor.run_account import RunAccount
from carbonmon.runs.series_rows import Moment
from tests.support import records
from tests.support.rows import for_each_row

NODE = NodeTotals({})
RATES = Rates(1e-4, 1e-4, 1e-4, records.intensity())
MOMENT = Moment(1, 0.0)
GPU, PACKAGE = records.gpu(), records.package()


def account(start_s: float = 100.0) -> RunAccount:
    made = RunAccount(records.run_info(), [GPU])
    made.begin(start_s, NODE)
    return made


def draw(run: RunAccount, begin_s: float, end_s: float, device: Any = GPU) -> None:
    run.add(device, Interval(device.id, begin_s, end_s, counter_j=300.0 * (end_s - begin_s)), RATES, MOMENT)


def starts(run: RunAccount, now_s: float) -> dict[tuple[str, str], float | None]:
    return {(row.phase, row.device_id): row.start_s for row in run.state(now_s, NODE).totals}


def test_what_a_run_is_expected_to_use_counts_since_its_start():
    run = account(100.0)
    assert starts(run, 100.0) == {("main", GPU.id): 100.0}
    assert run.state(100.0, NODE).start_s == 100.0


def test_a_phase_counts_since_the_interval_that_it_began_in():
    run = account(100.0)
    starts(run, 105.0)
    run.phases.change(107.4, ("eval",))
    draw(run, 107.0, 108.0)
    assert starts(run, 110.0)["eval", GPU.id] == 107.0
    draw(run, 110.0, 120.0)
    assert starts(run, 120.0)["eval", GPU.id] == 107.0, "the first time stands"


def test_what_a_device_tells_late_counts_since_the_last_snapshot_without_it():
    run = account(100.0)
    starts(run, 105.0)
    draw(run, 101.0, 108.0, PACKAGE)
    assert starts(run, 110.0)["main", PACKAGE.id] == 105.0


@given(st.lists(st.tuples(st.sampled_from(["draw", "late", "phase", "tell"]), st.floats(0.001, 9.0))))
def test_a_start_lies_between_the_last_snapshot_without_the_row_and_the_first_with_it(steps: list[Any]):
    run, now_s, told_s, read_s = account(100.0), 100.0, 100.0, 100.0
    known: dict[tuple[str, str], float | None] = {}
    for number, (step, seconds) in enumerate([*steps, ("draw", 1.0), ("tell", 1.0)]):
        now_s += seconds
        if step == "draw":
            draw(run, read_s, now_s)
            read_s = now_s
        elif step == "late":
            draw(run, 100.0, now_s, PACKAGE)
        elif step == "phase":
            run.phases.change(now_s, (f"phase-{number}",))
        else:
            found = starts(run, now_s)
            for key in found.keys() - known.keys():
                start_s = found[key]
                assert start_s is not None
                assert told_s <= start_s < now_s
            assert known.items() <= found.items()
            known, told_s = found, now_s


def test_of_a_run_that_is_resumed_after_its_end_no_start_is_told():
    """Its durations leave the time between out: a start after stored samples would count them twice."""
    before = account(100.0)
    draw(before, 100.0, 160.0)
    before.end(160.0, records.START_S + 60.0, 0, None, NODE)
    state = before.state(170.0, NODE)
    run = RunAccount(records.run_info(), [])
    run.restore(state, 1000.0, 0.0, same_boot=False)
    after = run.state(1000.0, NODE)
    assert (after.start_s, after.duration_s) == (None, 60.0)
    assert [row.start_s for row in after.totals] == [None]


@for_each_row(("same_boot", "kept"), [(True, 100.0), (False, None)])
def test_a_resumed_run_keeps_its_starts_on_the_same_boot(same_boot: bool, kept: float | None):
    before = account(100.0)
    draw(before, 100.0, 160.0)
    state = before.state(160.0, NODE)
    now_s = 200.0 if same_boot else 45.0
    run = RunAccount(records.run_info(), [GPU])
    run.restore(state, now_s, 40.0, same_boot)
    assert starts(run, now_s) == {("main", GPU.id): kept}
    assert run.state(now_s, NODE).start_s == kept
    run.phases.change(now_s + 1.0, ("eval",))
    draw(run, now_s - 40.0, now_s + 2.0)
    assert starts(run, now_s + 2.0)["eval", GPU.id] == now_s, (
        "it was told, without the phase, after the outage"
    )
