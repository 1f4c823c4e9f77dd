"""Energy and carbon from spec sheets: number_text where the inputs are, lenient with names, never guessed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from click.testing import CliRunner, Result

from carbonmon.analysis.estimate.figures import number_text
from carbonmon.analysis.estimate.fit import fit_of
from carbonmon.analysis.estimate.loads import Load, loads_of
from carbonmon.analysis.estimate.part_tables import read_parts
from carbonmon.analysis.estimate.parts import Counted, Part, part_of
from carbonmon.analysis.estimate.records import snapshot_of
from carbonmon.cli import main
from carbonmon.core.errors import ConfigError
from carbonmon.core.footprint import Overheads
from carbonmon.core.model import DeviceState, RunTotal
from carbonmon.core.uncertainty import TDP_UNCERTAINTY
from carbonmon.data import rows
from carbonmon.hardware.device_names import cpu_model, gpu_model, gpu_rows
from carbonmon.runs.report.condensing import condensed
from carbonmon.runs.report.markdown import markdown_text
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.file import write_summary
from tests.support import records
from tests.support.rows import for_each_row
from tests.support.strictness import strict_schema

EXAMPLE = Path(__file__).parents[2] / "examples" / "estimate.toml"
VALIDATOR = jsonschema.Draft202012Validator(strict_schema())

TRAINING = Part(
    *("main", 48.0, (Counted("V100-SXM2", 10),), (Counted("Xeon Gold 6154", 2),)),
    gpu_utilization=0.8,
    cpu_utilization=0.6,
)
INFERENCE = Part("inference", 10.0, (Counted("T4", 4),), gpu_utilization=0.6)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but the tests' own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("CARBONMON_")]:
        monkeypatch.delenv(name)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["estimate", *arguments])


def summary_of(loads: list[Load], overheads: Overheads | None = None) -> dict[str, Any]:
    """The summary of loads at 360 g/kWh, valid and as a reader gets it back."""
    snapshot = snapshot_of(loads, records.intensity(), overheads or Overheads(), "0")
    summary: dict[str, Any] = json.loads(
        json.dumps(summarize(snapshot, snapshot.runs[0], "estimated"), allow_nan=False)
    )
    VALIDATOR.validate(summary)
    return summary


# The formula


def test_the_worked_example_of_the_literature_is_2_64_kw_and_126_72_kwh() -> None:
    loads = loads_of(TRAINING)
    assert sum(load.power_w for load in loads) == pytest.approx(2640.0, rel=1e-12)
    assert sum(load.energy_j for load in loads) / 3.6e6 == pytest.approx(126.72, rel=1e-12)
    assert [load.formula for load in loads] == ["10 × 300 W × 0.8 = 2400 W", "2 × 200 W × 0.6 = 240 W"]


def test_four_t4_at_0_6_for_ten_hours_are_0_168_kw_and_1_68_kwh() -> None:
    (load,) = loads_of(INFERENCE)
    assert load.power_w == pytest.approx(168.0, rel=1e-12)
    assert load.energy_j / 3.6e6 == pytest.approx(1.68, rel=1e-12)


def test_parts_add_up_and_are_phases_of_one_estimate() -> None:
    parts = read_parts(EXAMPLE)
    summary = summary_of([load for part in parts for load in loads_of(part)])
    assert summary["state"] == "estimated"
    assert summary["energy"]["total_kwh"] == pytest.approx(126.72 + 1.68, rel=1e-12)
    phases = summary["energy"]["phases"]
    assert {name: phase["energy_j"] / 3.6e6 for name, phase in phases.items()} == pytest.approx(
        {"training": 126.72, "inference": 1.68}
    )
    assert {name: phase["duration_s"] for name, phase in phases.items()} == {
        "training": 48 * 3600.0,
        "inference": 10 * 3600.0,
    }


def test_how_long_several_parts_take_is_unknown_and_of_one_its_hours() -> None:
    assert summary_of(loads_of(TRAINING))["run"]["duration_s"] == 48 * 3600.0
    both = [*loads_of(TRAINING), *loads_of(INFERENCE)]
    assert summary_of(both)["run"]["duration_s"] is None
    assert markdown_text(condensed(summary_of(both)))


def test_an_estimate_is_never_shown_as_measured_and_has_the_range_of_its_specs() -> None:
    summary = summary_of(loads_of(TRAINING))
    energy = summary["energy"]
    assert energy["measured_ratio"] == 0
    assert list(energy["methods"]) == ["tdp"]
    assert energy["low_j"] == pytest.approx(energy["total_j"] * (1 - TDP_UNCERTAINTY.low_ratio))
    assert energy["high_j"] == pytest.approx(energy["total_j"] * (1 + TDP_UNCERTAINTY.high_ratio))
    carbon = summary["carbon"]
    assert carbon["emissions_g"] == pytest.approx(126.72 * 360)
    # Both ranges at once: the energy's and the intensity's, −10 % to +20 %.
    assert carbon["low_g"] == pytest.approx(126.72 * 324 * (1 - TDP_UNCERTAINTY.low_ratio))
    assert carbon["high_g"] == pytest.approx(126.72 * 432 * (1 + TDP_UNCERTAINTY.high_ratio))
    assert all(
        summary["run"][key] is None for key in ("started_at", "ended_at", "exit_code", "cpu_s", "scheduler")
    )


def test_the_pue_multiplies_grams_and_never_joules() -> None:
    bare, housed = (summary_of(loads_of(TRAINING), Overheads(pue, "user")) for pue in (1.0, 1.5))
    assert housed["energy"]["total_j"] == bare["energy"]["total_j"]
    assert housed["carbon"]["emissions_g"] == pytest.approx(1.5 * bare["carbon"]["emissions_g"])


def test_each_model_of_a_part_is_one_device_that_says_how_many_it_stands_for() -> None:
    loads = [
        *loads_of(TRAINING),
        *loads_of(Part("later", 2.0, (Counted("V100-SXM2", 3),), gpu_utilization=0.5)),
    ]
    devices = {device["id"]: device for device in summary_of(loads)["energy"]["devices"]}
    assert list(devices) == ["gpu-V100-SXM2", "cpu-Xeon-Gold-6154", "gpu-V100-SXM2#2"]
    assert devices["gpu-V100-SXM2"]["name"] == "10 × V100-SXM2"
    assert devices["gpu-V100-SXM2"]["mean_power_w"] == pytest.approx(2400.0)
    assert devices["gpu-V100-SXM2"]["utilization_ratio"] == 0.8
    assert devices["gpu-V100-SXM2#2"]["mean_power_w"] == pytest.approx(450.0)


def test_a_utilisation_that_nobody_stated_is_assumed_full_and_the_output_says_so() -> None:
    loads = loads_of(Part("main", 1.0, (Counted("T4", 2),), (Counted("EPYC 7742", 1),)))
    assert [load.power_w for load in loads] == [140.0, 225.0]
    summary = summary_of(loads)
    assert [device["utilization_ratio"] for device in summary["energy"]["devices"]] == [None, None]
    assert all("× 1 (assumed)" in source["reason"] for source in summary["monitor"]["sources"])
    stated = summary_of(loads_of(INFERENCE))
    assert "assumed" not in stated["monitor"]["sources"][0]["reason"]


def test_memory_draws_by_its_size_at_any_utilisation() -> None:
    (load,) = loads_of(Part("main", 10.0, memory_gb=512.0))
    assert load.power_w == pytest.approx(160 / 3)
    summary = summary_of([load])
    assert summary["energy"]["components"]["dram"]["energy_j"] == pytest.approx(160 / 3 * 36000)
    assert summary["energy"]["high_j"] == pytest.approx(
        summary["energy"]["total_j"] * (1 + load.spec.uncertainty.high_ratio)
    )


def test_a_power_of_the_user_s_own_needs_no_table() -> None:
    part = Part("main", 1.0, (Counted("prototype", 4),), gpu_utilization=0.5, gpu_tdp_w=333.0)
    (load,) = loads_of(part)
    assert load.power_w == 4 * 333.0 * 0.5
    assert load.spec.source == "TDP 333 W, as given"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (126.72, "126.72"),
        (2400.0, "2400"),
        (0.168, "0.168"),
        (1e6, "1000000"),
        (0.0, "0"),
        (0.1 + 0.2, "0.3"),
    ],
)
def test_figures_are_exact_without_noise(number: float, text: str) -> None:
    assert number_text(number) == text


# Names


@for_each_row(
    ("name", "watts"),
    [
        ("V100-SXM2", 300.0),
        ("V100 SXM2", 300.0),
        ("v100_sxm2", 300.0),
        ("Tesla V100-SXM2-16GB", 300.0),
        ("V100 PCIe 16GB", 250.0),
        ("T4", 70.0),
        ("Tesla T4", 70.0),
        ("NVIDIA A100-SXM4-80GB", 400.0),
        ("A100-SXM4", 400.0),
        ("A100 40 GB PCIe", 250.0),
        ("NVIDIA H100", 700.0),
        ("H100 SXM", 700.0),
        ("NVIDIA H100 80GB HBM3", 700.0),
        ("H100 PCIe", 350.0),
        ("RTX 4090", 450.0),
        ("A6000", 300.0),
        ("Gaudi2", 600.0),
        ("AMD Instinct MI300X", 750.0),
    ],
)
def test_a_gpu_is_found_by_the_names_that_people_use(name: str, watts: float) -> None:
    assert gpu_model(name, "--gpu").spec.tdp_w == watts


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("V100", ("V100 SXM2 16GB (300 W)", "V100 PCIe 16GB (250 W)")),
        ("A100", ("A100 SXM4 80GB (400 W)", "A100 PCIe 40GB (250 W)")),
        ("NVIDIA A100", ("A100 SXM4 80GB (400 W)",)),
        ("H100", ("H100 NVL (400 W)", "H100 SXM5 80GB (700 W)", "350 to 700 W")),
        ("H100-80GB", ("H100 PCIe (350 W)", "H100 SXM5 80GB (700 W)")),
        ("RTX 6000", ("RTX 6000 Ada (300 W)", "Quadro RTX 6000 (260 W)")),
    ],
)
def test_a_short_name_for_models_of_different_power_lists_them(name: str, choices: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="may mean") as caught:
        gpu_model(name, "--gpu")
    assert all(choice in str(caught.value) for choice in choices)
    assert "--gpu-tdp W" in str(caught.value)


@for_each_row("name", ["DGX A100", "my V100", "SXM2", "16GB", "PCIe", "RTX", "nonsense", "-", "NVIDIA"])
def test_no_gpu_is_taken_for_one_that_resembles_it(name: str) -> None:
    with pytest.raises(ConfigError, match="the table has no GPU"):
        gpu_model(name, "--gpu")


def test_an_unknown_gpu_comes_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="the nearest are A100 SXM4 80GB"):
        gpu_model("DGX A100", "--gpu")


def test_a_gpu_without_a_published_power_and_a_slice_are_refused_with_what_helps() -> None:
    with pytest.raises(
        ConfigError, match=r"never published \(AWS states none\): give its power: --gpu-tdp W"
    ):
        gpu_model("Trainium2", "--gpu")
    with pytest.raises(ConfigError, match="is a slice of a GPU"):
        gpu_model("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "--gpu")


def test_every_name_that_nvml_reports_and_every_model_of_the_table_means_that_model() -> None:
    models = {row["model"] for row in rows("gpus.csv")}
    names = {row["name"]: row["model"] for row in rows("nvml_names.csv") if row["model"] in models}
    for name, model in {**{model: model for model in models}, **names}.items():
        if " MIG " not in name:
            assert [row["model"] for row in gpu_rows(name)] == [model], name


@pytest.mark.parametrize(
    ("name", "watts"),
    [("Xeon Gold 6154", 200.0), ("Intel(R) Xeon(R) Gold 6154 CPU @ 3.00GHz", 200.0), ("EPYC 7742", 225.0)],
)
def test_a_cpu_is_found_by_the_names_that_people_use(name: str, watts: float) -> None:
    assert cpu_model(name, "--cpu").spec.tdp_w == watts


@pytest.mark.parametrize(
    ("name", "near"), [("Xeon 6154 Turbo", "Intel Xeon Gold 6154"), ("AMD EPYC", "AMD EPYC")]
)
def test_an_unknown_cpu_comes_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"the table has no CPU {name!r}; the nearest are {near}"):
        cpu_model(name, "--cpu")


# What a part may hold


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("V100-SXM2:10", Counted("V100-SXM2", 10)),
        ("T4", Counted("T4", 1)),
        (" T4 : 4 ", Counted("T4", 4)),
        ("name: with colon:2", Counted("name: with colon", 2)),
        ("name: with colon", Counted("name: with colon", 1)),
        ("T4:1000000", Counted("T4", 1_000_000)),
    ],
)
def test_only_a_number_behind_the_last_colon_is_a_count(text: str, counted: Counted) -> None:
    assert part_of({"gpu": (text,), "hours": "1"}).gpus == (counted,)


@for_each_row("text", ["T4:0", "T4:-1", "T4:1.5", "T4:1,000", "T4:", "T4:1000001", "T4:1e3", ":4", "", " "])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--gpu: "):
        part_of({"gpu": (text,), "hours": "1"})


def test_a_model_that_is_given_twice_is_counted_together() -> None:
    assert part_of({"gpu": ("T4:2", "T4"), "hours": "1"}).gpus == (Counted("T4", 3),)


@for_each_row(
    ("key", "value", "message"),
    [
        (
            "gpu-utilization",
            "80",
            "--gpu-utilization: a utilisation is a ratio from 0 to 1: write 0.8 for 80 %",
        ),
        ("cpu-utilization", 60, "write 0.6 for 60 %"),
        ("gpu-utilization", "-0.1", "give a number from 0 to 1"),
        ("gpu-utilization", "180", "give a number from 0 to 1"),
        ("gpu-utilization", "nan", "give a number from 0 to 1"),
        ("hours", "0", "a number above 0"),
        ("hours", None, "give for how many hours"),
        ("hours", "-1", "--hours"),
        ("hours", "inf", "--hours"),
        ("hours", "1e9", "give a number from 0 to 876600"),
        ("memory-gb", "0", "--memory-gb"),
        ("gpu-tdp", "0", "--gpu-tdp"),
        ("cpu-tdp", "much", "--cpu-tdp"),
        ("hours", True, "must be a number"),
        ("hours", 10**400, "too large"),
    ],
)
def test_what_a_part_cannot_be_is_refused_with_the_key(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        part_of({"gpu": ("T4",), "hours": "1", key: value})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part("main", 1.0), "no hardware is given"),
        (Part("main", 1.0, memory_gb=1.0, gpu_utilization=0.5), "--gpu-utilization: no GPU is named"),
        (Part("main", 1.0, (Counted("T4", 1),), cpu_tdp_w=100.0), "--cpu-tdp: no CPU is named"),
    ],
)
def test_a_figure_without_its_hardware_is_refused(part: Part, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loads_of(part)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"parts are \[\[part\]\] tables, with double brackets, and it holds none"),
        ("region = 'FR'", "it holds 'region'"),
        ("part = 1", r"parts are \[\[part\]\] tables"),
        ("[part]\nhours = 1", r"parts are \[\[part\]\] tables"),
        ("part = [1]", "part 1: not a table"),
        ("[[part]]\nhour = 1", "part 1: 'hour' is unknown; did you mean 'hours'"),
        ("[[part]]\ngpu = 'T4'", "part 1: 'hours': give for how many hours"),
        ("[[part]]\nhours = 1\ngpu = 4", "part 1: 'gpu' must be a text or a list of texts"),
        ("[[part]]\nhours = 1\nname = ''", "part 1: 'name' must be a text"),
        ("[[part]]\nmemory-gb = 1\nmemory_gb = 2", "given twice"),
        (
            "[[part]]\nhours=1\ngpu='T4'\nname='a'\n[[part]]\nhours=1\ngpu='T4'\nname='a'",
            "two parts are called 'a'",
        ),
        ("[[part", "not valid TOML"),
        ("[[part]]\nhours = 1\ngpu = 'V100'", "part 1: 'gpu': 'V100' may mean .* gpu-tdp = W"),
    ],
)
def test_a_mistake_in_a_file_of_parts_is_told_with_file_part_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "parts.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        for part in read_parts(path):
            loads_of(part)
    assert str(path) in str(caught.value)


def test_keys_may_have_underscores_and_lists_name_several_models(tmp_path: Path) -> None:
    path = tmp_path / "parts.toml"
    path.write_text('[[part]]\ngpu = ["T4:2", "L4"]\ngpu_utilization = 0.5\nhours = 2\n', encoding="utf-8")
    (part,) = read_parts(path)
    assert (part.name, part.gpus, part.gpu_utilization) == (
        "part 1",
        (Counted("T4", 2), Counted("L4", 1)),
        0.5,
    )


# Fitted to an earlier run


def measured_run(shown: Callable[[DeviceState], DeviceState] = lambda state: state) -> dict[str, Any]:
    """An hour of eight A100 of 250.3 W, two EPYC 7742 of 83.3 W, all measured, and estimated memory."""
    snapshot = records.node()
    snapshot = snapshot._replace(devices=tuple(map(shown, snapshot.devices)))
    summary: dict[str, Any] = json.loads(json.dumps(summarize(snapshot, snapshot.runs[0], "final")))
    return summary


def test_a_fit_takes_the_mean_power_of_each_device_with_the_range_of_that_run() -> None:
    fit = fit_of(measured_run())
    loads = loads_of(Part("main", 2.0, (Counted("A100-SXM4-80GB", 16),)), fit)
    gpu, cpu, *memory = loads
    assert gpu.power_w == pytest.approx(16 * 901_000 / 3600)
    assert gpu.energy_j == pytest.approx(16 * 901_000 * 2)
    assert (gpu.spec.uncertainty.low_ratio, gpu.spec.uncertainty.high_ratio) == pytest.approx((0.05, 0.05))
    assert gpu.spec.source == (
        "fitted to run slurm-4242 on node-7: 250 W at utilisation 0.80, measured 100 %"
    )
    # What the part does not name is that of the run, in its number.
    assert (cpu.number, cpu.power_w) == (2, pytest.approx(2 * 300_000 / 3600))
    assert sum(load.number for load in memory) == 2
    assert memory[0].spec.source.endswith("measured 0.0 %")


def test_a_fitted_estimate_is_an_estimate_all_the_same() -> None:
    summary = summary_of(loads_of(Part("main", 2.0), fit_of(measured_run())))
    energy = summary["energy"]
    assert energy["measured_ratio"] == 0
    assert list(energy["methods"]) == ["tdp"]
    assert energy["total_j"] == pytest.approx(2 * measured_run()["energy"]["total_j"])
    assert energy["low_j"] == pytest.approx(2 * measured_run()["energy"]["low_j"])
    assert energy["devices"][0]["utilization_ratio"] == pytest.approx(0.8)
    assert "fitted to run slurm-4242" in summary["monitor"]["sources"][0]["reason"]


def test_seconds_in_which_a_device_was_not_observed_do_not_lower_its_power() -> None:
    summary = measured_run()
    for device in summary["energy"]["devices"]:
        if device["component"] == "gpu":
            device["unobserved_s"] = 1800.0
    gpu = loads_of(Part("main", 1.0), fit_of(summary))[0]
    assert gpu.spec.tdp_w == pytest.approx(901_000 / 1800)


def test_a_device_that_was_never_observed_counts_as_the_others_of_its_kind() -> None:
    summary = measured_run()
    first = next(device for device in summary["energy"]["devices"] if device["component"] == "gpu")
    first.update(energy_j=0.0, methods={}, unobserved_s=3600.0)
    gpu = loads_of(Part("main", 1.0), fit_of(summary))[0]
    assert (gpu.number, gpu.spec.tdp_w) == (8, pytest.approx(901_000 / 3600))


def test_hardware_that_the_run_did_not_have_is_taken_from_its_spec_sheet_or_refused() -> None:
    summary = measured_run()
    summary["energy"]["devices"] = [d for d in summary["energy"]["devices"] if d["component"] == "gpu"]
    fit = fit_of(summary)
    _, cpu = loads_of(Part("main", 1.0, cpus=(Counted("EPYC 7742", 1),), cpu_utilization=0.5), fit)
    assert cpu.power_w == 112.5
    with pytest.raises(ConfigError, match="had NVIDIA A100-SXM4-80GB, which gives no power of 'H100'"):
        loads_of(Part("main", 1.0, (Counted("H100", 1),)), fit)
    with pytest.raises(ConfigError, match="--gpu-utilization: --fit takes what the GPUs of that run drew"):
        loads_of(Part("main", 1.0, gpu_utilization=0.5), fit)


def test_gpu_hours_of_a_fit_need_the_number_of_gpus_since_the_rest_of_the_run_comes_along() -> None:
    fit = fit_of(measured_run())
    with pytest.raises(ConfigError, match="--gpu: --fit takes the rest of that run's hardware too"):
        loads_of(part_of({"gpu-hours": 100}), fit)
    gpu, *_ = loads_of(part_of({"gpu": "A100-SXM4-80GB:8", "gpu-hours": 80}), fit)
    assert gpu.energy_j == pytest.approx(8 * 901_000 * 10)


def test_a_run_that_tells_no_power_is_no_fit() -> None:
    estimate = summary_of(loads_of(TRAINING))
    with pytest.raises(ConfigError, match="is an estimate itself"):
        fit_of(estimate)
    timeless = measured_run()
    timeless["run"]["duration_s"] = None
    with pytest.raises(ConfigError, match="how long"):
        fit_of(timeless)
    idle = measured_run()
    idle["energy"]["devices"] = []
    with pytest.raises(ConfigError, match="no energy of any device"):
        fit_of(idle)


def test_a_method_without_a_stated_range_has_that_of_a_tdp() -> None:
    summary = measured_run()
    summary["energy"]["methods"]["counter"].update(low_ratio=None, high_ratio=None)
    cpu = loads_of(Part("main", 1.0), fit_of(summary))[1]
    assert cpu.spec.uncertainty.high_ratio == pytest.approx(TDP_UNCERTAINTY.high_ratio)


# The command


def test_the_command_prints_the_report_s_table_and_the_formula_of_each_part() -> None:
    result = invoke(str(EXAMPLE), "--region", "FR")
    assert result.exit_code == 0, result.output
    assert "energy     128 kWh (64.2 to 282), all of it estimated (tdp)" in result.output
    assert "part       training: 2.64 kW × 48 h = 126.72 kWh" in result.output
    assert "part       inference: 0.168 kW × 10 h = 1.68 kWh" in result.output
    assert "10 × 300 W × 0.8 = 2400 W: V100-SXM2" in result.output
    assert "TDP 300 W" in result.output
    assert "PUE        none was applied" in result.output
    assert "measured" not in result.output
    assert max(map(len, result.output.splitlines())) <= 100


def test_the_command_prints_a_valid_summary() -> None:
    result = invoke("--gpu", "T4:4", "--gpu-utilization", "0.6", "--hours", "10", "--format", "json")
    summary = json.loads(result.output)
    VALIDATOR.validate(summary)
    assert summary["energy"]["total_kwh"] == pytest.approx(1.68)
    assert summary["carbon"]["intensity"]["zone"] == "WORLD"
    assert summary["carbon"]["pue_source"] is None


def test_the_command_says_what_the_pue_is_and_whose_and_what_the_energy_costs() -> None:
    result = invoke(
        *("--gpu", "T4:4", "--hours", "10", "--region", "aws:us-east-1", "--pue", "provider"),
        *("--price", "0.2", "--currency", "EUR", "--wue", "0.5"),
    )
    assert "PUE        1.14, by aws fleet" in result.output
    assert "cost       0.6384 EUR" in result.output
    assert "water      1.4 l" in result.output


def test_embodied_emissions_come_only_when_asked_for_and_beside_the_others() -> None:
    arguments = ("--gpu", "A100-SXM4-80GB:8", "--hours", "10")
    assert "embodied" not in invoke(*arguments).output
    assert (
        "embodied   228 g to 3.20 kg CO2e of making the hardware" in invoke(*arguments, "--embodied").output
    )
    bare, full = (
        json.loads(invoke(*arguments, "--format", "json", *more).output) for more in ((), ("--embodied",))
    )
    VALIDATOR.validate(full)
    made = full.pop("embodied")
    assert full == bare
    assert made["low_g"] < made["high_g"]


def test_the_command_fits_to_a_run_s_folder_or_its_summary(tmp_path: Path) -> None:
    folder = tmp_path / "slurm-4242"
    folder.mkdir()
    write_summary(folder, measured_run())
    for word in (str(folder), str(folder / "summary.json")):
        result = invoke("--fit", word, "--gpu", "A100-SXM4-80GB:16", "--hours", "1")
        assert (
            "16 × 250.278 W = 4004.44 W: NVIDIA A100-SXM4-80GB; fitted to run slurm-4242 on" in result.output
        )
    result = invoke("--fit", "slurm-4242", "--output", str(tmp_path), "--hours", "1")
    assert result.exit_code == 0


@for_each_row(
    ("arguments", "message"),
    [
        ((), "--hours: give for how many hours"),
        (("--hours", "1"), "--gpu: no hardware is given"),
        (("--gpu", "T4", "--hours", "1", "--gpu-utilization", "80"), "write 0.8 for 80 %"),
        (("--gpu", "V100", "--hours", "1"), "may mean"),
        (("--gpu", "T4", "--hours", "1", "--region", "nowhere"), "region 'nowhere' is unknown"),
        (("--gpu", "T4", "--hours", "1", "--region", "FR", "--intensity", "5"), "exclude one another"),
        (("--gpu", "T4", "--hours", "1", "--pue", "region"), "--pue region: no region is given"),
        (("--gpu", "T4", "--hours", "1", "--price", "1"), "--price needs its currency"),
        (("--hours", "1", "--fit", "gone"), "--fit: no run 'gone'"),
        ((str(EXAMPLE), "--hours", "1"), "--hours: the parts are in"),
        (("gone.toml",), "gone.toml: cannot be read: No such file"),
    ],
)
def test_a_mistake_ends_the_command_with_exit_code_2_and_what_to_do(
    arguments: tuple[str, ...], message: str
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in click.unstyle(result.output)


def test_the_totals_of_every_row_are_estimates() -> None:
    snapshot = snapshot_of(loads_of(TRAINING), records.intensity(), Overheads(), "0")
    rows_of_run: tuple[RunTotal, ...] = snapshot.runs[0].totals
    assert {row.method for row in rows_of_run} == {"tdp"}
    assert all(state.counter_j == state.power_j == 0 for state in snapshot.devices)
