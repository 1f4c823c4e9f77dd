"""TPUs: found on the PCI bus, asked over real gRPC, and what the answers may hold."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from carbonmon.core import fallback
from carbonmon.core.errors import ConfigError, SensorUnavailable
from carbonmon.core.model import Failure, Reading
from carbonmon.core.ports import Sensor, SensorSettings
from carbonmon.hardware.sensors import tpu
from carbonmon.hardware.sensors.tpu import duty_cycle
from carbonmon.hardware.sensors.tpu.duty_cycle import BadAnswer, Row, addresses, by_chip
from carbonmon.hardware.tpu_chips import find_tpu_chips
from tests.simulator.tpu import METRIC, V2, V3, V4, V5E, V5P, V6E, V7X, MetricsService, TpuTree, row


@pytest.fixture
def service() -> Iterator[MetricsService]:
    with MetricsService(lambda: [75.0] * 8) as served:
        yield served


def sensor_of(tree: TpuTree, service: MetricsService, **settings: Any) -> Sensor:
    own = {"gpu_tdp_w": 200.0, "argument": f"localhost:{service.port}"} | settings
    return tpu.open_sensor(SensorSettings(sysfs=tree.sysfs, **own))


def ratios(sensor: Sensor) -> list[float | None]:
    readings = list(sensor.read(0.0))
    assert all(isinstance(reading, Reading) for reading in readings), readings
    return [reading.utilization_ratio for reading in readings if isinstance(reading, Reading)]


def failures(sensor: Sensor) -> set[str]:
    return {reading.reason for reading in sensor.read(0.0) if isinstance(reading, Failure)}


@pytest.mark.parametrize(
    ("generation", "vfio", "functions", "name"),
    [
        (V2, False, 1, "TPU v2"),
        (V3, False, 1, "TPU v3"),
        (V4, False, 1, "TPU v4"),
        (V5E, True, 1, "TPU v5e"),
        (V5P, True, 1, "TPU v5p"),
        (V6E, True, 1, "TPU v6e"),
        (V7X, True, 2, "TPU7x"),
    ],
)
def test_each_generation_is_known_by_its_numbers_and_a_chip_is_one_device(
    tmp_path: Path, generation: tuple[str, str], vfio: bool, functions: int, name: str
):
    tree = TpuTree(tmp_path / "sys", generation, 4, vfio=vfio, functions=functions)
    chips = find_tpu_chips(tree.sysfs)
    assert [chip.id for chip in chips] == tree.ids
    assert {chip.generation.name for chip in chips} == {name}
    assert chips[1].file == (f"/dev/vfio/{10 + functions}" if vfio else "/dev/accel1")


def test_the_order_is_that_of_the_files_by_number(tmp_path: Path):
    tree = TpuTree(tmp_path / "sys", V5E, 8)
    assert [chip.file for chip in find_tpu_chips(tree.sysfs)] == [f"/dev/vfio/{10 + n}" for n in range(8)]


def test_in_googles_cloud_a_chip_without_a_driver_is_found_too(tmp_path: Path):
    tree = TpuTree(tmp_path / "sys", V5E, 1)
    (tree.sysfs / "bus/pci/drivers/vfio-pci/0000:00:04.0").unlink()
    assert find_tpu_chips(tree.sysfs) == []
    (tree.sysfs / "class/dmi/id").mkdir(parents=True)
    (tree.sysfs / "class/dmi/id/sys_vendor").write_text("Google\n")
    assert [chip.id for chip in find_tpu_chips(tree.sysfs)] == tree.ids


def test_other_devices_of_google_are_no_tpu(tmp_path: Path):
    network = TpuTree(tmp_path / "sys", ("0x0042", "0x0058"), 1)
    assert find_tpu_chips(network.sysfs) == []


def test_where_no_chip_is_nothing_is_loaded_and_nobody_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: MetricsService
):
    monkeypatch.delitem(sys.modules, "carbonmon.hardware.sensors.tpu.sensor", raising=False)
    with pytest.raises(SensorUnavailable, match="no TPU that is known here"):
        tpu.open_sensor(SensorSettings(sysfs=tmp_path, argument=f"localhost:{service.port}"))
    assert "carbonmon.hardware.sensors.tpu.sensor" not in sys.modules
    assert not service.asked


def test_a_v5e_8_is_eight_devices_with_the_duty_cycle_of_each(tmp_path: Path, service: MetricsService):
    service.percents = lambda: [0.0, 12.5, 25.0, 37.5, 50.0, 62.5, 75.0, 100.0]
    with closing(sensor_of(TpuTree(tmp_path / "sys", V5E, 8), service)) as sensor:
        assert ratios(sensor) == [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0]
        devices = sensor.devices()
        assert {device.methods for device in devices} == {("tdp",)}, "estimated, never measured"
        assert {device.component for device in devices} == {"gpu"}
        assert all(device.spec and device.spec.tdp_w == 200.0 for device in devices)
    assert service.asked == {METRIC: 1}


def test_a_duty_cycle_that_each_core_repeats_is_its_chips(tmp_path: Path, service: MetricsService):
    service.percents = lambda: [20.0, 20.0, 80.0, 80.0, 40.0, 40.0, 0.0, 0.0]
    with closing(sensor_of(TpuTree(tmp_path / "sys", V3, 4, vfio=False), service)) as sensor:
        assert ratios(sensor) == [0.2, 0.8, 0.4, 0.0]
        service.percents = lambda: [20.0, 80.0, 40.0, 0.0]
        assert ratios(sensor) == [0.2, 0.8, 0.4, 0.0], "and one row for each chip is the same"


def test_rows_in_any_order_are_those_of_their_numbers(tmp_path: Path, service: MetricsService):
    service.metrics = [row(2, 30.0), row(0, 10.0), row(3, 40.0), row(1, 20.0)]
    with closing(sensor_of(TpuTree(tmp_path / "sys", V5E, 4), service)) as sensor:
        assert ratios(sensor) == [0.1, 0.2, 0.3, 0.4]


def test_before_and_after_the_job_the_power_is_unknown_and_no_error(tmp_path: Path):
    tree = TpuTree(tmp_path / "sys", V5E, 2)
    service = MetricsService(lambda: [50.0, 50.0])
    with closing(sensor_of(tree, service)) as sensor:
        assert ratios(sensor) == [0.5, 0.5]
        service.stop()
        assert ratios(sensor) == [None, None], "unknown is not 0"


def test_a_published_power_at_no_load_is_in_the_estimate(tmp_path: Path, service: MetricsService):
    with closing(sensor_of(TpuTree(tmp_path / "sys", V4, 1, vfio=False), service, gpu_tdp_w=None)) as sensor:
        (device,) = sensor.devices()
        assert device.spec is not None
        assert (device.spec.tdp_w, device.spec.idle_w) == (192.0, 90.0)
        assert fallback.estimated_power_w(device, Reading(device.id, utilization_ratio=0.0)) == 90.0
        assert fallback.estimated_power_w(device, Reading(device.id, utilization_ratio=1.0)) == 192.0
        assert fallback.estimated_power_w(device, Reading(device.id)) is None
        assert "90 W at no load" in sensor.sources()[0].reason


@pytest.mark.parametrize("generation", [V5E, V5P, V6E, V7X])
def test_a_power_that_was_never_published_is_asked_of_the_user(
    tmp_path: Path, service: MetricsService, generation: tuple[str, str]
):
    tree = TpuTree(tmp_path / "sys", generation, 8)
    with pytest.raises(SensorUnavailable, match="its power was never published") as refused:
        sensor_of(tree, service, gpu_tdp_w=None)
    assert "--gpu-tdp WATTS" in refused.value.remedy
    assert not service.asked


def test_a_package_that_is_not_there_is_said_with_the_command(
    tmp_path: Path, service: MetricsService, monkeypatch: pytest.MonkeyPatch
):
    for name in ("tpu_info", "tpu_info.proto"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SensorUnavailable, match="tpu-info is not installed") as refused:
        sensor_of(TpuTree(tmp_path / "sys", V5E, 1), service)
    assert refused.value.remedy == "pip install 'carbonmon[tpu]'"


def test_a_package_that_does_not_fit_its_grpc_is_a_step_down(
    tmp_path: Path, service: MetricsService, monkeypatch: pytest.MonkeyPatch
):
    def broken(name: str, *more: Any) -> Any:
        if name.startswith("tpu_info"):
            raise RuntimeError("The grpc package installed is at version 1.0")
        return found(name, *more)

    found = __import__
    monkeypatch.setattr("builtins.__import__", broken)
    with pytest.raises(SensorUnavailable, match="cannot be loaded: RuntimeError: The grpc package"):
        sensor_of(TpuTree(tmp_path / "sys", V5E, 1), service)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "permission"),
        (grpc.StatusCode.UNIMPLEMENTED, "unsupported"),
        (grpc.StatusCode.INTERNAL, "io"),
        (grpc.StatusCode.DATA_LOSS, "io"),
    ],
)
def test_an_error_of_the_service_is_one_failure_of_each_chip(
    tmp_path: Path, service: MetricsService, code: Any, reason: str
):
    with closing(sensor_of(TpuTree(tmp_path / "sys", V5E, 8), service)) as sensor:
        service.code = code
        assert failures(sensor) == {reason}
        assert len(list(sensor.read(1.0))) == 8
        service.code = None
        assert ratios(sensor) == [0.75] * 8


@pytest.mark.parametrize(
    "rows",
    [
        [row(0, float("nan"))],
        [row(0, -1.0)],
        [row(0, 905.0)],
        [row(0, float("inf"))],
        [row(n, 1.0) for n in range(9)],
        [row(0, 4294967295.0)],
    ],
    ids=["nan", "negative", "905 %", "infinite", "more than there are", "0xFFFFFFFF"],
)
def test_a_duty_cycle_that_is_none_is_rejected(tmp_path: Path, service: MetricsService, rows: list[Any]):
    service.metrics = rows
    with closing(sensor_of(TpuTree(tmp_path / "sys", V5E, 8), service)) as sensor:
        assert failures(sensor) == {"garbage"}


def test_rows_without_a_value_and_an_empty_answer_are_told_apart(tmp_path: Path, service: MetricsService):
    with closing(sensor_of(TpuTree(tmp_path / "sys", V5E, 2), service)) as sensor:
        service.metrics = []
        assert ratios(sensor) == [None, None]
        bare = row(0, 1.0)
        bare.ClearField("gauge")
        service.metrics = [bare]
        assert failures(sensor) == {"garbage"}


def test_a_service_that_hangs_is_left_after_its_time(
    tmp_path: Path, service: MetricsService, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(duty_cycle, "TIMEOUT_S", 0.1)
    service.hangs = threading.Event()
    with closing(sensor_of(TpuTree(tmp_path / "sys", V5E, 1), service)) as sensor:
        assert failures(sensor) == {"timeout"}


def test_another_program_at_the_port_is_no_duty_cycle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(duty_cycle, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        settings = SensorSettings(
            sysfs=TpuTree(tmp_path / "sys", V5E, 1).sysfs, argument=address, gpu_tdp_w=200.0
        )
        with closing(tpu.open_sensor(settings)) as sensor:
            assert all(
                isinstance(each, Failure) or each.utilization_ratio is None for each in sensor.read(0.0)
            )


def test_a_job_of_four_chips_has_those_that_it_may_see(tmp_path: Path, service: MetricsService):
    service.percents = lambda: [10.0, 20.0]
    tree = TpuTree(tmp_path / "sys", V5E, 8)
    with closing(sensor_of(tree, service, environ={"TPU_VISIBLE_CHIPS": "2,5"})) as sensor:
        assert [device.id for device in sensor.devices()] == [tree.ids[2], tree.ids[5]]
        assert getattr(sensor, "gpus_are_given", False)
        assert ratios(sensor) == [0.1, 0.2]


def test_chips_that_the_user_picks_have_their_own_rows(tmp_path: Path, service: MetricsService):
    service.percents = lambda: [float(n) for n in range(8)]
    tree = TpuTree(tmp_path / "sys", V5E, 8)
    with closing(sensor_of(tree, service, gpus=("6", "1"))) as sensor:
        assert ratios(sensor) == [0.01, 0.06]
    with pytest.raises(ConfigError, match="--gpus 8: no such TPU chip here; there are 0, 1, 2"):
        sensor_of(tree, service, gpus=("1", "8"))
    with pytest.raises(ConfigError, match="--gpus GPU-1: no such TPU chip"):
        sensor_of(tree, service, gpus=("GPU-1",))


def test_a_list_that_names_no_chip_counts_all_and_says_so(tmp_path: Path, service: MetricsService):
    tree = TpuTree(tmp_path / "sys", V5E, 8)
    for text in ("9", "all", "0;1"):
        with closing(sensor_of(tree, service, environ={"TPU_VISIBLE_CHIPS": text})) as sensor:
            assert len(sensor.devices()) == 8
            assert "TPU_VISIBLE_CHIPS names no TPU chip here" in sensor.sources()[1].reason


def test_programs_at_several_ports_are_one_machine(tmp_path: Path, service: MetricsService):
    """Each of them may number its own chip 0, or all may number the machine's."""
    service.percents = lambda: [10.0]
    tree = TpuTree(tmp_path / "sys", V5E, 2)
    with MetricsService(lambda: [20.0]) as second:
        environ = {"TPU_RUNTIME_METRICS_PORTS": f"{service.port}, {second.port},nonsense,0"}
        with closing(sensor_of(tree, service, argument="", environ=environ)) as sensor:
            assert ratios(sensor) == [0.1, 0.2]
            service.first = 1
            assert ratios(sensor) == [0.2, 0.1], "by their numbers, where these are the machine's"


@pytest.mark.parametrize(
    ("argument", "environ", "expected"),
    [
        ("", {}, ["localhost:8431"]),
        ("9000", {}, ["localhost:9000"]),
        ("[::1]:9000", {}, ["[::1]:9000"]),
        ("node:9000", {"TPU_RUNTIME_METRICS_PORTS": "1"}, ["node:9000"]),
        ("", {"TPU_RUNTIME_METRICS_PORTS": "8431,8432,8431"}, ["localhost:8431", "localhost:8432"]),
        ("", {"TPU_RUNTIME_METRICS_PORTS": "70000,x,"}, ["localhost:8431"]),
    ],
)
def test_where_to_ask_is_the_users_then_the_environments(
    argument: str, environ: dict[str, str], expected: list[str]
):
    assert addresses(argument, environ) == expected


@pytest.mark.parametrize(
    "argument", ["x", ":", "node:", "a b:1", "node:70000", "0", "http://node:1", "1:2:3", "٣"]
)
def test_an_address_that_is_none_is_the_user_s_mistake(argument: str):
    with pytest.raises(ConfigError, match=r"--sensor tpu:.* this is no PORT and no HOST:PORT"):
        addresses(argument, {})


@pytest.mark.parametrize("rows", [[Row(0, 0.1)] * 5, [Row(n, 0.1) for n in range(7)]])
def test_rows_that_no_chips_make_up_are_garbage(rows: Sequence[Row]):
    with pytest.raises(BadAnswer):
        by_chip([rows], 2, 2)
