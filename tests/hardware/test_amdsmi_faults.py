"""AMD's library and its cards while they fail: what is not there, what is lost, and what returns."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Failure, Reading
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.sensors.amdsmi import open_sensor
from tests.hardware.test_amdsmi import IDS, SENSORS, SWELL, mi300x
from tests.simulator import Simulator, Sine, can_build
from tests.simulator.boards import amd_gpu
from tests.simulator.rocm import Rocm
from tests.support.harness import Monitor
from tests.support.rocm import Here, rocm_here

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Here]:
    yield from rocm_here(monkeypatch, tmp_path)


def errors(monitor: Monitor, name: str = "amdsmi") -> dict[str, int]:
    state = next(each.state() for each in monitor.sensors.sensors if each.name == name)
    return dict(state.errors)


@pytest.fixture
def eight(here: Here) -> Iterator[tuple[Simulator, Rocm]]:
    """Eight cards of different power, in another order in the library's list than on the bus."""
    chips = [mi300x(place, Sine(300.0 + 40.0 * place, 100.0, 45.0 + place)) for place in range(8)]
    order = [3, 7, 0, 5, 1, 6, 2, 4]
    with Simulator(chips=chips) as machine, here(Rocm(machine, library_order=order)) as rocm:
        yield machine, rocm


def test_a_machine_without_a_gpu_of_amd_loads_nothing_of_it():
    code = (
        "import sys; from pathlib import Path\n"
        "from carbonmon.core.errors import SensorUnavailable\n"
        "from carbonmon.core.ports import SensorSettings\n"
        "from carbonmon.hardware.sensors.amdsmi import open_sensor\n"
        "try: open_sensor(SensorSettings(sysfs=Path(sys.argv[1])))\n"
        "except SensorUnavailable as error: print(error, file=sys.stderr)\n"
        "print(*sys.modules)"
    )
    with Simulator() as machine:
        command = [sys.executable, "-c", code, str(machine.sysfs)]
        child = subprocess.run(command, capture_output=True, text=True, check=True)
    assert child.stderr == "no GPU of AMD is here\n"
    loaded = set(child.stdout.split())
    assert not any(name.startswith("carbonmon.hardware.amdsmi") for name in loaded)
    assert {"carbonmon.hardware.sensors.amdsmi.sensor", "ctypes", "amdsmi"}.isdisjoint(loaded)


def test_a_library_that_does_not_start_leaves_the_cards_to_hwmon(here: Here):
    with Simulator(chips=[amd_gpu(0, SWELL)]) as machine, here(Rocm(machine)) as rocm:
        rocm.fault(init_error=34)
        with Monitor(machine, sensors=SENSORS) as monitor:
            source = next(each for each in monitor.sensors.sources if each.name == "amdsmi")
            assert source.reason.startswith("AMD's library cannot be initialised: amdsmi_init: ")
            assert source.remedy == "sudo modprobe amdgpu"
            monitor.watch(60)
            assert abs(monitor.error_ratio(IDS[0])) < 0.02


def test_a_card_that_sleeps_is_not_woken(here: Here):
    with Simulator(chips=[amd_gpu(0, SWELL), amd_gpu(1, SWELL)]) as machine, here(Rocm(machine)) as rocm:
        machine.hwmon.write(1, "power/runtime_status", "suspended")
        with pytest.raises(SensorUnavailable, match=f"{IDS[1]} sleeps"):
            open_sensor(SensorSettings(sysfs=machine.sysfs))
        machine.hwmon.write(1, "power/runtime_status", "active")
        with closing(open_sensor(SensorSettings(sysfs=machine.sysfs))) as sensor:
            machine.hwmon.write(1, "power/runtime_status", "suspended")
            calls = rocm.control.calls
            readings = list(sensor.read(1.0))
            assert rocm.control.calls - calls == 3, "those of the card that is awake"
            assert readings[1] == Reading(IDS[1])
            machine.hwmon.write(1, "power_state", "D3cold")
            assert list(sensor.read(2.0))[1] == Reading(IDS[1], power_w=0.0)


def test_somebody_s_shutdown_in_our_process_costs_a_second_and_no_energy(eight: tuple[Simulator, Rocm]):
    machine, rocm = eight
    with Monitor(machine, sensors=("amdsmi",)) as monitor:
        monitor.watch(10)
        rocm.fault(is_away=1)
        monitor.watch(10)
        assert errors(monitor)["not_initialised"] >= 8
        for gpu in IDS:
            assert abs(monitor.error_ratio(gpu)) < 1e-6
    assert rocm.control.shut_downs >= 1


def test_a_library_that_stays_away_is_asked_ever_more_seldom(eight: tuple[Simulator, Rocm]):
    machine, rocm = eight
    with Monitor(machine, sensors=SENSORS) as monitor:
        rocm.fault(is_away=1, init_error=34)
        shut_downs = rocm.control.shut_downs
        monitor.watch(60)
        assert rocm.control.shut_downs - shut_downs <= 1, "it was down after the first time"
        assert all(abs(monitor.error_ratio(gpu)) < 0.02 for gpu in IDS), "hwmon stood in"
        rocm.fault(init_error=0)
        monitor.watch(64)
        assert all(abs(monitor.error_ratio(gpu)) < 1e-6 for gpu in IDS), "the counter covers all of it"


def test_where_no_card_answers_the_library_begins_anew(eight: tuple[Simulator, Rocm]):
    machine, rocm = eight
    with Monitor(machine, sensors=("amdsmi",)) as monitor:
        for card in rocm.cards:
            card.fault(
                call_error=14
            )  # AMDSMI_STATUS_FILE_ERROR: its files are those of a driver that is gone
        monitor.watch(10)
        assert 2 <= rocm.control.shut_downs <= 4
        for card in rocm.cards:
            card.fault(call_error=0)
        monitor.watch(10)
        assert all(abs(monitor.error_ratio(gpu)) < 1e-6 for gpu in IDS)


def test_one_card_s_error_is_its_own(eight: tuple[Simulator, Rocm]):
    machine, rocm = eight
    with Monitor(machine, sensors=("amdsmi",)) as monitor:
        rocm.cards[2].fault(call_error=12)
        monitor.watch(30)
        assert errors(monitor) == {"io": 30}
        assert monitor.device(IDS[2]).counter_j == 0.0
        assert abs(monitor.error_ratio(IDS[5])) < 1e-6
        rocm.cards[2].fault(call_error=0)
        monitor.watch(5)
        assert abs(monitor.error_ratio(IDS[2])) < 1e-6


@pytest.mark.parametrize("wrong", [b"", b"garbage", b"\xff\xfe"])
def test_a_bus_address_that_is_none_is_a_note(wrong: bytes, here: Here, monkeypatch: pytest.MonkeyPatch):
    with Simulator(chips=[amd_gpu(0, SWELL)]) as machine, here(Rocm(machine)) as rocm:
        text = (rocm.package / "interface.py").read_text()
        answer = f'{wrong!r}.decode(errors="replace")'
        text = text.replace('return f"{number >> 16:04x}', f"return {answer} or f'{{number:x}}'  # ", 1)
        (rocm.package / "interface.py").write_text(text)
        with pytest.raises(SensorUnavailable, match="is no card of its own in /sys/class/drm"):
            open_sensor(SensorSettings(sysfs=machine.sysfs))


def test_a_function_that_the_package_lacks_is_a_reading_less(here: Here):
    with Simulator(chips=[amd_gpu(0, SWELL)]) as machine, here(Rocm(machine)) as rocm:
        with open(rocm.package / "__init__.py", "a") as file:
            file.write("\ndel amdsmi_get_gpu_activity, amdsmi_get_power_cap_info\n")
        with closing(open_sensor(SensorSettings(sysfs=machine.sysfs))) as sensor:
            (device,) = sensor.devices()
            assert device.methods == ("counter", "power")
            (reading,) = sensor.read(1.0)
            assert isinstance(reading, Reading)
            assert reading.utilization_ratio is None


def test_an_answer_of_another_form_is_no_reading(here: Here):
    with Simulator(chips=[amd_gpu(0, SWELL)]) as machine, here(Rocm(machine)) as rocm:
        with open(rocm.package / "__init__.py", "a") as file:
            file.write(
                "\ntold = []\n"
                "def amdsmi_get_power_info(handle): return {'average_socket_power': '215 W'}\n"
                "def amdsmi_get_gpu_activity(handle): raise UnicodeDecodeError('utf-8', b'', 0, 1, 'bad')\n"
            )
        with closing(open_sensor(SensorSettings(sysfs=machine.sysfs))) as sensor:
            reading, failure = sensor.read(1.0)
            assert isinstance(reading, Reading)
            assert (reading.power_w, reading.utilization_ratio) == (None, None)
            assert reading.energy_uj is not None
            assert isinstance(failure, Failure)
            assert failure.reason == "package"


def test_a_driver_that_hangs_costs_its_sensor_only(here: Here):
    with Simulator(chips=[amd_gpu(0, SWELL)]) as machine, here(Rocm(machine)) as rocm:
        with Monitor(machine, sensors=SENSORS) as monitor:
            monitor.watch(3)
            rocm.cards[0].fault(hang=1)
            monitor.watch(20)
            assert monitor.device(IDS[0]).power_w is not None
            assert abs(monitor.error_ratio(IDS[0])) < 0.02, "hwmon goes on"
            rocm.cards[0].fault(hang=0)
            deadline_s = time.monotonic() + 30.0
            while monitor.device(IDS[0]).counter_j < monitor.truth_j(IDS[0]) * 0.99:
                assert time.monotonic() < deadline_s, (
                    "the answer that was late comes, and the counter with it"
                )
                monitor.watch(1)
