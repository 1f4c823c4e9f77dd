"""Recordings as a sensor: what is accepted, when each moment plays, and how it ends."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.errors import ConfigError, SensorGone
from carbonmon.core.footprint import Overheads
from carbonmon.core.model import Failure, Reading
from carbonmon.core.ports import SensorSettings
from carbonmon.core.uncertainty import NVML_UNCERTAINTY, RAPL_DRAM_UNCERTAINTY, RAPL_PACKAGE_UNCERTAINTY
from carbonmon.hardware.sensors import replay
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.run_account import RunAccount
from tests.support.harness import INFO, FakeClock, FixedIntensity, make_sampler

GPU = {"id": "GPU-1", "component": "gpu", "name": "A GPU", "max_power_w": 400, "index": 3}
HEADER = {"carbonmon_replay": 1, "devices": [GPU]}
MOMENT = {"at_s": 0, "readings": [{"device": "GPU-1", "energy_uj": 5}]}

Write = Callable[..., SensorSettings]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes lines (objects, or texts as they are) to a recording and names it to the sensor."""

    def write(*lines: object) -> SensorSettings:
        path = tmp_path / "recording.jsonl"
        texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
        path.write_text("\n".join(texts) + "\n", encoding="utf-8")
        return SensorSettings(argument=str(path))

    return write


def moment(at_s: float, **reading: object) -> dict[str, object]:
    return {"at_s": at_s, "readings": [{"device": "GPU-1", **reading}]}


def header(**changes: object) -> dict[str, object]:
    return {"carbonmon_replay": 1, "devices": [{**GPU, **changes}]}


# ---- what is accepted ----


def test_devices_and_readings_come_as_they_were_recorded(write: Write):
    sensor = replay.open_sensor(
        write(
            {
                "carbonmon_replay": 1,
                "devices": [
                    {**GPU, "methods": ["counter", "power", "tdp"], "tdp_w": 300},
                    {"id": "package-0", "component": "cpu", "counter_range_uj": 262143328850},
                    {"id": "dram-0", "component": "dram"},
                ],
            },
            {
                "at_s": 0.0,
                "readings": [
                    {"device": "GPU-1", "energy_uj": 2**60, "power_w": 0, "utilization_ratio": 1},
                    {"device": "package-0", "failure": "permission"},
                    {"device": "dram-0"},
                ],
            },
        )
    )
    gpu, package, memory = sensor.devices()
    assert (gpu.name, gpu.index, gpu.methods) == ("A GPU", 3, ("counter", "power", "tdp"))
    assert gpu.spec is not None
    assert (gpu.spec.tdp_w, gpu.max_power_w) == (300, 400)
    assert (package.name, package.methods, package.counter_range_uj) == (
        "package-0",
        ("counter",),
        262143328850,
    )
    assert [device.measured_uncertainty for device in (gpu, package, memory)] == [
        NVML_UNCERTAINTY,
        RAPL_PACKAGE_UNCERTAINTY,
        RAPL_DRAM_UNCERTAINTY,
    ]
    assert list(sensor.read(7.0)) == [
        Reading("GPU-1", 2**60, 0, None, 1),
        Failure("package-0", "permission"),
        Reading("dram-0"),
    ]
    assert "not this machine's" in sensor.sources()[0].reason


def test_blank_lines_and_separators_inside_texts_do_not_shift_the_line_numbers(write: Write):
    named = {**GPU, "name": "line\u2028separator\x85"}
    settings = write("", {"carbonmon_replay": 1, "devices": [named]}, "", MOMENT, "", "{")
    with pytest.raises(ConfigError, match="line 6: not JSON"):
        replay.open_sensor(settings)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "needs a line of devices and at least one moment"),
        ([HEADER], "needs a line of devices and at least one moment"),
        (["[]", MOMENT], "line 1: must be a JSON object"),
        (["", {**HEADER, "carbonmon_replay": 2}, MOMENT], "line 2: carbonmon_replay must be 1"),
        ([{"carbonmon_replay": 1}, MOMENT], "line 1: devices must be a list, and is None"),
        ([header(id=""), MOMENT], "line 1: devices[0].id must not be empty"),
        ([header(id=7), MOMENT], "line 1: devices[0].id must be a text, and is 7"),
        (
            [header(component="disk"), MOMENT],
            "line 1: devices[0].component must be one of gpu, cpu, dram, module, and is 'disk'",
        ),
        (
            [header(methods=["guess"]), MOMENT],
            "line 1: devices[0].methods must be one of counter, power, tdp, and is 'guess'",
        ),
        ([header(methods="counter"), MOMENT], "line 1: devices[0].methods must be a list"),
        ([header(methods=["tdp"]), MOMENT], "line 1: GPU-1: method tdp needs tdp_w"),
        ([header(tdp_w=-1), MOMENT], "line 1: devices[0].tdp_w must be a number of at least 0"),
        ([header(max_power_w="much"), MOMENT], "line 1: devices[0].max_power_w must be a number"),
        (["", {**HEADER, "devices": [GPU, GPU]}, MOMENT], "line 2: two devices have the same id"),
        ([HEADER, "", "nonsense"], "line 3: not JSON"),
        ([HEADER, "1" * 5000], "line 2: not JSON"),
        ([HEADER, "[" * 100_000], "line 2: not JSON"),
        ([HEADER, {"at_s": 0}], "line 2: readings must be a list, and is None"),
        ([HEADER, {"readings": []}], "line 2: at_s must be a number"),
        ([HEADER, {**MOMENT, "at_s": True}], "line 2: at_s must be a number"),
        ([HEADER, moment(5), moment(4)], "line 3: at_s must be a number that does not decrease"),
        ([HEADER, moment(0, energy_uj=-1)], "line 2: readings[0].energy_uj must be a number of at least 0"),
        ([HEADER, moment(0, energy_uj=10**400)], "line 2: readings[0].energy_uj must be a number"),
        ([HEADER, moment(0, power_w=float("nan"))], "line 2: not JSON: NaN is no number"),
        ([HEADER, moment(0, power_w=float("inf"))], "line 2: not JSON: Infinity is no number"),
        (
            [HEADER, moment(0, utilization_ratio=50)],
            "line 2: readings[0].utilization_ratio must be a number from 0 to 1",
        ),
        ([HEADER, moment(0, device="GPU-2")], "line 2: readings[0].device 'GPU-2' is not in the first line"),
        ([HEADER, moment(0, device=["GPU-1"])], "line 2: readings[0].device must be a text, and is a list"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_field(write: Write, lines: list[object], expected: str):
    settings = write(*lines)
    with pytest.raises(ConfigError) as mistake:
        replay.open_sensor(settings)
    assert str(mistake.value).startswith(f"--sensor replay:{settings.argument}")
    assert expected in str(mistake.value)


def test_without_a_file_or_with_one_that_cannot_be_read_it_says_which(tmp_path: Path):
    with pytest.raises(ConfigError, match="--sensor replay:FILE"):
        replay.open_sensor(SensorSettings())
    with pytest.raises(ConfigError, match=r"--sensor replay:.*nowhere\.jsonl: .*No such file"):
        replay.open_sensor(SensorSettings(argument=str(tmp_path / "nowhere.jsonl")))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="binary: no text in UTF-8"):
        replay.open_sensor(SensorSettings(argument=str(tmp_path / "binary")))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["GPU-1", "gpu", "counter", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GPU, *MOMENT, "device"]), inner)
    ),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=4), JSON, JSON)
def test_any_json_is_played_or_refused_as_the_user_s_mistake(
    tmp_path_factory: pytest.TempPathFactory, lines: list[Any], device: Any, reading: Any
):
    path = tmp_path_factory.mktemp("fuzz") / "recording.jsonl"
    likely = [{**HEADER, "devices": [GPU, device]}, {"at_s": 0, "readings": [reading]}]
    path.write_text("\n".join(json.dumps(line) for line in [*likely, *lines]))
    try:
        sensor = replay.open_sensor(SensorSettings(argument=str(path)))
    except ConfigError:
        return
    list(sensor.read(0.0))


# ---- when it plays ----


def test_each_read_gives_the_latest_moment_that_has_come(write: Write):
    sensor = replay.open_sensor(write(HEADER, *(moment(at_s, energy_uj=at_s) for at_s in (1, 2, 4, 5, 9))))
    heard = [list(sensor.read(1e6 + elapsed_s)) for elapsed_s in (0, 0.9, 1, 3.9, 6)]
    assert heard == [[], [], [Reading("GPU-1", 1)], [Reading("GPU-1", 2)], [Reading("GPU-1", 5)]]


def test_after_the_last_moment_it_is_gone_for_good(write: Write):
    settings = write(HEADER, moment(0), moment(3))
    sensor = replay.open_sensor(settings)
    list(sensor.read(0.0))
    assert len(list(sensor.read(1e9))) == 1, "the last moment is not passed over"
    for _ in range(2):
        with pytest.raises(SensorGone, match="has ended"):
            list(sensor.read(1e9 + 1))


def test_when_a_recording_ends_the_sampler_goes_on(write: Write, caplog: pytest.LogCaptureFixture):
    settings = write(HEADER, *(moment(second, energy_uj=second * 300_000_000) for second in range(11)))
    sensor = GuardedSensor(replay.open_sensor(settings))
    devices = {device.id: device for device in replay.open_sensor(settings).devices()}
    clock = FakeClock()
    sampler = make_sampler([sensor], devices, [], FixedIntensity(), clock, 1.0, Overheads(), "test")
    sampler.tick(edge=True)
    sampler.begin(RunAccount(INFO, devices.values()))
    with caplog.at_level(logging.WARNING):
        for _ in range(60):
            clock.time_s += 1.0
            sampler.tick()
    final = sampler.finish(0, None)
    (state,) = final.devices
    assert state.counter_j == state.energy_j == 3000.0
    assert state.unobserved_s == 50.0
    assert (final.samples, final.sensors[0].up, final.sensors[0].errors) == (61, False, ())
    assert len(caplog.records) == 1
    assert "has ended" in caplog.text
