"""Watts of memory by its modules, and a range that holds what others say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.hardware.memory_power import GIB, memory_spec
from carbonmon.hardware.smbios import MemoryModule
from tests.support.rows import for_each_row

BOAVIZTA_W_PER_GB, GREEN_ALGORITHMS_W_PER_GB, MICRON_W_PER_GB = 0.284, 0.3725, 0.408


@for_each_row(
    ("gib", "power_w"),
    [(1, 0.625), (8, 5), (16, 10), (64, 20), (256, 40), (1024, 80), (2048, 160), (4096, 320)],
)
def test_memory_of_unknown_modules_draws_as_a_usual_number_of_them(gib: int, power_w: float) -> None:
    spec = memory_spec(gib * GIB)
    assert spec.tdp_w == pytest.approx(power_w)
    assert spec.assumed_utilization_ratio == 1.0
    assert f"{gib}.0 GiB in a usual number of modules" in spec.source


@for_each_row(
    ("gib", "codecarbon_w"),
    # CodeCarbon 3.3.2, ram.py: 5 W a slot, less from the fifth slot on
    [(16, 10), (32, 20), (64, 20), (128, 38), (512, 38), (1024, 70), (2048, 70), (4096, 126)],
)
def test_the_range_holds_what_other_tools_say(gib: int, codecarbon_w: float) -> None:
    spec = memory_spec(gib * GIB)
    low_w = spec.tdp_w * (1 - spec.uncertainty.low_ratio)
    high_w = spec.tdp_w * (1 + spec.uncertainty.high_ratio)
    others = (
        codecarbon_w,
        *(ratio * gib for ratio in (BOAVIZTA_W_PER_GB, GREEN_ALGORITHMS_W_PER_GB, MICRON_W_PER_GB)),
    )
    assert low_w <= min(others)
    assert max(others) <= high_w * 1.000001


@for_each_row(
    ("modules", "power_w"),
    [
        ([MemoryModule(16 * GIB, "DDR4")] * 4, 20),
        ([MemoryModule(64 * GIB, "DDR5")] * 32, 160),
        ([MemoryModule(128 * GIB, "DDR5")] * 16, 160),
        ([MemoryModule(256 * GIB, "DDR5")] * 8, 160),
        ([MemoryModule(8 * GIB, "LPDDR5")] * 4, 6),
    ],
)
def test_known_modules_are_counted(modules: list[MemoryModule], power_w: float) -> None:
    total = sum(module.size_bytes for module in modules)
    spec = memory_spec(int(total * 0.98), modules)
    assert spec.tdp_w == pytest.approx(power_w)
    assert spec.uncertainty.high_ratio == pytest.approx(1.0)


def test_less_than_the_firmware_s_modules_is_their_part() -> None:
    modules = [MemoryModule(128 * GIB, "DDR5")] * 16
    spec = memory_spec(128 * GIB, modules)
    assert spec.tdp_w == pytest.approx(10.0)
    assert "128.0 GiB of it here" in spec.source


def test_modules_that_are_less_than_the_memory_are_not_believed() -> None:
    assert memory_spec(64 * GIB, [MemoryModule(16 * GIB, "DDR4")]) == memory_spec(64 * GIB)


@given(st.integers(1, 2**44), st.integers(0, 2**40))
def test_more_memory_never_draws_less(total_bytes: int, more_bytes: int) -> None:
    assert memory_spec(total_bytes).tdp_w <= memory_spec(total_bytes + more_bytes).tdp_w
    assert memory_spec(total_bytes).uncertainty.high_ratio >= 1.0 - 1e-9
