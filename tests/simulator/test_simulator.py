"""The hardware simulator, as the unmodified pynvml and pyRAPL see it."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pynvml
import pytest

from carbonmon.core.times import rfc3339
from tests.simulator import (
    Constant,
    Gpu,
    Mig,
    Package,
    Process,
    Profile,
    Ramp,
    Simulator,
    Sine,
    Square,
    build,
    can_build,
    can_wrap,
    clock,
    layout,
    nvidia_smi,
    truth,
)
from tests.simulator.__main__ import main
from tests.simulator.powercap import FILE_FAULTS

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")
Make = Callable[..., Simulator]
SQUARE = Square(60, 350, period_s=0.7, duty=0.3)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Builds machines whose time stands still, each behind this process's NVML and initialised."""
    machines: list[Simulator] = []

    def make(*gpus: Gpu, **options: Any) -> Simulator:
        machine = Simulator(tmp_path, gpus=gpus, **options)
        machines.append(machine)
        machine.freeze()
        machine.preload()
        pynvml.nvmlInit()
        return machine

    yield make
    for machine in machines:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
        machine.close()


def code_of(function: Callable[..., object], *arguments: object) -> int:
    """The NVML error code that a call ends with; 0 for none."""
    try:
        function(*arguments)
    except pynvml.NVMLError as error:
        return int(error.value)
    return 0


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "nothing happened in time"
        time.sleep(0.002)


def energy_mj(index: int = 0) -> int:
    return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(index)))


def energy_uj(machine: Simulator, zone: str = "package-0") -> int:
    return int((machine.zones[zone].folder / "energy_uj").read_text())


# ---- profiles, layout, compilation ----


SHAPES = [SQUARE, Sine(200, 150, 3.3), Ramp(10, 90, 4)]


@pytest.mark.parametrize("profile", [*SHAPES, Constant(42), Ramp(1, 2, 0)])
def test_c_and_python_agree_on_power_and_energy(profile: Profile) -> None:
    library = ctypes.CDLL(str(build.built() / build.LIBRARY))
    parameters = (ctypes.c_double * 4)(*profile.parameters)
    for name, mine in (("sim_shape_power", profile.value), ("sim_shape_integral", profile.integral)):
        function = library[name]
        function.restype = ctypes.c_double
        for step in range(-500, 2000):
            t_s = step * 0.0317
            theirs = function(profile.shape, parameters, ctypes.c_double(t_s))
            assert theirs == pytest.approx(mine(t_s), rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("profile", SHAPES)
def test_the_integral_is_that_of_the_power(profile: Profile) -> None:
    step_s = 1e-3
    total = sum(profile.value((i + 0.5) * step_s) * step_s for i in range(7000))
    assert total == pytest.approx(profile.integral(7.0), abs=0.5)


def test_c_and_python_agree_on_the_control_file() -> None:
    library = ctypes.CDLL(str(build.built() / build.LIBRARY))
    library.sim_function_name.restype = ctypes.c_char_p
    assert library.sim_control_size() == ctypes.sizeof(layout.Control)
    names = [library.sim_function_name(i) for i in range(len(layout.FUNCTIONS) + 1)]
    assert names == [*(name.encode() for name in layout.FUNCTIONS), None]
    assert all(hasattr(library, name) for name in layout.FUNCTIONS)


def test_two_processes_may_compile_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "CACHE", tmp_path / "cache")
    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(build.built.__wrapped__) for _ in range(2))
        assert first.result() == second.result()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first.result().name]
    assert {path.name for path in first.result().iterdir()} == set(build.COMMANDS)


# ---- NVML: readings ----


@pytest.mark.parametrize("profile", [*SHAPES, Constant(100)])
def test_the_energy_counter_follows_the_closed_form(make: Make, profile: Profile) -> None:
    machine = make(Gpu(profile=profile, counter_start_mj=5_000))
    gpu, start_s = machine.gpus[0], machine.clock.epoch_s
    for step_s in (0.0, 0.31, 2.2, 17.77):
        now_s = machine.advance(step_s)
        truth_mj = 5_000 + gpu.energy_j(start_s, now_s) * 1e3
        assert truth_mj - 400 * 20 - 1 <= energy_mj() <= truth_mj + 1  # 20 ms old at most


def test_the_counter_is_refreshed_at_its_own_pace(make: Make) -> None:
    machine = make(Gpu(counter_refresh_s=0.1))
    seen = {energy_mj()}
    for _ in range(100):
        machine.advance(0.01)
        seen.add(energy_mj())
    assert 10 <= len(seen) <= 12


def test_power_is_of_the_moment_or_the_mean_of_a_second(make: Make) -> None:
    machine = make(Gpu(profile=SQUARE), Gpu(profile=SQUARE, power_averaged=True))
    momentary, averaged = (pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(2))
    for _ in range(20):
        now_s = machine.advance(0.11)
        mean_mw = machine.gpus[0].energy_j(now_s - 1, now_s) * 1e3
        assert pynvml.nvmlDeviceGetPowerUsage(momentary) == machine.gpus[0].power_w(now_s) * 1e3
        assert pynvml.nvmlDeviceGetPowerUsage(averaged) == pytest.approx(mean_mw, abs=1)
        fields = pynvml.nvmlDeviceGetFieldValues(momentary, [185, 186, 83, (186, 1), 12345])
        assert [field.nvmlReturn for field in fields] == [0, 0, 0, 3, 3]
        assert fields[0].value.uiVal == pytest.approx(mean_mw, abs=1)
        assert fields[1].value.uiVal == machine.gpus[0].power_w(now_s) * 1e3
        assert fields[2].value.ullVal == energy_mj()
        assert fields[2].timestamp == pytest.approx(machine.wall_s() * 1e6, abs=2)


@pytest.mark.parametrize("up_s", [2044.2, 4092.1, 8188.3])
def test_seconds_that_time_is_moved_by_are_exact_however_long_the_machine_is_up(
    up_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.clock_gettime", lambda clock_id: up_s)
    held = clock.MachineClock(layout.Control())
    held.hold()
    assert up_s <= held.now_s() < up_s + 1e-3
    begin_s = held.now_s()
    for _ in range(5):
        held.set(held.now_s() + 1.0)
    held.hold()
    assert held.now_s() - begin_s == 5.0


def test_the_sample_buffer_holds_the_last_119_and_gives_only_what_is_new(make: Make) -> None:
    machine = make(Gpu(profile=SQUARE))
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    now_s = machine.advance(5)
    kind, samples = pynvml.nvmlDeviceGetSamples(handle, pynvml.NVML_TOTAL_POWER_SAMPLES, 0)
    stamps = [sample.timeStamp for sample in samples]
    assert kind == pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    assert len(samples) == 119
    assert all(b - a == pytest.approx(20_000, abs=2) for a, b in pairwise(stamps))
    assert 0 <= machine.wall_s(now_s) * 1e6 - stamps[-1] < 20_001
    start_unix_s, end_unix_s = stamps[0] * 1e-6 - 0.02, stamps[-1] * 1e-6
    total_j = sum(sample.sampleValue.uiVal for sample in samples) * 1e-3 * 0.02
    assert total_j == pytest.approx(machine.gpus[0].energy_between_wall(start_unix_s, end_unix_s), rel=1e-4)
    assert code_of(pynvml.nvmlDeviceGetSamples, handle, 0, stamps[-1]) == 6
    machine.advance(0.1)
    assert len(pynvml.nvmlDeviceGetSamples(handle, 0, stamps[-1])[1]) == 5


def test_a_profile_can_change_while_the_machine_runs(make: Make) -> None:
    machine = make(Gpu(profile=Constant(50), counter_start_mj=0))
    start_s = machine.now_s()
    machine.advance(10)
    machine.gpus[0].set_profile(SQUARE)
    machine.gpus[0].set_utilization(Constant(7))
    now_s = machine.advance(0.5)
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    _, samples = pynvml.nvmlDeviceGetSamples(handle, 0, 0)
    assert [sample.sampleValue.uiVal for sample in samples[:90]] == [50_000] * 90
    assert max(sample.sampleValue.uiVal for sample in samples) == 350_000
    assert pynvml.nvmlDeviceGetUtilizationRates(handle).gpu == 54  # half a second of each
    now_s = machine.advance(10)
    assert machine.gpus[0].energy_j(start_s, now_s) == pytest.approx(500 + SQUARE.integral(10.5))
    assert energy_mj() == pytest.approx(machine.gpus[0].energy_j(start_s, now_s) * 1e3, abs=7001)


def test_power_limit_name_memory_and_the_rest(make: Make) -> None:
    make(Gpu("NVIDIA Testo", power_limit_w=275, architecture=9, virtualization=2, pci_bus=0xC1))
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert pynvml.nvmlDeviceGetName(handle) == "NVIDIA Testo"
    assert pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) == 275_000
    assert pynvml.nvmlDeviceGetPowerManagementLimit(handle) == 275_000
    assert pynvml.nvmlDeviceGetPciInfo(handle).busId == "00000000:C1:00.0"
    assert pynvml.nvmlDeviceGetArchitecture(handle) == pynvml.NVML_DEVICE_ARCH_HOPPER
    assert pynvml.nvmlDeviceGetVirtualizationMode(handle) == pynvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU
    assert pynvml.nvmlDeviceGetMemoryInfo(handle).total == 80 << 30
    assert code_of(pynvml.nvmlDeviceGetMigMode, handle) == 3
    assert pynvml.nvmlDeviceGetMaxMigDeviceCount(handle) == 0
    assert pynvml.nvmlSystemGetDriverVersion() == "550.54.15"
    assert pynvml.nvmlSystemGetNVMLVersion() == "12.550.54.15"
    assert pynvml.nvmlErrorString(15) == "GPU is lost"


def test_the_power_limit_can_be_set_between_its_bounds_and_what_is_drawn_stays_the_profiles(
    make: Make,
) -> None:
    machine = make(Gpu(power_limit_w=400, power_limit_min_w=150, persistence=False))
    handle, set_limit = pynvml.nvmlDeviceGetHandleByIndex(0), pynvml.nvmlDeviceSetPowerManagementLimit
    assert pynvml.nvmlDeviceGetPowerManagementLimitConstraints(handle) == [150_000, 400_000]
    set_limit(handle, 200_000)
    assert machine.gpus[0].power_limit_w == 200.0
    assert pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) == 200_000
    assert pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle) == 400_000
    assert pynvml.nvmlDeviceGetPersistenceMode(handle) == pynvml.NVML_FEATURE_DISABLED
    assert pynvml.nvmlDeviceGetPowerUsage(handle) == 100_000
    assert [code_of(set_limit, handle, limit_mw) for limit_mw in (149_999, 400_001)] == [2, 2]
    machine.gpus[0].fault(limit_locked=True)
    assert code_of(set_limit, handle, 300_000) == 4
    assert pynvml.nvmlDeviceGetPowerManagementLimit(handle) == 200_000


# ---- NVML: processes and MIG ----


def test_process_lists_and_their_utilisation(make: Make) -> None:
    machine = make(Gpu())
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert pynvml.nvmlDeviceGetComputeRunningProcesses(handle) == []
    assert code_of(pynvml.nvmlDeviceGetProcessUtilization, handle, 0) == 6
    idle, graphics = Process(102, sm_percent=0, memory_percent=0), Process(103, 20, graphics=True)
    machine.gpus[0].set_processes([Process(101, sm_percent=70), idle, graphics])
    for function in (
        pynvml.nvmlDeviceGetComputeRunningProcesses_v2,
        pynvml.nvmlDeviceGetComputeRunningProcesses_v3,
    ):
        assert [(p.pid, p.usedGpuMemory) for p in function(handle)] == [(101, 1 << 30), (102, 1 << 30)]
    assert [p.pid for p in pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3(handle)] == [103]
    active = pynvml.nvmlDeviceGetProcessUtilization(handle, 0)
    assert [(p.pid, p.smUtil) for p in active] == [(101, 70), (103, 20)]
    assert code_of(pynvml.nvmlDeviceGetProcessUtilization, handle, active[0].timeStamp) == 6
    machine.advance(1)
    assert len(pynvml.nvmlDeviceGetProcessUtilization(handle, active[0].timeStamp)) == 2


def test_mig_instances_show_the_whole_gpus_energy_and_no_utilisation(make: Make) -> None:
    machine = make(Gpu(mig=[Mig(), Mig("3g.40gb", 3, 3)], processes=[Process(5, mig=0), Process(6, mig=1)]))
    parent = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert pynvml.nvmlDeviceGetMigMode(parent) == [1, 1]
    assert pynvml.nvmlDeviceGetMaxMigDeviceCount(parent) == 7
    instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, 1)
    assert code_of(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, parent, 2) == 6
    assert pynvml.nvmlDeviceIsMigDeviceHandle(instance).value == 1
    assert pynvml.nvmlDeviceGetName(instance) == "NVIDIA A100-SXM4-80GB MIG 3g.40gb"
    assert pynvml.nvmlDeviceGetUUID(instance) == machine.gpus[0].mig_uuids[1]
    assert pynvml.nvmlDeviceGetIndex(instance) == 1
    assert pynvml.nvmlDeviceGetAttributes(instance).gpuInstanceSliceCount == 3
    assert pynvml.nvmlDeviceGetAttributes(instance).memorySizeMB == 10 << 10
    assert pynvml.nvmlDeviceGetGpuInstanceId(instance) == 8
    assert pynvml.nvmlDeviceGetComputeInstanceId(instance) == 0
    by_uuid = pynvml.nvmlDeviceGetHandleByUUID(machine.gpus[0].mig_uuids[1])
    parent_again = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(by_uuid)
    assert pynvml.nvmlDeviceGetUUID(parent_again) == machine.gpus[0].uuid
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(instance) == energy_mj()
    assert [p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(parent)] == [5, 6]
    (process,) = pynvml.nvmlDeviceGetComputeRunningProcesses(instance)
    assert (process.pid, process.gpuInstanceId) == (6, 8)
    for handle in (parent, instance):
        assert code_of(pynvml.nvmlDeviceGetUtilizationRates, handle) == 3
        assert code_of(pynvml.nvmlDeviceGetProcessUtilization, handle, 0) == 3


# ---- NVML: faults ----

ENERGY, POWER = pynvml.nvmlDeviceGetTotalEnergyConsumption, pynvml.nvmlDeviceGetPowerUsage
RATES, NAME = pynvml.nvmlDeviceGetUtilizationRates, pynvml.nvmlDeviceGetName


@pytest.mark.parametrize(
    ("fault", "function", "code"),
    [
        ({"lost": True}, NAME, 15),
        ({"no_permission": True}, NAME, 4),
        ({"call_error": 999}, NAME, 999),
        ({"no_counter": True}, ENERGY, 3),
        ({"counter_error": 999}, ENERGY, 999),
        ({"no_power": True}, POWER, 3),
        ({"power_error": 10}, POWER, 10),
        ({"no_power_limit": True}, pynvml.nvmlDeviceGetEnforcedPowerLimit, 3),
        ({"no_utilization": True}, RATES, 3),
        ({"no_processes": True}, pynvml.nvmlDeviceGetComputeRunningProcesses, 3),
    ],
)
def test_a_fault_hits_its_function_on_its_gpu_until_it_is_cleared(
    make: Make, fault: dict[str, int], function: Callable[..., object], code: int
) -> None:
    machine = make(Gpu(), Gpu())
    sick, healthy = (pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(2))
    machine.gpus[0].fault(**fault)
    assert code_of(function, sick) == code
    assert code_of(function, healthy) == 0
    machine.gpus[0].clear()
    assert code_of(function, sick) == 0


def test_power_and_counter_faults_reach_samples_and_fields_too(make: Make) -> None:
    machine = make(Gpu())
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    machine.gpus[0].fault(no_power=True, counter_error=4)
    assert code_of(pynvml.nvmlDeviceGetSamples, handle, 0, 0) == 3
    assert [f.nvmlReturn for f in pynvml.nvmlDeviceGetFieldValues(handle, [83, 185, 186])] == [4, 3, 3]


def test_a_lost_gpu_cannot_be_looked_up_and_may_come_back(make: Make) -> None:
    machine = make(Gpu(), Gpu())
    uuid = machine.gpus[1].uuid
    for fault, by_index, by_uuid in (({"lost": 1}, 15, 15), ({"call_error": 999}, 999, 6)):
        machine.gpus[1].fault(**fault)
        assert code_of(pynvml.nvmlDeviceGetHandleByIndex, 1) == by_index
        assert code_of(pynvml.nvmlDeviceGetHandleByUUID, uuid) == by_uuid
        assert pynvml.nvmlDeviceGetCount() == 2
        machine.gpus[1].clear()
        assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByUUID(uuid)) == uuid


def test_exactly_the_ordered_number_of_counter_reads_fails(make: Make) -> None:
    machine = make(Gpu())
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    machine.gpus[0].fault(fail_next_counter_reads=3)
    assert [code_of(ENERGY, handle) for _ in range(5)] == [999, 999, 999, 0, 0]
    assert machine.gpus[0].failures_left == 0
    assert machine.gpus[0].counter_reads == 5


def test_a_counter_can_jump_step_back_and_reset(make: Make) -> None:
    machine = make(Gpu(counter_start_mj=10_000_000))
    before_mj = energy_mj()
    machine.gpus[0].fault(counter_offset_mj=-4_000_000)
    assert energy_mj() == before_mj - 4_000_000
    machine.gpus[0].fault(counter_offset_mj=0, counter_reset_at=machine.now_s() + 1)
    assert energy_mj() == before_mj
    machine.advance(3)
    assert energy_mj() == pytest.approx(200_000, abs=2001)
    machine.gpus[0].clear()
    assert energy_mj() == pytest.approx(200_000, abs=2001)


def test_a_counter_can_lag_behind_what_is_drawn(make: Make) -> None:
    machine = make(Gpu(counter_refresh_s=0))
    machine.advance(10)
    before_mj = energy_mj()
    machine.gpus[0].fault(counter_lag_s=0.4)
    assert energy_mj() == pytest.approx(before_mj - 40_000, abs=2)
    machine.gpus[0].clear()
    assert energy_mj() == before_mj


def test_a_power_sensor_can_miss_a_part_of_the_power_and_the_counter_not(make: Make) -> None:
    machine = make(Gpu(counter_refresh_s=0))
    before_mj = energy_mj()
    machine.gpus[0].fault(power_loss_ratio=0.25)
    machine.advance(3)
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    _, samples = pynvml.nvmlDeviceGetSamples(handle, pynvml.NVML_TOTAL_POWER_SAMPLES, 0)
    fields = pynvml.nvmlDeviceGetFieldValues(handle, [185, 186])
    assert {sample.sampleValue.uiVal for sample in samples} == {75_000}
    assert [pynvml.nvmlDeviceGetPowerUsage(handle), *(field.value.uiVal for field in fields)] == [75_000] * 3
    assert energy_mj() - before_mj == pytest.approx(300_000, abs=2)


def test_a_slow_gpu_takes_its_time_and_a_hanging_one_waits_for_ever(make: Make) -> None:
    machine = make(Gpu(), Gpu())
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    machine.gpus[0].fault(slow_s=0.05)
    began_s = time.monotonic()
    POWER(handle)
    assert time.monotonic() - began_s >= 0.05
    machine.gpus[0].clear()
    machine.gpus[0].fault(hang=True)
    waiting = threading.Thread(target=POWER, args=(handle,))
    waiting.start()
    wait_until(lambda: machine.calls("nvmlDeviceGetPowerUsage", gpu=0) == 2)
    assert code_of(POWER, pynvml.nvmlDeviceGetHandleByIndex(1)) == 0
    assert waiting.is_alive()
    machine.gpus[0].clear()
    waiting.join(timeout=5)
    assert not waiting.is_alive()


def test_a_driver_reload_voids_handles_restarts_counters_and_moves_indices(make: Make) -> None:
    machine = make(Gpu(), Gpu("NVIDIA Other"))
    uuids = [gpu.uuid for gpu in machine.gpus]
    old = pynvml.nvmlDeviceGetHandleByUUID(uuids[0])
    assert energy_mj() >= 1_234_567
    machine.reload_driver(order=[1, 0])
    assert code_of(ENERGY, old) == 1
    assert code_of(pynvml.nvmlDeviceGetCount) == 1
    pynvml.nvmlInit()
    assert code_of(ENERGY, old) == 2
    handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(2)]
    assert [pynvml.nvmlDeviceGetUUID(handle) for handle in handles] == uuids[::-1]
    assert [pynvml.nvmlDeviceGetIndex(handle) for handle in handles] == [0, 1]
    assert energy_mj() == 0
    assert code_of(pynvml.nvmlDeviceGetSamples, handles[0], 0, 0) == 6
    machine.advance(1)
    assert energy_mj() == pytest.approx(100_000, abs=2001)


def test_without_a_machine_the_driver_is_not_loaded(make: Make) -> None:
    machine = make(Gpu())
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    machine.close()
    assert code_of(POWER, handle) == 1
    assert code_of(pynvml.nvmlInit) == 9


def test_the_drivers_faults_are_of_init_and_of_missing_functions(make: Make) -> None:
    machine = make(Gpu())
    pynvml.nvmlShutdown()
    assert code_of(pynvml.nvmlDeviceGetCount) == 1
    machine.fault(init_error=18, missing_functions=["nvmlDeviceGetFieldValues"])
    assert code_of(pynvml.nvmlInit) == 18
    machine.fault(init_error=0)
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert code_of(pynvml.nvmlDeviceGetFieldValues, handle, [83]) == 13
    machine.clear()
    assert code_of(pynvml.nvmlDeviceGetFieldValues, handle, [83]) == 0
    assert machine.calls("nvmlDeviceGetFieldValues", gpu=0) == machine.calls("nvmlDeviceGetFieldValues") == 2
    assert machine.calls("nvmlInitWithFlags") == 3


def test_a_child_process_finds_the_library_by_its_environment(make: Make) -> None:
    machine = make(Gpu(), Gpu())
    script = "import pynvml as n; n.nvmlInit(); print(n.nvmlDeviceGetCount())"
    child = machine.popen([sys.executable, "-c", script])
    assert child.communicate(timeout=10) == ("2\n", "")
    assert machine.calls("nvmlDeviceGetCount_v2") == 1


# ---- powercap ----


def test_the_package_counter_wraps_exactly_one_past_its_range(make: Make) -> None:
    machine = make(packages=[Package(Constant(100), range_uj=250_000_000, start_uj=249_000_000)])
    zero_s = machine.clock.epoch_s
    for _ in range(40):
        now_s = machine.advance(0.37)
        truth_uj = (249_000_000 + machine.zones["package-0"].energy_j(zero_s, now_s) * 1e6) % 250_000_001
        assert energy_uj(machine) == pytest.approx(truth_uj, abs=1)


def test_a_value_is_a_line_of_digits_whatever_was_there_before(make: Make) -> None:
    machine = make(packages=[Package(range_uj=99_999_999)])
    zone, start_uj = machine.zones["package-0"], energy_uj(machine)
    with open(zone.folder / "energy_uj") as file:
        for value in (99_999_999, 0, 12_345, 7):
            zone.fault(offset_uj=value - start_uj)
            machine.settle()
            file.seek(0)
            assert file.readline() == f"{value}\n"
            assert energy_uj(machine) == value


def test_a_reader_never_sees_a_torn_or_empty_value(tmp_path: Path) -> None:
    package = Package(Constant(1e6), start_uj=9_999_000_000, range_uj=10**15 - 1)
    with Simulator(tmp_path, packages=[package], powercap_tick_s=0) as machine:
        with open(machine.zones["package-0"].folder / "energy_uj", "rb", buffering=0) as file:
            last, end_s = 0, time.monotonic() + 0.3
            while time.monotonic() < end_s:
                file.seek(0)
                value = int(file.read(64))
                assert value >= last
                last = value
        assert last > 10_000_000_000


def test_the_tree_follows_the_clock(tmp_path: Path) -> None:
    with Simulator(tmp_path, packages=[Package(Constant(1000))]) as machine:
        zone, zero_s, before_s = machine.zones["package-0"], machine.clock.epoch_s, machine.now_s()
        machine.settle()
        value_uj = energy_uj(machine)
        assert value_uj >= zone.energy_j(zero_s, before_s) * 1e6 - 1
        wait_until(lambda: energy_uj(machine) >= value_uj + 10_000_000)
        assert energy_uj(machine) <= zone.energy_j(zero_s, machine.now_s()) * 1e6


def test_the_tree_has_the_kernels_folders_links_and_names(make: Make) -> None:
    machine = make(
        packages=[
            Package(core=Constant(40), dram=Constant(9), die=0, socket=0, mmio=True),
            Package(die=1, socket=0, mirrors=0),
        ],
        psys=Constant(300),
    )
    powercap = machine.sysfs / "class/powercap"
    names = {link.name: (link / "name").read_text().strip() for link in powercap.glob("*:*")}
    assert names == {
        "intel-rapl:0": "package-0-die-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-0-die-1",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0-die-0",
    }
    assert (powercap / "intel-rapl/intel-rapl:0/intel-rapl:0:1/energy_uj").is_file()
    machine.advance(3)
    assert energy_uj(machine, "package-0-die-1") == energy_uj(machine, "package-0-die-0")
    assert energy_uj(machine, "mmio-package-0-die-0") == energy_uj(machine, "package-0-die-0")
    assert energy_uj(machine, "dram-0-die-0") == pytest.approx(27_000_000, abs=2e6)
    cpu = machine.sysfs / "devices/system/cpu"
    assert (cpu / "present").read_text() == "0-3\n"
    assert (cpu / "cpu3/topology/die_id").read_text() == "1\n"
    machine.cpus.set_offline(2)
    assert (cpu / "online").read_text() == "0-1,3\n"


def test_a_zone_can_freeze_reset_and_jump(make: Make) -> None:
    machine = make(packages=[Package(Constant(100), start_uj=7_000_000_000)])
    zone = machine.zones["package-0"]
    value_uj = energy_uj(machine)
    zone.fault(frozen=True)
    machine.advance(5)
    assert energy_uj(machine) == value_uj
    zone.clear()
    machine.settle()
    assert energy_uj(machine) == pytest.approx(value_uj + 500_000_000, abs=1)
    zone.fault(offset_uj=-1_000_000_000)
    machine.settle()
    assert energy_uj(machine) == pytest.approx(value_uj - 500_000_000, abs=1)
    zone.fault(offset_uj=0, reset_at=machine.now_s())
    machine.advance(1)
    assert energy_uj(machine) == pytest.approx(100_000_000, abs=1)
    zone.set_profile(Constant(1))
    machine.advance(1)
    assert energy_uj(machine) == pytest.approx(101_000_000, abs=1)


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_the_file_of_a_zone_can_break_and_mend(make: Make, fault: str) -> None:
    machine = make(packages=[Package()])
    machine.advance(1)
    zone, path = machine.zones["package-0"], machine.zones["package-0"].folder / "energy_uj"
    healthy_uj = energy_uj(machine)
    zone.fault(file=fault)
    if fault == "negative":
        assert energy_uj(machine) == -5
    else:
        with pytest.raises((ValueError, OSError)):
            energy_uj(machine)
    zone.clear()
    assert path.read_bytes() == f"{healthy_uj}".encode().ljust(16, b"\n")


def test_powercapd_dies_with_its_parent(make: Make, tmp_path: Path) -> None:
    machine = make(packages=[Package()])
    (tmp_path / machine.zones["package-0"].zone.path).mkdir(parents=True)
    control = machine.environ["CARBONMON_SIM_CONTROL"]
    command = ["sh", "-c", '"$@" $$ & echo $!; wait', "sh", str(build.built() / build.DAEMON), control]
    parent = subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())

    def is_gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_until(lambda: len(list(tmp_path.rglob("energy_uj"))) == 1)
    assert not is_gone()
    parent.kill()
    parent.communicate()
    wait_until(is_gone)


# ---- the private mount namespace ----


@pytest.mark.skipif(not can_wrap(), reason="no mount namespaces here")
def test_the_real_pyrapl_reads_the_simulated_packages_and_dram(make: Make) -> None:
    packages = [Package(Constant(100 + i), dram=Constant(10 + i), start_uj=5_000_000 * i) for i in range(2)]
    machine = make(packages=packages)
    script = (
        "import pyRAPL\n"
        "sensor = pyRAPL.Sensor()\n"
        "print(*sensor.energy(), flush=True)\n"
        "input()\n"
        "print(*sensor.energy(), flush=True)\n"
    )
    child = subprocess.Popen(
        machine.wrap([sys.executable, "-c", script]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    before = [float(value) for value in child.stdout.readline().split()]
    assert before == [energy_uj(machine, zone) for zone in ("package-0", "dram-0", "package-1", "dram-1")]
    machine.advance(2)
    after = [float(value) for value in child.communicate("\n", timeout=10)[0].split()]
    drawn_j = [(b - a) * 1e-6 for a, b in zip(before, after, strict=True)]
    assert drawn_j == pytest.approx([200, 20, 202, 22], abs=1e-5)


@pytest.mark.skipif(not can_wrap() or os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_not_allowed_to_read_the_counter(make: Make) -> None:
    machine = make(packages=[Package()])
    child = machine.popen(["cat", "/sys/class/powercap/intel-rapl:0/energy_uj"], wrap=True, uid=65534)
    assert "Permission denied" in child.communicate(timeout=10)[1]


def test_the_command_line_runs_a_command_and_tells_the_truth(capfd: pytest.CaptureFixture[str]) -> None:
    script = "import pynvml as n, sys; n.nvmlInit(); print(n.nvmlDeviceGetCount()); sys.exit(7)"
    options = ["--gpus", "2", "--watts", "100", "--packages", "2", "--psys"]
    assert main([*options, "--", sys.executable, "-c", script]) == 7
    output, truth = capfd.readouterr()
    assert output == "2\n"
    lines = truth.partition("simulator: the truth for these ")[2].splitlines()
    duration_s = float(lines[0].split()[0])
    joules = {line.split()[0]: float(line.split()[1]) for line in lines[1:]}
    assert list(joules)[2:] == ["package-0", "dram-0", "package-1", "dram-1", "psys"]
    assert next(iter(joules.values())) == pytest.approx(100 * duration_s, abs=0.06)


def test_the_truth_is_of_the_run_s_own_time_and_of_the_same_owner_as_what_is_told(make: Make) -> None:
    machine = make(Gpu(profile=Constant(200.0)), packages=[Package(Constant(50.0))])
    machine.freeze()
    began_s = machine.wall_s()
    machine.advance(12)
    summary = {
        "run": {
            "id": "a",
            "started_at": rfc3339(began_s),
            "ended_at": rfc3339(began_s + 10),
            "duration_s": 10.0,
        },
        "energy": {
            "devices": [
                {"id": machine.gpus[0].uuid, "energy_j": 500.0, "node_energy_j": 2020.0},
                {"id": "package-0", "energy_j": 5.0, "node_energy_j": 495.0},
                {"id": "dram-0", "energy_j": 1.0, "node_energy_j": None},
            ]
        },
    }
    gpu, package, *_, all_of_it = rows = truth.compare(machine, summary)
    assert [gpu.truth_j, package.truth_j] == pytest.approx([2000, 500], rel=1e-3), "not of the 12 s"
    assert gpu.difference_percent == pytest.approx(1.0, abs=0.1), "the node's is compared with the node's"
    assert package.difference_percent == pytest.approx(-1.0, abs=0.1)
    assert (all_of_it.told_j, all_of_it.run_j) == (2515.0, 505.0 if len(rows) == 3 else 506.0)
    shown = truth.text(summary, rows)
    assert "+1.0" in shown and "500.000 J" in shown


def test_the_runs_of_an_earlier_command_are_not_compared(tmp_path: Path) -> None:
    for name, started_s, ended_s in (("old", 1e9, 1e9 + 5), ("new", 2e9, 2e9 + 5), ("going-on", 2e9, None)):
        (tmp_path / name).mkdir()
        run = {"id": name, "started_at": rfc3339(started_s), "ended_at": rfc3339(ended_s)}
        (tmp_path / name / "summary.json").write_text(json.dumps({"run": run}))
    assert [found["run"]["id"] for found in truth.summaries_since(tmp_path, 1.5e9)] == ["new"]


def test_the_stand_in_for_nvidia_smi_tells_the_power_of_the_gpu_that_is_asked_for(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = make(Gpu(), Gpu(profile=Constant(250.0)))
    query = ["--query-gpu=timestamp,power.draw", "--format=csv,noheader,nounits", "-i"]
    assert nvidia_smi.main([*query, machine.gpus[1].uuid]) == 0
    machine.gpus[0].fault(no_power=True)
    nvidia_smi.main([*query, "0"])
    pynvml.nvmlShutdown()
    pynvml.nvmlShutdown()
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(", 250.00")
    assert second.endswith(", [N/A]")
