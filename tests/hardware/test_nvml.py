"""NVIDIA GPUs through NVML: what is read, how the ladder is chosen, which GPUs and which share of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pynvml
import pytest

from carbonmon.core.errors import ConfigError, SensorUnavailable
from carbonmon.core.model import Failure, Reading
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.sensors import nvml
from carbonmon.hardware.sensors.nvml.sensor import NvmlSensor
from carbonmon.hardware.spec_sheets import gpu_spec
from tests.simulator import Constant, Gpu, Mig, Simulator, Square, can_build
from tests.support.harness import Monitor

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

REFUSED = """
from carbonmon.errors import SensorUnavailable
from carbonmon.ports import SensorSettings
from carbonmon.hardware.sensors import nvml
try:
    nvml.open_sensor(SensorSettings())
except SensorUnavailable as error:
    print(error.reason, error.remedy, sep="\\n")
"""


@pytest.fixture
def machine() -> Iterator[Simulator]:
    """Two GPUs of one kind behind this process's NVML; time stands still."""
    with Simulator(gpus=[Gpu(profile=Constant(300.0)), Gpu(profile=Constant(100.0))]) as simulated:
        simulated.freeze()
        simulated.preload()
        yield simulated


def opened(machine: Simulator, **settings: object) -> NvmlSensor:
    return nvml.open_sensor(SensorSettings(sysfs=machine.sysfs, **settings))  # type: ignore[arg-type]


def said(sensor: NvmlSensor, now_s: float, edge: bool = False) -> dict[str, Reading | Failure]:
    return {reading.device_id: reading for reading in sensor.read(now_s, edge)}


# ---- the two ways to read ----


def test_the_short_way_says_what_the_binding_says(machine: Simulator):
    for gpu in machine.gpus:
        gpu.set_utilization(Constant(37.0))
    sensor = opened(machine)
    first = said(sensor, 10.0)
    assert all(gpu.plain is not None for gpu in sensor._gpus)
    assert said(sensor, 11.0) == first, "time stands still"
    for gpu in sensor._gpus:
        gpu.plain = None
    assert said(sensor, 12.0) == first


@pytest.mark.parametrize(("fault", "lacking"), [("counter_error", "energy_uj"), ("power_error", "power_w")])
def test_where_one_call_fails_the_binding_tells_why_and_the_short_way_waits(
    machine: Simulator, fault: str, lacking: str
):
    sensor, gpu = opened(machine), machine.gpus[0]
    whole = said(sensor, 10.0)[gpu.uuid]
    gpu.fault(**{fault: 999})
    reading, failure = list(sensor.read(11.0))[:2]
    assert isinstance(reading, Reading)
    assert getattr(reading, lacking) is None
    assert (reading.utilization_ratio, failure) == (1.0, Failure(gpu.uuid, "unknown", "Unknown Error"))
    gpu.fault(**{fault: 0})
    assert said(sensor, 12.0)[gpu.uuid] == whole
    assert sensor._gpus[0].plain is not None


# ---- where it cannot serve ----


def test_without_the_library_it_says_how_to_get_one(tmp_path: Path):
    # A file that is no library comes before any real one, so this holds on machines with GPUs too.
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    done = subprocess.run(
        [sys.executable, "-c", REFUSED],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    reason, remedy = done.stdout.splitlines()
    assert (reason, done.stderr) == ("NVML: NVML Shared Library Not Found", "")
    assert "docker run --gpus all" in remedy


@pytest.mark.parametrize(
    ("code", "reason", "remedy"),
    [
        (9, "Driver Not Loaded", "sudo modprobe nvidia"),
        (18, "mismatch", "sudo reboot"),
        (4, "Insufficient Permissions", "/dev/nvidia"),
        (999, "Unknown Error", "nvidia-smi"),
    ],
)
def test_a_driver_that_refuses_is_named_with_what_mends_it(
    machine: Simulator, code: int, reason: str, remedy: str
):
    machine.fault(init_error=code)
    with pytest.raises(SensorUnavailable) as refused:
        opened(machine)
    assert reason in refused.value.reason
    assert remedy in refused.value.remedy


def test_gpus_that_the_user_may_not_read_are_named_and_the_driver_is_left_as_it_was(machine: Simulator):
    for gpu in machine.gpus:
        gpu.fault(no_permission=True)
    with pytest.raises(SensorUnavailable) as refused:
        opened(machine)
    assert "GPU 0 cannot be read: Insufficient Permissions; GPU 1" in refused.value.reason
    assert "/dev/nvidia" in refused.value.remedy
    assert machine.calls("nvmlShutdown") == 1


def test_a_driver_that_fails_while_it_is_opened_is_a_reason_and_not_a_crash(machine: Simulator):
    machine.fault(missing_functions=["nvmlDeviceGetCount_v2"])
    with pytest.raises(SensorUnavailable, match="Function Not Found"):
        opened(machine)
    assert machine.calls("nvmlShutdown") == 1


def test_a_machine_with_a_driver_but_without_gpus_is_no_source():
    with Simulator(gpus=[]) as machine:
        machine.preload()
        with pytest.raises(SensorUnavailable, match="NVML finds no GPU"):
            opened(machine)


def test_closing_twice_does_not_take_nvml_away_from_somebody_else(machine: Simulator):
    pynvml.nvmlInit()
    sensor = opened(machine)
    sensor.close()
    sensor.close()
    assert pynvml.nvmlDeviceGetCount() == 2
    pynvml.nvmlShutdown()


# ---- the ladder ----


def test_a_healthy_gpu_is_metered_by_its_counter_with_power_and_utilisation_below(machine: Simulator):
    with closing(opened(machine)) as sensor:
        first = sensor.devices()[0]
        assert (first.id, first.index, first.methods) == (
            machine.gpus[0].uuid,
            0,
            ("counter", "power", "tdp"),
        )
        assert (first.max_power_w, first.spec and first.spec.tdp_w) == (800.0, 400.0)
        assert sensor.sources()[0].reason == "2 of 2 GPUs: 2 by counter"
        before = said(sensor, 100.0)[first.id]
        machine.advance(10.0)
        after = said(sensor, 110.0)[first.id]
        assert isinstance(before, Reading) and isinstance(after, Reading)
        assert before.energy_uj is not None and after.energy_uj is not None
        assert after.energy_uj - before.energy_uj == pytest.approx(3000e6, rel=0.01)
        assert (after.power_w, after.utilization_ratio) == (300.0, 1.0)


def test_a_gpu_without_a_counter_is_integrated_from_the_driver_s_own_samples():
    fast = Square(60, 350, period_s=0.7, duty=0.3)
    with Simulator(gpus=[Gpu(profile=fast, virtualization=2), Gpu()]) as machine:
        machine.gpus[0].fault(no_counter=True)
        with Monitor(machine, sensors=("nvml",)) as monitor:
            uuid = machine.gpus[0].uuid
            assert monitor.device(uuid).device.methods == ("power", "tdp")
            assert "no energy counter; power is integrated" in str(monitor.sensors.sources)
            monitor.watch(60)
            assert abs(monitor.error_ratio(uuid)) < 0.01
            assert monitor.device(machine.gpus[1].uuid).power_j == 0.0


def test_a_gpu_without_power_is_estimated_for_itself_alone():
    gpus = [Gpu(profile=Constant(300.0), utilization=Constant(60.0)), Gpu(profile=Constant(200.0))]
    with Simulator(gpus=gpus) as machine:
        machine.gpus[0].fault(no_counter=True, no_power=True)
        with Monitor(machine, sensors=("nvml",)) as monitor:
            estimated, metered = (gpu.uuid for gpu in machine.gpus)
            assert monitor.device(estimated).device.methods == ("tdp",)
            monitor.watch(20)
            state = monitor.device(estimated)
            assert state.tdp_j == state.energy_j == pytest.approx(400.0 * 0.6 * 20)
            assert abs(monitor.error_ratio(metered)) < 0.005
            assert monitor.device(metered).tdp_j == 0.0


def test_a_gpu_that_says_nothing_at_all_is_taken_as_fully_used_from_the_first_second_on():
    with Simulator(gpus=[Gpu(), Gpu()]) as machine:
        machine.gpus[0].fault(no_counter=True, no_power=True, no_utilization=True)
        with Monitor(machine, sensors=("nvml",)) as monitor:
            state = monitor.device(machine.gpus[0].uuid)
            assert state.device.methods == ("tdp",)
            assert state.device.spec is not None
            assert state.device.spec.assumed_utilization_ratio == 1.0
            assert "assumed fully used" in state.device.spec.source
            monitor.watch(10)
            state = monitor.device(machine.gpus[0].uuid)
            assert (state.tdp_j, state.unobserved_s) == (pytest.approx(4000.0), 0.0)
            sensor = monitor.latest.sensors[0]
            assert (sensor.up, sensor.errors) == (True, ())


def test_a_gpu_that_says_nothing_and_has_no_known_tdp_asks_for_one(machine: Simulator):
    with Simulator(gpus=[Gpu(name="NVIDIA Secret 1")]) as machine:
        machine.preload()
        machine.gpus[0].fault(no_counter=True, no_power=True, no_utilization=True, no_power_limit=True)
        with closing(opened(machine)) as sensor:
            assert sensor.devices()[0].methods == ()
            assert sensor.sources()[1].use == "not used"
            assert "--gpu-tdp" in sensor.sources()[1].reason
        with closing(opened(machine, gpu_tdp_w=250.0)) as sensor:
            assert sensor.devices()[0].methods == ("tdp",)
            assert sensor.devices()[0].max_power_w == 500.0


def test_without_a_power_limit_the_table_s_tdp_is_the_bound(machine: Simulator):
    for gpu in machine.gpus:
        gpu.fault(no_power_limit=True)
    table = gpu_spec(machine.gpus[0].spec.name)
    assert table is not None
    with closing(opened(machine)) as sensor:
        assert sensor.devices()[0].max_power_w == 2.0 * table.tdp_w
        assert sensor.devices()[0].spec == table
    with closing(opened(machine, gpu_model="H100 PCIe 80GB:2")) as sensor:
        stated = sensor.devices()[0].spec
        assert stated is not None and "H100 PCIe" in stated.source


def test_the_user_s_own_tdp_is_the_spec_but_the_driver_s_limit_stays_the_bound(machine: Simulator):
    with closing(opened(machine, gpu_tdp_w=123.0)) as sensor:
        device = sensor.devices()[0]
        assert device.spec is not None
        assert (device.spec.tdp_w, device.spec.source, device.max_power_w) == (123.0, "--gpu-tdp", 800.0)


def test_an_older_driver_that_lacks_functions_still_gives_power(machine: Simulator):
    machine.fault(missing_functions=["nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetSamples"])
    with Monitor(machine, sensors=("nvml",)) as monitor:
        monitor.watch(10)
        state = monitor.device(machine.gpus[0].uuid)
        assert state.power_j == state.energy_j == pytest.approx(3000.0)
        assert monitor.latest.sensors[0].errors == ()


# ---- when it is read ----


def test_the_edge_of_a_run_reads_the_counter_though_it_was_read_a_moment_ago(machine: Simulator):
    with closing(opened(machine)) as sensor:
        uuid = machine.gpus[0].uuid
        counters = []
        for now_s, edge in ((100.0, True), (100.3, False), (100.3, True), (101.0, False), (101.27, False)):
            reading = said(sensor, now_s, edge)[uuid]
            assert isinstance(reading, Reading)
            assert reading.power_w == 300.0
            counters.append(reading.energy_uj is not None)
        assert counters == [True, False, True, False, True]


def test_a_tick_that_comes_a_little_early_is_still_one_read_a_second(machine: Simulator):
    with closing(opened(machine)) as sensor:
        uuid = machine.gpus[0].uuid
        for now_s in (100.0, 100.97, 101.95, 103.0):
            reading = said(sensor, now_s)[uuid]
            assert isinstance(reading, Reading)
            assert reading.energy_uj is not None


def test_only_a_gpu_without_a_counter_is_asked_for_its_samples(machine: Simulator):
    with Monitor(machine, sensors=("nvml",)) as monitor:
        monitor.watch(10)
        assert machine.calls("nvmlDeviceGetSamples") == 0


# ---- which GPUs ----


def test_a_gpu_that_is_not_there_is_a_mistake_and_named_with_those_that_are(machine: Simulator):
    first, second = (gpu.uuid[:12] for gpu in machine.gpus)
    for gpus in (("0", "9"), ("9",)):
        with pytest.raises(
            ConfigError, match=rf"--gpus 9: no such GPU here; there are 0 {first}, 1 {second} "
        ):
            opened(machine, gpus=gpus)


def test_a_gpu_that_is_there_and_does_not_answer_is_no_mistake_of_the_user(machine: Simulator):
    machine.gpus[1].fault(lost=1)
    for lost in ("1", "GPU-ffff"):
        with closing(opened(machine, gpus=("0", lost))) as sensor:
            notes = [source.reason for source in sensor.sources() if source.name == "nvml note"]
            assert any(note.startswith(f"--gpus {lost}: no such GPU here") for note in notes)
    with pytest.raises(ConfigError, match="--gpus 9"):
        opened(machine, gpus=("0", "9"))


def test_no_gpu_for_the_job_is_a_reason(machine: Simulator):
    with pytest.raises(SensorUnavailable, match=r"may use none of the 2 GPUs"):
        opened(machine, environ={"CUDA_VISIBLE_DEVICES": "-1"})


def test_one_unreadable_gpu_at_the_start_leaves_the_others(machine: Simulator):
    machine.gpus[0].fault(lost=True)
    with closing(opened(machine)) as sensor:
        assert [device.id for device in sensor.devices()] == [machine.gpus[1].uuid]
        assert "GPU 0 cannot be read: GPU is lost" in str(sensor.sources())


def test_indices_are_the_driver_s_for_the_user_and_the_bus_s_for_cuda():
    with Simulator(gpus=[Gpu(pci_bus=0x80), Gpu(pci_bus=0x10)]) as machine:
        machine.preload()
        on_80, on_10 = (gpu.uuid for gpu in machine.gpus)
        with closing(opened(machine, gpus=("0",))) as sensor:
            assert [device.id for device in sensor.devices()] == [on_80]
        with closing(opened(machine, environ={"CUDA_VISIBLE_DEVICES": "0"})) as sensor:
            assert [device.id for device in sensor.devices()] == [on_10]


@pytest.mark.parametrize(
    ("environ", "places"),
    [
        ({"NVIDIA_VISIBLE_DEVICES": "{uuid3}"}, [3]),
        ({"NVIDIA_VISIBLE_DEVICES": "1,3"}, [1, 3]),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, [0, 1, 2, 3]),
        ({"NVIDIA_VISIBLE_DEVICES": "all", "SLURM_STEP_GPUS": "0,1"}, [2, 3]),
        ({"SLURM_JOB_GPUS": "0,1,2"}, [1, 2, 3]),
        ({"SLURM_JOB_GPUS": "0,1,2", "CUDA_VISIBLE_DEVICES": "1"}, [1]),
        ({"SLURM_JOB_GPUS": "0,1,2", "CUDA_VISIBLE_DEVICES": "0"}, [1]),
    ],
)
def test_a_job_has_the_gpus_that_a_container_or_slurm_gave_it(environ: dict[str, str], places: list[int]):
    with Simulator(gpus=[Gpu(minor=minor) for minor in (3, 2, 1, 0)]) as machine:
        machine.preload()
        uuids = {f"uuid{gpu.place}": gpu.uuid for gpu in machine.gpus}
        filled = {key: value.format(**uuids) for key, value in environ.items()}
        with closing(opened(machine, environ=filled)) as sensor:
            assert sorted(device.index or 0 for device in sensor.devices()) == places


def test_no_gpu_for_the_job_names_the_variable_that_says_so(machine: Simulator):
    with pytest.raises(SensorUnavailable, match=r"none of the 2 GPUs \(NVIDIA_VISIBLE_DEVICES\)"):
        opened(machine, environ={"NVIDIA_VISIBLE_DEVICES": "none", "CUDA_VISIBLE_DEVICES": "0"})


def test_an_index_is_nvml_s_also_where_a_gpu_before_it_cannot_be_read():
    with Simulator(gpus=[Gpu(), Gpu(), Gpu()]) as machine:
        machine.preload()
        machine.gpus[0].fault(lost=True)
        with closing(opened(machine, gpus=("1",))) as sensor:
            assert [device.id for device in sensor.devices()] == [machine.gpus[1].uuid]


# ---- MIG ----


def test_an_index_on_a_gpu_in_mig_mode_is_its_first_instance():
    with Simulator(gpus=[Gpu(mig=[Mig(), Mig("3g.40gb", 3, 3)])]) as machine:
        machine.preload()
        with closing(opened(machine, environ={"CUDA_VISIBLE_DEVICES": "0"})) as sensor:
            (device,) = sensor.devices()
            assert (device.share_ratio, "1 of 7" in device.share_note) == (pytest.approx(1 / 7), True)


def test_compute_instances_of_one_gpu_instance_divide_its_slices():
    parts = [Mig("1c.3g.40gb", 3, 1, gpu_instance=2, compute_instance=i) for i in range(3)]
    with Simulator(gpus=[Gpu(mig=[*parts, Mig("4g.40gb", 4, 4)])]) as machine:
        machine.preload()
        gpu = machine.gpus[0]
        for count, slices in ((1, 1), (3, 3), (4, 7)):
            chosen = ",".join(gpu.mig_uuids[:count])
            with closing(opened(machine, environ={"CUDA_VISIBLE_DEVICES": chosen})) as sensor:
                assert [device.share_ratio for device in sensor.devices()] == [pytest.approx(slices / 7)]


def test_a_gpu_in_mig_mode_counts_once_and_its_instances_share_its_energy():
    mig = [Mig(), Mig(), Mig("3g.40gb", 3, 3)]
    with Simulator(gpus=[Gpu(profile=Constant(350.0), mig=mig), Gpu(mig=[])]) as machine:
        gpu = machine.gpus[0]
        chosen = ",".join(gpu.mig_uuids[:2])
        with Monitor(machine, sensors=("nvml",), environ={"CUDA_VISIBLE_DEVICES": chosen}) as monitor:
            (state,) = monitor.latest.devices
            assert (state.device.id, state.device.methods) == (gpu.uuid, ("counter", "power"))
            assert state.device.share_ratio == pytest.approx(2 / 7), "two instances of one size are two"
            assert state.device.share_note.count("1 of 7 slices") == 2
            monitor.watch(20)
            state = monitor.device(gpu.uuid)
            assert abs(monitor.error_ratio(gpu.uuid)) < 0.002
            run_j = sum(total.energy_j for total in monitor.latest.runs[0].totals)
            assert run_j == pytest.approx(state.energy_j * 2 / 7)
            assert run_j + state.unattributed_j == pytest.approx(state.energy_j, abs=1e-9)
            assert state.utilization_ratio is None


def test_a_gpu_in_mig_mode_without_a_choice_is_counted_whole():
    with Simulator(gpus=[Gpu(mig=[Mig(), Mig()])]) as machine:
        machine.preload()
        with closing(opened(machine)) as sensor:
            assert [(device.share_ratio, device.share_note) for device in sensor.devices()] == [(1.0, "")]


def test_a_mig_instance_of_unknown_size_or_by_its_old_name_counts_the_whole_gpu_and_says_so():
    with Simulator(gpus=[Gpu(mig=[Mig(), Mig("3g.40gb", 3, 3)])]) as machine:
        machine.preload()
        gpu = machine.gpus[0]
        old_name = f"MIG-{gpu.uuid}/8/0"
        with closing(opened(machine, environ={"CUDA_VISIBLE_DEVICES": old_name})) as sensor:
            assert [device.share_ratio for device in sensor.devices()] == [pytest.approx(3 / 7)]
        machine.fault(missing_functions=["nvmlDeviceGetGpuInstanceId"])
        with closing(opened(machine, environ={"CUDA_VISIBLE_DEVICES": old_name})) as sensor:
            (device,) = sensor.devices()
            assert (device.id, device.share_ratio) == (gpu.uuid, 1.0)
            assert "by its old name" in device.share_note
        machine.fault(missing_functions=["nvmlDeviceGetAttributes_v2"])
        with closing(opened(machine, gpus=(gpu.mig_uuids[1],))) as sensor:
            (device,) = sensor.devices()
            assert (device.share_ratio, "unknown size" in device.share_note) == (1.0, True)
