"""What is asked for and cannot be followed is said before the job starts."""

from __future__ import annotations

import pytest

from carbonmon.core.budgets import parse_action, parse_budget
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import SensorState
from carbonmon.service.budget_actions import check_command
from carbonmon.service.open_sensors import Sensors
from carbonmon.service.wiring import notes
from tests.support.records import gpu, package
from tests.support.rows import for_each_row

NO_RAPL = SensorState("rapl", "not used", "no RAPL package here", "modprobe intel_rapl_msr")
NOTHING = Sensors((), {}, (NO_RAPL,), unavailable=("rapl",))
NO_GPU = NOTHING._replace(devices={package().id: package()})
WITH_GPU = NOTHING._replace(devices={gpu().id: gpu()})


@for_each_row(
    ("config", "environ", "sensors", "said"),
    [
        (Config(gpus=("0", "1")), {}, NO_GPU, "--gpus 0,1: no GPU can be metered here"),
        (
            Config(),
            {"CUDA_VISIBLE_DEVICES": "9"},
            NO_GPU,
            "CUDA_VISIBLE_DEVICES=9: no GPU can be metered here",
        ),
        (Config(gpu_tdp_w=300.0), {}, NO_GPU, "--gpu-tdp: there is no GPU that it could be for"),
        (Config(sensors=("rapl",)), {}, NOTHING, "--sensor rapl: it cannot be used: no RAPL package here"),
        (Config(budgets=(parse_budget("1kWh"),)), {}, NOTHING, "--budget 1kWh: nothing is metered here"),
        (Config(on_budget=parse_action("stop")), {}, WITH_GPU, "--on-budget and --by are for a budget"),
        (Config(by="forecast"), {}, WITH_GPU, "--on-budget and --by are for a budget"),
    ],
)
def test_a_choice_that_nothing_here_can_follow_has_a_line(
    config: Config, environ: dict[str, str], sensors: Sensors, said: str
):
    (line,) = notes(config, sensors, environ)
    assert line.startswith(said)


@for_each_row(
    ("config", "environ", "sensors"),
    [
        (Config(), {}, NOTHING),
        (Config(), {"CUDA_VISIBLE_DEVICES": ""}, NO_GPU),
        (Config(), {"CUDA_VISIBLE_DEVICES": "-1"}, NO_GPU),
        (Config(gpus=("0",), gpu_tdp_w=300.0), {"CUDA_VISIBLE_DEVICES": "0"}, WITH_GPU),
        (Config(budgets=(parse_budget("3h"),)), {}, NOTHING),
        (Config(budgets=(parse_budget("1kWh"),), on_budget=parse_action("stop")), {}, WITH_GPU),
    ],
)
def test_what_is_followed_or_was_not_asked_for_has_none(
    config: Config, environ: dict[str, str], sensors: Sensors
):
    assert notes(config, sensors, environ) == []


def test_a_list_of_cuda_s_that_a_sensor_has_explained_already_is_said_once():
    said = SensorState("nvml note", "not used", "CUDA_VISIBLE_DEVICES=9: no GPU '9' here")
    assert notes(Config(), NO_GPU._replace(sources=(said,)), {"CUDA_VISIBLE_DEVICES": "9"}) == [said.reason]


def test_a_command_of_a_budget_that_is_not_there_is_a_mistake():
    check_command(parse_action("notify:sh -c 'cat'"))
    check_command(parse_action("stop"))
    with pytest.raises(ConfigError, match="no command 'no-such-command'"):
        check_command(parse_action("notify:no-such-command --now"))
