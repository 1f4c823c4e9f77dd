"""Laws of sharing over random workloads: runs that come and go, hold GPUs, change phases; devices that fail.

The sampler, the meters and the ledger are the real ones; the hardware and the processes are invented.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from carbonmon.core.footprint import Overheads
from carbonmon.core.idle_power import IdlePower
from carbonmon.core.model import (
    IDLE_POLICIES,
    Component,
    Device,
    Failure,
    GpuClaim,
    IdlePolicy,
    NodeUsage,
    Reading,
    ResumePoint,
    RunInfo,
    RunState,
    SensorState,
    Spec,
    Usage,
)
from carbonmon.core.node_meter import NodeReading
from carbonmon.core.ports import Roots
from carbonmon.core.uncertainty import TDP_UNCERTAINTY
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.node_meter_reader import NodeMeterReader
from carbonmon.monitor.run_account import RunAccount
from tests.support.effort import examples
from tests.support.harness import FakeClock, FixedIntensity, make_sampler

pytestmark = pytest.mark.timeout(600)

RUNS = ("a", "b", "c")
GPUS = ("gpu-0", "gpu-1")


def device(device_id: str, component: Component) -> Device:
    return Device(
        device_id,
        component,
        device_id,
        methods=("counter", "power", "tdp"),
        max_power_w=500.0,
        spec=Spec(500.0, TDP_UNCERTAINTY, "test"),
    )


DEVICES = [device("package-0", "cpu"), device("dram-0", "dram"), *[device(gpu, "gpu") for gpu in GPUS]]


@dataclass(frozen=True)
class Step:
    """What happens before one tick, and how long each device takes to answer it."""

    elapsed_s: float
    late_s: float
    watts: tuple[float, ...]
    failing: frozenset[str]
    busy_ratio: float | None
    cpu: dict[str, float | None]
    claims: dict[str, dict[str, GpuClaim]]
    others: dict[str, float | None]
    begins: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    phases: dict[str, list[str]] = field(default_factory=dict)


@st.composite
def steps(draw: DrawFn) -> Step:
    ratio = st.floats(0.0, 1.0)
    sm = st.one_of(st.none(), st.just(0.0), ratio)
    some = st.sets(st.sampled_from(RUNS)).map(lambda names: tuple(sorted(names)))
    claim = st.builds(GpuClaim, st.sampled_from((1.0, 1.0, 3 / 7, 1 / 7)), sm)
    return Step(
        draw(st.floats(0.01, 12.0)),
        draw(st.sampled_from((0.0, 0.0, 0.2))),
        tuple(draw(st.lists(st.floats(0.0, 500.0), min_size=4, max_size=4))),
        draw(st.frozensets(st.sampled_from([each.id for each in DEVICES]), max_size=2)),
        draw(st.one_of(st.none(), st.just(0.0), ratio)),
        draw(st.dictionaries(st.sampled_from(RUNS), st.one_of(st.none(), st.floats(0.0, 4.0)))),
        draw(st.dictionaries(st.sampled_from(RUNS), st.dictionaries(st.sampled_from(GPUS), claim))),
        draw(st.dictionaries(st.sampled_from(GPUS), sm)),
        draw(some),
        draw(some),
        draw(st.dictionaries(st.sampled_from(RUNS), st.lists(st.sampled_from("xyz"), max_size=3))),
    )


class Node:
    """The invented hardware and the invented processes on it."""

    name = "node"

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.energy_uj = dict.fromkeys([each.id for each in DEVICES], 0.0)
        self.step: Step | None = None
        self.followed: set[str] = set()

    def devices(self) -> Sequence[Device]:
        return DEVICES

    def sources(self) -> Sequence[SensorState]:
        return [SensorState(self.name, "used", "test")]

    def begin_step(self, step: Step) -> None:
        self.step = step
        self.pass_time(step.elapsed_s)

    def pass_time(self, seconds: float) -> None:
        self.clock.time_s += seconds
        if self.step is not None:
            for each, power_w in zip(DEVICES, self.step.watts, strict=True):
                self.energy_uj[each.id] += power_w * seconds * 1e6

    # ---- the sensor ----

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        step = self.step
        for place, each in enumerate(DEVICES):
            if step is None:
                yield Reading(each.id, 0, 0.0, None, 0.0)
                continue
            self.pass_time(step.late_s)
            energy_uj = None if each.id in step.failing else int(self.energy_uj[each.id])
            power_w = step.watts[place]
            yield Reading(each.id, energy_uj, power_w, None, power_w / 500.0)

    def close(self) -> None:
        pass


class Processes:
    """The invented workload."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def add(self, run_id: str, roots: Roots, since: ResumePoint | None = None) -> None:
        self._node.followed.add(run_id)

    def resume_points(self) -> dict[str, ResumePoint]:
        return {}

    def join(self, run_id: str, roots: Roots) -> None:
        pass

    def remove(self, run_id: str) -> None:
        self._node.followed.discard(run_id)

    def read(self, now_s: float) -> NodeUsage:
        step, followed = self._node.step, sorted(self._node.followed)
        if step is None:
            return NodeUsage(None, 0.0, {run_id: Usage(0.0, {}) for run_id in followed})
        capacity_s = 4.0 * step.elapsed_s
        busy_s = None if step.busy_ratio is None else step.busy_ratio * capacity_s
        runs = {run_id: Usage(step.cpu.get(run_id, 0.0), step.claims.get(run_id, {})) for run_id in followed}
        return NodeUsage(busy_s, capacity_s, runs, step.others)

    def close(self) -> None:
        pass


class Envelope:
    """A meter of the invented machine: what its devices draw, and 200 W. It fails when the package does."""

    name = "envelope"
    is_slow = False
    period_s = 0.0

    def __init__(self, node: Node) -> None:
        self._node = node

    def read(self) -> NodeReading:
        step = self._node.step
        if step is None:
            return NodeReading(200.0, 0)
        energy_uj = int(sum(self._node.energy_uj.values()) + 200e6 * self._node.clock.now_s())
        return NodeReading(None if "package-0" in step.failing else sum(step.watts) + 200.0, energy_uj)

    def describe(self) -> str:
        return "invented"

    def close(self) -> None:
        pass


def info(run_id: str, policy: IdlePolicy) -> RunInfo:
    return RunInfo(run_id, run_id, (), (), "host", 1_700_000_000.0, idle_policy=policy)


@examples(150)
@given(
    st.lists(steps(), min_size=1, max_size=20),
    st.dictionaries(st.sampled_from(RUNS), st.sampled_from(IDLE_POLICIES)),
    st.none() | st.floats(0.0, 600.0),
)
def test_what_runs_get_and_what_stays_unattributed_is_what_was_drawn(
    happenings: list[Step], policies: dict[str, IdlePolicy], idle_w: float | None
):
    node = Node()
    sampler = make_sampler(
        [GuardedSensor(node)],
        {each.id: each for each in DEVICES},
        [],
        FixedIntensity(),
        node.clock,
        1.0,
        Overheads(),
        "test",
        workload=Processes(node),
        retain_s=1e9,
        node_meters=[NodeMeterReader(Envelope(node), "envelope")],
        charges_node=True,
    )
    for account in sampler.accounts.values():
        account.idle = IdlePower(idle_w)
    sampler.tick(edge=True)
    names = iter(range(1_000_000))
    alive: dict[str, str] = {}
    ended: list[RunState] = []
    for step in happenings:
        for run in RUNS:
            if run in step.begins and run not in alive:
                alive[run] = f"{run}-{next(names)}"
                node.followed.add(alive[run])
                sampler.begin(RunAccount(info(alive[run], policies.get(run, "proportional")), []), Roots())
        named = Step(
            step.elapsed_s,
            step.late_s,
            step.watts,
            step.failing,
            step.busy_ratio,
            {alive[run]: cpu_s for run, cpu_s in step.cpu.items() if run in alive},
            {alive[run]: held for run, held in step.claims.items() if run in alive},
            step.others,
        )
        node.begin_step(named)
        for run, phases in step.phases.items():
            if run in alive:
                sampler.runs.living[alive[run]].phases.change(node.clock.now_s() - 0.001, phases)
        before = sampler.latest
        for run in step.ends:
            if run in alive and step.late_s:
                sampler.runs.stop(alive[run], node.clock.now_s(), node.clock.wall_s())
        sampler.tick(edge=bool(step.late_s))
        check_monotone(before.runs, sampler.latest.runs)
        for run in step.ends:
            if run in alive:
                run_id = alive.pop(run)
                sampler.end(run_id, 0, None)
                (state,) = [state for state in sampler.latest.runs if state.info.id == run_id]
                ended.append(state)
    final = sampler.finish(0, None)
    runs = {run.info.id: run for run in (*ended, *final.runs)}
    for state in final.devices:
        rows = [row for run in runs.values() for row in run.totals if row.device_id == state.device.id]
        attributed_j = sum(row.energy_j for row in rows)
        assert attributed_j + state.unattributed_j == pytest.approx(state.energy_j, rel=1e-12, abs=1e-9)
        assert state.unattributed_j >= 0.0
        assert all(row.energy_j >= 0.0 for row in rows)
        for method, total_j in (("counter", state.counter_j), ("power", state.power_j), ("tdp", state.tdp_j)):
            of_method_j = sum(row.energy_j for row in rows if row.method == method)
            assert of_method_j <= total_j * (1 + 1e-12) + 1e-9, "nothing estimated becomes measured"
        grams = sum(row.emissions_g for row in rows)
        assert grams == pytest.approx(attributed_j * 100.0 / 3.6e6, rel=1e-9, abs=1e-12)
    (envelope,) = final.node_meters
    charges = [charge for run in runs.values() for charge in run.node_charges]
    charged_j = sum(charge.energy_j for charge in charges)
    assert charged_j == pytest.approx(
        envelope.total.energy_j - envelope.total.unattributed_j, rel=1e-9, abs=1e-6
    )
    assert 0.0 <= charged_j <= envelope.total.energy_j * (1 + 1e-12), "the rest stays unattributed"
    assert all(charge.energy_j >= 0.0 for charge in charges)
    grams = sum(charge.emissions_g for charge in charges)
    assert grams == pytest.approx(charged_j * 100.0 / 3.6e6, rel=1e-9, abs=1e-12)
    for run in runs.values():
        of_node = {row.device_id: row.counter_j + row.power_j + row.tdp_j for row in run.node}
        for device_id, node_j in of_node.items():
            own_j = sum(row.energy_j for row in run.totals if row.device_id == device_id)
            assert own_j <= node_j * (1 + 1e-9) + 1e-6, "a run gets no more than the node drew meanwhile"
        assert sum(seconds for _, seconds in run.phases_s) == pytest.approx(run.duration_s, abs=1e-6)


def check_monotone(before: Sequence[RunState], after: Sequence[RunState]) -> None:
    """No total of any run may fall."""
    rows = {
        (run.info.id, row.phase, row.device_id, row.method): row.energy_j
        for run in after
        for row in run.totals
    }
    for run in before:
        for row in run.totals:
            key = (run.info.id, row.phase, row.device_id, row.method)
            assert rows[key] >= row.energy_j
