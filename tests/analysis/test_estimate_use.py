"""Queries, cores in part, kinds of job, market-based emissions and water off site of `carbonmon estimate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from carbonmon.analysis.estimate.inference import FIT_UNCERTAINTY, drawn_by, inference_of
from carbonmon.analysis.estimate.kinds import KINDS
from carbonmon.analysis.estimate.loads import loads_of
from carbonmon.analysis.estimate.parts import part_of, split_parts
from carbonmon.analysis.estimate.training import training_of
from carbonmon.core.errors import ConfigError
from tests.support.estimates import A100, invoke, kwh, summary_of
from tests.support.rows import for_each_row


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


# Tokens


def test_batch_steps_and_sequence_stand_for_the_tokens():
    given = {"gpu": f"{A100}:8", "parameters": "1B", "mfu": 0.4}
    tokens = 1024 * 100_000 * 2048
    assert kwh(**given, batch=1024, steps="100k", sequence=2048) == pytest.approx(kwh(**given, tokens=tokens))


def test_attention_comes_on_top_with_the_layers_and_the_width():
    keys = {"parameters": "7B", "tokens": "2T", "layers": 32, "width": 4096, "sequence": 4096}
    training = training_of(keys, "")
    assert training is not None
    assert training.flops == pytest.approx(6 * 7e9 * 2e12 + 12 * 32 * 4096 * 4096 * 2e12)


# Queries


def test_queries_of_known_hours_divide_what_their_hardware_draws():
    use = summary_of(
        *("--gpu", f"{A100}:2", "--hours", "5", "--queries", "1000", "--tokens-out", "200", "--pue", "1.5"),
        *("--intensity", "100"),
    )["inference"]
    assert use["energy_per_query_j"] == pytest.approx(2 * 400 * 5 * 3600 / 1000)
    assert use["energy_per_token_j"] == pytest.approx(2 * 400 * 5 * 3600 / 200_000)
    assert use["emissions_per_query_g"] == pytest.approx(2 * 0.4 * 5 * 1.5 * 100 / 1000)
    assert use["break_even_queries"] is None


def test_queries_without_hours_have_the_energy_of_the_published_fit():
    # worked by hand with EcoLogits' constants: 70 B on 4 GPUs of 80 GB, 64 requests at once
    gpu_wh = 1.1665273170451914e-06 * math.exp(-0.011205921025579175 * 64) * 70 + 4.052928146734005e-05
    seconds = 0.0006785088094353663 * 70 + 0.0003119310311688259 * 64 + 0.019473717579473387
    server_wh = seconds / 3600 * 1200 * 4 / 8 / 64
    assert kwh(parameters="70B", queries=1000, tokens_out=300) == pytest.approx(
        300 * (4 * gpu_wh + server_wh), rel=1e-9
    )
    energy = summary_of("--parameters", "70B", "--queries", "1000", "--tokens-out", "300")["energy"]
    assert energy["low_j"] == pytest.approx(energy["total_j"] * (1 - FIT_UNCERTAINTY.low_ratio))


def test_a_measured_model_lies_in_the_range_of_the_fit():
    # Llama 3.1 8B, H100, 511 at once: 0.0702 J a token of the GPU (the Green Token Index on huggingface.co)
    use = inference_of({"queries": 1, "tokens-out": 1, "parameters": "8B", "batch": 511}, "")
    assert use is not None
    gpu_j = drawn_by(use).gpu_j
    assert gpu_j * (1 - FIT_UNCERTAINTY.low_ratio) < 0.0702 < gpu_j * (1 + FIT_UNCERTAINTY.high_ratio)


def test_a_training_and_its_use_break_even():
    arguments = ("--parameters", "7B", "--tokens", "2T", "--gpu", f"{A100}:64", "--tokens-out", "300")
    summary = summary_of(*arguments, "--queries", "1G")
    use, phases = summary["inference"], summary["energy"]["phases"]
    assert list(phases) == ["training", "inference"]
    assert use["before_j"] == pytest.approx(phases["training"]["energy_j"])
    at = f"{use['break_even_queries']:.15g}"
    even = summary_of(*arguments, "--queries", at)["energy"]["phases"]
    assert even["inference"]["energy_j"] == pytest.approx(even["training"]["energy_j"], rel=1e-9)
    assert "break-even" in invoke(*arguments, "--queries", "1G").output


def test_parts_of_a_file_that_serve_break_even_with_those_that_do_not(tmp_path: Path):
    path = tmp_path / "parts.toml"
    path.write_text(
        "[[part]]\nname='making'\nenergy='10kWh'\n[[part]]\nname='use'\nenergy='1kWh'\nqueries=500\n"
    )
    assert summary_of(str(path))["inference"]["break_even_queries"] == pytest.approx(5000)


def test_attempts_serve_as_many_queries_as_they_draw_energy():
    arguments = ("--gpu", A100, "--hours", "5", "--queries", "1000")
    once, thrice = (summary_of(*arguments, *more)["inference"] for more in ((), ("--attempts", "3")))
    assert thrice["queries"] == 3 * once["queries"]
    assert thrice["energy_per_query_j"] == pytest.approx(once["energy_per_query_j"])


def test_a_batch_beside_steps_is_that_of_the_training():
    keys = {"gpu": A100, "parameters": "1B", "queries": 9, "tokens-out": 9}
    training, use = split_parts({**keys, "tokens": "1B", "batch": 8})
    assert training.use is None
    assert use.use is not None and use.use.batch == 8
    _, use = split_parts({**keys, "steps": 10, "sequence": 100, "batch": 8})
    assert use.use is not None and use.use.batch == 64


# Cores, kinds


def test_a_part_of_a_cpus_cores_draws_that_part_of_its_power():
    assert kwh(cpu="EPYC 7742", cpu_cores=16, hours=10) == pytest.approx(2.25 * 16 / 64)
    assert kwh(cpu="EPYC 7742:2", cpu_cores=96, hours=10) == pytest.approx(4.5 * 96 / 128)
    assert kwh(cpu="Xeon 8480+", cpu_cores=8, hours=10, cpu_utilization=0.5) == pytest.approx(0.25)
    assert "8 of 56 cores" in invoke("--cpu", "Xeon 8480+", "--cpu-cores", "8", "--hours", "1").output


def test_embodied_emissions_are_those_of_the_cores():
    whole = summary_of("--cpu", "EPYC 7742", "--hours", "10", "--embodied")["embodied"]["high_g"]
    part = summary_of("--cpu", "EPYC 7742", "--cpu-cores", "16", "--hours", "10", "--embodied")
    assert part["embodied"]["high_g"] == pytest.approx(whole / 4)


MEASURED = [
    # Dodge et al. 2022, arXiv:2206.05229, as printed at docs.codecarbon.io/latest/introduction/model_examples
    ("pretraining", "V100 SXM2 16GB:8", 36, 37.3),
    ("pretraining", "A100 SXM4 80GB:256", 192, 13_812.4),
    ("pretraining", "V100 SXM2 16GB", 21, 4.7),
    ("pretraining", "V100 SXM2 16GB:4", 90, 93.3),
    ("pretraining", "V100 SXM2 16GB:4", 216, 237.6),
    ("small-training", "V100 SXM2 16GB", 19, 1.7),
    ("small-training", "V100 SXM2 16GB", 19, 2.2),
    ("small-training", "P40", 0.3, 0.02),
    ("small-training", "P40", 0.3, 0.03),
    ("small-training", "P40", 0.4, 0.04),
    ("fine-tuning", "V100 SXM2 16GB:4", 6, 3.1),
    # BLOOM-1b7, evaluation, and its copa task: the emissions files in the model's repository
    ("evaluation", "A40:8", 134 / 3600, 0.0268),
    ("evaluation", "A40:8", 134 / 3600, 0.0143),
]


@for_each_row(("kind", "gpu", "hours", "measured_kwh"), MEASURED)
def test_what_was_measured_lies_in_the_range_with_the_kind_of_job_and_without(
    kind: str, gpu: str, hours: float, measured_kwh: float
):
    for keys in ({}, {"kind": kind}):
        (load,) = loads_of(part_of({"gpu": gpu, "hours": hours, **keys}))
        low, high = load.spec.uncertainty.low_ratio, load.spec.uncertainty.high_ratio
        drawn = load.energy_j / 3.6e6
        assert drawn * (1 - low) < measured_kwh < drawn * (1 + high), keys


def test_a_kind_of_job_names_what_was_measured_and_ends_at_the_tdp():
    for kind, known in KINDS.items():
        (load,) = loads_of(part_of({"gpu": "T4", "hours": 1, "kind": kind}))
        assert load.energy_j * (1 + load.spec.uncertainty.high_ratio) == pytest.approx(70 * 3600)
        assert known.measured in load.spec.uncertainty.source
        assert "(assumed)" in load.formula


# Market and water


def test_market_based_emissions_stand_beside_the_location_based_ones(tmp_path: Path):
    carbon = summary_of("--energy", "10kWh", "--intensity", "400", "--pue", "1.5", "--market-intensity", "0")[
        "carbon"
    ]
    assert carbon["emissions_g"] == pytest.approx(6000)
    assert carbon["market_based"]["emissions_g"] == 0
    path = tmp_path / "parts.toml"
    path.write_text(
        "[[part]]\nname='a'\nenergy='10kWh'\nmarket-intensity=50\n[[part]]\nname='b'\nenergy='10kWh'\n"
    )
    market = summary_of(str(path), "--intensity", "400")["carbon"]["market_based"]
    assert market["emissions_g"] == pytest.approx(500 + 4000)
    assert market["source"].endswith("; b: location-based, for want of a factor")
    assert "market_based" not in summary_of("--energy", "1kWh")["carbon"]


def test_water_off_site_is_that_of_the_facilitys_electricity():
    summary = summary_of("--energy", "10kWh", "--pue", "1.5", "--wue", "0.5", "--water-intensity", "3")
    assert summary["water"]["litres"] == pytest.approx(5)
    assert summary["water_off_site"]["litres"] == pytest.approx(45)
    assert "45 L of water" in invoke("--energy", "10kWh", "--pue", "1.5", "--water-intensity", "3").output


# Mistakes


@for_each_row(
    ("keys", "message"),
    [
        ({"gpu": "T4", "parameters": "7B", "steps": 5, "batch": 2}, "--steps 5 needs sequence"),
        ({"gpu": "T4", "parameters": "7B", "steps": 5, "tokens": 9}, "--tokens 9 and steps 5 contradict"),
        ({"gpu": "T4", "hours": 1, "batch": 9}, "--batch 9 needs steps or queries"),
        ({"gpu": "T4", "parameters": "7B", "tokens": 9, "layers": 3}, "--layers 3 needs width"),
        ({"gpu": "T4", "hours": 1, "tokens-out": 3}, "--tokens-out 3 needs queries"),
        ({"gpu": "T4", "parameters": "7B", "queries": 9, "tokens-out": 3}, "--queries: for how many hours"),
        ({"parameters": "7B", "queries": 9}, "the parameters, queries and tokens-out of an inference"),
        ({"parameters": "7B", "queries": 9, "tokens-out": 3, "batch": 600}, "a number of requests at once"),
        ({"cpu": "EPYC 7742", "cpu-cores": 65, "hours": 1}, "--cpu-cores 65 and cpu EPYC 7742:1 contradict"),
        ({"gpu": "T4", "cpu-cores": 6, "hours": 1}, "--cpu-cores 6 needs cpu"),
        ({"cpu": "own", "cpu-tdp": 9, "cpu-cores": 6, "hours": 1}, "cores 'own' has is in no table"),
        ({"gpu": "T4", "hours": 1, "kind": "play"}, "'play' is none of pretraining, small-training"),
        (
            {"gpu": "T4", "hours": 1, "kind": "evaluation", "gpu-utilization": 0.5},
            "--kind evaluation and gpu-utilization 0.5 contradict one another",
        ),
        ({"gpu": "T4", "hours": 1, "market-intensity": -1}, "--market-intensity: '-1' is not"),
        ({"gpu": "T4", "hours": 1, "water-intensity": "wet"}, "'wet' is not litres of water a kWh"),
        ({"queries": 0, "energy": "1kWh"}, "--queries: '0' is not a number of queries: it is out of range"),
    ],
)
def test_what_contradicts_or_says_nothing_is_refused_with_the_values(keys: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as caught:
        loads_of(part_of(keys))
    assert message in str(caught.value)


def test_the_use_of_a_training_needs_its_own_energy():
    done = invoke("--parameters", "7B", "--tokens", "1T", "--gpu", A100, "--queries", "5")
    assert done.exit_code == 2
    assert "--queries 5 beside a training needs parameters and tokens-out" in " ".join(done.output.split())
