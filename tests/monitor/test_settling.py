"""Samples that are settled together give the same totals as if each was settled at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.model import Failure, Reading, Snapshot
from carbonmon.monitor import sampler as sampler_module
from carbonmon.monitor.loop import SamplingLoop
from carbonmon.monitor.requests import RequestQueue
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import MOST_UNSETTLED, Sampler
from tests.monitor.test_sampler import Source, gpu, sampler_of
from tests.support.harness import INFO, FakeClock

WORDS = st.lists(
    st.tuples(
        st.floats(0.01, 20.0),  # seconds since the sample before
        st.one_of(st.none(), st.integers(-(10**6), 10**9)),  # growth of the counter in µJ; None: it fails
        st.one_of(st.none(), st.floats(0.0, 500.0)),  # power
        st.booleans(),  # whether a phase changes
    ),
    max_size=40,
)


def played(words: list[tuple[float, int | None, float | None, bool]], at_once: bool) -> Snapshot:
    clock, counter = FakeClock(), [10**9]
    now: list[tuple[float, int | None, float | None, bool]] = []

    def say(_: float) -> Iterator[Reading | Failure]:
        _, growth, power_w, _ = now[-1] if now else (0.0, 0, 100.0, False)
        counter[0] += growth or 0
        if growth is None and power_w is None:
            yield Failure("d", "io")
        else:
            yield Reading("d", None if growth is None else counter[0], power_w, None, 0.5)

    source = Source([gpu()], say)
    sampler = sampler_of(source, clock)
    sampler.tick(edge=True)
    run = RunAccount(INFO, source.devices())
    sampler.begin(run)
    for number, word in enumerate(words):
        now.append(word)
        clock.time_s += word[0]
        if word[3]:
            sampler.settle()  # as the loop does before a request
            run.phases.change(clock.time_s, [f"phase-{number % 3}"])
        sampler.sample()
        if at_once:
            sampler.settle()
    sampler.show()
    return sampler.latest


@given(WORDS)
def test_samples_that_are_settled_together_give_what_each_gives_that_is_settled_at_once(
    words: list[tuple[float, int | None, float | None, bool]],
):
    together, at_once = played(words, at_once=False), played(words, at_once=True)

    def without_times(snapshot: Snapshot) -> Snapshot:
        """Without what a sample cost: CPU time and the seconds of a read are real."""
        runs = tuple(run._replace(monitor_cpu_s=0.0) for run in snapshot.runs)
        sensors = tuple(state._replace(read_s=None) for state in snapshot.sensors)
        return snapshot._replace(runs=runs, sensors=sensors)

    assert without_times(together) == without_times(at_once)


def steady(clock: FakeClock) -> Sampler:
    source = Source([gpu()], lambda now_s: [Reading("d", int(now_s * 1e8), 100.0)])
    sampler = sampler_of(source, clock)
    sampler.tick(edge=True)
    sampler.begin(RunAccount(INFO, source.devices()))
    return sampler


def test_samples_do_not_heap_up_where_nobody_looks():
    clock = FakeClock()
    sampler = steady(clock)
    for _ in range(2 * MOST_UNSETTLED):
        clock.time_s += 1.0
        sampler.sample()
        assert len(sampler._unsettled) < MOST_UNSETTLED
    assert sampler.accounts["d"].counter_j == pytest.approx(2 * MOST_UNSETTLED * 100.0)


def test_a_run_that_begins_has_nothing_of_the_samples_before_it_and_one_that_ends_has_all():
    clock = FakeClock()
    sampler = steady(clock)
    for _ in range(3):
        clock.time_s += 1.0
        sampler.sample()
    late = RunAccount(INFO._replace(id="late"), [gpu()])
    sampler.begin(late)
    for _ in range(2):
        clock.time_s += 1.0
        sampler.sample()
    sampler.end("late", 0, None)
    (state,) = [run for run in sampler.latest.runs if run.info.id == "late"]
    assert sum(row.energy_j for row in state.totals) == pytest.approx(200.0)


def test_a_fault_of_ours_in_one_sample_does_not_keep_the_run_from_being_summed_up(
    monkeypatch: pytest.MonkeyPatch,
):
    clock = FakeClock()
    sampler = steady(clock)
    clock.time_s += 1.0
    sampler.tick()
    with monkeypatch.context() as broken:
        broken.setattr(sampler_module.energy, "advance", lambda *_: 1 // 0)
        for _ in range(3):
            clock.time_s += 1.0
            sampler.sample()
        with pytest.raises(ZeroDivisionError):
            sampler.settle()
        final = sampler.finish(0, None)
    assert final.runs[0].ended_at_s is not None
    assert sum(row.energy_j for row in final.runs[0].totals) == pytest.approx(100.0)


@pytest.mark.parametrize("slow_s", [0.0, 1.4])
def test_a_phase_that_begins_while_a_slow_driver_is_read_has_its_part_of_that_time(slow_s: float):
    """A driver takes `slow_s` for each answer; the change is told amid that, or after the answer and before
    it is settled."""
    clock = FakeClock()
    requests = RequestQueue(clock)
    run = RunAccount(INFO, [gpu()])
    changes: list[float] = []

    def say(_: float) -> Iterator[Reading | Failure]:
        if changes:
            clock.time_s = changes[0]
            requests.post(lambda: run.phases.change(changes.pop(), ["second"]), "timed")
            clock.time_s += slow_s
        yield Reading("d", int(clock.time_s * 1e8), 100.0)

    sampler = sampler_of(Source([gpu()], say), clock)
    loop = SamplingLoop(sampler, requests, clock)
    sampler.tick(edge=True)
    sampler.begin(run)
    clock.time_s += 0.6
    changes.append(clock.time_s)
    sampler.tick()
    requests.carry_out(loop._extra_sample)
    sampler.show()
    joules: dict[str, float] = {}
    for row in sampler.latest.runs[0].totals:
        joules[row.phase] = joules.get(row.phase, 0.0) + row.energy_j
    assert joules.get("second", 0.0) == pytest.approx(100.0 * slow_s)
    assert sum(joules.values()) == pytest.approx(100.0 * (0.6 + slow_s))
    assert not requests
