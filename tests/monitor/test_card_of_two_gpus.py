"""A card that is two GPUs with one meter, as MI250: each half of its energy is charged as its GPU is held."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from carbonmon.core.footprint import Overheads
from carbonmon.core.model import Device, GpuClaim, NodeUsage, Part, Reading, ResumePoint, Usage
from carbonmon.core.ports import Roots
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.run_account import RunAccount
from tests.monitor.test_sampler import Source
from tests.support.harness import INFO, FakeClock, FixedIntensity, make_sampler

CARD = Device(
    *("GPU-a", "gpu", "AMD Instinct MI250X", 0, ("counter",)),
    max_power_w=1120.0,
    contains=(Part("gpu", None, "GPU-b"),),
)
POWER_W = 400.0


class Holders:
    """Who holds which GPU, as the test says."""

    def __init__(self, held: Mapping[str, Mapping[str, float]]) -> None:
        self._held = held

    def read(self, now_s: float) -> NodeUsage:
        runs = {
            run: Usage(0.0, {gpu: GpuClaim(fraction) for gpu, fraction in gpus.items()})
            for run, gpus in self._held.items()
        }
        return NodeUsage(0.0, 1.0, runs)

    def add(self, run_id: str, roots: Roots, since: ResumePoint | None = None) -> None: ...

    def join(self, run_id: str, roots: Roots) -> None: ...

    def remove(self, run_id: str) -> None: ...

    def resume_points(self) -> Mapping[str, ResumePoint]:
        return {}

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("held", "shares"),
    [
        ({"one": {"GPU-a": 1.0}, "other": {"GPU-b": 1.0}}, {"one": 0.5, "other": 0.5}),
        ({"one": {"GPU-a": 1.0, "GPU-b": 1.0}, "other": {}}, {"one": 1.0, "other": 0.0}),
        ({"one": {"GPU-b": 1.0}, "other": {}}, {"one": 0.5, "other": 0.0}),
        ({"one": {"GPU-b": 1.0}, "other": {"GPU-b": 1.0}}, {"one": 0.25, "other": 0.25}),
        ({"one": {}, "other": {}}, {"one": 0.0, "other": 0.0}),
    ],
)
def test_each_run_pays_for_the_gpus_that_it_holds(
    held: Mapping[str, Mapping[str, float]], shares: Mapping[str, float]
):
    clock = FakeClock()
    source = Source([CARD], lambda now_s: [Reading("GPU-a", round(now_s * POWER_W * 1e6))])
    sampler = make_sampler(
        [GuardedSensor(source)],
        {CARD.id: CARD},
        [],
        FixedIntensity(),
        clock,
        1.0,
        Overheads(),
        workload=Holders(held),
    )
    sampler.tick(edge=True)
    for run_id in held:
        sampler.begin(RunAccount(INFO._replace(id=run_id), [CARD]), Roots())
    for _ in range(10):
        clock.time_s += 1.0
        sampler.tick()
    found = {run.info.id: sum(total.energy_j for total in run.totals) for run in sampler.latest.runs}
    drawn_j = 10.0 * POWER_W
    assert found == pytest.approx({run: share * drawn_j for run, share in shares.items()})
    (state,) = sampler.latest.devices
    assert state.unattributed_j == pytest.approx(drawn_j * (1.0 - sum(shares.values())))
