"""The series that `otlp` sends: when counters begin, when gauges end, and their names where they arrive."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from carbonmon_exporters.otlp import OtlpExporter
from carbonmon_exporters.push.otlpdata import OLDEST_ZERO_S
from carbonmon_exporters.push.otlpseries import HW_ENERGY, HW_POWER, HW_TYPES
from carbonmon_exporters.push.pusher import Parcel
from opentelemetry.semconv._incubating.attributes import hw_attributes
from opentelemetry.semconv._incubating.metrics import hw_metrics

from carbonmon.core.errors import CarbonmonError
from carbonmon.core.model import RunState, Snapshot
from tests.support.otlp import LIMIT_S, Request, exported, parsed, sent
from tests.support.receivers import Receiver
from tests.support.records import START_S, gpu, node, run_info, run_state, run_total

STALE = (0x7FF0_0000_0000_0002).to_bytes(8, "little")
"""Prometheus' mark of an ended series (StaleNaN in its model/value, version 2.42)."""
ENERGY = "carbonmon.run.energy"
POWER = "carbonmon.run.power"


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


def run(
    run_id: str = "mine", ended_s: float | None = None, watts: float = 70.0, **phases_j: float
) -> RunState:
    rows = tuple(
        run_total(gpu().id, "gpu", "counter", joules, phase=name) for name, joules in phases_j.items()
    )
    ended_at_s = None if ended_s is None else START_S + ended_s
    return run_state(run_info(run_id), rows, ended_at_s=ended_at_s, power_w=((gpu().id, watts),), processes=3)


def at(seconds: float, *runs: RunState) -> Snapshot:
    """So many seconds after START_S."""
    return node(1, 1, 1)._replace(
        runs=runs, at_s=START_S + seconds, clock_s=seconds, samples=1 + int(seconds), continued=False
    )


def starts_s(request: Request, name: str = ENERGY) -> dict[str, float]:
    return {p.labels.get("phase", ""): p.start_s - START_S for p in request.now[name]}


def zeros_s(request: Request, name: str = ENERGY) -> dict[str, float]:
    return {p.labels.get("phase", ""): p.at_s - START_S for p in request.zeros.get(name, ())}


# Counters.


def test_a_counter_begins_with_its_zero_and_its_value_together_and_goes_on_with_its_value(
    collector: Receiver,
):
    first, second, last = sent(
        collector,
        at(10.0, run(load=500.0)),
        at(25.0, run(load=700.0, train=80.0)),
        at(26.0, run(load=700.0, train=95.0), run("late", main=7.0)),
    )
    assert {p.labels["phase"]: p.value for p in first.now[ENERGY]} == {"load": 500.0}
    assert zeros_s(first) == {"load": 0.0}
    assert {p.labels["phase"]: p.value for p in second.now[ENERGY]} == {"load": 700.0, "train": 80.0}
    assert zeros_s(second) == {"train": 10.0}, "it was not there when it was looked at before"
    assert zeros_s(last) == {"main": 25.0}
    assert starts_s(last) == {"load": 0.0, "train": 10.0, "main": 25.0}


def test_a_phase_counts_since_its_own_start_where_the_snapshot_knows_it(collector: Receiver):
    later = run(load=700.0, train=80.0)
    totals = (later.totals[0], later.totals[1]._replace(start_s=17.5))
    _, second, _ = sent(
        collector, at(10.0, run(load=500.0)), at(25.0, later._replace(totals=totals)), at(26.0)
    )
    assert starts_s(second) == {"load": 0.0, "train": 17.5}
    assert zeros_s(second) == {"train": 17.5}


def test_a_killed_monitor_lacks_what_came_after_its_last_request_and_no_more(collector: Receiver):
    """The first request that holds a phase holds its joules, so that it may be the last one."""
    for requests in range(1, 5):
        collector.received.clear()
        shown = [at(15.0 * n, run(main=100.0 * 15.0 * n)) for n in range(1, requests + 1)]
        found = exported(collector, *shown)
        assert sum(p.value for p in found[-1][ENERGY]) == 1500.0 * requests


def test_a_request_that_did_not_arrive_is_as_if_it_had_not_been_sent(collector: Receiver):
    exporter = OtlpExporter(f"{collector.url}/v1/metrics", LIMIT_S)
    exporter.start(lambda: at(0.0))
    collector.status = 503
    with pytest.raises(CarbonmonError, match="503"):
        exporter._pusher.finish(Parcel(at(10.0, run(load=1.0)), is_last=False), LIMIT_S)
    collector.status = 200
    exporter._pusher.finish(Parcel(at(25.0, run(load=2.0)), is_last=False), LIMIT_S)
    exporter.close()
    (request,) = map(parsed, collector.received)
    assert zeros_s(request) == {"load": 0.0}


def test_a_zero_is_never_so_old_that_a_database_refuses_it_but_the_start_is_what_it_was(collector: Receiver):
    (request, _) = sent(collector, at(7200.0, run(main=9.0)), at(7201.0, run(main=9.0)), began=at(0.0))
    assert zeros_s(request) == {"main": 7200.0 - OLDEST_ZERO_S}
    assert starts_s(request) == {"main": 0.0}


def test_devices_count_since_the_monitor_began_and_begin_with_their_zero(collector: Receiver):
    (request, _) = sent(collector, at(20.0), at(21.0), began=at(5.0))
    energy = [p for p in request.now[HW_ENERGY] if p.value]
    assert {p.start_s - START_S for p in energy} == {5.0}
    assert len(request.zeros[HW_ENERGY]) == len(energy)
    assert zeros_s(request, HW_ENERGY) == {"": 5.0}


def test_what_an_earlier_monitor_began_is_not_begun_again(collector: Receiver):
    continued = at(20.0, run(main=9.0))._replace(continued=True)
    first, second = sent(collector, continued, at(35.0, run(main=9.0, more=5.0))._replace(continued=True))
    assert first.zeros == {}
    assert {p.start_s for p in first.now[HW_ENERGY]} == {0.0}, "not known"
    assert zeros_s(second) == {"more": 20.0}


def test_a_clock_that_was_set_back_leaves_no_start_after_its_end(collector: Receiver):
    for request in sent(collector, at(100.0, run(main=1.0)), at(40.0, run(main=2.0, more=1.0))):
        for points in request.now.values():
            assert all(point.start_s <= point.at_s for point in points)


# Gauges.


def test_the_power_of_a_run_that_ended_is_said_once_to_be_no_more(collector: Receiver):
    running, over, after = exported_requests(
        collector,
        at(10.0, run(main=1.0), run("other", main=1.0)),
        at(20.0, run(main=2.0, ended_s=19.0), run("other", main=1.0)),
        at(35.0, run(main=2.0, ended_s=19.0), run("other", main=1.0)),
    )
    assert {p.labels["run_id"] for p in running.now[POWER]} == {"mine", "other"}
    for request in (over, after):
        assert {p.labels["run_id"] for p in request.now[POWER]} == {"other"}
    assert [p.labels["run_id"] for p in over.ended[POWER]] == ["mine"]
    assert [p.labels["run_id"] for p in over.ended["carbonmon.run.processes"]] == ["mine"]
    assert after.ended == {}
    assert {p.labels["run_id"] for p in over.now[ENERGY]} == {"mine", "other"}, "totals stay"


def exported_requests(collector: Receiver, *snapshots: Snapshot) -> list[Request]:
    """The requests of a monitor that goes on."""
    return sent(collector, *snapshots, snapshots[-1])[:-1]


def test_an_end_is_the_mark_of_prometheus_and_the_flag_of_the_protocol(collector: Receiver):
    exported_requests(collector, at(10.0, run(main=1.0)), at(20.0, run(main=1.0, ended_s=19.0)))
    body = collector.received[1].body
    assert STALE in body, "VictoriaMetrics 1.112 reads the value and not the flag"
    assert parsed(collector.received[1]).ended[POWER][0].value != 0.0


def test_with_the_monitor_all_ends_that_is_true_only_at_a_moment_and_nothing_else(collector: Receiver):
    before, last = sent(collector, at(10.0, run(main=1.0)), at(20.0, run(main=2.0, ended_s=20.0)))
    moment = {POWER, "carbonmon.run.processes", "carbonmon.device.power", "carbonmon.device.utilization"}
    moment |= {"carbonmon.sensor.up", "carbonmon.sensor.read", "carbonmon.run.phase_info", HW_POWER}
    assert set(last.ended) == moment
    assert set(last.now) == set(before.now) - moment | {"carbonmon.run.end_time"}
    for name in moment:
        assert [p.labels for p in last.ended[name]] == [p.labels for p in before.now[name]]


def test_a_power_that_becomes_unknown_ends_and_comes_again(collector: Receiver):
    known = at(10.0)
    states = tuple(state._replace(power_w=None) for state in known.devices)
    _, unknown, again = exported_requests(
        collector, known, known._replace(devices=states, at_s=START_S + 25.0), at(40.0)
    )
    assert HW_POWER not in unknown.now
    assert len(unknown.ended[HW_POWER]) == len(again.now[HW_POWER]) == len(known.devices)


# Names.


def test_hardware_has_the_names_units_and_attributes_of_the_conventions(collector: Receiver):
    (shown,) = exported(collector, at(10.0))
    assert (HW_ENERGY, HW_POWER) == (hw_metrics.HW_ENERGY, hw_metrics.HW_POWER)
    for name, unit, is_counter in ((HW_ENERGY, "J", True), (HW_POWER, "W", False)):
        documented = re.search(rf'"{re.escape(name)}"\n"""(.*?)"""', semconv_source(), re.DOTALL)
        assert documented is not None
        assert f"Unit: {unit}" in documented[1]
        assert ("Instrument: counter" in documented[1]) == is_counter
        for point in shown[name]:
            assert (point.unit, point.is_counter) == (unit, is_counter)
            required = {hw_attributes.HW_ID, hw_attributes.HW_TYPE, hw_attributes.HW_NAME}
            assert required <= point.labels.keys()
    known = {value.value for value in hw_attributes.HwTypeValues}
    assert set(HW_TYPES.values()) - known == {"module"}
    assert hw_metrics.HW_HOST_ENERGY not in shown, "the sum of the devices is not the whole host"
    assert hw_metrics.HW_HOST_POWER not in shown


def semconv_source() -> str:
    return Path(hw_metrics.__file__).read_text()
