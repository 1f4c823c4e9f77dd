"""Gaudi accelerators by HLML: which are the job's, what they drew, and what faults cost."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from carbonmon.core.errors import ConfigError, SensorUnavailable
from carbonmon.core.model import Device, Failure, Reading
from carbonmon.core.ports import Sensor, SensorSettings
from carbonmon.hardware.drm_gpus import list_drm_gpus
from carbonmon.hardware.gaudi_cards import GaudiCard, list_gaudi_cards, pci_address
from carbonmon.hardware.sensors import gaudi as sensor_module
from carbonmon.hardware.unmetered import sources as unmetered
from carbonmon.hardware.workload import NodeWorkload
from carbonmon.hardware.workload.device_files import DeviceFileProcesses
from tests.simulator import Constant, Simulator, Sine, Square, can_build
from tests.simulator.boards import amd_gpu
from tests.simulator.cards import gaudi, max_1550, npu
from tests.support.harness import Monitor

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

GAUDI = ("gaudi",)
SWELL = Sine(600.0, 200.0, 6.0)


def ids(*places: int) -> list[str]:
    return [f"GPU-0000:{0x20 + place:02x}:00.0" for place in places]


FIRST, SECOND, THIRD = ids(0, 1, 2)


@pytest.fixture
def eight() -> Iterator[Simulator]:
    """Eight Gaudi 3, whose module ids run against their indices."""
    with Simulator(cards=[gaudi(place, Constant(500.0 + place)) for place in range(8)]) as machine:
        machine.preload()
        machine.freeze()
        yield machine


def opened(machine: Simulator, gpus: tuple[str, ...] | None = None, **environ: str) -> Sensor:
    return sensor_module.open_sensor(SensorSettings(sysfs=machine.sysfs, gpus=gpus, environ=environ))


def metered(machine: Simulator, gpus: tuple[str, ...] | None = None, **environ: str) -> list[str]:
    with closing(opened(machine, gpus, **environ)) as sensor:
        return [device.id for device in sensor.devices()]


def notes(machine: Simulator, **environ: str) -> list[str]:
    with closing(opened(machine, **environ)) as sensor:
        return [source.reason for source in sensor.sources() if source.name == "gaudi note"]


def errors(monitor: Monitor) -> dict[str, int]:
    return dict(monitor.latest.sensors[0].errors)


# ---- what is here, and which of it is the job's ----


def test_all_are_metered_by_their_counter_and_their_limit_bounds_them(eight: Simulator):
    with closing(opened(eight)) as sensor:
        devices = sensor.devices()
        assert [device.id for device in devices] == ids(*range(8))
        assert {device.methods for device in devices} == {("counter", "power")}
        assert {device.max_power_w for device in devices} == {1800.0}
        assert {(device.component, device.name, device.spec) for device in devices} == {
            ("gpu", "HL-325L", None)
        }
        (own,) = sensor.sources()
        assert own.reason == "8 of 8 accelerators (HL-325L): 8 by counter; modules 0, 1, 2, 3, 4, 5, 6, 7"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HABANA_VISIBLE_MODULES": "0,1"}, [6, 7]),
        ({"HABANA_VISIBLE_DEVICES": "0,1"}, [0, 1]),
        ({"HABANA_VISIBLE_DEVICES": "all"}, list(range(8))),
        ({"HABANA_VISIBLE_DEVICES": "ALL"}, list(range(8))),
        ({"HABANA_VISIBLE_DEVICES": " 3 , 5,5"}, [3, 5]),
        ({"HABANA_VISIBLE_DEVICES": "0,1,2,3", "HABANA_VISIBLE_MODULES": "7,6"}, [0, 1]),
        ({"HABANA_VISIBLE_MODULES": ""}, list(range(8))),
        ({"HABANA_VISIBLE_MODULES": "0,12"}, [7]),
        ({"HABANA_VISIBLE_MODULES": "12"}, list(range(8))),
        ({"HABANA_VISIBLE_DEVICES": "0-3"}, list(range(8))),
        ({"HABANA_VISIBLE_DEVICES": "9"}, list(range(8))),
    ],
)
def test_habana_s_variables_choose_by_module_and_by_index(
    eight: Simulator, environ: dict[str, str], expected: list[int]
):
    assert sorted(metered(eight, **environ)) == ids(*expected)


def test_an_entry_that_is_not_here_is_told(eight: Simulator):
    assert notes(eight, HABANA_VISIBLE_MODULES="0,12") == [
        "HABANA_VISIBLE_MODULES=0,12: no accelerator with the module 12 is here"
    ]
    (note,) = notes(eight, HABANA_VISIBLE_DEVICES="9")
    assert note == "HABANA_VISIBLE_DEVICES=9: no accelerator with the index 9 is here; it is not used"
    assert "it is no list of numbers" in notes(eight, HABANA_VISIBLE_DEVICES="0-3")[0]


def test_indices_of_the_host_are_what_a_container_shows_if_it_shows_no_more():
    with Simulator(cards=[gaudi(place, SWELL) for place in range(2)]) as machine:
        machine.preload()
        assert metered(machine, HABANA_VISIBLE_DEVICES="4,5") == [FIRST, SECOND]
        assert metered(machine, HABANA_VISIBLE_DEVICES="7") == [FIRST, SECOND], (
            "one of two: which is not known"
        )


def test_the_user_s_choice_comes_first_and_a_wrong_one_is_a_mistake(eight: Simulator):
    assert metered(eight, ("2", ids(5)[0]), HABANA_VISIBLE_MODULES="0") == ids(2, 5)
    with Simulator(cards=[gaudi(0, SWELL), max_1550(0, SWELL)]) as machine:
        machine.preload()
        assert metered(machine, (FIRST, "GPU-0000:40:00.0")) == [FIRST], "the other one is a graphics card"
        eight.preload()
    with pytest.raises(ConfigError, match=r"--gpus 9: no such GPU here; there are 0 GPU-0000:20:00\.0, "):
        opened(eight, ("9",))


@pytest.mark.parametrize("sensors", [("gaudi", "hwmon"), ("hwmon", "gaudi")])
def test_an_index_is_the_same_device_in_run_and_in_a_daemon(sensors: tuple[str, ...]):
    amd = amd_gpu(0, SWELL)
    with Simulator(cards=[gaudi(place, SWELL) for place in range(2)], chips=[amd]) as machine:
        machine.preload()
        (graphics,) = (each.gpu.uuid for each in list_drm_gpus(machine.sysfs))
        with Monitor(machine, sensors=sensors) as monitor:
            everything = dict(monitor.sensors.devices)
        assert sorted(everything) == sorted([graphics, FIRST, SECOND])
        with closing(NodeWorkload(Path("/proc"), machine.sysfs, everything)) as daemon:
            for gpus, expected in (
                (("0",), [graphics]),
                ((SECOND,), [SECOND]),
                (("0", FIRST), [FIRST, graphics]),
            ):
                with Monitor(machine, sensors=sensors, gpus=gpus) as monitor:
                    assert sorted(monitor.sensors.devices) == sorted(expected), gpus
                assert daemon.allocation(gpus, {}) == dict.fromkeys(expected, 1.0), gpus
            with pytest.raises(ConfigError, match="--gpus 1: no such GPU here; there are 0 "):
                daemon.allocation(("1",), {})


def test_where_a_job_was_given_some_the_others_are_not_said_to_be_unmetered(eight: Simulator):
    with Monitor(eight, sensors=GAUDI, environ={"HABANA_VISIBLE_MODULES": "4,5,6,7"}) as monitor:
        assert len(monitor.sensors.devices) == 4
        assert monitor.sensors.gpus_are_given
        assert [source for source in monitor.sensors.sources if source.name.startswith("unmetered")] == []
    with Monitor(eight, sensors=("tdp",)) as monitor:
        (source,) = (source for source in monitor.sensors.sources if source.name.startswith("unmetered"))
        assert source.reason.startswith("8 Gaudi accelerators are here and not counted")


def test_models_are_told_apart_and_a_card_without_a_limit_is_bounded_all_the_same():
    names = ("HL-225", "HL-325L", "HL-999")
    with Simulator(cards=[gaudi(place, SWELL, name=name) for place, name in enumerate(names)]) as machine:
        machine.preload()
        for card in machine.cards:
            card.fault(no_limit=True)
        with closing(opened(machine)) as sensor:
            assert [device.name for device in sensor.devices()] == list(names)
            assert [device.max_power_w for device in sensor.devices()] == [1200.0, 6000.0, 6000.0]


def test_the_kernel_s_list_has_gaudi_s_cards_only_and_their_module_ids():
    with Simulator(cards=[npu(0), gaudi(0, SWELL), gaudi(1, SWELL, module=0)]) as machine:
        assert list_gaudi_cards(machine.sysfs) == [
            GaudiCard("0000:20:00.0", "/dev/accel/accel1", "261:1", 7),
            GaudiCard("0000:21:00.0", "/dev/accel/accel2", "261:2", 0),
        ]
    assert list_gaudi_cards(Path("/nowhere")) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0000:B3:00.0", "0000:b3:00.0"),
        ("b3:00.0", "0000:b3:00.0"),
        ("00000001:3:1f.7", "0001:03:1f.7"),
        ("", None),
        ("0000:b3:00", None),
        ("b3:00.9", None),
    ],
)
def test_pci_addresses_are_written_as_the_kernel_writes_them(text: str, expected: str | None):
    assert pci_address(text) == expected


# ---- what they drew ----


@pytest.mark.parametrize("profile", [Constant(700.0), SWELL, Square(150.0, 900.0, 0.7)])
def test_the_counter_s_energy_is_the_truth(profile: Constant):
    with Simulator(cards=[gaudi(0, profile)]) as machine, Monitor(machine, sensors=GAUDI) as monitor:
        monitor.watch(60)
        state = monitor.device(FIRST)
        assert abs(monitor.error_ratio(FIRST)) < 0.002
        assert (state.power_j, state.tdp_j, state.unobserved_s) == (0.0, 0.0, 0.0)


def test_power_that_is_the_mean_since_the_last_reading_is_within_two_percent():
    with Simulator(cards=[gaudi(0, SWELL, window_s=1.0)]) as machine:
        machine.cards[0].fault(no_counter=True)
        with Monitor(machine, sensors=GAUDI) as monitor:
            monitor.watch(60)
            state = monitor.device(FIRST)
            assert state.device.methods == ("power",)
            assert state.device.measured_uncertainty is not None
            assert state.device.measured_uncertainty.high_ratio > 0.2, (
                "of what time it is the mean is not known"
            )
            assert abs(monitor.error_ratio(FIRST)) < 0.02


def test_a_momentary_power_under_a_fast_wave_has_the_truth_in_its_range():
    with Simulator(cards=[gaudi(0, Square(150.0, 900.0, 0.7))]) as machine:
        machine.cards[0].fault(no_counter=True)
        with Monitor(machine, sensors=GAUDI) as monitor:
            monitor.watch(60)
            state = monitor.device(FIRST)
            range_of = state.device.measured_uncertainty
            assert range_of is not None
            low_j, high_j = (
                state.energy_j * (1 - range_of.low_ratio),
                state.energy_j * (1 + range_of.high_ratio),
            )
            assert low_j < monitor.truth_j(FIRST) < high_j


def test_its_utilisation_which_is_made_of_its_power_is_never_asked_and_never_shown(eight: Simulator):
    with Monitor(eight, sensors=(*GAUDI, "tdp")) as monitor:
        monitor.watch(10)
        assert {monitor.device(gpu).utilization_ratio for gpu in ids(*range(8))} == {None}
        assert [card.utilization_calls for card in eight.cards] == [0] * 8
        for card in eight.cards:
            card.fault(lost=True)
        monitor.watch(20)
        assert {monitor.device(gpu).tdp_j for gpu in ids(*range(8))} == {0.0}, "no energy is made of it"
        assert {seconds > 15.0 for _, seconds in monitor.finish().runs[0].unobserved_s} == {True}


# ---- faults ----


def test_a_card_that_is_reset_costs_itself_and_its_counter_covers_the_gap(
    eight: Simulator, caplog: pytest.LogCaptureFixture
):
    with Monitor(eight, sensors=GAUDI) as monitor, caplog.at_level(logging.WARNING):
        monitor.watch(10)
        eight.cards[1].say("in reset")
        eight.cards[1].fault(lost=True)
        monitor.watch(4)
        assert f"{SECOND}: HLML Error with code 15: it is in reset" in caplog.text
        assert abs(monitor.error_ratio(FIRST)) < 0.002
        assert set(errors(monitor)) == {"aip_is_lost"}
        eight.cards[1].clear()
        monitor.watch(20)
        assert abs(monitor.error_ratio(SECOND)) < 0.002
        assert monitor.device(SECOND).unobserved_s == 0.0


def test_a_card_that_is_lost_is_looked_for_ever_more_seldom(eight: Simulator):
    with Monitor(eight, sensors=GAUDI) as monitor:
        monitor.watch(5)
        eight.cards[0].fault(lost=True)
        before = eight.cards[0].calls
        monitor.watch(300)
        assert eight.cards[0].calls - before < 20
        assert dict(monitor.finish().runs[0].unobserved_s)[FIRST] == pytest.approx(300.0, abs=2.0)


def test_a_reset_of_the_counter_credits_nothing_that_was_not_drawn(eight: Simulator):
    with Monitor(eight, sensors=GAUDI) as monitor:
        monitor.watch(10)
        eight.cards[0].fault(reset_at=eight.now_s() + 2.5)
        monitor.watch(30)
        state = monitor.device(FIRST)
        assert state.resets == 1
        assert state.energy_j == pytest.approx(monitor.truth_j(FIRST), rel=0.02)


def test_a_driver_that_is_loaded_again_is_opened_again(eight: Simulator):
    with Monitor(eight, sensors=GAUDI) as monitor:
        monitor.watch(10)
        eight.card_fault(hlml_error=9)
        monitor.watch(3)
        assert set(errors(monitor)) == {"driver"}
        eight.reload_driver()
        eight.clear()
        monitor.watch(120)
        for gpu in ids(0, 7):
            assert monitor.device(gpu).energy_j <= monitor.truth_j(gpu) * 1.002
            assert monitor.device(gpu).energy_j > monitor.truth_j(gpu) * 0.9
        assert monitor.latest.sensors[0].up


def test_what_stands_for_not_available_is_no_energy_and_no_power(eight: Simulator):
    with Monitor(eight, sensors=GAUDI) as monitor:
        monitor.watch(10)
        eight.cards[0].fault(sentinel=True)
        monitor.watch(3)
        assert errors(monitor) == {"garbage": 3}
        eight.cards[0].clear()
        monitor.watch(10)
        state = monitor.device(FIRST)
        assert (state.resets, state.jumps, state.implausible) == (0, 0, 0)
        assert abs(monitor.error_ratio(FIRST)) < 0.002


def test_a_counter_that_is_refused_steps_down_to_power_and_up_again(eight: Simulator):
    with Monitor(eight, sensors=GAUDI) as monitor:
        monitor.watch(10)
        eight.cards[0].fault(no_counter=True)
        monitor.watch(50)
        assert monitor.device(FIRST).power_j > 0.0
        eight.cards[0].clear()
        monitor.watch(100)
        assert abs(monitor.error_ratio(FIRST)) < 0.002
        assert monitor.device(FIRST).unobserved_s == 0.0


@pytest.mark.parametrize("fault", [{"offset_uj": -600_000_000}, {"offset_uj": 2**60}, {"rate": 40.0}])
def test_a_counter_that_lies_is_rejected_and_counted(eight: Simulator, fault: dict[str, float]):
    with Monitor(eight, sensors=GAUDI) as monitor:
        monitor.watch(10)
        eight.cards[0].fault(**fault)
        monitor.watch(30)
        state = monitor.device(FIRST)
        assert state.resets + state.jumps + state.step_backs > 0
        assert state.energy_j == pytest.approx(monitor.truth_j(FIRST), rel=0.02)


def test_a_card_that_cannot_be_read_when_it_is_opened_is_named_and_the_others_are_metered(eight: Simulator):
    eight.cards[3].fault(lost=True)
    assert metered(eight) == ids(0, 1, 2, 4, 5, 6, 7)
    assert notes(eight) == ["accelerator 3 cannot be read: aip_is_lost: HLML Error with code 15"]
    eight.cards[3].clear()
    eight.cards[3].fault(no_counter=True, no_power=True)
    assert notes(eight) == ["HL-325L GPU-0000:23:00.0: it tells neither energy nor power"]


def test_a_library_that_hangs_costs_its_own_seconds_and_no_tick(eight: Simulator):
    with Monitor(eight, sensors=GAUDI) as monitor:
        monitor.watch(5)
        eight.cards[2].fault(hang=True)
        monitor.watch(1)  # the one that waits for an answer in time
        begin_s = time.monotonic()
        monitor.watch(30)
        assert time.monotonic() - begin_s < 5.0, "the other ticks wait for nothing"
        assert not monitor.latest.sensors[0].up
        eight.cards[2].clear()
        begin_s = time.monotonic()
        while not monitor.latest.sensors[0].up and time.monotonic() - begin_s < 30.0:
            monitor.watch(1)
        monitor.watch(10)
        for gpu in (FIRST, THIRD):
            assert abs(monitor.error_ratio(gpu)) < 0.002


# ---- opening ----


def refused(machine: Simulator, **environ: str) -> SensorUnavailable:
    with pytest.raises(SensorUnavailable) as caught:
        opened(machine, **environ)
    return caught.value


def test_where_there_is_none_nothing_is_loaded(tmp_path: Path):
    (tmp_path / "class/accel/accel0").mkdir(parents=True)
    program = (
        "import sys; from pathlib import Path; from carbonmon.core.errors import SensorUnavailable\n"
        "from carbonmon.core.ports import SensorSettings\n"
        "from carbonmon.hardware.sensors import gaudi\n"
        f"for folder in ({str(tmp_path)!r}, '/nowhere'):\n"
        "    try: gaudi.open_sensor(SensorSettings(sysfs=Path(folder)))\n"
        "    except SensorUnavailable as error: print(error.reason)\n"
        "print([name for name in sys.modules if 'pyhlml' in name or 'gaudi.' in name or name == 'ctypes'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second, loaded = done.stdout.splitlines()
    assert first == f"no Gaudi accelerator is in {tmp_path}/class/accel or {tmp_path}/class/habanalabs"
    assert second.startswith("no Gaudi accelerator is in /nowhere/class/accel")
    assert loaded == "[]"


@pytest.mark.parametrize("error", [ImportError("broken"), OSError(8, "no format"), RuntimeError("x" * 999)])
def test_a_package_that_cannot_be_imported_is_said_with_its_remedy(
    eight: Simulator, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "pyhlml":
                raise error

    for name in [name for name in sys.modules if name.partition(".")[0] == "pyhlml"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    said = refused(eight)
    assert said.reason.startswith("8 Gaudi accelerators are here, but pyhlml cannot be imported: ")
    assert len(said.reason) < 400
    assert "pip install habana-pyhlml" in said.remedy


def test_a_machine_without_the_package_says_how_to_get_it(eight: Simulator, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyhlml"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:2])
    said = refused(eight)
    assert said.reason == "8 Gaudi accelerators are here, but the package pyhlml is not here"
    assert said.remedy.startswith("pip install habana-pyhlml")


def test_a_library_that_is_not_there_is_said_and_nothing_is_printed(
    eight: Simulator, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    from pyhlml.hlml_lib import LibHLML

    monkeypatch.setattr(LibHLML.__init__, "__defaults__", ("/usr/lib/habanalabs/no-libhlml.so",))
    said = refused(eight)
    assert "HLML: /usr/lib/habanalabs/no-libhlml.so: cannot open shared object file" in said.reason
    assert "habanalabs-firmware-tools" in said.remedy
    assert capfd.readouterr() == ("", "")


def test_another_module_of_that_name_is_no_library(eight: Simulator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyhlml", types.ModuleType("pyhlml"))
    assert "the package pyhlml here is not Habana's: it has no HLMLError" in refused(eight).reason


@pytest.mark.parametrize(("code", "remedy"), [(9, "modprobe habanalabs"), (49, "hl-smi")])
def test_a_driver_that_does_not_start_is_said_with_its_remedy(eight: Simulator, code: int, remedy: str):
    eight.card_fault(hlml_error=code)
    said = refused(eight)
    assert said.reason == f"8 Gaudi accelerators are here, but HLML: HLML Error with code {code}"
    assert remedy in said.remedy


def test_where_no_card_answers_the_reasons_are_told(eight: Simulator):
    for card in eight.cards:
        card.fault(call_error=10)
    said = refused(eight)
    assert said.reason.startswith(
        "accelerator 0 cannot be read: timeout: HLML Error with code 10; accelerator 1 "
    )


# ---- who is on them ----


def test_who_has_its_device_file_open_is_on_it(tmp_path: Path):
    procfs = tmp_path / "proc"
    for pid, targets in ((10, ["/dev/accel/accel0"]), (11, ["/dev/accel/accel_controlD0", "/dev/null"])):
        (procfs / f"{pid}/fd").mkdir(parents=True)
        for number, target in enumerate(targets):
            (procfs / f"{pid}/fd/{number}").symlink_to(target)
    (procfs / "12").mkdir()
    other = Path("/dev/zero").stat().st_rdev
    numbers = {f"{os.major(other)}:{os.minor(other)}": THIRD}
    lister = DeviceFileProcesses(
        procfs, {"/dev/accel/accel0": FIRST, "/dev/accel/accel1": SECOND, "/dev/accel/accel2": THIRD}, numbers
    )
    assert lister.processes(0.0) == {FIRST: {10}, SECOND: frozenset(), THIRD: frozenset()}
    (procfs / "11/fd/7").symlink_to("/dev/zero")  # the same device by another name
    assert lister.processes(0.0)[THIRD] == {11}
    assert lister.hidden == frozenset()
    assert lister.utilization(FIRST, 0.0) is None


def test_a_daemon_takes_habana_s_lists_and_the_user_s_choice_as_an_allocation(eight: Simulator):
    devices = {name: Device(name, "gpu", "HL-325L", place) for place, name in enumerate(ids(*range(8)))}
    with closing(NodeWorkload(Path("/proc"), eight.sysfs, devices)) as workload:
        assert workload.allocation(None, {}) is None
        assert workload.allocation(None, {"CUDA_VISIBLE_DEVICES": ""}) is None, "that is no list of Gaudi's"
        assert workload.allocation(None, {"HABANA_VISIBLE_MODULES": "6,7"}) == dict.fromkeys(ids(0, 1), 1.0)
        assert workload.allocation(None, {"HABANA_VISIBLE_DEVICES": "2"}) == {THIRD: 1.0}
        assert workload.allocation(("1",), {}) == {SECOND: 1.0}
        with pytest.raises(ConfigError, match="--gpus 8: no such GPU here"):
            workload.allocation(("8",), {})


def test_a_card_that_is_metered_is_taken_off_the_unmetered_ones(eight: Simulator):
    devices = [Device(name, "gpu", "HL-325L", place, ("counter",)) for place, name in enumerate(ids(0, 1, 2))]
    (line,) = unmetered(eight.sysfs, devices)
    assert line.reason == "5 Gaudi accelerators are here and not counted: no sensor reads them"
    assert unmetered(eight.sysfs, devices, seen=ids(3, 4, 5, 6, 7)) == []


def test_a_package_that_has_one_handle_for_all_cards_is_no_trap(
    eight: Simulator, monkeypatch: pytest.MonkeyPatch
):
    """pyhlml 1.9 does so: findings/pyhlml-one-handle-for-all.sh."""
    import pyhlml

    the_one = ctypes.c_void_p()

    def shared(find: Callable[[object], ctypes.c_void_p]) -> Callable[[object], ctypes.c_void_p]:
        def look_up(key: object) -> ctypes.c_void_p:
            the_one.value = find(key).value
            return the_one

        return look_up

    for name in ("hlmlDeviceGetHandleByIndex", "hlmlDeviceGetHandleByPCIBusID"):
        monkeypatch.setattr(pyhlml, name, shared(getattr(pyhlml, name)))
    with Monitor(eight, sensors=GAUDI) as monitor:
        monitor.watch(10)
        eight.cards[1].fault(lost=True)
        monitor.watch(3)
        eight.cards[1].clear()
        monitor.watch(10)
        for gpu in ids(*range(8)):
            assert abs(monitor.error_ratio(gpu)) < 0.0005, "each by its own counter"


def test_readings_are_in_its_units(eight: Simulator):
    with closing(opened(eight)) as sensor:
        first = next(iter(sensor.read(1.0)))
        assert isinstance(first, Reading)
        assert first.power_w == 500.0
        assert first.energy_uj is not None and first.energy_uj % 1000 == 0
        eight.cards[0].fault(power_error=10)
        reading, failure = list(sensor.read(2.0))[:2]
        assert isinstance(reading, Reading) and reading.power_w is None and reading.energy_uj is not None
        assert isinstance(failure, Failure) and failure.reason == "timeout"
