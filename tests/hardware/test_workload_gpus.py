"""Which run's processes are on which GPU, asked of the simulated NVML."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pynvml
import pytest

from carbonmon.core.model import Device, GpuClaim
from carbonmon.hardware.workload import holders
from carbonmon.hardware.workload.gpus import GpuProcesses, read_inventory
from carbonmon.hardware.workload.holders import GpuHolders
from tests.simulator import Gpu, Mig, Process, Simulator, can_build

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

LISTS = "nvmlDeviceGetComputeRunningProcesses_v3"
UTILIZATION = "nvmlDeviceGetProcessUtilization"


@pytest.fixture
def machine() -> Iterator[Simulator]:
    with Simulator(gpus=[Gpu(), Gpu()]) as simulated:
        simulated.freeze()
        simulated.preload()
        yield simulated


def uuids(machine: Simulator) -> list[str]:
    return [gpu.uuid for gpu in machine.gpus]


def devices(machine: Simulator) -> dict[str, Device]:
    return {gpu.uuid: Device(gpu.uuid, "gpu", gpu.spec.name, place) for place, gpu in enumerate(machine.gpus)}


# ---- what NVML says ----


def test_processes_are_listed_by_gpu_and_graphics_do_not_count(machine: Simulator):
    first, second = uuids(machine)
    machine.gpus[0].set_processes([Process(11), Process(12), Process(13, graphics=True)])
    with closing(GpuProcesses([first, second, "GPU-elsewhere"])) as gpus:
        assert gpus.processes(0.0) == {first: {11, 12}, second: frozenset(), "GPU-elsewhere": None}


def test_utilisation_is_a_ratio_by_pid_and_nobody_active_is_zero_for_all(machine: Simulator):
    first, second = uuids(machine)
    machine.gpus[0].set_processes([Process(11, sm_percent=60), Process(12, sm_percent=25)])
    with closing(GpuProcesses([first, second])) as gpus:
        machine.advance(1.0)
        assert gpus.utilization(first, 1.0) == {11: 0.6, 12: 0.25}
        assert gpus.utilization(first, 1.0) == {}, "there is no newer sample"
        assert gpus.utilization(second, 1.0) == {}


def test_under_mig_utilisation_is_unknown_and_processes_are_known():
    with Simulator(gpus=[Gpu(mig=[Mig(), Mig()], processes=[Process(11, mig=0)])]) as machine:
        machine.preload()
        (uuid,) = uuids(machine)
        with closing(GpuProcesses([uuid])) as gpus:
            assert gpus.processes(0.0) == {uuid: {11}}
            assert gpus.utilization(uuid, 0.0) is None


def test_a_gpu_without_lists_is_unknown_and_said_so(machine: Simulator):
    first, second = uuids(machine)
    machine.gpus[0].fault(no_processes=True, no_utilization=True)
    with closing(GpuProcesses([first, second])) as gpus:
        assert gpus.processes(0.0) == {first: None, second: frozenset()}
        assert gpus.utilization(first, 0.0) is None
        assert gpus.unsupported == {first}
        machine.gpus[0].clear()
        assert gpus.processes(0.0)[first] == frozenset()
        assert gpus.unsupported == set()


def test_an_older_driver_is_asked_in_its_own_version(machine: Simulator):
    machine.fault(missing_functions=[LISTS])
    machine.gpus[0].set_processes([Process(11)])
    first, _ = uuids(machine)
    with closing(GpuProcesses([first])) as gpus:
        assert gpus.processes(0.0) == {first: {11}}


def test_a_lost_gpu_is_unknown_until_it_is_back(machine: Simulator):
    first, second = uuids(machine)
    with closing(GpuProcesses([first, second])) as gpus:
        machine.gpus[0].fault(lost=True)
        assert gpus.processes(0.0) == {first: None, second: frozenset()}
        machine.gpus[0].clear()
        assert gpus.processes(0.1)[first] == frozenset()


def test_a_reloaded_driver_is_initialised_anew_after_a_pause_and_gpus_are_found_by_uuid(machine: Simulator):
    first, second = uuids(machine)
    machine.gpus[1].set_processes([Process(11)])
    with closing(GpuProcesses([first, second])) as gpus:
        assert gpus.processes(0.0)[second] == {11}
        machine.reload_driver(order=[1, 0])
        assert gpus.processes(5.0) == {first: None, second: None}
        assert gpus.processes(5.5) == {first: None, second: None}, "not at once"
        assert gpus.processes(6.5) == {first: frozenset(), second: {11}}


def test_a_driver_that_is_away_is_asked_ever_more_seldom(machine: Simulator):
    machine.fault(init_error=9)
    with closing(GpuProcesses(uuids(machine))) as gpus:
        for second in range(200):
            assert set(gpus.processes(float(second)).values()) == {None}
        assert machine.calls("nvmlInit_v2") + machine.calls("nvmlInitWithFlags") < 12
        machine.clear()
        assert set(gpus.processes(300.0).values()) == {frozenset()}
    assert read_inventory().found[0].uuid == uuids(machine)[0]
    machine.fault(init_error=9)
    assert read_inventory().found == []


def test_closing_does_not_take_nvml_away_from_somebody_else(machine: Simulator):
    pynvml.nvmlInit()
    gpus = GpuProcesses(uuids(machine))
    gpus.processes(0.0)
    gpus.close()
    gpus.close()
    read_inventory()
    assert pynvml.nvmlDeviceGetCount() == 2
    pynvml.nvmlShutdown()


# ---- who holds which GPU ----

OWNERS = {11: "a", 12: "b", 13: "b"}


def held(
    gpus: GpuHolders, now_s: float, owners: dict[int, str] = OWNERS, **allocations: dict[str, float] | None
) -> tuple[holders.Claims, dict[str, float | None]]:
    gpus.poll(now_s, allocations)
    return gpus.claims(now_s, allocations, owners.get)


def test_a_run_without_an_allocation_holds_the_gpus_that_its_processes_are_on(machine: Simulator):
    first, second = uuids(machine)
    machine.gpus[0].set_processes([Process(11)])
    machine.gpus[1].set_processes([Process(99)])
    with closing(GpuHolders(devices(machine), True)) as gpus:
        claims, others = held(gpus, 0.0, a=None, b=None)
        assert claims == {"a": {first: GpuClaim(1.0, None, "its processes")}, "b": {}}
        assert others == {second: None}
        assert gpus.notes() == ()


def test_an_allocated_gpu_is_held_though_nobody_is_on_it_and_nvml_is_not_asked(machine: Simulator):
    first, second = uuids(machine)
    with closing(GpuHolders(devices(machine), True)) as gpus:
        claims, others = held(gpus, 0.0, a={first: 1.0, "GPU-elsewhere": 1.0}, b={second: 2 / 7})
        assert claims["a"] == {first: GpuClaim(1.0, None, "allocated")}
        assert claims["b"] == {second: GpuClaim(2 / 7, None, "allocated")}
        assert (others, machine.calls(LISTS), machine.calls(UTILIZATION)) == ({}, 0, 0)


def test_a_gpu_of_two_runs_is_told_apart_by_utilisation(machine: Simulator):
    first, second = uuids(machine)
    machine.gpus[0].set_processes([Process(11, sm_percent=30), Process(12, sm_percent=20), Process(13, 80)])
    with closing(GpuHolders(devices(machine), True)) as gpus:
        claims, others = held(gpus, 0.0, a={first: 1.0}, b={first: 1.0, second: 1.0})
        assert claims["a"][first].sm_ratio == pytest.approx(0.3)
        assert claims["b"][first].sm_ratio == 1.0
        assert claims["b"][second].sm_ratio is None
        assert others == {}
        assert machine.calls(UTILIZATION, 1) == 0


def test_of_runs_that_were_given_one_gpu_those_with_a_process_there_hold_it(machine: Simulator):
    first, _ = uuids(machine)
    with closing(GpuHolders(devices(machine), True)) as gpus:
        machine.gpus[0].set_processes([Process(12, sm_percent=0)])
        claims, others = held(gpus, 0.0, a={first: 1.0}, b={first: 1.0})
        assert (claims, others) == ({"a": {}, "b": {first: GpuClaim(1.0, None, "allocated")}}, {})
        machine.gpus[0].set_processes([])
        claims, _ = held(gpus, 10.0, a={first: 1.0}, b={first: 1.0})
        assert claims["a"].keys() == claims["b"].keys() == {first}, "nobody is there"
        machine.gpus[0].set_processes([Process(12)])
        claims, _ = held(gpus, 20.0, a={first: 2 / 7}, b={first: 1.0})
        assert claims["a"].keys() == {first}, "a slice is its run's, whoever else is on the GPU"


def test_processes_of_no_run_are_a_party_of_their_own(machine: Simulator):
    first, _ = uuids(machine)
    machine.gpus[0].set_processes([Process(11, sm_percent=30), Process(98, 10), Process(99, 20)])
    with closing(GpuHolders(devices(machine), True)) as gpus:
        claims, others = held(gpus, 0.0, a=None)
        assert claims["a"][first].sm_ratio == pytest.approx(0.3)
        assert others == {first: pytest.approx(0.3)}
        machine.gpus[0].fault(no_utilization=True)
        claims, others = held(gpus, 10.0, a=None)
        assert (claims["a"][first].sm_ratio, others) == (None, {first: None})


def test_lists_are_asked_every_five_seconds_and_utilisation_each_second(machine: Simulator):
    first, _ = uuids(machine)
    machine.gpus[0].set_processes([Process(11), Process(12)])
    with closing(GpuHolders(devices(machine), True)) as gpus:
        held(gpus, 0.0, a=None, b=None)
        lists, busy = machine.calls(LISTS, 0), machine.calls(UTILIZATION, 0)
        for tenth in range(1, 100):
            claims, _ = held(gpus, tenth / 10, a=None, b=None)
            assert claims["a"][first].sm_ratio is not None
        assert machine.calls(LISTS, 0) == 2 * lists
        assert machine.calls(UTILIZATION, 0) - busy <= 10 * busy
        gpus.invalidate()
        held(gpus, 9.95, a=None, b=None)
        assert machine.calls(LISTS, 0) == 3 * lists


def test_a_run_s_process_that_ended_since_the_list_is_nobody_else_s(machine: Simulator):
    first, _ = uuids(machine)
    machine.gpus[0].set_processes([Process(11)])
    with closing(GpuHolders(devices(machine), True)) as gpus:
        held(gpus, 0.0, a=None)
        assert held(gpus, 1.0, {}, a=None) == ({"a": {}}, {})
        assert held(gpus, 2.0, {11: "a"}, a=None)[0]["a"][first].note == "its processes"


def test_in_a_container_every_gpu_is_held_by_every_run_that_has_no_allocation(machine: Simulator):
    first, second = uuids(machine)
    with closing(GpuHolders(devices(machine), False)) as gpus:
        claims, others = held(gpus, 0.0, a=None, b={first: 1.0})
        assert claims["a"] == dict.fromkeys((first, second), GpuClaim(1.0, None, holders.UNKNOWN))
        assert claims["b"] == {first: GpuClaim(1.0, None, "allocated")}
        assert (others, gpus.notes()) == ({}, (holders.IN_A_CONTAINER,))
        assert machine.calls(LISTS) == 0
        held(gpus, 1.0, b={first: 1.0})
        assert gpus.notes() == ()


def test_where_a_driver_lists_no_processes_its_gpu_is_held_by_all_and_named(machine: Simulator):
    first, second = uuids(machine)
    machine.gpus[0].fault(no_processes=True)
    with closing(GpuHolders(devices(machine), True)) as gpus:
        claims, _ = held(gpus, 0.0, a=None)
        assert claims["a"] == {first: GpuClaim(1.0, None, holders.UNKNOWN)}
        assert gpus.notes() == (f"GPU 0 {first}: its driver lists no processes",)
        machine.gpus[1].fault(lost=True)
        claims, _ = held(gpus, 10.0, a=None)
        assert set(claims["a"]) == {first, second}
        assert gpus.notes()[1].startswith(f"GPU 1 {second}: NVML cannot list")


def test_a_machine_without_gpus_never_asks_nvml(machine: Simulator):
    with closing(GpuHolders({}, True)) as gpus:
        assert held(gpus, 0.0, a=None) == ({"a": {}}, {})
        assert gpus.notes() == ()
    assert machine.calls("nvmlInitWithFlags") + machine.calls("nvmlInit_v2") == 0
