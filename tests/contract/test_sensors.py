"""What every sensor keeps to, whatever it reads. A new sensor is one more line in `CASES`.

pyRAPL reads the machine's own /sys and nothing else, so its cases run in a process of their own, where
the simulated tree is /sys: this very file, with `PYRAPL_VARIABLE` set.
"""

from __future__ import annotations

import functools
import gc
import json
import logging
import os
import re
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import NamedTuple, get_args

import psutil
import pytest

from carbonmon.core import energy
from carbonmon.core.errors import SensorGone, SensorUnavailable
from carbonmon.core.model import METHODS, Component, Device, Reading
from carbonmon.core.ports import Sensor, SensorSettings
from carbonmon.hardware.sensors import (
    amdsmi,
    dram,
    gaudi,
    hwmon,
    levelzero,
    neuron,
    nvml,
    rapl,
    replay,
    tdp,
    tpu,
)
from tests.simulator import Constant, Gpu, Mig, Package, Simulator, Square, can_build, can_wrap
from tests.simulator.boards import amd_gpu, grace, intel_gpu
from tests.simulator.cards import gaudi as gaudi_card
from tests.simulator.cards import max_1550
from tests.simulator.neuron import NeuronTree
from tests.simulator.rocm import Rocm
from tests.simulator.tpu import V5E, MetricsService, TpuTree
from tests.support.open_files import open_files

PYRAPL_VARIABLE = "CARBONMON_TEST_PYRAPL"
IN_NAMESPACE = PYRAPL_VARIABLE in os.environ

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

MOMENTS = [
    {"carbonmon_replay": 1, "devices": [{"id": "GPU-1", "component": "gpu", "max_power_w": 400}]},
    *(
        {"at_s": second, "readings": [{"device": "GPU-1", "energy_uj": second * 10**8}]}
        for second in range(999)
    ),
]


class Case(NamedTuple):
    """A sensor, what it opens with on the simulated machine, and with what it must refuse to open."""

    name: str
    open_sensor: Callable[[SensorSettings], Sensor]
    settings: Callable[[Simulator, Path], SensorSettings]
    absent: Callable[[Path], SensorSettings] | None


def of_machine(machine: Simulator, folder: Path) -> SensorSettings:
    return SensorSettings(sysfs=machine.sysfs)


def of_real_sys(machine: Simulator, folder: Path) -> SensorSettings:
    return SensorSettings(sysfs=Path("/sys"))


def with_two_gpus_stated(machine: Simulator, folder: Path) -> SensorSettings:
    return SensorSettings(sysfs=machine.sysfs, gpu_model="A100 PCIe 80GB:2")


def of_a_recording(machine: Simulator, folder: Path) -> SensorSettings:
    path = folder / "recording.jsonl"
    path.write_text("\n".join(json.dumps(moment) for moment in MOMENTS))
    return SensorSettings(argument=str(path))


def of_tpus(machine: Simulator, folder: Path) -> SensorSettings:
    sysfs = folder / "tpu-sys"
    if not sysfs.exists():
        TpuTree(sysfs, V5E, 8)
    return SensorSettings(sysfs=sysfs, gpu_tdp_w=200.0, argument=f"localhost:{tpu_service().port}")


@functools.cache
def tpu_service() -> MetricsService:
    """The service of a program that runs as long as these tests."""
    return MetricsService(lambda: [75.0] * 8)


def of_neuron_devices(machine: Simulator, folder: Path) -> SensorSettings:
    NeuronTree(folder / "neuron-sys", 16)
    return SensorSettings(sysfs=folder / "neuron-sys", gpu_tdp_w=400.0, environ={"PATH": "/nonexistent"})


def nowhere(folder: Path) -> SensorSettings:
    return SensorSettings(sysfs=folder / "no-sys", procfs=folder / "no-proc")


CASES = (
    Case("nvml", nvml.open_sensor, of_machine, None),  # its absence: tests/hardware/test_nvml.py
    Case("rapl", rapl.open_sensor, of_machine, nowhere),
    Case("amdsmi", amdsmi.open_sensor, of_machine, None),  # its absence: tests/hardware/test_amdsmi_faults.py
    Case("hwmon", hwmon.open_sensor, of_machine, None),  # its absence: tests/hardware/test_hwmon.py
    Case("gaudi", gaudi.open_sensor, of_machine, None),  # its absence: tests/hardware/test_gaudi.py
    Case(
        "levelzero", levelzero.open_sensor, of_machine, None
    ),  # its absence: tests/hardware/test_levelzero.py
    Case("tpu", tpu.open_sensor, of_tpus, None),  # its absence: tests/hardware/test_tpu.py
    Case("neuron", neuron.open_sensor, of_neuron_devices, None),  # its absence: tests/hardware/test_neuron.py
    Case("tdp", tdp.open_sensor, with_two_gpus_stated, nowhere),
    Case("dram", dram.open_sensor, of_machine, nowhere),
    Case("replay", replay.open_sensor, of_a_recording, None),  # a missing file is the user's mistake
)
PYRAPL_CASES = (Case("rapl", rapl.open_sensor, of_real_sys, None),)


@pytest.fixture(scope="module")
def machine() -> Iterator[Simulator]:
    """Two GPUs, one of them in MIG mode without an energy counter, and two packages with their memory."""
    gpus = [Gpu(profile=Square(60, 350, 0.7)), Gpu(profile=Constant(250), mig=[Mig(), Mig()])]
    packages = [
        Package(profile=Constant(120), dram=Constant(15), start_uj=5_000_000_000, dram_start_uj=70_000_000),
        Package(profile=Constant(90), dram=Constant(12), start_uj=60_000_000, dram_start_uj=9_000_000),
    ]
    chips = [
        amd_gpu(0, Square(60, 350, 0.7)),
        intel_gpu(1, Constant(120), Constant(100), start_uj=10**9),
        *grace(0, grace=Square(90, 250, 0.7)),
    ]
    cards = [gaudi_card(0, Square(150, 900, 0.7)), gaudi_card(1, Constant(500)), max_1550(0, Constant(400))]
    with (
        Simulator(gpus=gpus, packages=packages, chips=chips, cards=cards) as simulated,
        Rocm(simulated) as rocm,
    ):
        simulated.gpus[1].fault(no_counter=True)
        simulated.freeze()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in rocm.environ.items():
                patch.setenv(name, value)
            yield simulated


@pytest.fixture(params=PYRAPL_CASES if IN_NAMESPACE else CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    procfs_path = psutil.PROCFS_PATH
    chosen: Case = request.param
    yield chosen
    psutil.PROCFS_PATH = procfs_path


@pytest.fixture(scope="module", autouse=True)
def service_ends_with_these_tests() -> Iterator[None]:
    yield
    if tpu_service.cache_info().currsize:
        tpu_service().stop()
        tpu_service.cache_clear()


@pytest.fixture
def settings(case: Case, machine: Simulator, tmp_path: Path) -> SensorSettings:
    machine.preload()
    return case.settings(machine, tmp_path)


@pytest.fixture
def sensor(case: Case, settings: SensorSettings) -> Iterator[Sensor]:
    with closing(case.open_sensor(settings)) as opened:
        yield opened


def logging_state() -> tuple[object, ...]:
    root = logging.getLogger()
    return root.handlers[:], root.level, root.disabled, root.filters[:], logging.root.manager.disable


def files_open() -> Counter[Path]:
    """How often this process has each file open, but for the folder that lists them."""
    found = Counter(open_files())
    del found[Path(f"/proc/{os.getpid()}/fd")]
    return found


def test_it_bears_the_name_it_is_chosen_by(case: Case, sensor: Sensor):
    assert sensor.name == case.name


def test_its_devices_are_told_apart_and_complete(sensor: Sensor):
    devices = sensor.devices()
    assert devices
    assert len({device.id for device in devices}) == len(devices)
    for device in devices:
        assert isinstance(device, Device)
        assert device.id and device.name
        assert device.component in get_args(Component)
        assert 0.0 < device.share_ratio <= 1.0
        assert device.max_power_w is None or device.max_power_w > 0.0
        assert device.counter_range_uj is None or device.counter_range_uj > 0


def test_each_device_has_its_methods_best_first_and_says_how_well_each_knows(sensor: Sensor):
    for device in sensor.devices():
        assert device.methods
        assert list(device.methods) == [method for method in METHODS if method in device.methods]
        if {"counter", "power"} & set(device.methods):
            assert device.measured_uncertainty is not None
            assert device.measured_uncertainty.source
        if "tdp" in device.methods:
            assert device.spec is not None
            assert device.spec.tdp_w > 0.0
            assert device.spec.source and device.spec.uncertainty.source


def test_asking_for_its_devices_again_gives_the_same(sensor: Sensor):
    before = list(sensor.devices())
    list(sensor.read(100.0))
    assert list(sensor.devices()) == before


def test_its_sources_begin_with_itself_and_each_says_why(case: Case, sensor: Sensor):
    sources = sensor.sources()
    assert [source.name for source in sources].count(case.name) == 1
    (own,) = [source for source in sources if source.name == case.name]
    assert own.use == "used"
    assert all(source.reason for source in sources)
    assert all(source.use in ("used", "not used") for source in sources)


def test_a_read_gives_one_reading_of_each_of_its_devices_and_nothing_else(sensor: Sensor):
    ids = [device.id for device in sensor.devices()]
    for now_s in (100.0, 101.0, 102.0):
        readings = list(sensor.read(now_s))
        assert [reading.device_id for reading in readings] == ids
        assert all(isinstance(reading, Reading) for reading in readings)


def test_what_it_reads_is_within_the_bounds_of_its_kind(sensor: Sensor, machine: Simulator):
    for second in range(5):
        machine.advance(1.0)
        for reading in sensor.read(100.0 + second):
            assert isinstance(reading, Reading)
            assert reading.energy_uj is None or (type(reading.energy_uj) is int and reading.energy_uj >= 0)
            assert reading.power_w is None or 0.0 <= reading.power_w < 2000.0
            assert reading.utilization_ratio is None or 0.0 <= reading.utilization_ratio <= 1.0


def test_counters_do_not_fall_and_devices_with_a_counter_have_one(sensor: Sensor, machine: Simulator):
    counters: dict[str, list[int]] = {}
    for second in range(20):
        machine.advance(1.0)
        for reading in sensor.read(100.0 + second):
            assert isinstance(reading, Reading)
            if reading.energy_uj is not None:
                counters.setdefault(reading.device_id, []).append(reading.energy_uj)
    assert counters.keys() == {device.id for device in sensor.devices() if "counter" in device.methods}
    for values in counters.values():
        assert values == sorted(values)


@pytest.mark.parametrize("now_s", [0.0, 1e-9, 1e6, 1e12])
def test_it_knows_no_clock_and_believes_any_time_it_is_told(case: Case, sensor: Sensor, now_s: float):
    ids = {device.id for device in sensor.devices()}
    for at_s in (now_s, now_s, now_s + 1e6, now_s + 1e6 + 0.01):
        with pytest.raises(SensorGone) if case.name == "replay" and at_s > 1e6 + now_s else nullcontext():
            assert {reading.device_id for reading in sensor.read(at_s, edge=True)} == ids


def test_what_it_says_is_fit_for_the_meter(sensor: Sensor, machine: Simulator):
    meters = {}
    joules = dict.fromkeys((device.id for device in sensor.devices()), 0.0)
    limits = energy.limits_for(1.0)
    for second in range(30):
        machine.advance(1.0)
        said = {reading.device_id: reading for reading in sensor.read(100.0 + second)}
        for device in sensor.devices():
            if second == 0:
                meters[device.id] = energy.start(device, said[device.id], 100.0)
                continue
            meters[device.id], interval = energy.advance(
                meters[device.id], device, said[device.id], 100.0 + second, limits
            )
            if interval is not None:
                assert (interval.resets, interval.jumps) == (0, 0)
                joules[device.id] += interval.energy_j
    assert all(energy_j >= 0.0 for energy_j in joules.values())


OF_SENSORS = ("*/carbonmon/hardware/*", "*/carbonmon/core/*", "*/site-packages/*", "<string>")
"""Files that take memory for a read; the last one is the constructors of records."""


def held_bytes() -> int:
    """What the sensors, their records and libraries hold; threads that other tests left take memory too."""
    gc.collect()
    own = [tracemalloc.Filter(True, pattern) for pattern in OF_SENSORS]
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(own).traces)


def test_reading_on_and_on_leaks_neither_files_nor_memory(sensor: Sensor):
    def read(times: int, from_s: float) -> None:
        for number in range(times):
            for _ in sensor.read(from_s + number):
                pass

    read(200, 0.0)
    gc.collect()
    grown_bytes, grown_files = [], []
    tracemalloc.start()
    try:
        read(50, 200.0)
        for start_s in (250.0, 450.0, 650.0):  # a leak grows every time, what other threads do does not
            files, before_bytes = files_open(), held_bytes()
            read(200, start_s)
            grown_bytes.append(held_bytes() - before_bytes)
            grown_files.append(files_open() - files)
    finally:
        tracemalloc.stop()
    assert not min(grown_files, key=len)
    assert min(grown_bytes) < 4096


def test_it_may_be_closed_twice_and_leaves_no_file_open(case: Case, settings: SensorSettings):
    """A file that a sensor leaves open is there after each round, what other threads open is not."""

    def left_open() -> Counter[Path]:
        before = files_open()
        sensor = case.open_sensor(settings)
        list(sensor.read(100.0))
        sensor.close()
        sensor.close()
        deadline_s = time.monotonic() + 5.0  # gRPC closes its sockets in a thread of its own
        while (left := files_open() - before) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        return left

    case.open_sensor(settings).close()  # what the first one loads, a library or a module, may stay
    rounds: list[Counter[Path]] = []
    while len(rounds) < 6:
        if not (left := left_open()):
            return
        rounds.append(left)
    pytest.fail(f"after every one of {len(rounds)} rounds these files were still open: {rounds}")


def test_opening_is_silent_and_leaves_the_process_as_it_was(
    case: Case, settings: SensorSettings, capfd: pytest.CaptureFixture[str]
):
    before = logging_state()
    hidden = {name for name, module in sys.modules.items() if module is None}
    with closing(case.open_sensor(settings)) as sensor:
        list(sensor.read(100.0))
        assert logging_state() == before
        assert {name for name, module in sys.modules.items() if module is None} == hidden
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("case", [case for case in CASES if case.absent], ids=lambda case: case.name)
def test_where_its_source_is_absent_it_says_why_and_what_mends_it(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    assert case.absent is not None
    procfs_path = psutil.PROCFS_PATH
    with pytest.raises(SensorUnavailable) as refused:
        case.open_sensor(case.absent(tmp_path))
    assert refused.value.reason
    assert refused.value.remedy
    assert procfs_path == psutil.PROCFS_PATH
    assert capfd.readouterr() == ("", "")


if IN_NAMESPACE:

    def test_here_it_is_pyrapl_that_reads(sensor: Sensor):
        assert "4 through pyRAPL, 0 directly" in sensor.sources()[0].reason

else:

    @pytest.mark.skipif(not can_wrap(), reason="no mount namespace here: pyRAPL sees only the real /sys")
    def test_rapl_read_through_pyrapl_keeps_to_the_same(machine: Simulator):
        machine.clock.set(0.0)  # the other process watches real time
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
        with machine.popen(command, wrap=True, env={PYRAPL_VARIABLE: "1"}) as inner:
            output, errors = inner.communicate(timeout=240)
        machine.freeze()
        assert inner.returncode == 0, output + errors
        assert int(re.findall(r"(\d+) passed", output)[0]) >= 15
        assert "skipped" not in output
