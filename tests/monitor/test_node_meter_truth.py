"""Node meters from files to joules, against power that is known in closed form, with faults of firmware."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbonmon.core.footprint import Overheads
from carbonmon.core.node_meter import NodeEnergy
from carbonmon.core.ports import NodeMeter, NodeMeterSettings
from carbonmon.hardware.node_meters import acpi, cray
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.node_meter_reader import NodeMeterReader
from carbonmon.monitor.sampler import Sampler
from tests.chaos.inprocess import GPU, Source
from tests.simulator.node import AcpiTree, CrayTree
from tests.simulator.profiles import Constant, Profile, Sine, Square
from tests.support.harness import FakeClock, FixedIntensity, make_sampler


class Node:
    """A sampler, and a tree that says at each tick what the profile gives then."""

    def __init__(self, tree: AcpiTree | CrayTree, meter: NodeMeter, clock: FakeClock) -> None:
        self.clock, self.tree = clock, tree
        self.began_s = self.clock.now_s()
        meter.is_slow = False  # time stands still between two ticks: the thread would have no part of it
        readers = [NodeMeterReader(meter, meter.name)]
        self.sampler: Sampler = make_sampler(
            *(
                [GuardedSensor(Source([GPU]))],
                {GPU.id: GPU},
                [],
                FixedIntensity(),
                self.clock,
                1.0,
                Overheads(),
            ),
            node_meters=readers,
        )
        self.sampler.tick(edge=True)

    @property
    def at_s(self) -> float:
        return self.clock.now_s() - self.began_s

    def watch(self, seconds: float, interval_s: float = 1.0) -> None:
        for _ in range(round(seconds / interval_s)):
            self.clock.time_s += interval_s
            self.tree.write(self.at_s)
            self.sampler.tick()

    def total(self) -> NodeEnergy:
        (state,) = self.sampler.finish(0, None).node_meters
        return state.total


def a_cray(folder: Path, profile: Profile) -> Node:
    tree = CrayTree(folder, profile)
    clock = FakeClock()
    return Node(tree, cray.CrayMeter(NodeMeterSettings(folder), clock.now_s), clock)


def an_acpi(folder: Path, profile: Profile) -> Node:
    tree = AcpiTree(folder, profile)
    return Node(tree, acpi.open_meter(NodeMeterSettings(folder)), FakeClock())


PROFILES = [
    Constant(1234.0),
    Square(400.0, 2400.0, 0.7),
    Square(400.0, 2400.0, 40.0),
    Sine(1500.0, 900.0, 33.0),
]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_counter_gives_the_truth_within_two_tenths_of_a_percent(profile: Profile, tmp_path: Path):
    node = a_cray(tmp_path, profile)
    node.watch(600)
    total = node.total()
    assert total.energy_j == pytest.approx(node.tree.energy_j(0.0, 600.0), rel=0.002)
    assert total.unobserved_s == 0.0


@pytest.mark.parametrize("profile", PROFILES)
def test_a_mean_power_since_the_last_reading_gives_it_within_two_percent(profile: Profile, tmp_path: Path):
    node = an_acpi(tmp_path, profile)
    node.watch(600)
    total = node.total()
    assert total.energy_j == pytest.approx(node.tree.energy_j(0.0, 600.0), rel=0.02)
    assert total.unobserved_s == 0.0


@pytest.mark.parametrize("start_j", [0, 10**12])
def test_a_blade_controller_that_restarts_costs_no_joule(start_j: int, tmp_path: Path):
    node = a_cray(tmp_path, Constant(1000.0))
    assert isinstance(node.tree, CrayTree)
    node.watch(100)
    node.tree.restart(node.at_s, start_j)
    node.watch(100)
    total = node.total()
    assert total.energy_j == pytest.approx(200_000.0, rel=0.002)
    assert total.rejected == 1


def test_counters_that_nobody_refreshes_are_a_gap_until_they_come_back(tmp_path: Path):
    node = a_cray(tmp_path, Constant(1000.0))
    assert isinstance(node.tree, CrayTree)
    node.watch(100)
    node.tree.is_frozen = True
    node.watch(100)
    node.tree.is_frozen = False
    node.watch(100)
    total = node.total()
    assert total.energy_j == pytest.approx(300_000.0, rel=0.002), (
        "the counter covers the time in which it slept"
    )


def test_firmware_that_says_nothing_for_a_minute_loses_that_minute_and_says_so(tmp_path: Path):
    node = an_acpi(tmp_path, Constant(1000.0))
    assert isinstance(node.tree, AcpiTree)
    node.watch(100)
    path = node.tree.folder / "power1_average"
    text = path.read_text()
    path.unlink()
    for _ in range(60):
        node.clock.time_s += 1.0
        node.sampler.tick()
    path.write_text(text)
    node.watch(40)
    total = node.total()
    assert total.unobserved_s == pytest.approx(61.0)
    assert total.energy_j == pytest.approx(1000.0 * (200.0 - 61.0))
