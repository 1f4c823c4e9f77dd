"""What people have beside hours: GPU-hours, an energy, a power, FLOPs, places; and what contradicts what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carbonmon.analysis.estimate.loads import loads_of
from carbonmon.analysis.estimate.parts import part_of
from carbonmon.analysis.estimate.quantities import energy_j_of, number_of, power_w_of
from carbonmon.analysis.estimate.work import MFU_UNCERTAINTY
from carbonmon.core.errors import ConfigError
from carbonmon.core.uncertainty import TDP_UNCERTAINTY
from carbonmon.data import GPU_PEAKS, GPUS, rows
from carbonmon.hardware.memory_power import GIB, memory_spec
from carbonmon.hardware.peak_flops import peak_of
from tests.support.estimates import A100, invoke, kwh, summary_of
from tests.support.rows import for_each_row


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


# Hours


def test_gpu_hours_are_those_of_all_gpus_and_of_one_where_their_number_is_not_known():
    assert kwh(gpu=A100, gpu_hours="184320") == pytest.approx(184320 * 0.4)
    assert kwh(gpu=f"{A100}:8", gpu_hours="1.3M") == pytest.approx(1.3e6 * 0.4)
    assert kwh(gpu=[f"{A100}:1", "T4:3"], gpu_hours=4) == pytest.approx(0.4 + 3 * 0.07)
    memory_w = memory_spec(round(100 * GIB)).tdp_w
    assert kwh(gpu=f"{A100}:8", gpu_hours=80, memory_gb=100) == pytest.approx(32 + memory_w / 100)


def test_of_gpu_hours_without_a_number_of_gpus_the_duration_is_unknown():
    assert summary_of("--gpu", A100, "--gpu-hours", "100")["run"]["duration_s"] is None
    assert summary_of("--gpu", f"{A100}:8", "--gpu-hours", "80")["run"]["duration_s"] == 36000
    assert (
        "100 GPU-hours on 9 GPUs" in invoke("--gpu", "DGX A100", "--gpu", "T4:1", "--gpu-hours", "100").output
    )
    assert "0.4 kW × 100 GPU-hours = 40 kWh" in invoke("--gpu", A100, "--gpu-hours", "100").output


def test_other_hardware_beside_gpu_hours_needs_the_number_of_gpus():
    with pytest.raises(ConfigError, match=r"--gpu: the other hardware works as long .* A100 SXM4 80GB:8"):
        kwh(gpu=A100, gpu_hours=100, memory_gb=512)


def test_hours_go_up_to_a_century():
    assert kwh(gpu="T4", hours=876_600) == pytest.approx(876_600 * 0.07)
    with pytest.raises(ConfigError, match="from 0 to 876600"):
        kwh(gpu="T4", hours=876_601)


def test_attempts_multiply_all_of_it():
    assert kwh(gpu=A100, hours=10, attempts=3) == pytest.approx(12)
    assert kwh(energy="1MWh", attempts=1.5) == pytest.approx(1500)
    assert "3 attempts" in invoke("--gpu", A100, "--hours", "10", "--attempts", "3").output


# Energy and power


def test_an_energy_that_was_given_is_called_so_and_has_no_power_and_no_range():
    summary = summary_of("--energy", "433MWh", "--intensity", "57", "--pue", "1.2")
    energy = summary["energy"]
    assert energy["total_kwh"] == pytest.approx(433_000)
    assert energy["facility_kwh"] == pytest.approx(519_600)
    assert energy["stated_j"] == energy["total_j"]
    assert energy["devices"][0]["mean_power_w"] is None
    assert summary["run"]["duration_s"] is None
    assert summary["carbon"]["emissions_g"] == pytest.approx(433_000 * 1.2 * 57)
    text = invoke("--energy", "433MWh", "--pue", "1.2").output
    assert "energy     433 MWh (no range given), all of it by figures that the user gave" in text
    assert "facility   520 MWh, energy × PUE 1.2" in text
    assert "tdp" not in text


def test_a_power_that_was_given_is_that_of_all_the_hardware():
    assert kwh(power="1415.78W", hours=12) == pytest.approx(16.98936)
    assert kwh(power="1.5kW", hours=2) == pytest.approx(3)


def test_the_hosts_power_comes_on_top_and_leaves_the_range_of_the_gpus():
    summary = summary_of(
        *("--gpu", f"{A100}:4", "--gpu-utilization", "1", "--hours", "10", "--host-power", "400W")
    )
    energy = summary["energy"]
    assert energy["total_kwh"] == pytest.approx(16 + 4)
    assert energy["stated_j"] == pytest.approx(4 * 3.6e6)
    assert energy["low_j"] == pytest.approx((16 * (1 - TDP_UNCERTAINTY.low_ratio) + 4) * 3.6e6)


def test_the_idle_share_of_the_time_draws_idle_power():
    assert kwh(gpu="A100 SXM4 40GB:8", hours=10, idle_share=0.5) == pytest.approx(8 * 10 * (0.2 + 0.023))
    assert kwh(gpu=A100, gpu_idle=60, hours=10, idle_share=0.25) == pytest.approx(10 * (0.3 + 0.015))
    assert kwh(cpu="EPYC 7742", hours=10, idle_share=1) == pytest.approx(0.12 * 2.25)
    with pytest.raises(
        ConfigError, match=r"what 'H100 PCIe' draws while it is idle is in no table: .*--gpu-idle W"
    ):
        kwh(gpu="H100 PCIe", hours=10, idle_share=0.5)


# Training by FLOPs


def test_parameters_and_tokens_give_the_device_hours():
    device_hours = 6 * 7e9 * 2e12 / (312e12 * 0.4 * 3600)
    given = {"gpu": f"{A100}:64", "parameters": "7B", "tokens": "2T", "mfu": 0.4}
    assert kwh(**given) == pytest.approx(device_hours * 0.4)
    assert kwh(gpu=A100, flops=8.4e22, mfu="0.4") == pytest.approx(device_hours * 0.4)
    assert kwh(**{**given, "precision": "tf32"}) == pytest.approx(2 * device_hours * 0.4)
    assert kwh(gpu="prototype:4", gpu_tdp=400, flops="84e21", mfu=0.4, flops_peak="312T") == pytest.approx(
        device_hours * 0.4
    )


def test_without_an_mfu_a_usual_one_is_assumed_and_its_range_is_in_the_hours():
    (load,) = loads_of(part_of({"gpu": A100, "flops": "1e22"}))
    assert load.energy_j / 3.6e6 == pytest.approx(kwh(gpu=A100, flops=1e22, mfu=0.4))
    assert load.spec.uncertainty.low_ratio == pytest.approx(
        1 - (1 - MFU_UNCERTAINTY.low_ratio) * (1 - TDP_UNCERTAINTY.low_ratio)
    )
    assert load.spec.uncertainty.high_ratio == pytest.approx(2 * 2.2 - 1)
    assert "MFU 0.4 (assumed)" in invoke("--gpu", A100, "--flops", "1e22").output


def test_several_models_have_the_mean_peak_of_their_devices():
    hours = 1e22 / ((8 * 312e12 + 8 * 989.5e12) * 0.5 * 3600)
    assert kwh(gpu=[f"{A100}:8", "H100 SXM5 80GB:8"], flops=1e22, mfu=0.5) == pytest.approx(hours * 8 * 1.1)


@for_each_row(
    ("name", "precision", "message"),
    [
        ("T4", "bf16", "no peak of 'T4' in bf16 is known; it has fp32, fp16: give it: --flops-peak 312T"),
        ("K80", None, "no peak of 'K80' in bf16 or fp16 is known: give it"),
        ("L40", "fp64", "'fp64' is none of fp32, tf32, bf16, fp16, fp8"),
    ],
)
def test_a_peak_that_nobody_published_is_asked_for(name: str, precision: str | None, message: str):
    with pytest.raises(ConfigError) as caught:
        kwh(gpu=name, flops=1e20, precision=precision)
    assert message in str(caught.value)


def test_every_peak_is_found_by_its_model_and_more_bits_are_never_faster():
    models = {row["model"] for row in rows(GPUS)}
    peaks: dict[str, dict[str, float]] = {}
    for row in rows(GPU_PEAKS):
        assert row["model"] in models
        peaks.setdefault(row["model"], {})[row["precision"]] = float(row["peak_tflops"])
        assert peak_of(row["model"], row["precision"], "", "").flop_per_s == float(row["peak_tflops"]) * 1e12
    for figures in peaks.values():
        ordered = [figures[kind] for kind in ("fp32", "tf32", "fp16", "fp8") if kind in figures]
        assert ordered == sorted(ordered)


# Places


def test_each_part_has_its_own_place(tmp_path: Path):
    path = tmp_path / "parts.toml"
    path.write_text(
        "[[part]]\nname = 'a'\nenergy = '10kWh'\nintensity = 50\npue = 1.2\n"
        "[[part]]\nname = 'b'\nenergy = '30kWh'\nregion = 'FR'\n"
        "[[part]]\nname = 'c'\nenergy = '10kWh'\n"
    )
    summary = summary_of(str(path), "--intensity", "400", "--pue", "1.5")
    assert summary["energy"]["facility_kwh"] == pytest.approx(12 + 45 + 15)
    carbon = summary["carbon"]
    grams = {name: phase["emissions_g"] for name, phase in summary["energy"]["phases"].items()}
    french = next(charge for charge in carbon["sources"] if charge["zone"] == "FR")
    assert (grams["a"], grams["c"]) == pytest.approx((600, 6000))
    assert grams["b"] == pytest.approx(french["emissions_g"])
    assert carbon["emissions_g"] == pytest.approx(sum(grams.values()))
    assert carbon["pue"] == pytest.approx(72 / 50)
    assert carbon["pue_source"] == "the mean over the energy of the parts (a 1.2, b 1.5, c 1.5)"
    assert carbon["emissions_g"] == pytest.approx(carbon["intensity"]["mean_g_per_kwh"] * 72)


def test_a_place_of_a_part_that_is_none_is_told_with_the_part(tmp_path: Path):
    path = tmp_path / "parts.toml"
    path.write_text("[[part]]\nenergy = '1kWh'\nregion = 'FR'\nintensity = 50\n")
    assert "part 1: 'region' FR and intensity 50 contradict one another" in " ".join(
        invoke(str(path)).output.split()
    )


# Ranges


def test_a_utilisation_that_was_given_leaves_the_range_of_a_tdp():
    (load,) = loads_of(part_of({"gpu": "T4", "gpu-utilization": 1, "hours": 1}))
    assert load.spec.uncertainty == TDP_UNCERTAINTY
    (load,) = loads_of(part_of({"gpu": "T4", "hours": 1}))
    assert load.spec.uncertainty.low_ratio == pytest.approx(0.875)


# Mistakes


@for_each_row(
    ("keys", "message"),
    [
        ({"energy": "1MWh", "hours": 5}, "--energy 1MWh and hours 5 contradict one another"),
        ({"energy": "1MWh", "gpu": ["T4:2"]}, "--energy 1MWh and gpu T4:2 contradict one another"),
        ({"power": "1kW", "hours": 5, "gpu-tdp": 300}, "--power 1kW and gpu-tdp 300 contradict one another"),
        ({"gpu": "T4", "gpu-hours": 10, "hours": 5}, "--gpu-hours 10 and hours 5 contradict one another"),
        ({"gpu": "T4", "flops": 1e20, "hours": 5}, "--flops 1e+20 and hours 5 contradict one another"),
        ({"gpu": "T4", "flops": 1e20, "parameters": "7B"}, "--flops 1e+20 and parameters 7B contradict"),
        ({"gpu": "T4", "tokens": "2T", "hours": 1}, "--tokens 2T and hours 1 contradict one another"),
        ({"gpu": "T4", "tokens": "2T"}, "--tokens 2T needs parameters, which is not given"),
        (
            {"gpu": "T4", "parameters": "7B"},
            "--parameters 7B needs tokens or steps or queries, which is not given",
        ),
        ({"flops": 1e20}, "--flops 1e+20 needs gpu, which is not given"),
        (
            {"gpu": "T4", "hours": 1, "mfu": 0.4},
            "--mfu 0.4 needs flops or tokens or steps, which is not given",
        ),
        ({"gpu": "T4", "flops": 1e20, "mfu": 1.4}, "a ratio from 0 to 1: write 0.014 for 1.4 %"),
        (
            {"gpu": "T4", "flops": 1e20, "mfu": 40},
            "--mfu: a model FLOPs utilisation is a ratio from 0 to 1: write 0.4",
        ),
        ({"memory-gb": 9, "hours": 1, "idle-share": 0.5}, "--idle-share 0.5 needs gpu or cpu"),
        ({"cpu": "T4", "hours": 1, "idle-share": 0.5, "gpu-idle": 9}, "--gpu-idle 9 needs gpu"),
        ({"gpu": "T4", "hours": 1, "gpu-idle": 9}, "--gpu-idle 9 needs idle-share, which is not given"),
        ({"energy": "433"}, "--energy: '433' is not an energy: its unit is missing; give for example 433MWh"),
        ({"energy": "MWh"}, "--energy: 'MWh' is not an energy: a unit without a number"),
        ({"energy": "433 MW"}, "'MW' is no unit of it: Wh, kWh, MWh"),
        ({"power": "kW", "hours": 1}, "--power: 'kW' is not a power: a unit without a number"),
        (
            {"gpu": ["T4:2", "V100-SXM2"], "gpu-hours": 10},
            "--gpu: 'V100-SXM2' is one of 2 models, and how the work is divided among them is not said",
        ),
        (
            {"gpu": ["T4", "V100-SXM2"], "parameters": 1e9, "tokens": 1e9},
            "give the number of each, for example 'T4:8'",
        ),
        ({"gpu": "T4", "gpu-hours": "184,320"}, "digits are grouped; give for example 184320"),
        ({"gpu": "T4", "gpu-hours": "1.3Q"}, "'Q' is no scale: k, M, B, T or P"),
        ({"gpu": "T4", "gpu-hours": "-1"}, "it is out of range"),
        ({"gpu": "T4", "gpu-hours": True}, "--gpu-hours must be a number"),
        ({"gpu": "T4", "hours": 1, "attempts": 0}, "--attempts: '0' is not a number of attempts"),
        ({"gpu": "T4", "hours": 1, "region": 5}, "--region must be a text"),
        ({"gpu": "T4", "hours": 1, "pue": "big"}, "--pue: 'big' is not a PUE"),
    ],
)
def test_what_contradicts_or_says_nothing_is_refused_in_a_sentence_with_the_values(
    keys: dict[str, Any], message: str
):
    with pytest.raises(ConfigError) as caught:
        loads_of(part_of(keys))
    assert message in str(caught.value)


@for_each_row(
    ("text", "number"),
    [
        ("7B", 7e9),
        ("1.3M", 1.3e6),
        ("460k", 4.6e5),
        ("3.14e23", 3.14e23),
        ("2 T", 2e12),
        (5, 5.0),
        ("312T", 312e12),
    ],
)
def test_numbers_have_the_scales_that_publications_use(text: Any, number: float):
    assert number_of(text, "", "", 0, 1e30, "") == pytest.approx(number, rel=1e-12)


@for_each_row(
    ("text", "joules"),
    [
        ("433MWh", 433 * 3.6e9),
        ("26.8 Wh", 96480),
        ("1 kWh", 3.6e6),
        ("5 J", 5),
        ("2TJ", 2e12),
        ("1e3 GWh", 3.6e15),
    ],
)
def test_an_energy_has_its_unit(text: str, joules: float):
    assert energy_j_of(text, "") == pytest.approx(joules, rel=1e-12)
    assert power_w_of("1.5 kW", "") == power_w_of(1500, "") == 1500
