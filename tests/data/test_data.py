"""The bundled tables keep what the look-ups rely on, and the names of real GPUs mean what they should."""

from __future__ import annotations

import csv
import re
from collections import Counter

import pytest

from carbonmon.core.uncertainty import TDP_UNCERTAINTY
from carbonmon.data import FORMATS, PACKAGE, editions
from carbonmon.data.checks import faults
from carbonmon.grid.regions import resolve
from carbonmon.hardware.cpu_specs import cpu_keys, cpu_spec
from carbonmon.hardware.spec_sheets import gpu_spec
from tests.support.rows import for_each_row

DATA = PACKAGE

UNREACHABLE_CPUS = {"armv8 rev 0 (v8l)"}
"""Keys that no look-up may give out, because many different chips report that name."""


@pytest.fixture(autouse=True)
def bundled_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONMON_DATA", "package")


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


INTENSITIES = rows("carbon_intensity.csv")
CLOUD_REGIONS = rows("cloud_regions.csv")
GPUS = rows("gpus.csv")
CPUS = rows("cpus.csv")
MEANS = {row["model"]: row["mean_w"] for row in reversed(rows("accelerator_power.csv"))}
"""The first row of each accelerator is that of the chip alone, if there is one."""
NVML_NAMES = [(row["name"], row["model"]) for row in rows("nvml_names.csv")]


def test_the_bundled_tables_pass_every_check() -> None:
    assert [str(fault) for fault in faults(editions.tables_of(PACKAGE))] == []


def test_every_correction_is_in_force() -> None:
    assert editions.not_in_force(editions.tables_of(PACKAGE)) == []


def test_every_file_of_the_package_is_as_the_script_would_write_it() -> None:
    for name, table in editions.tables_of(PACKAGE).items():
        assert table.csv() == (PACKAGE / name).read_bytes(), name


@for_each_row("name", FORMATS)
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


@for_each_row("provider", sorted({row["provider"] for row in CLOUD_REGIONS}))
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
    assert max(Counter(row["match_key"] for row in CPUS).values()) == 1


def test_every_cpu_has_a_possible_tdp_and_core_count() -> None:
    assert all(0 < float(row["tdp_w"]) <= 1000 for row in CPUS if row["tdp_w"])
    assert all(row["tdp_w"] or "no TDP is published" in row["source"] for row in CPUS)
    assert all(not row["cores"] or 1 <= int(row["cores"]) <= 288 for row in CPUS)


def test_every_server_and_desktop_cpu_is_found_under_its_own_name() -> None:
    families = (
        *("xeon", "epyc", "ryzen", "core i", "core ultra", "opteron", "threadripper", "ampere", "aws"),
        *("google", "huawei", "microsoft", "nvidia", "alibaba", "fujitsu"),
    )
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
    assert all(10 <= float(row["tdp_w"]) <= 2000 for row in stated)
    assert all(float(row["idle_w"]) < float(row["tdp_w"]) for row in stated if row["idle_w"])


def test_every_gpu_model_of_the_table_is_found_by_its_own_name() -> None:
    for row in GPUS:
        stated = MEANS.get(row["model"]) or row["tdp_w"]
        for name in (row["model"], f"{row['vendor']} {row['model']}"):
            spec = gpu_spec(name)
            assert (spec.tdp_w if spec else None) == (float(stated) if stated else None), name


@for_each_row("name", ["TPU v5e", "TPU v5 lite", "TPU v5p", "TPU v7", "Trainium2", "Ascend 910B", "Rubin"])
def test_a_gpu_of_unpublished_tdp_stays_unknown(name: str) -> None:
    assert any(re.search(row["name_regex"], name) for row in GPUS)
    assert gpu_spec(name) is None


@for_each_row(
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


@for_each_row(("name", "model"), NVML_NAMES)
def test_a_name_of_nvml_fits_the_expression_of_its_own_model_and_of_no_other(name: str, model: str) -> None:
    fits = [row["model"] for row in GPUS if re.search(row["name_regex"], name)]
    assert fits == ([model] if model else [])


@for_each_row(("name", "model"), NVML_NAMES)
def test_a_name_of_nvml_has_the_tdp_of_its_own_model_or_none(name: str, model: str) -> None:
    spec = gpu_spec(name)
    if not model:
        assert spec is None
    else:
        tdp_w = next(row["tdp_w"] for row in GPUS if row["model"] == model)
        assert (spec.tdp_w if spec else None) == (float(tdp_w) if tdp_w else None)


def test_every_nvidia_model_has_a_name_of_nvml_to_prove_its_expression() -> None:
    proven = {model for _, model in NVML_NAMES}
    assert {row["model"] for row in GPUS if row["vendor"] == "NVIDIA"} - proven == {"B100", "Rubin"}


def test_the_names_that_must_fit_nothing_are_of_every_kind() -> None:
    strangers = [name for name, model in NVML_NAMES if not model]
    for sign in ("Laptop GPU", "Embedded GPU", "Max-Q", "-12Q", "Super", "980M"):
        assert any(sign in name for name in strangers), sign


@for_each_row(
    "name",
    [
        "NVIDIA GeForce RTX 6090 Laptop GPU",
        "NVIDIA GeForce RTX 5090 Ti",
        "NVIDIA H100 120GB HBM4",
        "NVIDIA A100-SXM4-320GB",
        "NVIDIA RTX A4000 with Max-Q Design",
        "NVIDIA RTX PRO 6000 Blackwell Laptop GPU",
        "NVIDIA L40S-48",
        "NVIDIA A100-1-5CME",
    ],
)
def test_a_board_that_nobody_knows_yet_takes_no_others_tdp(name: str) -> None:
    assert gpu_spec(name) is None


@for_each_row("name", ["NVIDIA H100 PCIe", "NVIDIA H100 80GB HBM2e"])
def test_both_names_of_the_h100_pcie_card_have_its_350_watts(name: str) -> None:
    spec = gpu_spec(name)
    assert spec is not None
    assert spec.tdp_w == 350
    assert "H100 PCIe" in spec.source


@for_each_row("name", ["NVIDIA GeForce RTX 2080", "NVIDIA GeForce GTX 1060", "Quadro RTX 5000"])
def test_a_name_that_laptop_parts_share_says_so(name: str) -> None:
    spec = gpu_spec(name)
    assert spec is not None
    assert "laptop parts report the same name" in spec.source


@for_each_row(
    ("model", "tdp_w"),
    [
        ("12th Gen Intel(R) Core(TM) i7-12700K", 125),
        ("13th Gen Intel(R) Core(TM) i5-1335U", 15),
        ("12th Gen Intel(R) Core(TM) i7-1270P", 28),
        ("12th Gen Intel(R) Core(TM) i7-12700H", 45),
        ("13th Gen Intel(R) Core(TM) i7-1360P", 28),
        ("13th Gen Intel(R) Core(TM) i9-13900K", 125),
        ("Intel(R) Core(TM) i9-14900HX", 55),
        ("Intel(R) Core(TM) i7-1060G7 CPU @ 1.00GHz", 9),
        ("Intel(R) Core(TM) i3-8121U CPU @ 2.20GHz", 15),
    ],
)
def test_a_cpu_of_intel_has_its_base_power_and_not_its_turbo_power(model: str, tdp_w: float) -> None:
    spec = cpu_spec(model, visible_threads=8, physical_cores=4, virtual=False)
    assert spec.tdp_w == tdp_w
    assert spec.source.count("TDP") >= 1


@pytest.mark.parametrize(
    ("model", "tdp_w", "sibling"),
    [
        ("AMD EPYC 9R14 96-Core Processor", 360, "as EPYC 9654"),
        ("AMD EPYC 7B13", 280, "as EPYC 7763"),
        ("AMD EPYC 9B14", 360, "as EPYC 9654"),
        ("AMD EPYC 9V33X 96-Core Processor", 400, "as EPYC 9684X"),
        ("AMD EPYC 7V12 64-Core Processor", 225, "as EPYC 7742"),
        ("INTEL(R) XEON(R) PLATINUM 8481C CPU @ 2.70GHz", 350, "as Xeon Platinum 8480+"),
        ("Intel(R) Xeon(R) Platinum 8488C", 350, "as Xeon Platinum 8468"),
        ("Intel(R) Xeon(R) Platinum 8480C", 350, "as Xeon Platinum 8480+"),
        ("INTEL(R) XEON(R) PLATINUM 8581C CPU @ 2.60GHz", 350, "as Xeon Platinum 8580"),
        ("Intel(R) Xeon(R) 6975P-C", 500, "as Xeon 6972P"),
    ],
)
def test_a_part_that_only_a_cloud_has_takes_a_public_siblings_tdp_and_says_so(
    model: str, tdp_w: float, sibling: str
) -> None:
    spec = cpu_spec(model, visible_threads=8, physical_cores=4, virtual=False)
    assert spec.tdp_w == tdp_w
    assert f"no vendor figure: {sibling}" in spec.source
    assert spec.uncertainty.high_ratio > TDP_UNCERTAINTY.high_ratio
    assert "no vendor figure" in spec.uncertainty.source


@pytest.mark.parametrize(
    ("model", "tdp_w"),
    [
        ("12th Gen Intel(R) Core(TM) i9-12900K", 125),
        ("12th Gen Intel(R) Core(TM) i5-12400F", 65),
        ("13th Gen Intel(R) Core(TM) i7-13700H", 45),
        ("13th Gen Intel(R) Core(TM) i9-13980HX", 55),
        ("Intel(R) Core(TM) i9-14900K", 125),
        ("Intel(R) Core(TM) Ultra 9 185H", 45),
        ("Intel(R) Core(TM) Ultra 7 258V", 17),
        ("Intel(R) Core(TM) Ultra 9 275HX", 55),
        ("Intel(R) N150", 6),
        ("Intel(R) Xeon(R) w9-3495X", 350),
        ("AMD Ryzen 5 9500F 6-Core Processor", 65),
        ("Ampere(R) Altra(R) Processor Q64-30", 180),
        ("Ampere(R) Altra(R) Max Processor M128-30", 250),
        ("HUAWEI Kunpeng 920 5250", 150),
        ("NVIDIA Grace", 250),
        ("AMD Ryzen 9 4900H with Radeon Graphics", 45),
        ("AMD Ryzen 7 6800U with Radeon Graphics", 15),
        ("Intel(R) Core(TM) m3-8114Y CPU @ 1.50GHz", 5),
        ("12th Gen Intel(R) Core(TM) i7-12700E", 65),
        ("Intel(R) Pentium(R) Gold G7400", 46),
        ("Intel(R) Xeon(R) CPU E5-2676 v3 @ 2.40GHz", 120),
    ],
)
def test_a_cpu_of_recent_years_is_in_the_table(model: str, tdp_w: float) -> None:
    spec = cpu_spec(model, visible_threads=8, physical_cores=4, virtual=False)
    assert spec.tdp_w == tdp_w
    assert "unknown" not in spec.source


@pytest.mark.parametrize(
    ("model", "cores"), [("AWS Graviton4", 96), ("Microsoft Azure Cobalt 100", 128), ("Google Axion", 96)]
)
def test_an_arm_chip_without_a_published_tdp_is_estimated_from_its_cores(model: str, cores: int) -> None:
    spec = cpu_spec(model, visible_threads=1, physical_cores=1, virtual=False)
    assert spec.tdp_w == pytest.approx(2.2 * cores)
    assert "no TDP is published" in spec.source
    assert "1.5–3.4 W per ARM core" in spec.uncertainty.source


def test_a_row_that_was_added_is_in_its_place_by_key() -> None:
    keys = [row["match_key"] for row in CPUS]
    assert keys == sorted(keys)


def test_a_corrected_cpu_names_the_figure_that_its_source_had() -> None:
    spec = cpu_spec("Intel(R) Core(TM) i7-12700K", visible_threads=8, physical_cores=4, virtual=False)
    assert "Intel ARK: processor base power" in spec.source
    assert "codecarbon=190" in spec.source


def test_an_apple_m1_has_one_row_that_names_the_other_figure() -> None:
    spec = cpu_spec("Apple M1", visible_threads=8, physical_cores=8, virtual=False)
    assert spec.tdp_w == 20
    assert "codecarbon+carbontracker=10" in spec.source


@for_each_row("code", ["LGA1", "ORD1", "LAS1"])
def test_a_provider_that_publishes_no_pue_has_none(code: str) -> None:
    assert resolve(f"coreweave:{code}").provider_pue is None


def test_the_page_of_sources_counts_the_rows_right() -> None:
    page = (PACKAGE / "SOURCES.md").read_text(encoding="utf-8")
    for name in FORMATS:
        assert f"| {name} | {len(rows(name)):,} |" in page, name
