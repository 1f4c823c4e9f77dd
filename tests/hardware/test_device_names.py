"""Names of devices in the user's words and the driver's: nothing of them is dropped."""

from __future__ import annotations

import pytest

from carbonmon.analysis.estimate.parts import part_of
from carbonmon.core.errors import ConfigError
from carbonmon.core.ports import SensorSettings
from carbonmon.data import GPUS, NVML_NAMES, rows
from carbonmon.hardware.device_counts import parse_gpu_model, split_count
from carbonmon.hardware.device_names import check_models, cpu_model, gpu_model, stated_gpus
from carbonmon.hardware.spec_sheets import gpu_spec


@pytest.mark.parametrize(
    ("text", "model", "count"),
    [
        ("H100 80GB HBM3 x8", "H100 SXM5 80GB", 8),
        ("8x H100 80GB HBM3", "H100 SXM5 80GB", 8),
        ("8 x NVIDIA H100 80GB HBM3", "H100 SXM5 80GB", 8),
        ("H100 80GB HBM3:8", "H100 SXM5 80GB", 8),
        ("H100 PCIe×4", "H100 PCIe", 4),
        ("H100 PCIe (x4)", "H100 PCIe", 4),
        ("H100 PCIe (4x)", "H100 PCIe", 4),
        ("H100 PCIe: 4", "H100 PCIe", 4),
        ("2xH100 PCIe", "H100 PCIe", 2),
        ("A100X", "A100X", 1),
        ("A30X x2", "A30X", 2),
        ("MI300Xx8", "Instinct MI300X", 8),
        ("TITAN X (Pascal)", "TITAN X (Pascal)", 1),
        ("GB10 (DGX Spark)", "GB10 (DGX Spark)", 1),
    ],
)
def test_a_count_beside_the_name_of_a_gpu_is_understood(text: str, model: str, count: int):
    name, number = parse_gpu_model(text)
    assert (gpu_model(name, "--gpu-model").name, number) == (model, count)
    (counted,) = part_of({"gpu": text, "hours": 1}).gpus
    assert (gpu_model(counted.name, "--gpu").name, counted.number) == (model, count)


@pytest.mark.parametrize(
    "name",
    [
        "H100 PCIe 8",
        "H100 80GB HBM3 of mine",
        "H100 80GB HBM3 x8 SXM",
        "NVIDIA H100 80GB HBM3, H100 PCIe",
        "H100 PCIe (of mine)",
        "AMD H100 PCIe",
        "NVIDIA MI300X",
        "H100 SXM5 80GB 700W",
        "H100 NVL 80GB",
    ],
)
def test_what_is_left_over_of_a_gpu_s_name_is_refused_with_the_nearest(name: str):
    with pytest.raises(
        ConfigError, match=r"--gpu-model: the table has no GPU .* the nearest are .*--gpu-tdp W"
    ):
        check_models(SensorSettings(gpu_model=name))


@pytest.mark.parametrize("name", ["Xeon Gold 6154 @ 3.00GHz x2", "Xeon Gold 6154 @ 2 sockets"])
def test_behind_a_cpu_s_at_sign_there_is_a_frequency_or_the_name_is_refused(name: str):
    with pytest.raises(ConfigError, match="is no frequency"):
        cpu_model(name, "--cpu-model")


@pytest.mark.parametrize(
    "name", ["EPYC 7742 x2", "2x EPYC 7742", "EPYC 7742:2", "Ryzen 7 5800H with Radeon Graphics x2"]
)
def test_a_count_of_cpus_is_refused_where_the_machine_says_how_many_there_are(name: str):
    with pytest.raises(ConfigError, match="names 2 CPUs: give the model of one package"):
        check_models(SensorSettings(cpu_model=name))


def test_the_estimate_takes_a_count_of_cpus():
    assert part_of({"cpu": "EPYC 7742 x2", "hours": 1}).cpus == (("EPYC 7742", 2),)


def test_a_power_that_is_given_goes_with_any_name():
    settings = SensorSettings(gpu_model="B900 x3", gpu_tdp_w=1500.0, cpu_model="EPYC 9", cpu_tdp_w=300.0)
    check_models(settings)
    assert stated_gpus(settings) == ("B900", 3, None)


def test_no_name_of_the_tables_is_taken_for_a_name_and_a_count():
    for name in [row["model"] for row in rows(GPUS)] + [row["name"] for row in rows(NVML_NAMES)]:
        assert split_count(name) == (" ".join(name.split()), None)


@pytest.mark.parametrize(
    ("name", "watts"),
    [
        ("NVIDIA H100 80GB HBM3", 700.0),
        ("NVIDIA A100-SXM4-80GB MIG 2g.20gb", 400.0),
        ("Tesla V100-SXM2-16GB", 300.0),
        ("NVIDIA H100 80GB HBM3 x8", None),
        ("NVIDIA A100-SXM4-80GB Turbo", None),
        ("MyNVIDIA A100-SXM4-80GB", None),
    ],
)
def test_a_driver_s_name_means_a_board_only_with_all_its_words(name: str, watts: float | None):
    spec = gpu_spec(name)
    assert (None if spec is None else spec.tdp_w) == watts


def test_every_name_that_nvml_is_known_to_report_still_means_its_model():
    models = {row["model"]: row["tdp_w"] for row in rows(GPUS)}
    for row in rows(NVML_NAMES):
        spec = gpu_spec(row["name"])
        if row["model"] in models and models[row["model"]]:
            assert spec is not None, row
            assert f" {row['model']}: TDP" in spec.source
