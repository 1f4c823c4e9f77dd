"""Superchips through NVML: the module's meter is counted once, and nothing that it holds beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from carbonmon.core.attribution import Share, module_shares
from carbonmon.core.config import Config
from carbonmon.core.model import Part
from carbonmon.runs.report.markdown import markdown_text
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.text import table_text
from carbonmon.runs.summary.validation import fault_of
from carbonmon.service.open_sensors import Sensors, open_sensors
from tests.simulator import Constant, Gpu, Package, Simulator, Square, can_build
from tests.support.harness import Monitor
from tests.support.recorded import RecordedMachine, recorded_machine

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

GH200 = "NVIDIA GH200 480GB"


def chip(superchip: int = 1, name: str = GH200, counter_mj: int = 1_234_567) -> Gpu:
    return Gpu(
        name=name,
        profile=Square(350.0, 550.0, 0.7),
        rest=Constant(250.0),
        superchip=superchip,
        power_limit_w=900.0,
        counter_start_mj=counter_mj,
    )


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[RecordedMachine]:
    with recorded_machine(tmp_path) as machine:
        machine.memory(600 << 20)
        yield machine


@contextmanager
def opened(simulated: Sequence[Gpu], recorded: RecordedMachine, **choice: object) -> Iterator[Sensors]:
    with Simulator(gpus=simulated) as machine, ExitStack() as closing:
        machine.freeze()
        machine.preload()
        config = Config(sysfs=recorded.sysfs, procfs=recorded.procfs, **choice)  # type: ignore[arg-type]
        yield open_sensors(config, {}, closing)


def attach(recorded: RecordedMachine, bus: int, cpu: int) -> None:
    """Say in sysfs that a GPU is near this CPU, as superchips do."""
    folder = recorded.sysfs / f"bus/pci/devices/0000:{bus:02x}:00.0"
    folder.mkdir(parents=True)
    (folder / "local_cpulist").write_text(f"{cpu}-{cpu + 1}\n")


@pytest.mark.parametrize("superchip", [1, 2])
def test_the_module_is_counted_once_and_exactly(superchip: int, recorded: RecordedMachine):
    with Simulator(gpus=[chip(superchip)], packages=[]) as machine:
        sensors = ("nvml", "rapl", "tdp", "dram")
        with Monitor(machine, sensors=sensors, procfs=recorded.procfs) as monitor:
            monitor.watch(20.0)
            final = monitor.finish()
            drawn_j = machine.gpus[0].module_energy_j(monitor.start_s, machine.now_s())
    (state,) = final.devices
    assert (state.device.id, state.device.component) == ("module-0", "module")
    assert state.counter_j == pytest.approx(drawn_j, rel=2e-3)
    assert state.energy_j == state.counter_j
    assert state.device.contains == (
        Part("gpu", None, machine.gpus[0].uuid),
        Part("cpu"),
        Part("dram"),
    )
    assert sum(row.energy_j for row in final.runs[0].totals) == pytest.approx(drawn_j, rel=2e-3)


def test_each_source_that_is_left_out_says_who_has_its_energy(recorded: RecordedMachine):
    with opened([chip()], recorded) as sensors:
        states = {source.name: source for source in sensors.sources}
        assert states["nvml"].reason == "1 of 1 GPUs: 1 whole module by counter"
        for name in ("tdp", "dram"):
            assert states[name].use == "not used"
            assert "is in module-0 (measured)" in states[name].reason
        assert [sensor.name for sensor in sensors.sensors] == ["nvml"]


def test_a_superchip_is_told_by_its_link_to_the_cpu_if_its_name_is_new(recorded: RecordedMachine):
    with opened([chip(name="NVIDIA XX9000")], recorded) as sensors:
        assert list(sensors.devices) == ["module-0"]


def test_a_superchip_is_told_by_its_name_where_the_driver_knows_no_link(recorded: RecordedMachine):
    with Simulator(gpus=[chip()]) as machine, ExitStack() as closing:
        machine.preload()
        machine.fault(missing_functions=("nvmlDeviceGetC2cModeInfoV", "nvmlDeviceGetFieldValues"))
        sensors = open_sensors(Config(sysfs=recorded.sysfs, procfs=recorded.procfs), {}, closing)
        assert list(sensors.devices) == ["module-0"]


def test_any_other_gpu_has_no_module(recorded: RecordedMachine):
    with opened([Gpu(), Gpu(name="NVIDIA GB203-400")], recorded) as sensors:
        assert [device.component for device in sensors.devices.values()] == ["gpu", "gpu", "cpu", "dram"]


def test_four_superchips_hold_their_own_cpus_and_the_memory(recorded: RecordedMachine):
    recorded.packages(2, 0, 1, 2, 3)
    for number in range(4):
        attach(recorded, 0x10 + number, 2 * number)
    with opened([chip(counter_mj=10**7 + number) for number in range(4)], recorded) as sensors:
        assert list(sensors.devices) == [f"module-{number}" for number in range(4)]
        assert [device.contains[1:] for device in sensors.devices.values()] == [
            (Part("cpu", number), Part("dram", number)) for number in range(4)
        ]


def test_the_cpu_of_a_superchip_that_the_job_was_not_given_is_estimated(recorded: RecordedMachine):
    recorded.packages(2, 0, 1)
    for number in range(2):
        attach(recorded, 0x10 + number, 2 * number)
    with opened([chip(), chip()], recorded, gpus=("1",)) as sensors:
        assert list(sensors.devices) == ["module-1", "package-0"]
        tdp = next(source for source in sensors.sources if source.name == "tdp")
        assert "package-0 = " in tdp.reason and "package-1" not in tdp.reason


def test_two_gpus_with_counters_of_their_own_on_one_cpu_count_it_once(recorded: RecordedMachine):
    attach(recorded, 0x10, 0)
    attach(recorded, 0x11, 0)
    with opened([chip(counter_mj=7_000_000), chip(counter_mj=8_000_000)], recorded) as sensors:
        assert list(sensors.devices) == ["module-0", "module-1"]
        held = [part.component for device in sensors.devices.values() for part in device.contains]
        assert held == ["gpu", "cpu", "dram", "gpu"]


def test_two_gpus_that_show_one_counter_are_one_module(recorded: RecordedMachine):
    attach(recorded, 0x10, 0)
    attach(recorded, 0x11, 0)
    with opened([chip(), chip()], recorded) as sensors:
        (module,) = sensors.devices.values()
        assert [part.component for part in module.contains] == ["gpu", "cpu", "dram", "gpu"]
        assert len(module.gpu_ids) == 2


def test_without_a_counter_the_gpu_s_power_and_the_cpu_s_estimate_are_beside_one_another(
    recorded: RecordedMachine,
):
    with Simulator(gpus=[chip()]) as machine, ExitStack() as closing:
        machine.preload()
        machine.gpus[0].fault(no_counter=1)
        sensors = open_sensors(Config(sysfs=recorded.sysfs, procfs=recorded.procfs), {}, closing)
        devices = [(device.component, device.methods) for device in sensors.devices.values()]
        assert devices == [("gpu", ("power", "tdp")), ("cpu", ("tdp",)), ("dram", ("tdp",))]


def test_a_module_s_power_stands_in_for_its_counter(recorded: RecordedMachine):
    with (
        Simulator(gpus=[chip(2)]) as machine,
        Monitor(machine, sensors=("nvml", "tdp"), procfs=recorded.procfs) as monitor,
    ):
        monitor.watch(5.0)
        machine.gpus[0].fault(counter_error=999)
        monitor.watch(30.0)
        final = monitor.finish()
        drawn_j = machine.gpus[0].module_energy_j(monitor.start_s, machine.now_s())
    (state,) = final.devices
    assert state.power_j > 0.0
    assert state.energy_j == pytest.approx(drawn_j, rel=0.02)


def test_with_the_estimates_named_first_the_module_is_still_counted_once(recorded: RecordedMachine):
    with Simulator(gpus=[chip()]) as machine, ExitStack() as closing:
        machine.preload()
        recorded.gpu("0009:01:00.0", GH200, machine.gpus[0].uuid)
        sensors = ("dram", "tdp", "nvml")
        config = Config(sysfs=recorded.sysfs, procfs=recorded.procfs, sensors=sensors)
        assert list(open_sensors(config, {}, closing).devices) == ["module-0"]


def test_where_nvml_is_absent_the_module_s_figure_holds_cpu_and_memory(recorded: RecordedMachine):
    recorded.gpu("0009:01:00.0", GH200, "GPU-7e57ab1e-0000-4000-8000-000000000000")
    with Simulator() as machine, ExitStack() as closing:
        machine.preload()
        machine.fault(init_error=9)
        config = Config(sysfs=recorded.sysfs, procfs=recorded.procfs)
        (device,) = open_sensors(config, {}, closing).devices.values()
        assert (device.component, device.methods) == ("module", ("tdp",))


def test_a_lost_superchip_is_a_failure_of_its_module(recorded: RecordedMachine):
    with Simulator(gpus=[chip()]) as machine, Monitor(machine, sensors=("nvml",)) as monitor:
        monitor.watch(2.0)
        machine.gpus[0].fault(lost=1)
        monitor.watch(3.0)
        machine.gpus[0].clear()
        monitor.watch(70.0)
        final = monitor.finish()
        drawn_j = machine.gpus[0].module_energy_j(monitor.start_s, machine.now_s())
    (state,) = final.devices
    assert state.counter_j == pytest.approx(drawn_j, rel=2e-3)


def test_where_gpu_package_and_memory_are_measured_one_by_one_they_are_counted():
    packages = [Package(profile=Constant(90.0), dram=Constant(9.0), start_uj=10**9)]
    with Simulator(gpus=[chip(2)], packages=packages) as machine, Monitor(machine) as monitor:
        assert list(monitor.sensors.devices) == [machine.gpus[0].uuid, "package-0", "dram-0"]
        assert "nvml module-0" in [source.name for source in monitor.sensors.unused()]


def test_where_the_gpu_has_no_counter_of_its_own_the_module_s_is_counted():
    packages = [Package(profile=Constant(90.0), dram=Constant(9.0), start_uj=10**9)]
    with Simulator(gpus=[chip(1)], packages=packages) as machine, Monitor(machine) as monitor:
        assert list(monitor.sensors.devices) == ["module-0"]


def test_a_module_is_in_the_summary_and_its_texts(recorded: RecordedMachine):
    with (
        Simulator(gpus=[chip()]) as machine,
        Monitor(machine, sensors=("nvml", "tdp", "dram"), procfs=recorded.procfs) as monitor,
    ):
        monitor.watch(5.0)
        final = monitor.finish()
    summary = summarize(final, final.runs[0], "final")
    assert not fault_of(summary)
    assert summary["energy"]["components"].keys() == {"module"}
    assert "module" in table_text(summary)
    text = markdown_text(summary)
    assert "modules (GPU, CPU and memory by one meter)" in text
    assert "none was metered" not in text


SHARE_A, SHARE_B = {"a": Share(1.0, "held")}, {"a": Share(0.5, "held"), "b": Share(0.5, "held")}


def test_a_module_is_shared_as_its_gpus_are():
    assert module_shares([SHARE_B], {"a": Share(1.0, "cpu")}) == SHARE_B
    both = module_shares([SHARE_A, SHARE_B], {})
    assert {run: share.ratio for run, share in both.items()} == {"a": 0.75, "b": 0.25}


def test_a_module_whose_gpu_nobody_holds_is_shared_by_cpu_time():
    by_cpu = {"a": Share(0.25, "by CPU time"), "b": Share(0.5, "by CPU time")}
    assert module_shares([{}], by_cpu) == by_cpu
