"""Look-ups of CPU and GPU models and of memory, and how uncertainties combine."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Spec, Uncertainty
from carbonmon.core.uncertainty import (
    NVML_UNCERTAINTY,
    RAPL_DRAM_UNCERTAINTY,
    RAPL_PACKAGE_UNCERTAINTY,
    TDP_UNCERTAINTY,
    combine,
)
from carbonmon.data import PACKAGE, data_file, user_folder
from carbonmon.grid.overheads import pue_for
from carbonmon.grid.regions import resolve
from carbonmon.hardware.cpu_specs import cpu_keys, cpu_spec, similar_cpus
from carbonmon.hardware.memory_power import memory_spec
from carbonmon.hardware.spec_sheets import gpu_spec, similar_gpus
from tests.support.rows import for_each_row


@pytest.fixture(autouse=True)
def bundled_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONMON_DATA", "package")


def bare_metal(model_name: str, physical_cores: int = 4) -> Spec:
    return cpu_spec(
        model_name, visible_threads=2 * physical_cores, physical_cores=physical_cores, virtual=False
    )


@for_each_row(
    ("model_name", "tdp_w"),
    [
        ("Intel(R) Xeon(R) Gold 6154 CPU @ 3.00GHz", 200),
        ("Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz", 240),
        ("Intel(R) Xeon(R) Platinum 8480+", 350),
        ("INTEL(R) XEON(R) GOLD 6548Y+", 250),
        ("Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", 145),
        ("Intel(R) Xeon(R) CPU E5-2670 0 @ 2.60GHz", 115),
        ("Intel(R) Xeon(R) CPU E7- 4870  @ 2.40GHz", 130),
        ("Intel(R) Xeon(R) CPU E3-1240 V2 @ 3.40GHz", 69),
        ("Intel(R) Xeon(R) CPU           X5650  @ 2.67GHz", 95),
        ("Intel(R) Xeon(R) CPU Max 9480", 350),
        ("Intel(R) Core(TM) i7 CPU         920  @ 2.67GHz", 130),
        ("Intel(R) Core(TM)2 Duo CPU     E8400  @ 3.00GHz", 65),
        ("13th Gen Intel(R) Core(TM) i9-13900K", 125),
        ("AMD EPYC 7763 64-Core Processor", 280),
        ("AMD EPYC 7R13 Processor", 225),
        ("AMD EPYC 7B12", 240),
        ("AMD Ryzen 9 5950X 16-Core Processor", 105),
        ("AMD Ryzen 9 5900 12-Core Processor", 65),
        ("AMD Ryzen 7 PRO 4750U with Radeon Graphics", 15),
        ("AMD Ryzen AI 9 HX 370 w/ Radeon 890M", 28),
        ("AMD Ryzen Threadripper PRO 5995WX 64-Cores", 280),
        ("AMD FX(tm)-8350 Eight-Core Processor", 125),
        ("AMD Opteron(tm) Processor 6376", 115),
        ("AMD A10-7850K Radeon R7, 12 Compute Cores 4C+8G", 95),
        ("AMD PRO A10-8770 R7, 10 COMPUTE CORES 4C+6G", 65),
        ("EPYC 7763", 280),
        ("Gold 6154", 200),
        ("E5-2690v4", 135),
        ("i9-13900K", 125),
    ],
)
def test_a_cpu_is_found_under_the_name_that_the_kernel_or_a_user_gives_it(
    model_name: str, tdp_w: float
) -> None:
    spec = bare_metal(model_name)
    assert spec.tdp_w == tdp_w
    assert spec.uncertainty == TDP_UNCERTAINTY
    assert "unknown" not in spec.source
    assert spec.assumed_utilization_ratio is None


def test_the_generation_and_the_vendor_are_no_part_of_a_cpu_key() -> None:
    assert cpu_keys("13th Gen Intel(R) Core(TM) i7-13700K")[0] == "core i7-13700k"


@for_each_row(
    "model_name",
    [
        "AMD EPYC",
        "AMD EPYC Processor",
        "AMD EPYC-Rome Processor",
        "Intel(R) Xeon(R) Processor",
        "Intel(R) Xeon(R) CPU @ 2.20GHz",
        "Intel Xeon Processor (Skylake, IBRS)",
        "QEMU Virtual CPU version 2.5+",
        "ARMv8 Processor rev 0 (v8l)",
        "AMD EPYC 776",
        "Intel(R) Xeon(R) Gold 61540 CPU @ 3.00GHz",
        "AMD Phenom(tm) II X4 955 Processor",
        "",
    ],
)
def test_a_cpu_without_an_exact_match_is_unknown_and_never_the_nearest(model_name: str) -> None:
    spec = bare_metal(model_name, physical_cores=16)
    assert spec.tdp_w == 7.5 * 16
    assert spec.source.startswith(f"unknown CPU model {model_name!r}")


def test_an_unknown_cpu_has_the_range_of_watts_per_core_on_top_of_the_methods_uncertainty() -> None:
    spec = bare_metal("AMD EPYC", physical_cores=10)
    low_w = spec.tdp_w * (1 - spec.uncertainty.low_ratio)
    high_w = spec.tdp_w * (1 + spec.uncertainty.high_ratio)
    assert low_w == pytest.approx(10 * 4.7 * (1 - TDP_UNCERTAINTY.low_ratio))
    assert high_w == pytest.approx(10 * 13.9 * (1 + TDP_UNCERTAINTY.high_ratio))
    assert "4.7–13.9 W per core" in spec.uncertainty.source
    assert TDP_UNCERTAINTY.source in spec.uncertainty.source


def test_an_unknown_cpu_of_a_virtual_machine_may_draw_half_because_its_cores_may_be_threads() -> None:
    real = bare_metal("Intel(R) Xeon(R) Processor", physical_cores=2)
    virtual = cpu_spec("Intel(R) Xeon(R) Processor", visible_threads=2, physical_cores=2, virtual=True)
    assert virtual.tdp_w == real.tdp_w
    assert 1 - virtual.uncertainty.low_ratio == pytest.approx((1 - real.uncertainty.low_ratio) / 2)
    assert virtual.uncertainty.high_ratio == pytest.approx(real.uncertainty.high_ratio)


def test_a_virtual_machine_owns_the_share_of_the_package_that_it_sees() -> None:
    name = "AMD EPYC 7763 64-Core Processor"
    spec = cpu_spec(name, visible_threads=16, physical_cores=8, virtual=True)
    assert spec.tdp_w == 280 * 16 / 128
    assert "sees 16 of its 128 hardware threads" in spec.source
    assert cpu_spec(name, visible_threads=16, physical_cores=8, virtual=False).tdp_w == 280


def test_a_virtual_machine_owns_no_more_than_the_whole_package() -> None:
    assert cpu_spec("AMD EPYC 7763", visible_threads=256, physical_cores=128, virtual=True).tdp_w == 280


@for_each_row(("model_name", "tdp_w"), [("AWS Graviton3", 50), ("Intel(R) Xeon(R) 6780E", 73.3)])
def test_a_core_without_hardware_threads_counts_once(model_name: str, tdp_w: float) -> None:
    spec = cpu_spec(model_name, visible_threads=32, physical_cores=32, virtual=True)
    assert spec.tdp_w == pytest.approx(tdp_w, abs=0.1)


def test_a_virtual_machine_on_a_cpu_of_unknown_core_count_is_estimated_from_its_cores() -> None:
    name = "Intel(R) Xeon(R) Platinum 8255C CPU @ 2.50GHz"  # 165 W, cores not in the table
    spec = cpu_spec(name, visible_threads=8, physical_cores=4, virtual=True)
    assert spec.tdp_w == 30
    assert spec.uncertainty.high_ratio > TDP_UNCERTAINTY.high_ratio
    assert "how many cores it has is unknown" in spec.source
    assert cpu_spec(name, visible_threads=96, physical_cores=48, virtual=True).tdp_w == 165


def test_sources_that_disagree_are_named() -> None:
    assert "sources disagree: amd_server=155; carbontracker=170" in bare_metal("AMD EPYC 7281").source


def test_a_gpu_is_found_under_the_tables_own_name_of_it() -> None:
    """The name that an error message proposes, which no regular expression for NVML's names would fit."""
    spec = gpu_spec("A100 SXM4 80GB")
    assert spec is not None
    assert spec.tdp_w == 400
    assert spec.uncertainty == TDP_UNCERTAINTY
    assert "A100 SXM4 80GB" in spec.source
    assert spec.assumed_utilization_ratio is None


@for_each_row(
    "name",
    [
        "",
        "NVIDIA GeForce RTX 3080 Laptop GPU",
        "NVIDIA RTX A4000 Laptop GPU",
        "NVIDIA Graphics Device",
        "Matrox",
    ],
)
def test_an_unknown_gpu_has_no_spec(name: str) -> None:
    assert gpu_spec(name) is None


@for_each_row("name", ["NVIDIA A40-12Q", "GRID T4-16Q", "NVIDIA A16-8C", "GRID A100D-2-20C"])
def test_a_virtual_gpu_has_no_spec_because_its_share_of_the_board_is_unknown(name: str) -> None:
    assert gpu_spec(name) is None


def test_the_nearest_models_can_be_looked_up() -> None:
    gpus = similar_gpus("nvidia a100 sxm4 80 gb")
    assert gpus[0] == "A100 SXM4 80GB"
    assert all(gpu_spec(name) is not None for name in gpus)
    cpus = similar_cpus("Intel Xeon Gold 6155")
    assert cpus
    assert all("unknown" not in bare_metal(name).source for name in cpus)


def test_nothing_is_near_to_nonsense() -> None:
    assert similar_gpus("@@@@") == ()
    assert similar_cpus("@@@@") == ()


def test_combined_uncertainties_multiply_and_name_both_sources() -> None:
    both = combine(Uncertainty(0.5, 1.0, "one"), Uncertainty(0.2, 0.5, "other"))
    assert both.low_ratio == pytest.approx(1 - 0.5 * 0.8)
    assert both.high_ratio == pytest.approx(2 * 1.5 - 1)
    assert both.source == "one; and other"


@for_each_row(
    "uncertainty",
    [
        NVML_UNCERTAINTY,
        RAPL_PACKAGE_UNCERTAINTY,
        RAPL_DRAM_UNCERTAINTY,
        TDP_UNCERTAINTY,
    ],
)
def test_every_uncertainty_is_possible_and_has_a_source(uncertainty: Uncertainty) -> None:
    assert 0 < uncertainty.low_ratio < 1
    assert uncertainty.high_ratio > 0
    assert uncertainty.source


def test_an_estimate_is_less_certain_than_a_measurement() -> None:
    assert NVML_UNCERTAINTY.high_ratio < RAPL_PACKAGE_UNCERTAINTY.high_ratio < TDP_UNCERTAINTY.high_ratio
    assert RAPL_DRAM_UNCERTAINTY.high_ratio < memory_spec(64 * 2**30).uncertainty.high_ratio


def test_a_laptop_part_that_is_spelled_in_small_letters_takes_no_desktop_boards_tdp() -> None:
    desktop = gpu_spec("NVIDIA GeForce RTX 2080 SUPER")
    assert desktop is not None
    assert desktop.tdp_w == 250
    assert gpu_spec("NVIDIA GeForce RTX 2080 Super") is None


def test_spaces_around_and_within_a_gpus_name_do_not_matter() -> None:
    assert gpu_spec("  NVIDIA  GeForce RTX 4090 ") == gpu_spec("NVIDIA GeForce RTX 4090") is not None


# ---- the user's own tables ----


def own_table(folder: Path, name: str, change: tuple[str, str]) -> None:
    """The package's table with one text replaced, as the user's own."""
    folder.mkdir(exist_ok=True)
    text = (PACKAGE / name).read_text(encoding="utf-8")
    assert change[0] in text
    (folder / name).write_text(text.replace(*change), encoding="utf-8")


def test_the_users_own_table_goes_before_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CARBONMON_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    before = gpu_spec("NVIDIA A30")
    own_table(tmp_path / "carbonmon", "gpus.csv", ("PCIe,24,165", "PCIe,24,160"))
    after = gpu_spec("NVIDIA A30")
    assert before is not None and after is not None
    assert (before.tdp_w, after.tdp_w) == (165, 160)
    assert bare_metal("EPYC 7763").tdp_w == 280  # of the package: the user has no such table


@pytest.mark.parametrize("word", ["", "package"])
def test_the_bundled_tables_can_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("CARBONMON_DATA", word)
    own_table(tmp_path / "carbonmon", "gpus.csv", ("PCIe,24,165", "PCIe,24,160"))
    assert data_file("gpus.csv") == PACKAGE / "gpus.csv"


def test_a_folder_of_tables_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_table(tmp_path, "cpus.csv", ("core i9-13900k,Intel Core i9-13900K,125", "core i9-13900k,x,77"))
    monkeypatch.setenv("CARBONMON_DATA", str(tmp_path))
    assert bare_metal("i9-13900K").tdp_w == 77
    assert data_file("gpus.csv") == PACKAGE / "gpus.csv"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONMON_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="CARBONMON_DATA: there is no folder"):
        gpu_spec("NVIDIA A30")


def test_the_users_folder_is_where_the_xdg_specification_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_DATA_HOME", "/data/of/somebody")
    assert user_folder() == Path("/data/of/somebody/carbonmon")
    for unset in ("", "relative/paths/are/invalid"):
        monkeypatch.setenv("XDG_DATA_HOME", unset)
        assert user_folder() == Path("/home/somebody/.local/share/carbonmon")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gpus.csv", (r"\bA30(?= MIG\b|$)", r"\bA30(?= MIG\b|$")),
        ("gpus.csv", ("PCIe,24,165", "PCIe,24,many")),
        ("gpus.csv", ("vendor,model", "maker,model")),
        ("gpus.csv", (",Ampere,PCIe,24,165", ",PCIe,24,165")),
        ("cpus.csv", ("i9-13900K,125", "i9-13900K,much")),
        ("cpus.csv", ("i9-13900K,125,24,codecarbon,", "i9-13900K,125")),
    ],
)
def test_a_damaged_table_of_the_users_own_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: tuple[str, str]
) -> None:
    own_table(tmp_path, name, change)
    monkeypatch.setenv("CARBONMON_DATA", str(tmp_path))
    with pytest.raises(ConfigError) as error:
        gpu_spec("NVIDIA A30 of ours")
        gpu_spec("NVIDIA A30 MIG 1g.6gb")
        bare_metal("i9-13900K")
    assert str(tmp_path / name) in str(error.value)
    assert "carbonmon data check" in str(error.value)


# ---- what a look-up costs ----


@pytest.mark.parametrize(
    "look_up",
    [
        lambda: gpu_spec("NVIDIA H100 80GB HBM3"),
        lambda: gpu_spec("a GPU that the table does not have"),
        lambda: bare_metal("AMD EPYC 7763 64-Core Processor"),
        lambda: bare_metal("a CPU that the table does not have"),
        lambda: resolve("FR"),
        lambda: resolve("aws:us-east-1"),
        lambda: resolve("CF"),
        lambda: pue_for(None, "world"),
    ],
    ids=("gpu", "no gpu", "cpu", "no cpu", "country", "cloud", "stand-in", "pue"),
)
def test_a_look_up_needs_less_than_2_mb_and_keeps_next_to_nothing(look_up: Callable[[], object]) -> None:
    tracemalloc.start()
    try:
        look_up()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
    assert kept < 500_000  # compiled expressions, which `re` keeps
