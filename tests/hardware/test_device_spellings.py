"""Generated spellings of devices' names: each is understood or refused, never taken for another device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest

from carbonmon import data
from carbonmon.analysis.estimate.parts import part_of
from carbonmon.core.errors import ConfigError
from carbonmon.data import ACCELERATORS, GPUS, NVML_NAMES
from carbonmon.hardware import device_names, spec_sheets
from carbonmon.hardware.device_counts import is_several, parse_gpu_model, split_system
from carbonmon.hardware.device_names import cpu_model, gpu_model
from tests.support.rows import for_each_row

TABLE = list(data.rows(GPUS))
MEANS = {row["model"]: row["mean_w"] for row in reversed(list(data.rows(ACCELERATORS)))}
"""The first row of each accelerator is that of the chip alone, if there is one."""
COUNTS = {
    "{}": 1,
    "8 x {}": 8,
    "8x{}": 8,
    "8 × {}": 8,
    "{} x8": 8,
    "{} *8": 8,
    "{}:8": 8,
    "{} (x8)": 8,
}
SPELLINGS = (
    lambda name: name,
    str.lower,
    str.upper,
    lambda name: name.replace(" ", "-"),
    lambda name: name.replace(" ", ""),
    lambda name: re.sub(r"(?<=\d)(?=[A-Za-z])|(?<=[A-Za-z])(?=\d)", " ", name),
)
SUFFIXES = (
    *(
        "",
        "",
        " 80GB",
        " 80G",
        " SXM",
        " SXM5",
        "SXM4",
        " PCIe",
        " NVL",
        " NVL72",
        " Ti",
        "Ti",
        " SUPER",
        "X",
        "S",
    ),
    *(" D", " Laptop GPU", " Max-Q", " Mobile", " 24GB", " HBM3", "-2048", "-8", " v2", " of mine"),
)
BRANDS = {"nvidia", "amd", "intel", "google", "tesla", "geforce", "radeon", "instinct"}


def tokens(text: str) -> frozenset[str]:
    """Words and numbers of a name, however they are joined; a bare G after a number is a GB."""
    words = re.findall(r"\d+|rtx|gtx|arc|tpu|mtia|ti|[a-z]+", text.lower())
    return frozenset(
        "gb" if word == "g" and before.isdigit() else word
        for before, word in zip(["", *words], words, strict=False)
    )


def known_tokens(row: data.Row) -> frozenset[str]:
    """All that may be said of a model without naming another one."""
    names = " ".join(known["name"] for known in data.rows(NVML_NAMES) if known["model"] == row["model"])
    memory = f"{row['memory_gb']}GB HBM2e HBM3e HBM GDDR"
    return tokens(f"{row['vendor']} {row['model']} {row['form_factor']} {names} {memory}") | BRANDS


def power_w(row: data.Row) -> str:
    """A published mean goes before the TDP; "" for neither."""
    return MEANS.get(row["model"]) or row["tdp_w"]


@pytest.fixture
def _tables_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    read = cache(lambda name: list(data.rows(name)))
    monkeypatch.setattr(device_names, "rows", read)
    monkeypatch.setattr(spec_sheets, "rows", read)


def spellings() -> Iterator[str]:
    """Every model in four spellings, two of them with a suffix; each pair of both comes up."""
    for number, row in enumerate(TABLE):
        for step in range(4):
            at = number * 4 + step
            suffix = SUFFIXES[at % len(SUFFIXES)] if step % 2 else ""
            yield SPELLINGS[(number + step) % len(SPELLINGS)](row["model"]) + suffix


def test_no_generated_spelling_is_taken_for_another_device_or_count(_tables_in_memory: None):
    known = {row["model"]: (known_tokens(row), tokens(row["model"]) - BRANDS, row) for row in TABLE}
    seen = understood = 0
    for name in dict.fromkeys(spellings()):
        single, each = split_system(name)
        said = tokens(single) - BRANDS
        try:
            model = gpu_model(single, "--gpu")
        except ConfigError:
            model = None
        else:
            fitting = [row for may, _, row in known.values() if said <= may and power_w(row)]
            exact = [
                row for may, must, row in known.values() if said <= may and must <= said and power_w(row)
            ]
            watts = {float(power_w(row)) for row in exact or fitting}
            assert model.spec.tdp_w in watts if exact else watts == {model.spec.tdp_w}, (
                name,
                model.name,
                watts,
            )
            if model.name in known:
                assert said <= known[model.name][0], (name, model.name)
        for form, count in COUNTS.items():
            seen += 1
            (counted,) = part_of({"gpu": form.format(name), "gpu-tdp": 1, "hours": 1}).gpus
            if model is not None:
                understood += 1
                assert counted.number == count * each, form.format(name)
                assert counted.name == single
                assert parse_gpu_model(form.format(name)) == counted
    assert seen >= 2000
    assert understood >= seen / 5


@for_each_row(
    ("text", "model", "count"),
    [
        ("8 x H100 SXM", "H100 SXM", 8),
        ("H100 SXM5 80GB *8", "H100 SXM5 80GB", 8),
        ("H100SXM5 x8", "H100 SXM5 80GB", 8),
        ("TPU v2-512", "TPU v2", 256),
        ("TPU v3-2048", "TPU v3", 1024),
        ("TPUv3-8:2", "TPU v3", 8),
        ("TPU v4-4096", "TPU v4", 2048),
        ("Cloud TPU v4-8", "TPU v4", 4),
        ("GB200 NVL72", "GB200", 72),
        ("2 x GB300 NVL72", "GB300", 144),
        ("RTX4090", "GeForce RTX 4090", 1),
        ("GTX 1080Ti", "GeForce GTX 1080 Ti", 1),
        ("RTX2080TI x4", "GeForce RTX 2080 Ti", 4),
        ("RTX 4070TiSUPER", "GeForce RTX 4070 Ti SUPER", 1),
        ("A100-SXM4-80G", "A100 SXM4 80GB", 1),
        ("MI 300X", "Instinct MI300X", 1),
    ],
)
def test_names_as_publications_print_them(text: str, model: str, count: int):
    (counted,) = part_of({"gpu": text, "hours": 1}).gpus
    assert counted.number == count
    assert gpu_model(counted.name, "--gpu").name == model


@for_each_row("name", ["TPU v5e-256", "TPU v5litepod-256", "TPU v6e-256"])
def test_a_slice_of_chips_with_one_core_counts_chips(name: str):
    assert split_system(name)[1] == 256


@for_each_row(
    "name",
    [
        "TPU v3-7",
        "TPU v4-0",
        "TPU v3-2048 pod",
        "GB200 NVL71",
        "H100 NVL72",
        "RTX 4090 Ti",
        "RTX4090D x",
        "8 H100",
    ],
)
def test_a_system_that_nobody_built_is_refused(name: str):
    with pytest.raises(ConfigError):
        gpu_model(split_system(name)[0], "--gpu")


@for_each_row("name", ["A100", "V100", "P100", "H100", "a100-80gb", "NVIDIA V100"])
def test_a_short_name_asks_which_one_and_says_the_range(name: str):
    for place in ("--gpu", "--gpu-model"):
        with pytest.raises(ConfigError, match=rf"{place}: .* may mean .*, \d+ to \d+ W: name one, or give"):
            gpu_model(name, place)
    (load,) = part_of({"gpu": name, "gpu-tdp": 400, "hours": 1}).gpus
    assert load.name == name


@for_each_row(
    ("name", "watts"),
    [
        ("Xeon 8480+", 350.0),
        ("Intel Xeon 6154", 200.0),
        ("Xeon Scalable 8280", 205.0),
        ("Xeon Platinum 8480+", 350.0),
    ],
)
def test_a_xeon_without_its_tier_is_the_only_one_of_its_number(name: str, watts: float):
    assert cpu_model(name, "--cpu").spec.tdp_w == watts


@for_each_row("name", ["Xeon 8480", "Xeon 1234", "EPYC 8480+", "8480+"])
def test_no_cpu_is_taken_for_one_that_resembles_it(name: str):
    with pytest.raises(ConfigError, match="the table has no CPU"):
        cpu_model(name, "--cpu")


@pytest.mark.parametrize(
    "name",
    [
        *("8 H100", "H100 (8)", "T4 (4)", "2x 8 x H100", "H100 x8 x2", "H100 * 8 * 2", "HGX H100", "DGX X9"),
        *("DGX H100 pod", "8 A100 80GB", "H100 8x 2x", "NVIDIA HGX A100 8-GPU"),
    ],
)
def test_several_devices_are_never_taken_for_one_where_the_power_is_given(name: str):
    for form in (name, f"{name}:2"):
        with pytest.raises(ConfigError, match=r"more than one GPU, and how many is not clear"):
            part_of({"gpu": form, "gpu-tdp": 700, "hours": 1})
    with pytest.raises(ConfigError, match=r"more than one GPU"):
        parse_gpu_model(name)


@for_each_row(
    ("text", "name", "count"),
    [
        ("L40S*4", "L40S", 4),
        ("H100 PCIe 8x", "H100 PCIe", 8),
        ("DGX H100", "H100 SXM5 80GB", 8),
        ("NVIDIA DGX-A100:4", "A100 SXM4", 32),
        ("2 x DGX B200", "B200", 16),
    ],
)
def test_a_count_is_read_wherever_it_is_clear_and_a_dgx_has_its_gpus(text: str, name: str, count: int):
    assert part_of({"gpu": text, "hours": 1}).gpus == ((name, count),)
    assert gpu_model(name, "--gpu").spec.tdp_w > 0


def test_no_model_of_the_table_is_several():
    assert [row["model"] for row in TABLE if is_several(row["model"])] == []
    assert [row["name"] for row in data.rows(NVML_NAMES) if is_several(row["name"])] == []
