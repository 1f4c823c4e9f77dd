"""Which cards and tiles Level Zero's and SYCL's lists leave, of two cards of two tiles (Max 1550)."""

from __future__ import annotations

import pytest

from carbonmon.hardware.found_gpus import FoundGpu
from carbonmon.hardware.gpu_selection import Selection
from carbonmon.hardware.level_zero_selection import select

CARDS = [FoundGpu("GPU-a", 0, "Max 1550", "0000:40:00.0"), FoundGpu("GPU-b", 1, "Max 1550", "0000:41:00.0")]
TILES = {"GPU-a": 2, "GPU-b": 2}
COMPOSITE = {"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}
BOTH = {"a": 1.0, "b": 1.0}


def chosen(
    environ: dict[str, str],
    gpus: tuple[str, ...] | None = None,
    *,
    integrated: bool = False,
    nvidia: bool = False,
) -> Selection:
    return select(CARDS, TILES, gpus, environ, has_nvidia=nvidia, has_integrated=integrated)


def shares(selection: Selection) -> dict[str, float]:
    return {pick.gpu.uuid.removeprefix("GPU-"): pick.share_ratio for pick in selection.chosen}


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("", BOTH),
        ("0,1,2,3", BOTH),
        ("0,1", {"a": 1.0}),
        ("0", {"a": 0.5}),
        ("3", {"b": 0.5}),
        ("1, 2", {"a": 0.5, "b": 0.5}),
        ("3,3", {"b": 0.5}),
        ("0,9", {"a": 0.5}),
        ("9", {}),
    ],
)
def test_without_more_a_mask_counts_tiles(mask: str, expected: dict[str, float]):
    assert shares(chosen({"ZE_AFFINITY_MASK": mask})) == expected


@pytest.mark.parametrize("hierarchy", ["FLAT", "COMBINED", "flat", "something"])
def test_other_hierarchies_than_composite_count_tiles_too(hierarchy: str):
    environ = {"ZE_AFFINITY_MASK": "2,3", "ZE_FLAT_DEVICE_HIERARCHY": hierarchy}
    assert shares(chosen(environ)) == {"b": 1.0}


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("0,1", BOTH),
        ("1", {"b": 1.0}),
        ("0.1", {"a": 0.5}),
        ("0.0,0.1", {"a": 1.0}),
        ("0.1, 1.0", {"a": 0.5, "b": 0.5}),
        ("1,1.0", {"b": 1.0}),
        ("0.7", {}),
        ("3", {}),
    ],
)
def test_with_composite_a_mask_counts_cards_and_their_tiles(mask: str, expected: dict[str, float]):
    assert shares(chosen({"ZE_AFFINITY_MASK": mask, **COMPOSITE})) == expected


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        (
            {"ZE_AFFINITY_MASK": "0.1"},
            "'0.1' is a tile of a card, and ZE_FLAT_DEVICE_HIERARCHY is not COMPOSITE",
        ),
        ({"ZE_AFFINITY_MASK": "FF"}, "'FF' is no number of a device"),
        ({"ZE_AFFINITY_MASK": "-1"}, "'-1' is no number of a device"),
        ({"ZE_AFFINITY_MASK": "0,,1"}, "'' is no number of a device"),
        (
            {"ZE_AFFINITY_MASK": "0", "SLURM_JOB_GPUS": "1"},
            "in a Slurm job indices may count in the job's own GPUs",
        ),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero"}, "'level_zero' is no selector"),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:gpu:0"}, "'gpu:0' is no device of a selector"),
        ({"ONEAPI_DEVICE_SELECTOR": "opencl:0"}, "in what order opencl counts is not known"),
    ],
)
def test_a_list_that_is_not_clear_decides_nothing_and_is_told(environ: dict[str, str], reason: str):
    selection = chosen(environ)
    assert (shares(selection), selection.by) == (BOTH, "")
    (note,) = selection.notes
    assert note.endswith(f": {reason}; it is not used")


def test_with_integrated_graphics_indices_decide_nothing():
    selection = chosen({"ZE_AFFINITY_MASK": "0"}, integrated=True)
    assert (shares(selection), selection.by) == (BOTH, "")
    assert "the integrated graphics of this machine has a number too" in selection.notes[0]
    assert chosen({"ONEAPI_DEVICE_SELECTOR": "level_zero:gpu"}, integrated=True).notes == []


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("*:*", BOTH),
        ("level_zero:gpu", BOTH),
        ("LEVEL_ZERO:GPU", BOTH),
        ("opencl:gpu;level_zero:gpu", BOTH),
        ("level_zero:*,*.*", BOTH),
        ("level_zero:0", {"a": 0.5}),
        ("level_zero:0,1", {"a": 1.0}),
        ("level_zero:2,3;opencl:cpu", {"b": 1.0}),
        ("level_zero:9", {}),
        ("*:cpu", {}),
        ("cuda:*", {}),
        ("opencl:cpu", {}),
        ("!*:cpu", BOTH),
        ("!level_zero:0", {"a": 0.5, "b": 1.0}),
        ("level_zero:*;!level_zero:2,3", {"a": 1.0}),
        ("!*:gpu", {}),
    ],
)
def test_a_selector_accepts_and_discards(selector: str, expected: dict[str, float]):
    assert shares(chosen({"ONEAPI_DEVICE_SELECTOR": selector})) == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("level_zero:1", {"b": 1.0}),
        ("level_zero:1.0", {"b": 0.5}),
        ("level_zero:0.*", {"a": 1.0}),
        ("level_zero:0.0,1.1", {"a": 0.5, "b": 0.5}),
        ("level_zero:0.5", {}),
    ],
)
def test_with_composite_a_selector_counts_cards_and_their_tiles(selector: str, expected: dict[str, float]):
    assert shares(chosen({"ONEAPI_DEVICE_SELECTOR": selector, **COMPOSITE})) == expected


def test_a_selector_counts_in_what_the_mask_has_left():
    environ = {"ZE_AFFINITY_MASK": "2,3", "ONEAPI_DEVICE_SELECTOR": "level_zero:1"}
    selection = chosen(environ)
    assert (shares(selection), selection.by) == ({"b": 0.5}, "ONEAPI_DEVICE_SELECTOR")
    assert selection.chosen[0].share_note == "tile 1 of 2: the same share of the card's energy"


def test_the_user_s_choice_comes_first():
    environ = {"ZE_AFFINITY_MASK": "0"}
    assert shares(chosen(environ, ("1",))) == {"b": 1.0}
    assert shares(chosen(environ, ("0", "GPU-b"), nvidia=True)) == {"b": 1.0}, "indices are NVML's then"
