"""Intel's cards by Level Zero Sysman: which domain is the card, what it drew, and what faults cost."""

from __future__ import annotations

import ctypes
import json
import logging
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from carbonmon.core.errors import ConfigError, SensorUnavailable
from carbonmon.core.model import Device, Failure, Reading
from carbonmon.core.ports import Sensor, SensorSettings
from carbonmon.hardware.sensors import levelzero as sensor_module
from carbonmon.hardware.sensors.levelzero import sysman
from tests.simulator import Constant, Simulator, Sine, Square, can_build
from tests.simulator.boards import intel_gpu
from tests.simulator.cards import Card, max_1550, npu
from tests.support.harness import Monitor

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

LEVEL_ZERO = ("levelzero",)
FIRST, SECOND = "GPU-0000:40:00.0", "GPU-0000:41:00.0"
SWELL = Sine(400.0, 150.0, 6.0)


def opened(machine: Simulator, gpus: tuple[str, ...] | None = None, **environ: str) -> Sensor:
    machine.preload()
    return sensor_module.open_sensor(SensorSettings(sysfs=machine.sysfs, gpus=gpus, environ=environ))


def refused(machine: Simulator, **environ: str) -> SensorUnavailable:
    with pytest.raises(SensorUnavailable) as caught:
        opened(machine, **environ)
    return caught.value


def said(machine: Simulator) -> str:
    with closing(opened(machine)) as sensor:
        return sensor.sources()[0].reason


def errors(monitor: Monitor) -> dict[str, int]:
    return dict(monitor.latest.sensors[0].errors)


# ---- the records, against Intel's own binding ----


@pytest.fixture(scope="module")
def pyzes() -> dict[str, dict[str, tuple[int, int]]]:
    """By record of pyzes: the places and sizes of its fields. At import it loads the loader from one path."""
    program = (
        "import ctypes, json\n"
        "load = ctypes.CDLL\n"
        "ctypes.CDLL = lambda *names, **more: load(None)\n"
        "import pyzes\n"
        "found = {}\n"
        "for name, kind in vars(pyzes).items():\n"
        "    if isinstance(kind, type) and hasattr(kind, '_fields_') and kind._fields_:\n"
        "        fields = {field[0]: getattr(kind, field[0]) for field in kind._fields_}\n"
        "        found[name] = {key: (field.offset, field.size) for key, field in fields.items()}\n"
        "        found[name]['sizeof'] = ctypes.sizeof(kind)\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found: dict[str, dict[str, tuple[int, int]]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        (sysman.CoreProperties, "ze_device_properties_t"),
        (sysman.DeviceProperties, "zes_device_properties_t"),
        (sysman.PowerProperties, "zes_power_properties_t"),
        (sysman.PowerExtProperties, "zes_power_ext_properties_t"),
        (sysman.EnergyCounter, "zes_power_energy_counter_t"),
    ],
)
def test_records_are_those_of_intel_s_binding(
    own: type[ctypes.Structure], theirs: str, pyzes: dict[str, dict[str, tuple[int, int]]]
):
    fields = {field[0]: getattr(own, field[0]) for field in own._fields_}
    places = {name: [field.offset, field.size] for name, field in fields.items()}
    assert {**places, "sizeof": ctypes.sizeof(own)} == pyzes[theirs]


def test_the_record_of_an_address_is_that_of_intel_s_binding_with_its_inner_records(
    pyzes: dict[str, dict[str, tuple[int, int]]],
):
    theirs = pyzes["zes_pci_properties_t"]
    assert ctypes.sizeof(sysman.PciProperties) == theirs["sizeof"]
    for inner, names in (
        ("address", ("domain", "bus", "device", "function")),
        ("maxSpeed", ("gen", "width", "maxBandwidth")),
    ):
        record = pyzes["zes_pci_address_t" if inner == "address" else "zes_pci_speed_t"]
        for name in names:
            place = theirs[inner][0] + record[name][0]
            assert getattr(sysman.PciProperties, name).offset == place
    assert sysman.PciProperties.haveReplayCounters.offset == theirs["haveReplayCounters"][0]


# ---- which domain is the card ----


def two_tiles(profile: Square | Sine | Constant = SWELL, **more: object) -> Card:
    return replace(max_1550(0, profile), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("card", "what", "share"),
    [
        (two_tiles(), "card domain", 1.0),
        (two_tiles(tells_card=False), "package domain", 0.9),
        (two_tiles(tells_card=False, packages=2), "2 package domains", 0.9),
        (two_tiles(tells_card=False, packages=0, tells_unknown=True), "only domain", 1.0),
        (two_tiles(tells_unknown=True), "card domain", 1.0),
    ],
)
def test_the_card_counts_else_its_packages_and_a_tile_is_never_added(card: Card, what: str, share: float):
    with Simulator(cards=[card]) as machine:
        assert said(machine) == f"{FIRST}: energy by its {what}"
        with Monitor(machine, sensors=LEVEL_ZERO) as monitor:
            monitor.watch(60)
            state = monitor.device(FIRST)
            assert state.energy_j == pytest.approx(share * monitor.truth_j(FIRST), rel=0.002)
            assert state.counter_j == state.energy_j
            assert state.unobserved_s == 0.0


@pytest.mark.parametrize("profile", [Constant(500.0), SWELL, Square(120.0, 600.0, 0.7)])
def test_two_cards_of_two_tiles_are_metered_each_by_itself(profile: Constant):
    with Simulator(cards=[max_1550(0, profile), max_1550(1, Constant(300.0)), npu(0)]) as machine:
        with Monitor(machine, sensors=LEVEL_ZERO) as monitor:
            monitor.watch(60)
            assert list(monitor.sensors.devices) == [FIRST, SECOND]
            for card in (FIRST, SECOND):
                assert abs(monitor.error_ratio(card)) < 0.002
                assert monitor.device(card).device.max_power_w == 1200.0


def test_a_card_without_a_limit_is_bounded_by_its_model():
    with Simulator(cards=[max_1550(0, SWELL)]) as machine:
        machine.cards[0].fault(no_limit=True)
        with closing(opened(machine)) as sensor:
            (device,) = sensor.devices()
            assert (device.name, device.max_power_w) == ("Intel Data Center GPU Max 1550", 1200.0)


def test_a_card_that_tells_its_tiles_only_is_left_out():
    with Simulator(cards=[two_tiles(tells_card=False, packages=0)]) as machine:
        assert refused(machine).reason == (
            f"{FIRST}: it tells the energy of 2 tiles only, which is less than the card's"
        )


def test_a_driver_that_says_of_no_domain_what_it_is_and_has_several_is_not_believed():
    with Simulator(cards=[two_tiles()]) as machine:
        machine.cards[0].fault(old_driver=True)
        assert "of 2 tiles only" in refused(machine).reason


def test_a_card_domain_that_stands_at_0_or_may_not_be_read_leaves_it_to_the_package():
    for fault in ("card_zero", "card_denied"):
        with Simulator(cards=[two_tiles()]) as machine:
            machine.cards[0].fault(**{fault: True})
            assert said(machine) == f"{FIRST}: energy by its package domain"


def test_a_card_whose_counters_may_not_be_read_is_told_with_the_remedy():
    with Simulator(cards=[max_1550(0, SWELL), max_1550(1, SWELL)]) as machine:
        for card in machine.cards:
            card.fault(no_permission=True)
        error = refused(machine)
        assert f"{FIRST}: zesPowerGetEnergyCounter: permission (0x70010000)" in error.reason
        assert error.remedy.startswith("sudo carbonmon")
        machine.cards[1].clear()
        with closing(opened(machine)) as sensor:
            assert [device.id for device in sensor.devices()] == [SECOND]
            left_out = next(source for source in sensor.sources() if source.name == f"levelzero {FIRST}")
            assert left_out.remedy.startswith("sudo carbonmon")


# ---- whose it is ----


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, {FIRST: 1.0, SECOND: 1.0}),
        ({"ZE_AFFINITY_MASK": "0,1"}, {FIRST: 1.0}),
        ({"ZE_AFFINITY_MASK": "2"}, {SECOND: 0.5}),
        ({"ZE_AFFINITY_MASK": "1", "ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}, {SECOND: 1.0}),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:0,1"}, {FIRST: 1.0}),
    ],
)
def test_the_job_s_lists_choose_cards_and_the_share_of_their_tiles(
    environ: dict[str, str], expected: dict[str, float]
):
    with Simulator(cards=[max_1550(place, SWELL) for place in range(2)]) as machine:
        with Monitor(machine, sensors=LEVEL_ZERO, environ=environ) as monitor:
            devices = monitor.sensors.devices
            assert {name: device.share_ratio for name, device in devices.items()} == expected
            assert monitor.sensors.gpus_are_given is bool(environ)
            assert [each for each in monitor.sensors.sources if each.name.startswith("unmetered")] == []


def test_a_job_that_may_use_none_of_them_meters_none():
    with Simulator(cards=[max_1550(0, SWELL)]) as machine:
        assert refused(machine, ONEAPI_DEVICE_SELECTOR="*:cpu").reason == (
            f"{FIRST}: not a GPU of this job by ONEAPI_DEVICE_SELECTOR"
        )


def test_a_gpu_that_is_not_there_is_a_mistake():
    with Simulator(cards=[max_1550(place, SWELL) for place in range(2)]) as machine:
        with closing(opened(machine, ("1",))) as sensor:
            assert [device.id for device in sensor.devices()] == [SECOND]
        with pytest.raises(ConfigError, match=r"--gpus 2: no such GPU here; there are 0 GPU-0000:40:00\.0, "):
            opened(machine, ("2",))


@pytest.mark.parametrize("order", [("hwmon", "levelzero"), ("levelzero", "hwmon")])
def test_a_card_that_hwmon_measures_too_is_counted_once(order: tuple[str, ...]):
    chip = intel_gpu(0x30, Constant(200.0), labels=["pkg"], model="0x0bd5", start_uj=10**9)
    card = replace(max_1550(0, Constant(200.0)), bus=0x10 + 0x30)
    other = max_1550(1, Constant(300.0))
    with Simulator(chips=[chip], cards=[card, other]) as machine:
        with Monitor(machine, sensors=order) as monitor:
            assert set(monitor.sensors.devices) == {FIRST, SECOND}
            monitor.watch(30)
            assert monitor.device(FIRST).energy_j == pytest.approx(200.0 * 30, rel=0.002)
            assert monitor.device(SECOND).energy_j == pytest.approx(300.0 * 30, rel=0.002)
            reasons = {source.name: source.reason for source in monitor.sensors.sources}
            if order[0] == "levelzero":
                assert f"{FIRST} is measured already" in reasons["hwmon"]
            else:
                assert reasons["levelzero"] == f"{SECOND}: energy by its card domain"


def test_where_hwmon_measures_all_the_library_is_not_loaded():
    known = {FIRST: Device(FIRST, "gpu", "Max 1550", 0, ("counter",))}
    with Simulator(cards=[max_1550(0, SWELL)]) as machine:
        with pytest.raises(SensorUnavailable) as caught:
            sensor_module.open_sensor(SensorSettings(sysfs=machine.sysfs, known=known))
        assert caught.value.reason == "1 graphics card of Intel is here, measured by another sensor"
        assert machine.cards[0].calls == 0


# ---- faults ----


def test_a_card_that_is_reset_costs_itself_and_its_counter_covers_the_gap(caplog: pytest.LogCaptureFixture):
    with Simulator(cards=[max_1550(place, SWELL) for place in range(2)]) as machine:
        with Monitor(machine, sensors=LEVEL_ZERO) as monitor, caplog.at_level(logging.WARNING):
            monitor.watch(10)
            machine.cards[0].fault(lost=True)
            monitor.watch(4)
            assert "zesPowerGetEnergyCounter: device lost (0x70000001)" in caplog.text
            machine.cards[0].clear()
            monitor.watch(20)
            for card in (FIRST, SECOND):
                assert abs(monitor.error_ratio(card)) < 0.002
            assert set(errors(monitor)) <= {"device_lost", "missing"}
            assert monitor.device(FIRST).unobserved_s == 0.0


def test_a_card_that_is_gone_is_looked_for_ever_more_seldom():
    with Simulator(cards=[max_1550(0, SWELL)]) as machine:
        with Monitor(machine, sensors=LEVEL_ZERO) as monitor:
            monitor.watch(5)
            machine.cards[0].fault(lost=True, hidden=True)
            monitor.watch(10)
            before = machine.cards[0].calls
            monitor.watch(300)
            assert machine.cards[0].calls - before < 20
            assert set(errors(monitor)) == {"device_lost", "missing"}
            assert dict(monitor.finish().runs[0].unobserved_s)[FIRST] == pytest.approx(310.0, abs=2.0)


def test_a_counter_at_a_wrong_rate_that_no_card_can_draw_is_not_believed():
    with Simulator(cards=[max_1550(0, Constant(400.0))]) as machine:
        with Monitor(machine, sensors=LEVEL_ZERO) as monitor:
            monitor.watch(10)
            machine.cards[0].fault(rate=40.0)
            monitor.watch(30)
            assert monitor.device(FIRST).energy_j == pytest.approx(10 * 400.0, rel=0.002)
            assert dict(monitor.finish().runs[0].unobserved_s)[FIRST] == pytest.approx(30.0, abs=1.0)


@pytest.mark.parametrize(
    ("fault", "counted"),
    [({"offset_uj": -6_500_000_000}, "resets"), ({"offset_uj": 2**55}, "jumps")],
)
def test_a_counter_that_lies_is_rejected_and_counted(fault: dict[str, float], counted: str):
    with Simulator(cards=[max_1550(0, Constant(400.0))]) as machine:
        with Monitor(machine, sensors=LEVEL_ZERO) as monitor:
            monitor.watch(10)
            machine.cards[0].fault(**fault)
            monitor.watch(30)
            state = monitor.device(FIRST)
            assert getattr(state, counted) > 0
            assert state.energy_j <= monitor.truth_j(FIRST) * 1.002


def test_single_readings_near_0_cost_nothing():
    """As on Arc Pro B70 (intel/compute-runtime, issue 938): one reading of some 200 J, then the old line."""
    with Simulator(cards=[max_1550(0, SWELL)]) as machine:
        with Monitor(machine, sensors=LEVEL_ZERO) as monitor:
            for _ in range(5):
                monitor.watch(9)
                machine.cards[0].fault(offset_uj=-7_000_000_000)
                monitor.watch(1)
                machine.cards[0].fault(offset_uj=0)
            monitor.watch(3)
            assert abs(monitor.error_ratio(FIRST)) < 0.002
            state = monitor.device(FIRST)
            assert (state.resets, state.jumps, state.step_backs) == (0, 0, 5)


def test_a_counter_that_is_not_renewed_is_no_0_watts():
    with Simulator(cards=[max_1550(0, SWELL)]) as machine:
        with Monitor(machine, sensors=LEVEL_ZERO) as monitor:
            monitor.watch(10)
            machine.cards[0].fault(frozen_at=machine.now_s())
            monitor.watch(30)
            assert errors(monitor)["still"] > 20
            assert monitor.device(FIRST).power_w is None
            machine.cards[0].fault(frozen_at=0)
            monitor.watch(10)
            assert abs(monitor.error_ratio(FIRST)) < 0.002, "the next value covers the time exactly"


def test_a_counter_without_a_time_of_its_own_is_read_all_the_same():
    with Simulator(cards=[max_1550(0, SWELL)]) as machine:
        machine.cards[0].fault(no_stamp=True)
        with Monitor(machine, sensors=LEVEL_ZERO) as monitor:
            monitor.watch(30)
            assert abs(monitor.error_ratio(FIRST)) < 0.002


def test_what_stands_for_not_available_is_no_energy():
    with Simulator(cards=[max_1550(0, SWELL)]) as machine:
        with Monitor(machine, sensors=LEVEL_ZERO) as monitor:
            monitor.watch(10)
            machine.cards[0].fault(sentinel=True)
            monitor.watch(3)
            assert errors(monitor) == {"garbage": 3}
            machine.cards[0].clear()
            monitor.watch(10)
            assert abs(monitor.error_ratio(FIRST)) < 0.002


def test_a_card_that_sleeps_is_not_woken():
    with Simulator(cards=[max_1550(0, Constant(100.0))]) as machine:
        machine.preload()
        with closing(opened(machine)) as sensor:
            status = machine.sysfs / "devices/pci0000:00/0000:40:00.0/power/runtime_status"
            status.write_text("suspended\n")
            before = machine.cards[0].calls
            assert list(sensor.read(1.0)) == [Reading(FIRST)]
            assert machine.cards[0].calls == before
            status.write_text("active\n")
            (reading,) = sensor.read(2.0)
            assert isinstance(reading, Reading) and reading.energy_uj is not None


def test_a_library_that_hangs_costs_its_own_seconds_and_no_tick():
    with Simulator(cards=[max_1550(0, SWELL)]) as machine:
        with Monitor(machine, sensors=LEVEL_ZERO) as monitor:
            monitor.watch(5)
            machine.cards[0].fault(hang=True)
            monitor.watch(1)  # the one that waits for an answer in time
            begin_s = time.monotonic()
            monitor.watch(20)
            assert time.monotonic() - begin_s < 5.0, "the other ticks wait for nothing"
            machine.cards[0].clear()
            begin_s = time.monotonic()
            while not monitor.latest.sensors[0].up and time.monotonic() - begin_s < 30.0:
                monitor.watch(1)
            monitor.watch(10)
            assert abs(monitor.error_ratio(FIRST)) < 0.002


# ---- opening ----


def test_where_there_is_no_card_nothing_is_loaded(tmp_path: Path):
    (tmp_path / "class/drm/card0/device").mkdir(parents=True)
    (tmp_path / "class/drm/card0/device/vendor").write_text("0x1002\n")
    program = (
        "import sys; from pathlib import Path; from carbonmon.core.errors import SensorUnavailable\n"
        "from carbonmon.core.ports import SensorSettings\n"
        "from carbonmon.hardware.sensors import levelzero\n"
        f"for folder in ({str(tmp_path)!r}, '/nowhere'):\n"
        "    try: levelzero.open_sensor(SensorSettings(sysfs=Path(folder)))\n"
        "    except SensorUnavailable as error: print(error.reason)\n"
        "print([name for name in sys.modules if 'levelzero.' in name or name in ('ctypes', 'pyzes')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"no graphics card of Intel is in {tmp_path}/class/drm",
        "no graphics card of Intel is in /nowhere/class/drm",
        "[]",
    ]


def test_a_machine_without_the_loader_or_with_an_old_one_says_so(monkeypatch: pytest.MonkeyPatch):
    with Simulator(cards=[max_1550(0, SWELL)]) as machine:
        monkeypatch.setattr(sysman, "NAME", "libze_loader-not-here.so.1")
        error = refused(machine)
        assert "libze_loader-not-here.so.1: cannot open shared object file" in error.reason
        assert "libze1" in error.remedy
        monkeypatch.setattr(sysman, "NAME", "libm.so.6")
        assert refused(machine).reason == "libm.so.6 is too old: it has no zesInit"


@pytest.mark.parametrize(
    ("result", "said"),
    [(0x78000001, "uninitialized"), (0x70020000, "no dependency"), (0x7FFFFFFE, "ze 7ffffffe")],
)
def test_a_driver_that_does_not_start_is_said(result: int, said: str):
    with Simulator(cards=[max_1550(0, SWELL)]) as machine:
        machine.card_fault(sysman_error=result)
        assert refused(machine).reason == f"Level Zero: zesInit: {said} (0x{result:x})"


def test_a_card_that_level_zero_does_not_list_is_told():
    with Simulator(cards=[max_1550(0, SWELL), max_1550(1, SWELL)]) as machine:
        machine.cards[0].fault(hidden=True)
        with closing(opened(machine)) as sensor:
            assert [device.id for device in sensor.devices()] == [SECOND]
            reasons = {source.name: source.reason for source in sensor.sources()}
            assert reasons[f"levelzero {FIRST}"] == "Level Zero does not list it"


def test_a_failure_is_of_the_card_that_failed():
    with Simulator(cards=[max_1550(0, SWELL), max_1550(1, SWELL)]) as machine:
        with closing(opened(machine)) as sensor:
            machine.cards[1].fault(counter_error=0x70010001)
            first, second = sensor.read(1.0)
            assert isinstance(first, Reading) and isinstance(second, Failure)
            assert (second.device_id, second.reason) == (SECOND, "not_available")
