"""Energy between reports of training code, whatever the order of samples and reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.model import Curve
from carbonmon.core.work import ENDLESS, Span, Told, Work, each_epoch, known_total, precision_of
from carbonmon.core.work_meter import MOST_EPOCH_ENDS, WorkMeter
from tests.support.rows import for_each_row

WATTS = 100.0


def draw(meter: WorkMeter, start_s: float, end_s: float, watts: float = WATTS) -> None:
    """A device that draws evenly."""
    meter.add(start_s, end_s, watts * (end_s - start_s))


def spans(meter: WorkMeter) -> dict[str, Span]:
    work = meter.state(0.0)
    return {} if work is None else {span.what: span for span in work.spans}


def test_energy_between_two_reports_is_that_of_the_intervals_between_them():
    meter = WorkMeter()
    draw(meter, 0.0, 10.0)
    meter.tell(Told(steps=1.0, tokens=500.0), 10.0)
    draw(meter, 10.0, 20.0)
    meter.tell(Told(steps=3.0, tokens=1500.0), 20.0)
    draw(meter, 20.0, 100.0)
    span = spans(meter)["tokens"]
    assert span == Span("tokens", 500.0, 1500.0, 10.0, 20.0, 1000.0, 2000.0)
    assert span.done == 1000.0
    assert span.energy_j == 1000.0
    assert span.duration_s == 10.0


def test_a_report_between_two_samples_divides_the_interval_by_time():
    meter = WorkMeter()
    meter.tell(Told(steps=0.0), 0.25)
    meter.tell(Told(steps=5.0), 0.75)
    draw(meter, 0.0, 1.0)
    assert spans(meter)["steps"].energy_j == pytest.approx(WATTS * 0.5)


def test_where_the_driver_says_when_an_interval_is_divided_by_its_samples():
    meter = WorkMeter()
    meter.tell(Told(steps=0.0), 0.0)
    meter.tell(Told(steps=5.0), 0.5)
    meter.add(0.0, 1.0, 100.0, Curve((0.0, 0.5, 1.0), (0.0, 9.0, 10.0)))
    assert spans(meter)["steps"].energy_j == pytest.approx(90.0)


def test_a_device_that_speaks_late_is_counted_where_it_drew():
    meter = WorkMeter()
    meter.tell(Told(steps=0.0), 0.0)
    meter.tell(Told(steps=5.0), 10.0)
    draw(meter, 10.0, 11.0)
    draw(meter, 0.0, 20.0, watts=7.0)
    assert spans(meter)["steps"].energy_j == pytest.approx(70.0)


@given(
    ticks=st.lists(st.floats(0.01, 5.0), min_size=1, max_size=30),
    reports=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=20, unique=True),
    lag_s=st.floats(0.0, 3.0),
)
def test_at_constant_power_the_energy_is_power_times_time_whatever_the_ticks(
    ticks: list[float], reports: list[float], lag_s: float
):
    """Samples and reports in any order of time; a second device settles `lag_s` later."""
    end_s = sum(ticks)
    events: list[tuple[float, int, tuple[float, float]]] = []
    at_s = 0.0
    for tick in ticks:
        events.append((at_s + tick, 1, (at_s, at_s + tick)))
        events.append((at_s + tick + lag_s, 2, (at_s, at_s + tick)))
        at_s += tick
    times = sorted(ratio * end_s for ratio in reports)
    events += [(time_s, 0, (float(step), 0.0)) for step, time_s in enumerate(times)]
    meter = WorkMeter()
    for time_s, kind, (a, b) in sorted(events):
        if kind:
            draw(meter, a, b)
        else:
            meter.tell(Told(steps=a), time_s)
    span = spans(meter)["steps"]
    assert span.done == len(times) - 1
    assert span.duration_s == pytest.approx(times[-1] - times[0])
    assert span.energy_j == pytest.approx(2 * WATTS * (times[-1] - times[0]), rel=1e-6, abs=1e-6)


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 2.0), st.floats(0.0, 300.0)), max_size=40))
def test_no_order_of_reports_gives_a_negative_figure_or_counts_twice(
    reports: list[tuple[float, float, float]],
):
    """Steps that jump to and fro, and reports that come late."""
    meter, now_s = WorkMeter(), 0.0
    for step, pause_s, age_s in reports:
        draw(meter, now_s, now_s + pause_s + 0.1)
        now_s += pause_s + 0.1
        meter.tell(Told(steps=step), now_s - min(age_s, now_s))
    for span in spans(meter).values():
        steps = [step for step, _, _ in reports]
        assert span.done == max(steps) - steps[0] if steps[0] else span.done == max(steps)
        assert 0.0 <= span.energy_j <= meter.total_j * (1 + 1e-9)
        assert 0.0 <= span.duration_s <= now_s


def test_a_total_that_was_passed_was_none():
    meter = WorkMeter()
    meter.tell(Told(steps=0.0, total_steps=60.0), 0.0)
    meter.tell(Told(steps=60.0), 1.0)
    assert (work := meter.state(0.0)) is not None and work.total_steps == 60.0
    meter.tell(Told(steps=61.0), 2.0)
    assert (work := meter.state(0.0)) is not None and work.total_steps is None


def test_steps_that_are_done_again_after_a_restart_count_once_and_their_energy_twice():
    meter = WorkMeter()
    for at_s, step in enumerate([0, 1, 2, 3, 2, 3, 4]):
        meter.tell(Told(steps=float(step)), float(at_s))
        draw(meter, at_s, at_s + 1.0)
    span = spans(meter)["steps"]
    assert span.done == 4.0
    assert span.energy_j == pytest.approx(6 * WATTS)


def test_a_second_rank_that_tells_the_same_steps_changes_nothing():
    alone, both = WorkMeter(), WorkMeter()
    for step in range(5):
        for meter in (alone, both):
            meter.tell(Told(steps=float(step), tokens=100.0 * step), float(step))
        both.tell(Told(steps=float(step), tokens=100.0 * step), step + 0.4)
        both.tell(Told(steps=max(0.0, step - 1.0), tokens=50.0 * step), step + 0.5)
        for meter in (alone, both):
            draw(meter, step, step + 1.0)
    assert both.state(0.0) == alone.state(0.0)


def test_what_is_first_counted_later_counts_from_the_zeroth_step():
    meter = WorkMeter()
    meter.tell(Told(steps=0.0), 0.0)
    draw(meter, 0.0, 10.0)
    meter.tell(Told(steps=10.0, tokens=640.0), 10.0)
    assert spans(meter)["tokens"].done == 640.0
    assert spans(meter)["tokens"].energy_j == pytest.approx(1000.0)


def test_what_was_done_before_the_first_report_is_nobody_s():
    meter = WorkMeter()
    meter.tell(Told(steps=5000.0, tokens=5e9), 3.0)
    assert spans(meter)["tokens"].done == 0.0
    meter.tell(Told(steps=5001.0, tokens=5e9 + 64.0), 4.0)
    assert spans(meter)["tokens"].done == 64.0


def test_a_report_that_was_held_back_counts_at_its_time():
    meter = WorkMeter()
    meter.tell(Told(steps=0.0), 0.0)
    draw(meter, 0.0, 100.0)
    meter.tell(Told(steps=10.0), 10.0)
    span = spans(meter)["steps"]
    assert (span.last_s, span.energy_j) == (10.0, pytest.approx(10.0 * WATTS))


def epochs(meter: WorkMeter) -> list[tuple[float, float, float, float]]:
    """First and last epoch, seconds, joules of each."""
    work = meter.state(0.0)
    assert work is not None
    return [(span.first, span.last, span.duration_s, span.energy_j) for span in each_epoch(work)]


def test_each_epoch_has_its_own_time_and_energy():
    meter = WorkMeter()
    for epoch, (end_s, watts) in enumerate([(10.0, 100.0), (30.0, 50.0), (35.0, 200.0)]):
        if epoch == 0:
            meter.tell(Told(epochs=0.0), 0.0)
        begin_s = end_s - (10.0, 20.0, 5.0)[epoch]
        draw(meter, begin_s, end_s, watts)
        meter.tell(Told(epochs=epoch + 1.0), end_s)
    draw(meter, 35.0, 37.0, 10.0)
    meter.tell(Told(epochs=3.5), 37.0)
    assert epochs(meter) == [
        (0.0, 1.0, 10.0, 1000.0),
        (1.0, 2.0, 20.0, 1000.0),
        (2.0, 3.0, 5.0, 1000.0),
        (3.0, 3.5, 2.0, 20.0),
    ]


@pytest.mark.parametrize("tick_s", [0.5, 3.0, 100.0])
def test_an_epoch_ends_between_two_reports_and_between_two_samples(tick_s: float):
    meter = WorkMeter()
    settled_s = 0.0
    for report in range(9):  # 0.4 epochs each 4 s
        meter.tell(Told(epochs=0.4 * report), 4.0 * report)
        while settled_s + tick_s <= 4.0 * report:
            draw(meter, settled_s, settled_s + tick_s)
            settled_s += tick_s
    draw(meter, settled_s, 100.0)
    assert epochs(meter) == [
        (0.0, 1.0, pytest.approx(10.0), pytest.approx(1000.0)),
        (1.0, 2.0, pytest.approx(10.0), pytest.approx(1000.0)),
        (2.0, 3.0, pytest.approx(10.0), pytest.approx(1000.0)),
        (3.0, pytest.approx(3.2), pytest.approx(2.0), pytest.approx(200.0)),
    ]


def test_epochs_that_were_passed_unseen_stay_together():
    meter = WorkMeter()
    meter.tell(Told(steps=0.0), 0.0)
    draw(meter, 0.0, 12.0)
    meter.tell(Told(epochs=3.0), 12.0)
    assert epochs(meter) == [(0.0, 3.0, 12.0, 1200.0)]


def test_of_very_many_epochs_several_are_one_row_and_no_joule_is_lost():
    meter = WorkMeter()
    for epoch in range(1001):
        meter.tell(Told(epochs=float(epoch)), float(epoch))
        draw(meter, float(epoch), epoch + 1.0)
    rows = epochs(meter)
    assert 32 <= len(rows) <= MOST_EPOCH_ENDS + 1
    assert {last - first for first, last, _, _ in rows[:-1]} == {8.0}
    assert sum(row[3] for row in rows) == pytest.approx(1000 * WATTS)


@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 5.0), st.floats(0.0, 2.0)), max_size=30),
    st.floats(0.1, 7.0),
)
def test_the_epochs_are_all_of_their_span_and_none_is_negative(
    reports: list[tuple[float, float, float]], tick_s: float
):
    meter = WorkMeter()
    now_s = settled_s = done = 0.0
    for more, wait_s, held_back_s in reports:
        now_s += wait_s
        while settled_s + tick_s <= now_s:
            draw(meter, settled_s, settled_s + tick_s)
            settled_s += tick_s
        done += more
        meter.tell(Told(epochs=done), max(0.0, now_s - held_back_s))
    draw(meter, settled_s, now_s + tick_s)
    work = meter.state(0.0)
    rows = [] if work is None else each_epoch(work)
    assert all(row.energy_j >= -1e-9 and row.duration_s >= 0.0 for row in rows)
    if work is not None and done > work.spans[0].first:
        assert sum(row.energy_j for row in rows) == pytest.approx(work.spans[0].energy_j)
        assert sum(row.done for row in rows) == pytest.approx(work.spans[0].done)


def test_a_monitor_that_goes_on_counts_as_if_it_had_never_ended():
    def half(meter: WorkMeter, first: int) -> None:
        for step in range(first, first + 5):
            told = Told(steps=float(step), total_steps=20.0, epochs=step / 2, flops=1e15 * step)
            meter.tell(told, 50.0 + step)
            draw(meter, 50.0 + step, 51.0 + step)

    whole = WorkMeter()
    half(whole, 0)
    half(whole, 5)
    before, after = WorkMeter(), WorkMeter()
    half(before, 0)
    after.restore(before.state(40.0), before.total_j, 40.0)
    half(after, 5)
    assert after.state(40.0) == whole.state(40.0)


def test_nothing_told_is_no_work():
    meter = WorkMeter()
    meter.tell(Told(total_steps=10.0), 1.0)
    assert meter.state(0.0) is None


@for_each_row(
    ("total", "known"),
    [
        (10.0, 10.0),
        (None, None),
        (-1.0, None),
        (0.0, None),
        (float("inf"), None),
        (float("nan"), None),
        (float(2**63 - 1), None),
        (ENDLESS, None),
        (float(ENDLESS), None),
    ],
)
def test_a_total_that_frameworks_give_for_no_end_is_unknown(total: float | None, known: float | None):
    assert known_total(total) == known
    assert Work(5.0, total).ratio == (0.5 if known else None)


@for_each_row(
    ("said", "precision"),
    [
        ("bf16", "bf16"),
        ("torch.bfloat16", "bf16"),
        ("<class 'jax.numpy.bfloat16'>", "bf16"),
        ("bf16-mixed", "bf16"),
        ("16-mixed", "fp16"),
        ("torch.float16", "fp16"),
        ("TF32", "tf32"),
        ("torch.float32", "fp32"),
        ("32-true", "fp32"),
        ("torch.float8_e4m3fn", "fp8"),
        ("int4", "int4"),
        ("torch.float64", "torch.float64"),
    ],
)
def test_a_precision_is_known_by_what_frameworks_call_it(said: str, precision: str):
    assert precision_of(said) == precision
