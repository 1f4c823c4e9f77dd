"""Laws of a run's edges over random lateness: where power is constant, a run has power × time to the joule.

Sensors with counters and with power only; what is read is late by any time, at ticks and at edges; a run is
stopped before the sample that settles it, while it is taken, or behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from carbonmon.core.model import Failure, Reading, RunState
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.run_span import LEAST_UNREAD_S
from tests.chaos.inprocess import GPU, PACKAGE, POWER_ONLY, POWER_W, Source, sampler_of
from tests.support.effort import examples
from tests.support.harness import INFO, FakeClock

DEVICES = (GPU, POWER_ONLY, PACKAGE)
late = st.one_of(st.just(0.0), st.floats(0.0, 0.9))


@dataclass(frozen=True)
class Step:
    """A tick after so many seconds, and whether a run begins or ends with it; then it is an edge.

    `before_s` is how long each device takes to answer, `after_s` how long the rest of the sample takes.
    """

    elapsed_s: float
    before_s: float
    after_s: float
    is_edge: bool
    stopped: Literal["before", "meanwhile", "behind"]


@st.composite
def steps(draw: DrawFn) -> Step:
    when = st.sampled_from(("before", "meanwhile", "behind"))
    return Step(draw(st.floats(0.0, 3.0)), draw(late), draw(late), draw(st.booleans()), draw(when))


class Late(Source):
    """Devices that answer late; `meanwhile` is done when the first has answered."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(DEVICES)
        self._clock = clock
        self.before_s = self.after_s = 0.0
        self.meanwhile: Callable[[], object] = lambda: None

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        for device in DEVICES:
            self._clock.time_s += self.before_s
            if device is DEVICES[1]:
                self.meanwhile()
            if device is POWER_ONLY:
                yield Reading(device.id, power_w=POWER_W[device.id])
            else:
                yield Reading(device.id, round(POWER_W[device.id] * self._clock.time_s * 1e6))
        self._clock.time_s += self.after_s


@examples(200)
@given(st.lists(steps(), min_size=2, max_size=12))
def test_a_run_has_the_energy_of_its_stated_time_and_the_rest_is_nobody_s(happenings: list[Step]):
    clock = FakeClock()
    source = Late(clock)
    sampler = sampler_of(source, clock, 1.0)
    sampler.tick(edge=True)
    living = ""
    ended_behind: set[str] = set()
    ended: list[RunState] = []

    def stop() -> None:
        sampler.runs.stop(living, clock.now_s(), clock.wall_s())

    for number, step in enumerate(happenings):
        clock.time_s += step.elapsed_s
        source.before_s, source.after_s = step.before_s, step.after_s
        ends = step.is_edge and living
        if ends and step.stopped == "before":
            stop()
        source.meanwhile = stop if ends and step.stopped == "meanwhile" else lambda: None
        sampler.tick(edge=step.is_edge)
        if ends and step.stopped == "meanwhile":  # that was no sample for its end
            sampler.tick(edge=True)
        if ends:
            if step.stopped == "behind":
                ended_behind.add(living)
            sampler.end(living, 0, None)
            ended += [run for run in sampler.latest.runs if run.info.id == living]
            living = ""
        elif step.is_edge:
            living = f"run-{number}"
            sampler.begin(RunAccount(INFO._replace(id=living), DEVICES))
    sampler.tick(edge=True)
    for run in ended:
        assert run.ended_at_s is not None
        assert run.ended_at_s - run.info.started_at_s == pytest.approx(run.duration_s, abs=1e-6)
        # What is not read behind a run's end is told, but for a hundredth of a second.
        untold_s = LEAST_UNREAD_S if run.info.id in ended_behind else 0.0
        for device_id, lost_s in run.unobserved_s:
            power_w, energy_j = POWER_W[device_id], energy_of([run], device_id)
            assert energy_j <= power_w * run.duration_s + 1e-3
            assert energy_j >= power_w * (run.duration_s - lost_s - untold_s) - 1e-3
            (node,) = [row for row in run.node if row.device_id == device_id]
            assert node.counter_j + node.power_j == pytest.approx(energy_j, abs=1e-6), "nobody else is there"
            assert lost_s == 0.0 or run.info.id in ended_behind
    alive = [run for run in sampler.latest.runs if run.ended_at_s is None]
    for state in sampler.latest.devices:
        runs_j = energy_of([*ended, *alive], state.device.id)
        assert runs_j + state.unattributed_j == pytest.approx(state.energy_j, rel=1e-12, abs=1e-9)


BOTH = GPU._replace(methods=("counter", "power"))
"""A GPU of which the counter, the power or both may say nothing for a while."""


class Silent(Source):
    def __init__(self, clock: FakeClock) -> None:
        super().__init__([BOTH])
        self._clock = clock
        self.counts = self.answers = True
        self.reset_s = -50_000.0

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        watts = POWER_W[BOTH.id]
        energy_uj = round(watts * (now_s - self.reset_s) * 1e6)
        yield Reading(BOTH.id, energy_uj if self.counts else None, watts if self.answers else None)


silences = st.tuples(
    st.one_of(st.just(1.0), st.floats(0.0, 15.0)), st.booleans(), st.booleans(), st.sampled_from((0, 0, 1))
)


@examples(300)
@given(st.lists(silences, min_size=2, max_size=25), st.integers(0, 60))
def test_what_a_counter_tells_late_is_of_those_who_lived_then(
    happenings: list[tuple[float, bool, bool, int]], reset_at: int
):
    clock = FakeClock()
    source = Silent(clock)
    sampler = sampler_of(source, clock, 1.0)
    sampler.tick(edge=True)
    living = ""
    ended: list[RunState] = []
    for number, (elapsed_s, source.counts, source.answers, is_edge) in enumerate(happenings):
        clock.time_s += elapsed_s
        if number == reset_at:
            source.reset_s = clock.time_s
        if is_edge and living:
            sampler.runs.stop(living, clock.now_s(), clock.wall_s())
        sampler.tick(edge=bool(is_edge))
        if is_edge and living:
            sampler.end(living, 0, None)
            ended += [run for run in sampler.latest.runs if run.info.id == living]
            living = ""
        elif is_edge:
            living = f"run-{number}"
            sampler.begin(RunAccount(INFO._replace(id=living), [BOTH]))
    final = sampler.finish(0, None)
    runs = [*ended, *(run for run in final.runs if run.info.id == living)]
    watts = POWER_W[BOTH.id]
    for run in runs:
        ((_, lost_s),) = run.unobserved_s
        energy_j = energy_of([run], BOTH.id)
        untold_s = LEAST_UNREAD_S + (1.5 if run.info.id == living else 0.0)  # `finish` takes no sample
        assert energy_j <= watts * (run.duration_s - lost_s) + 1e-2
        assert energy_j >= watts * (run.duration_s - lost_s - untold_s) - 1e-2
        (node,) = run.node
        assert node.counter_j + node.power_j == pytest.approx(energy_j, abs=1e-2), "nobody else is there"
    (state,) = final.devices
    assert energy_of(runs, BOTH.id) + state.unattributed_j == pytest.approx(state.energy_j, abs=1e-6)


def energy_of(runs: Sequence[RunState], device_id: str) -> float:
    return sum(row.energy_j for run in runs for row in run.totals if row.device_id == device_id)
