"""Meters of the whole machine in a monitor: an envelope of the devices that is never added to them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from carbonmon_exporters.collector import SnapshotCollector
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from carbonmon.core.errors import SensorReadError, SensorUnavailable
from carbonmon.core.footprint import Overheads
from carbonmon.core.model import Failure, Reading, Snapshot
from carbonmon.core.node_meter import NodeEnergy, NodeReading
from carbonmon.core.ports import NodeMeter
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.node_meter_reader import MOST_TOLD, NodeMeterReader
from carbonmon.monitor.resume import Outage, resume_run
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.text import describe
from carbonmon.runs.summary.validation import fault_of
from carbonmon.runs.writer import RunFiles
from tests.chaos.inprocess import GPU, PACKAGE, POWER_W, Source
from tests.support.harness import INFO, FakeClock, FixedIntensity, make_sampler

DEVICES_W = POWER_W[GPU.id] + POWER_W[PACKAGE.id]
PATIENCE_S = 10.0


class Meter:
    """A meter whose power is `power_w`, None for a read that fails; with `counts` it has a counter too."""

    name = "meter"
    is_slow = False
    period_s = 0.0

    def __init__(self, clock: FakeClock, power_w: float | None = 1000.0, counts: bool = False) -> None:
        self.clock = clock
        self.power_w = power_w
        self.counts = counts
        self.closed = False

    def read(self) -> NodeReading:
        if self.power_w is None:
            raise SensorReadError("no answer")
        return NodeReading(self.power_w, round(self.clock.now_s() * 1e9) if self.counts else None)

    def describe(self) -> str:
        return "a meter of the test"

    def close(self) -> None:
        self.closed = True


class SlowMeter(Meter):
    """One that is read in a thread of its own, and waits while `hangs` is set."""

    is_slow = True

    def __init__(self, clock: FakeClock, power_w: float = 1000.0) -> None:
        super().__init__(clock, power_w)
        self.hangs, self.free, self.asked = threading.Event(), threading.Event(), threading.Event()

    def read(self) -> NodeReading:
        self.asked.set()
        if self.hangs.is_set():
            assert self.free.wait(PATIENCE_S)
        return super().read()


class LateSource(Source):
    """Devices that are read some time after they were asked."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__([GPU, PACKAGE])
        self._clock = clock
        self.late_s = 0.0

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        self._clock.time_s += self.late_s
        return super().read(self._clock.time_s, edge)


def sampler_with(
    clock: FakeClock, meters: Sequence[NodeMeter], charges: bool = False, source: Source | None = None
) -> Sampler:
    devices = {device.id: device for device in (GPU, PACKAGE)}
    readers = [
        NodeMeterReader(meter, f"{meter.name}{'-2' * bool(place)}") for place, meter in enumerate(meters)
    ]
    sensors = [GuardedSensor(source or Source([GPU, PACKAGE]))]
    sampler = make_sampler(
        *(sensors, devices, [], FixedIntensity(), clock, 1.0, Overheads()),
        node_meters=readers,
        charges_node=charges,
    )
    sampler.tick(edge=True)
    return sampler


def begin(sampler: Sampler) -> None:
    sampler.begin(RunAccount(INFO, [GPU, PACKAGE]))


def watch(sampler: Sampler, clock: FakeClock, seconds: int, beside: Callable[[], object] = int) -> None:
    for _ in range(seconds):
        clock.time_s += 1.0
        beside()
        sampler.tick()


def total_of(snapshot: Snapshot) -> NodeEnergy:
    (state,) = snapshot.node_meters
    return state.total


def test_a_run_has_the_energy_of_its_own_time_and_the_devices_part_of_it():
    clock = FakeClock()
    sampler = sampler_with(clock, [Meter(clock)])
    watch(sampler, clock, 30)
    begin(sampler)
    watch(sampler, clock, 60)
    final = sampler.finish(0, None)
    summary = summarize(final, final.runs[0], "final")
    (row,) = summary["node_meters"]
    assert row["energy_j"] == pytest.approx(60_000.0)
    assert row["devices_energy_j"] == pytest.approx(DEVICES_W * 60)
    assert row["rest_energy_j"] == pytest.approx((1000.0 - DEVICES_W) * 60)
    assert row["coverage_ratio"] == pytest.approx(DEVICES_W / 1000.0)
    assert row["mean_power_w"] == pytest.approx(1000.0)
    assert row["unobserved_s"] == 0.0
    assert final.node_meters[0].total.energy_j == pytest.approx(90_000.0)
    assert final.node_meters[0].coverage_ratio == pytest.approx(DEVICES_W / 1000.0)
    assert fault_of(summary) == ""


def test_what_the_devices_drew_is_the_same_with_and_without_a_node_meter():
    found = []
    for meters in (0, 1):
        clock = FakeClock()
        sampler = sampler_with(clock, [Meter(clock)] * meters)
        begin(sampler)
        watch(sampler, clock, 20)
        final = sampler.finish(0, None)
        summary = summarize(final, final.runs[0], "final")
        found.append((summary["energy"], summary["carbon"]))
    assert found[0] == found[1]


def test_a_meter_that_hangs_makes_no_tick_late_and_its_seconds_are_stated(caplog: pytest.LogCaptureFixture):
    clock = FakeClock()
    meter = SlowMeter(clock)
    sampler = sampler_with(clock, [meter])
    begin(sampler)
    watch(sampler, clock, 10, lambda: time.sleep(0.01))
    before_j = total_of(sampler._snapshot(0.0, 0.0)).energy_j
    meter.hangs.set()
    meter.asked.clear()
    watch(sampler, clock, 3, lambda: time.sleep(0.01))
    assert meter.asked.wait(PATIENCE_S)
    began_s = time.perf_counter()
    with caplog.at_level(logging.WARNING):
        watch(sampler, clock, 60)
    assert time.perf_counter() - began_s < 5.0
    assert "node meter meter cannot be read: it has not answered for more than 15 s" in caplog.text
    final = sampler.finish(0, None)
    (row,) = summarize(final, final.runs[0], "final")["node_meters"]
    assert row["observed_s"] + row["unobserved_s"] == pytest.approx(73.0)
    assert row["unobserved_s"] > 40.0
    assert row["energy_j"] == pytest.approx(1000.0 * row["observed_s"])
    assert row["energy_j"] >= before_j
    assert final.node_meters[0].power_w is None
    assert final.runs[0].duration_s == pytest.approx(73.0)
    meter.free.set()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def test_a_meter_that_answers_after_each_tick_is_integrated_with_the_times_of_its_answers():
    clock = FakeClock()
    meter = SlowMeter(clock, 800.0)
    sampler = sampler_with(clock, [meter])
    reader = sampler.node_meters._accounts[0].reader
    begin(sampler)
    watch(sampler, clock, 40, lambda: wait_for(lambda: reader._answer is not None or not reader._own.is_busy))
    final = sampler.finish(0, None)
    (row,) = summarize(final, final.runs[0], "final")["node_meters"]
    assert row["energy_j"] == pytest.approx(800.0 * row["observed_s"])
    assert row["unobserved_s"] <= 2.0


def test_an_answer_that_comes_too_late_is_not_used_and_said_so(caplog: pytest.LogCaptureFixture):
    clock = FakeClock()
    meter = SlowMeter(clock)
    meter.hangs.set()
    reader = NodeMeterReader(meter, "meter")
    assert reader.newest(clock) is None
    assert meter.asked.wait(PATIENCE_S)
    clock.time_s += 100.0
    meter.free.set()
    wait_for(lambda: reader.has_answered)
    meter.period_s = 1000.0
    assert reader.newest(clock) is None
    reader.tell()
    assert "its answer came after 100 s: too late to be used" in caplog.text


def test_a_meter_that_will_never_work_here_is_read_once_and_says_its_mend():
    clock = FakeClock()
    meter, reads = Meter(clock), []

    def refuse() -> NodeReading:
        reads.append(clock.now_s())
        raise SensorUnavailable("no DCMI", "buy another board")

    meter.read = refuse  # type: ignore[method-assign]
    sampler = sampler_with(clock, [meter])
    begin(sampler)
    watch(sampler, clock, 30)
    final = sampler.finish(0, None)
    assert len(reads) == 1
    state = next(sensor for sensor in final.sensors if sensor.name == "node meter meter")
    assert (state.up, state.reason, state.remedy) == (False, "no DCMI", "buy another board")
    assert total_of(final).unobserved_s == pytest.approx(30.0)


def test_a_meter_that_is_closed_is_asked_nothing_more():
    clock = FakeClock()
    meter = SlowMeter(clock)
    reader = NodeMeterReader(meter, "meter")
    reader.close()
    assert meter.closed
    assert reader.newest(clock) is None
    assert not meter.asked.is_set()


def test_samples_that_are_a_minute_apart_still_join_its_readings():
    clock = FakeClock()
    devices = {GPU.id: GPU}
    sampler = make_sampler(
        *([GuardedSensor(Source([GPU]))], devices, [], FixedIntensity(), clock, 60.0, Overheads()),
        node_meters=[NodeMeterReader(Meter(clock), "meter")],
    )
    sampler.tick(edge=True)
    for _ in range(10):
        clock.time_s += 60.0
        sampler.tick()
    total = total_of(sampler.finish(0, None))
    assert (total.energy_j, total.unobserved_s) == (pytest.approx(600_000.0), 0.0)


def test_a_read_that_fails_is_counted_told_once_and_bridged_if_it_was_short(caplog: pytest.LogCaptureFixture):
    clock = FakeClock()
    meter = Meter(clock)
    sampler = sampler_with(clock, [meter])
    begin(sampler)
    watch(sampler, clock, 5)
    meter.power_w = None
    with caplog.at_level(logging.WARNING):
        watch(sampler, clock, 5)
    meter.power_w = 1000.0
    watch(sampler, clock, 5)
    final = sampler.finish(0, None)
    assert caplog.text.count("node meter meter cannot be read: no answer") == 1
    state = next(sensor for sensor in final.sensors if sensor.name == "node meter meter")
    assert dict(state.errors) == {"read": 5}
    assert state.up
    assert total_of(final).energy_j == pytest.approx(15_000.0)


def test_a_meter_that_fails_in_another_way_each_time_does_not_fill_the_log(caplog: pytest.LogCaptureFixture):
    clock = FakeClock()
    meter = Meter(clock)
    sampler = sampler_with(clock, [meter])
    sound = meter.read

    def broken() -> NodeReading:
        raise SensorReadError(f"garbage {clock.now_s():g}")

    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            meter.read = broken  # type: ignore[method-assign]
            watch(sampler, clock, 50)
            meter.read = sound  # type: ignore[method-assign]
            watch(sampler, clock, 5)
    assert caplog.text.count("cannot be read: garbage") == 2 * MOST_TOLD
    assert caplog.text.count("reads again") == 2


def test_a_fault_of_ours_costs_the_meter_and_nothing_else(caplog: pytest.LogCaptureFixture):
    clock = FakeClock()
    meter = Meter(clock)
    sampler = sampler_with(clock, [meter])
    begin(sampler)
    meter.read = lambda: NodeReading("much")  # type: ignore[assignment,arg-type,method-assign]
    watch(sampler, clock, 10)
    final = sampler.finish(0, None)
    assert total_of(final).energy_j == 0.0
    assert final.node_meters[0].power_w is None
    assert "is given up by a fault of carbonmon's own" in caplog.text
    assert final.runs[0].totals[0].energy_j == pytest.approx(POWER_W[GPU.id] * 10)


@pytest.mark.parametrize("same_boot", [True, False])
def test_totals_go_on_from_a_checkpoint_and_a_counter_gives_the_outage_back(same_boot: bool, tmp_path: Path):
    clock = FakeClock()
    sampler = sampler_with(clock, [Meter(clock, counts=True)])
    begin(sampler)
    watch(sampler, clock, 20)
    sampler.show()
    files = RunFiles(tmp_path, "boot")
    files.write(sampler.latest, sampler.latest.runs[0], clock.now_s())
    files.close()
    before = read_checkpoint(tmp_path).snapshot
    assert total_of(before).energy_j == pytest.approx(20_000.0)

    clock.time_s += 100.0
    again = sampler_with(clock, [Meter(clock, counts=True)])
    run = RunAccount(before.runs[0].info, [GPU, PACKAGE])
    resume_run(again, run, before, Outage(100.0, same_boot))
    watch(again, clock, 10)
    final = again.finish(0, None)
    (row,) = summarize(final, final.runs[0], "final")["node_meters"]
    expected_j = 130_000.0 if same_boot else 30_000.0
    assert total_of(final).energy_j == pytest.approx(expected_j)
    assert row["energy_j"] == pytest.approx(expected_j)
    assert row["unobserved_s"] == pytest.approx(0.0 if same_boot else 100.0)
    assert row["devices_energy_j"] == pytest.approx(DEVICES_W * (130 if same_boot else 30))


@pytest.mark.parametrize("same_boot", [True, False])
def test_what_a_meter_measured_stays_where_the_next_monitor_lacks_it(same_boot: bool):
    clock = FakeClock()
    sampler = sampler_with(clock, [Meter(clock)], charges=True)
    begin(sampler)
    watch(sampler, clock, 20)
    sampler.show()
    before = sampler.latest

    other = Meter(clock, 500.0)
    other.name = "other"
    again = sampler_with(clock, [other], charges=True)
    run = RunAccount(before.runs[0].info, [GPU, PACKAGE])
    resume_run(again, run, before, Outage(0.0, same_boot))
    watch(again, clock, 10)
    final = again.finish(0, None)
    summary = summarize(final, final.runs[0], "final")
    rows = {row["meter"]: row for row in summary["node_meters"]}
    assert rows["meter"]["energy_j"] == pytest.approx(20_000.0)
    assert rows["meter"]["unobserved_s"] == pytest.approx(10.0)
    assert rows["other"]["energy_j"] == pytest.approx(5_000.0)
    assert rows["other"]["unobserved_s"] == pytest.approx(20.0)
    assert summary["charge"]["energy_j"] == pytest.approx(25_000.0)
    assert summary["charge"]["meter"] == "meter, other"
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: final))
    text = generate_latest(registry).decode()
    for name, energy_j in (("meter", 20_000.0), ("other", 5_000.0)):
        series = f'carbonmon_run_charged_energy_joules_total{{meter="{name}",run_id="run-1"}} '
        found = next(line for line in text.splitlines() if line.startswith(series))
        assert float(found.removeprefix(series)) == pytest.approx(energy_j), "no series goes on as another"
    assert fault_of(summary) == ""


def test_each_meter_has_series_of_its_own_without_a_component_from_0_on():
    clock = FakeClock()
    sampler = sampler_with(clock, [Meter(clock)])
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: sampler.latest))
    sampler.show()
    first = generate_latest(registry).decode()
    assert 'carbonmon_node_energy_joules_total{meter="meter"} 0.0' in first
    assert "carbonmon_node_coverage_ratio{" not in first, "unknown is absent"
    watch(sampler, clock, 10)
    text = generate_latest(registry).decode()
    assert 'carbonmon_node_power_watts{meter="meter"} 1000.0' in text
    assert 'carbonmon_node_energy_joules_total{meter="meter"} 10000.0' in text
    assert f'carbonmon_node_covered_energy_joules_total{{meter="meter"}} {DEVICES_W * 10}' in text
    assert f'carbonmon_node_coverage_ratio{{meter="meter"}} {DEVICES_W / 1000}' in text
    assert 'carbonmon_node_unobserved_seconds_total{meter="meter"} 0.0' in text
    assert 'component="node"' not in text
    assert 'carbonmon_sensor_up{sensor="node meter meter"} 1.0' in text


def test_the_table_at_the_end_of_a_run_says_what_the_devices_explain():
    clock = FakeClock()
    sampler = sampler_with(clock, [Meter(clock)])
    begin(sampler)
    watch(sampler, clock, 60)
    assert "  machine    60.0 kJ, mean 1000 W, devices 40.0 % of it (meter meter)\n" in describe(
        sampler.finish(0, None)
    )


@pytest.mark.parametrize("charges", [False, True])
def test_a_run_that_owns_the_machine_is_charged_with_all_of_it_if_the_user_wants_that(charges: bool):
    clock = FakeClock()
    sampler = sampler_with(clock, [Meter(clock), Meter(clock, 5000.0)], charges)
    watch(sampler, clock, 10)
    begin(sampler)
    watch(sampler, clock, 60)
    final = sampler.finish(0, None)
    summary = summarize(final, final.runs[0], "final")
    assert summary["energy"]["total_j"] == pytest.approx(DEVICES_W * 60), "what the devices drew, in any case"
    assert fault_of(summary) == ""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: final))
    text = generate_latest(registry).decode()
    if not charges:
        assert summary["charge"]["by"] == "devices"
        assert summary["charge"]["energy_j"] is None
        assert "charged" not in text
        assert "charged" not in describe(final)
        return
    charge = summary["charge"]
    assert (charge["by"], charge["meter"]) == ("node", "meter"), "the first one counts"
    assert charge["energy_j"] == pytest.approx(60_000.0)
    assert charge["emissions_g"] == pytest.approx(60_000.0 * 100.0 / 3.6e6)
    assert "  charged    60.0 kJ, 1.67 g CO2e: its devices' part of the machine's (meter meter)" in describe(
        final
    )
    assert 'carbonmon_run_charged_energy_joules_total{meter="meter",run_id="run-1"} 60000.0' in text
    assert 'carbonmon_node_unattributed_energy_joules_total{meter="meter"} 10000.0' in text


def test_what_was_measured_before_runs_were_charged_with_it_is_not_unattributed():
    clock = FakeClock()
    sampler = sampler_with(clock, [Meter(clock)])
    watch(sampler, clock, 20)
    sampler.show()
    again = sampler_with(clock, [Meter(clock)], charges=True)
    again.node_meters.restore(sampler.latest.node_meters, None, 0.0)
    watch(again, clock, 10)
    (state,) = again.finish(0, None).node_meters
    assert state.total.energy_j == pytest.approx(30_000.0)
    assert state.total.unattributed_j == pytest.approx(10_000.0), "no run was there in these ten seconds"


def test_a_charge_that_nobody_observed_is_unknown_and_not_0():
    clock = FakeClock()
    sampler = sampler_with(clock, [Meter(clock, None)], True)
    begin(sampler)
    watch(sampler, clock, 60)
    final = sampler.finish(0, None)
    charge = summarize(final, final.runs[0], "final")["charge"]
    assert (charge["by"], charge["energy_j"], charge["emissions_g"]) == ("node", None, None)
    assert "  charged    unknown: its devices' part" in describe(final)


def test_without_a_node_meter_nothing_is_said_of_one():
    clock = FakeClock()
    sampler = sampler_with(clock, [])
    begin(sampler)
    watch(sampler, clock, 5)
    final = sampler.finish(0, None)
    assert summarize(final, final.runs[0], "final")["node_meters"] == []
    assert "  machine" not in describe(final)
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: final))
    assert "carbonmon_node_" not in generate_latest(registry).decode()


@pytest.mark.parametrize("counts", [False, True])
def test_a_run_has_a_meter_s_energy_of_its_own_time_however_late_the_devices_are_read(counts: bool):
    clock = FakeClock()
    source = LateSource(clock)
    sampler = sampler_with(clock, [Meter(clock, counts=counts)], charges=True, source=source)
    watch(sampler, clock, 3)
    source.late_s = 0.4
    sampler.tick(edge=True)
    begin(sampler)
    source.late_s = 0.0
    watch(sampler, clock, 3)
    clock.time_s += 0.5
    sampler.runs.stop(INFO.id, clock.now_s(), clock.wall_s())
    source.late_s = 0.7
    sampler.tick(edge=True)
    sampler.end(INFO.id, 0, None)
    (run,) = sampler.latest.runs
    (meter,) = run.node_meters
    assert run.duration_s == pytest.approx(3.5)
    assert (meter.energy_j, meter.observed_s) == (pytest.approx(3500.0), pytest.approx(3.5))
    assert meter.covered_j == pytest.approx(3.5 * DEVICES_W)
    (charge,) = run.node_charges
    assert charge.energy_j == pytest.approx(3500.0)
