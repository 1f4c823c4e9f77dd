"""The bundled tables keep what the look-ups rely on."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

import carbonmon
from carbonmon.grid.regions import resolve
from carbonmon.specs import cpu_keys, gpu_spec

DATA = Path(carbonmon.__file__).parent / "data"

KNOWN_DUPLICATE_CPUS = {"apple m1"}
"""Keys that the table has twice, with different figures; a look-up takes the first and names the other."""
UNREACHABLE_CPUS = {"armv8 rev 0 (v8l)"}
"""Keys that no look-up may give out, because many different chips report that name."""


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


INTENSITIES = rows("carbon_intensity.csv")
CLOUD_REGIONS = rows("cloud_regions.csv")
GPUS = rows("gpus.csv")
CPUS = rows("cpus.csv")


@pytest.mark.parametrize(
    "name", ["carbon_intensity.csv", "cloud_regions.csv", "gpus.csv", "cpus.csv", "pue_water.csv"]
)
def test_every_row_has_as_many_fields_as_the_header(name: str) -> None:
    with (DATA / name).open(encoding="utf-8", newline="") as table:
        assert len({len(row) for row in csv.reader(table)}) == 1


def test_every_intensity_is_possible() -> None:
    assert all(0 <= float(row["intensity_gco2eq_per_kwh"]) <= 1500 for row in INTENSITIES)
    assert {row["basis"] for row in INTENSITIES} == {"lifecycle", "direct"}
    assert {row["accounting"] for row in INTENSITIES} == {"production", "consumption"}
    assert all(2000 <= int(row["data_year"]) <= 2030 for row in INTENSITIES)


def test_no_figure_that_is_used_is_zero() -> None:
    assert all(float(row["intensity_gco2eq_per_kwh"]) > 0 for row in INTENSITIES if row["preferred"] == "1")


def test_a_zone_has_at_most_one_preferred_row() -> None:
    assert {row["preferred"] for row in INTENSITIES} == {"0", "1"}
    preferred = Counter(row["zone"] for row in INTENSITIES if row["preferred"] == "1")
    assert max(preferred.values()) == 1
    assert preferred["WORLD"] == 1


def test_zone_codes_are_in_capitals() -> None:
    assert all(row["zone"] == row["zone"].upper() for row in INTENSITIES)


def test_no_alpha_3_code_of_a_country_is_another_zones_code() -> None:
    zones = {row["zone"] for row in INTENSITIES}
    assert not zones & {row["iso_alpha3"] for row in INTENSITIES if row["zone_type"] == "country"}


def test_every_zone_resolves() -> None:
    for zone in {row["zone"] for row in INTENSITIES}:
        assert resolve(zone).zone == zone


def test_every_bidding_zone_says_how_much_generation_it_covers() -> None:
    zones = [row for row in INTENSITIES if row["zone_type"] == "bidding_zone"]
    assert zones
    assert all(re.match(r"\d+\.\d+% \(uncovered: ", row["note"]) for row in zones)


def test_cloud_regions_are_unique() -> None:
    assert max(Counter((row["provider"], row["region"].lower()) for row in CLOUD_REGIONS).values()) == 1


@pytest.mark.parametrize("provider", sorted({row["provider"] for row in CLOUD_REGIONS}))
def test_every_cloud_regions_zone_resolves_to_a_usable_figure(provider: str) -> None:
    for row in CLOUD_REGIONS:
        if row["provider"] == provider:
            region = resolve(f"{provider}:{row['region']}")
            assert region.intensity.zone == region.zone == row["zone"]
            assert region.intensity.g_per_kwh == float(row["default_gco2eq_per_kwh"])


def test_every_stated_pue_is_possible() -> None:
    stated = [row[key] for row in CLOUD_REGIONS for key in ("region_pue", "provider_pue") if row[key]]
    assert all(1.0 <= float(pue) < 2.0 for pue in stated)


def test_cpu_keys_are_unique() -> None:
    duplicates = {key for key, count in Counter(row["match_key"] for row in CPUS).items() if count > 1}
    assert duplicates <= KNOWN_DUPLICATE_CPUS


def test_every_cpu_has_a_possible_tdp_and_core_count() -> None:
    assert all(0 < float(row["tdp_w"]) <= 1000 for row in CPUS)
    assert all(not row["cores"] or 1 <= int(row["cores"]) <= 288 for row in CPUS)


def test_every_server_and_desktop_cpu_is_found_under_its_own_name() -> None:
    families = ("xeon", "epyc", "ryzen", "core i", "core ultra", "opteron", "threadripper", "ampere", "aws")
    lost = [
        row["match_key"]
        for row in CPUS
        if row["match_key"].startswith(families)
        and "optane" not in row["match_key"]
        and row["match_key"] not in cpu_keys(row["name"])
    ]
    assert lost == []


def test_no_cpu_key_is_a_bare_family() -> None:
    assert not {row["match_key"] for row in CPUS} & {
        "xeon",
        "epyc",
        "ryzen",
        "opteron",
        "core",
        "processor",
        "",
    }


def test_names_of_whole_architectures_are_never_given_out() -> None:
    assert all(cpu_keys(row["name"]) == () for row in CPUS if row["match_key"] in UNREACHABLE_CPUS)


def test_every_gpu_regex_compiles_and_is_there_once() -> None:
    for row in GPUS:
        re.compile(row["name_regex"])
    assert max(Counter(row["name_regex"] for row in GPUS).values()) == 1
    assert max(Counter(row["model"].lower() for row in GPUS).values()) == 1


def test_every_gpu_has_a_possible_tdp_or_none() -> None:
    stated = [row for row in GPUS if row["tdp_w"]]
    assert all(10 <= float(row["tdp_w"]) <= 1500 for row in stated)
    assert all(float(row["idle_w"]) < float(row["tdp_w"]) for row in stated if row["idle_w"])


def test_every_gpu_model_of_the_table_is_found_by_its_own_name() -> None:
    for row in GPUS:
        for name in (row["model"], f"{row['vendor']} {row['model']}"):
            spec = gpu_spec(name)
            assert (spec.tdp_w if spec else None) == (float(row["tdp_w"]) if row["tdp_w"] else None), name


@pytest.mark.parametrize("name", ["TPU v5e", "TPU v5 lite", "TPU v5p", "TPU v6e"])
def test_a_gpu_of_unpublished_tdp_stays_unknown(name: str) -> None:
    assert any(re.search(row["name_regex"], name) for row in GPUS)
    assert gpu_spec(name) is None


@pytest.mark.parametrize(
    ("name", "tdp_w"),
    [
        ("Tesla K80", 150),
        ("Tesla M60", 150),
        ("Tesla P100-PCIE-16GB", 250),
        ("Tesla P100-SXM2-16GB", 300),
        ("Tesla P40", 250),
        ("Tesla P4", 75),
        ("Tesla V100-PCIE-16GB", 250),
        ("Tesla V100-PCIE-32GB", 250),
        ("Tesla V100-SXM2-16GB", 300),
        ("Tesla V100-SXM2-32GB", 300),
        ("Tesla V100-SXM3-32GB", 350),
        ("Tesla T4", 70),
        ("NVIDIA A100-SXM4-40GB", 400),
        ("NVIDIA A100-SXM4-80GB", 400),
        ("A100-SXM4-40GB", 400),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 400),
        ("NVIDIA A100-PCIE-40GB", 250),
        ("NVIDIA A100 80GB PCIe", 300),
        ("NVIDIA A800-SXM4-80GB", 400),
        ("NVIDIA A10", 150),
        ("NVIDIA A10G", 300),
        ("NVIDIA A30", 165),
        ("NVIDIA A40", 300),
        ("NVIDIA L4", 72),
        ("NVIDIA L40", 300),
        ("NVIDIA L40S", 350),
        ("NVIDIA H100 80GB HBM3", 700),
        ("NVIDIA H100 PCIe", 350),
        ("NVIDIA H100 NVL", 400),
        ("NVIDIA H200", 700),
        ("NVIDIA GH200 480GB", 900),
        ("NVIDIA B200", 1000),
        ("NVIDIA RTX A6000", 300),
        ("NVIDIA RTX 6000 Ada Generation", 300),
        ("Quadro RTX 6000", 260),
        ("Quadro RTX 8000", 260),
        ("NVIDIA TITAN RTX", 280),
        ("NVIDIA GeForce RTX 2080 Ti", 250),
        ("NVIDIA GeForce RTX 3080 Ti", 350),
        ("NVIDIA GeForce RTX 3090", 350),
        ("NVIDIA GeForce RTX 4090", 450),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 285),
        ("NVIDIA GeForce RTX 5090", 575),
        ("AMD Instinct MI250X", 560),
        ("AMD Instinct MI300X", 750),
    ],
)
def test_a_well_known_gpu_has_the_tdp_of_its_data_sheet(name: str, tdp_w: float) -> None:
    spec = gpu_spec(name)
    assert spec is not None
    assert spec.tdp_w == tdp_w
