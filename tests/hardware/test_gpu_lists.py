"""What containers and Slurm write about GPUs, read in every form that is known, and laws of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.hardware.found_gpus import FoundGpu, MigInstance
from carbonmon.hardware.gpu_selection import Selection, select

UUIDS = tuple(f"GPU-{number}0000000-0000-4000-8000-00000000000{number}" for number in range(4))
MIGS = ("MIG-a", "MIG-b", "MIG-c")


def gpu(number: int, minor: int | None, bus: int) -> FoundGpu:
    return FoundGpu(UUIDS[number], number, "NVIDIA H100 80GB HBM3", f"00000000:{bus:02X}:00.0", minor=minor)


NODE = tuple(gpu(number, 3 - number, number) for number in range(4))
"""Minor numbers run against NVML's indices."""
ALONE = (NODE[2]._replace(number=0),)
"""What a container or a cgroup shows that was given the third GPU: renumbered, with its own minor number."""
SLICED = (
    NODE[0]._replace(
        is_mig=True,
        mig=tuple(
            MigInstance(uuid, slices / 7, f"{slices} of 7", number)
            for number, (uuid, slices) in enumerate(zip(MIGS, (1, 2, 4), strict=True))
        ),
    ),
    NODE[1],
)


def selected(found: tuple[FoundGpu, ...], is_own_view: bool = True, **environ: str) -> Selection:
    return select(found, None, environ, is_own_view=is_own_view)


def shares(selection: Selection) -> dict[int, float]:
    """The share of each chosen GPU, by its place in the node."""
    return {UUIDS.index(pick.gpu.uuid): pick.share_ratio for pick in selection.chosen}


# ---- a container's list ----


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (UUIDS[3], [3]),
        (f"{UUIDS[3]},{UUIDS[1]}", [1, 3]),
        (f" {UUIDS[3]} , {UUIDS[1]} ", [1, 3]),
        (f"{UUIDS[3]},", [3]),
        (f"{UUIDS[3]},{UUIDS[3]}", [3]),
        (UUIDS[3][:8], [3]),
        (f"0,{UUIDS[3]}", [0, 3]),
        ("0,2", [0, 2]),
        ("3", [3]),
        ("nvidia.com/gpu=1", [1]),
        (f"k8s.device-plugin.nvidia.com/gpu={UUIDS[2]}", [2]),
        ("none", []),
        ("nvidia.com/gpu=none", []),
        (f"{UUIDS[3]},GPU-ffffffff", [3]),  # the other one has fallen off the bus
        ("7,8,9,10", [0, 1, 2, 3]),  # the host's numbers of what is visible here
    ],
)
def test_a_container_s_list_is_what_its_job_was_given(text: str, places: list[int]):
    for is_own_view in (True, False):
        selection = selected(NODE, is_own_view, NVIDIA_VISIBLE_DEVICES=text)
        assert sorted(shares(selection)) == places
        assert selection.by == "NVIDIA_VISIBLE_DEVICES"


@pytest.mark.parametrize(
    ("text", "is_noted"),
    [
        *[(text, False) for text in ("", " ", "all", "void", "nvidia.com/gpu=all", "all,0", ",")],
        *[(text, True) for text in ("GPU-ffffffff", "GPU-", "7", "0,9", "0-3", "ALL", "MIG-a", "0:1", "-1")],
        ("/var/run/nvidia-container-devices", True),
    ],
)
def test_a_container_s_list_that_names_no_gpu_that_is_here_decides_nothing(text: str, is_noted: bool):
    selection = selected(NODE, NVIDIA_VISIBLE_DEVICES=text)
    assert (selection.by, len(selection.chosen), bool(selection.notes)) == ("", 4, is_noted)
    selection = selected(NODE, NVIDIA_VISIBLE_DEVICES=text, CUDA_VISIBLE_DEVICES="2")
    assert (selection.by, list(shares(selection))) == ("CUDA_VISIBLE_DEVICES", [2])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:0", {0: 1 / 7}),
        ("0:0,0:2", {0: 5 / 7}),
        ("nvidia.com/gpu=0:1", {0: 2 / 7}),
        ("MIG-b", {0: 2 / 7}),
        ("MIG-b,MIG-b", {0: 2 / 7}),
        ("MIG-b,1", {0: 2 / 7, 1: 1.0}),
        ("0", {0: 1.0}),  # a container that is given a GPU in MIG mode gets all of its instances
        ("0,MIG-a", {0: 1.0}),
        (f"MIG-{UUIDS[0]}/1/2", {0: 1.0}),  # an old name where the driver does not say the numbers
    ],
)
def test_a_container_s_list_may_name_instances(text: str, expected: dict[int, float]):
    assert shares(selected(SLICED, NVIDIA_VISIBLE_DEVICES=text)) == pytest.approx(expected)


def test_a_container_that_shows_only_its_own_gpus_uses_the_host_s_numbers():
    for variable, text in (("NVIDIA_VISIBLE_DEVICES", "2"), ("SLURM_JOB_GPUS", "1"), ("SLURM_JOB_GPUS", "6")):
        selection = selected(ALONE, **{variable: text})
        assert (shares(selection), selection.by, selection.notes) == ({2: 1.0}, variable, [])
    assert shares(selected(SLICED[:1], NVIDIA_VISIBLE_DEVICES="5:0,5:1,5:2")) == {0: 1.0}
    assert selected(SLICED[:1], NVIDIA_VISIBLE_DEVICES="5:0").by == ""


# ---- Slurm's lists ----


@pytest.mark.parametrize(
    ("environ", "places"),
    [
        ({"SLURM_JOB_GPUS": "0"}, [3]),
        ({"SLURM_JOB_GPUS": "0,1"}, [2, 3]),
        ({"SLURM_JOB_GPUS": " 3 , 2 "}, [0, 1]),
        ({"SLURM_JOB_GPUS": "0,1", "SLURM_STEP_GPUS": "3"}, [0]),
        ({"SLURM_JOB_GPUS": "0,1", "SLURM_STEP_GPUS": ""}, [2, 3]),
        ({"SLURM_STEP_GPUS": "0,1", "NVIDIA_VISIBLE_DEVICES": "all"}, [2, 3]),
        ({"SLURM_STEP_GPUS": "0,1", "NVIDIA_VISIBLE_DEVICES": "void"}, [2, 3]),
        ({"SLURM_STEP_GPUS": "0,1", "NVIDIA_VISIBLE_DEVICES": "GPU-ffffffff"}, [2, 3]),
        ({"SLURM_STEP_GPUS": "0,1", "NVIDIA_VISIBLE_DEVICES": UUIDS[0]}, [0]),
        ({"SLURM_STEP_GPUS": "0,1", "NVIDIA_VISIBLE_DEVICES": "none"}, []),
    ],
)
def test_slurm_s_numbers_are_minor_numbers_and_come_after_the_container_s(
    environ: dict[str, str], places: list[int]
):
    for is_own_view in (True, False):
        assert sorted(shares(selected(NODE, is_own_view, **environ))) == places


@pytest.mark.parametrize("text", ["7", "0-3", "0,9", "gpu:0", "0x0"])
def test_a_list_of_slurm_that_does_not_fit_is_noted_and_decides_nothing(text: str):
    selection = selected(NODE, SLURM_JOB_GPUS=text)
    assert selection.by == ""
    assert selection.notes[0].startswith(f"SLURM_JOB_GPUS={text}: no GPU")


def test_without_minor_numbers_slurm_s_are_taken_as_nvml_s():
    unknown = tuple(found._replace(minor=None) for found in NODE)
    assert shares(selected(unknown, SLURM_JOB_GPUS="1")) == {1: 1.0}


def test_slurm_s_numbers_cannot_be_mapped_where_a_gpu_is_in_mig_mode():
    selection = selected(SLICED, SLURM_STEP_GPUS="1", CUDA_VISIBLE_DEVICES="MIG-c")
    assert (shares(selection), selection.by) == ({0: 4 / 7}, "CUDA_VISIBLE_DEVICES")
    assert "cannot be mapped where a GPU is in MIG mode (GPU 0)" in selection.notes[0]
    assert shares(selected(SLICED, SLURM_STEP_GPUS="MIG-a")) == {0: 1 / 7}


# ---- CUDA's list within what was given ----


@pytest.mark.parametrize(
    ("visible", "in_own_view", "from_outside"),
    [
        ("1", [1], [1, 2, 3]),  # the second GPU of the node, or of those that were given
        ("3", [3], [3]),
        ("0", [1], [1]),  # the first of the node was not given: it is the first of the given ones
        ("0,1", [1, 2], [1, 2]),
        ("0,1,2", [1, 2, 3], [1, 2, 3]),
        ("1,2,3", [1, 2, 3], [1, 2, 3]),
        (UUIDS[2], [2], [2]),
        (UUIDS[0], [1, 2, 3], [1, 2, 3]),  # it was not given: what was given counts
        (f"{UUIDS[0]},{UUIDS[2]}", [2], [2]),
        ("GPU-ffffffff", [1, 2, 3], [1, 2, 3]),
        ("9", [1, 2, 3], [1, 2, 3]),
        ("", [], []),
        ("-1", [], []),
        ("NoDevFiles", [], []),
        ("1,1", [], []),
    ],
)
@pytest.mark.parametrize(
    "given", [{"NVIDIA_VISIBLE_DEVICES": ",".join(UUIDS[1:])}, {"SLURM_JOB_GPUS": "0,1,2"}]
)
def test_cuda_s_list_narrows_what_was_given(
    given: dict[str, str], visible: str, in_own_view: list[int], from_outside: list[int]
):
    assert sorted(shares(selected(NODE, CUDA_VISIBLE_DEVICES=visible, **given))) == in_own_view
    assert sorted(shares(selected(NODE, False, CUDA_VISIBLE_DEVICES=visible, **given))) == from_outside


def test_a_list_of_cuda_s_outside_of_what_was_given_is_noted():
    for visible in (UUIDS[0], f"{UUIDS[0]},{UUIDS[3]}"):
        selection = selected(NODE, NVIDIA_VISIBLE_DEVICES=UUIDS[3], CUDA_VISIBLE_DEVICES=visible)
        assert (shares(selection), selection.by) == ({3: 1.0}, "NVIDIA_VISIBLE_DEVICES")
        assert "it names other GPUs than NVIDIA_VISIBLE_DEVICES, which counts" in selection.notes[0]


def test_an_index_of_cuda_s_counts_in_the_instances_that_a_container_was_given():
    for visible, share in (("0", 2 / 7), ("1", 4 / 7), ("0,1", 6 / 7), ("MIG-c", 4 / 7)):
        selection = selected(SLICED[:1], NVIDIA_VISIBLE_DEVICES="MIG-c,MIG-b", CUDA_VISIBLE_DEVICES=visible)
        assert shares(selection) == pytest.approx({0: share})


# ---- laws ----

ENTRY = st.sampled_from(
    [*"01239", *UUIDS, *MIGS, "0:1", "-1", "", "all", "none", "void", "GPU-1", f"MIG-{UUIDS[0]}/1/0"]
) | st.text(max_size=4)
LIST = st.lists(ENTRY, max_size=5).map(",".join) | st.lists(ENTRY, max_size=5).map(" , ".join)
VARIABLE = st.sampled_from(
    ["NVIDIA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES"]
)
FOUND = st.sampled_from([NODE, ALONE, SLICED, (*SLICED, *NODE[2:]), ()])


@given(FOUND, st.dictionaries(VARIABLE, LIST), st.booleans())
def test_no_list_gives_a_gpu_that_is_not_here_or_one_twice_or_more_than_all_of_it(
    found: tuple[FoundGpu, ...], environ: dict[str, str], is_own_view: bool
):
    selection = select(found, None, environ, is_own_view=is_own_view)
    uuids = [pick.gpu.uuid for pick in selection.chosen]
    assert len(set(uuids)) == len(uuids) <= len(found)
    assert all(pick.gpu in found and 0.0 < pick.share_ratio <= 1.0 for pick in selection.chosen)
    if not selection.by:
        assert len(uuids) == len(found)
    assert all(selection.notes)


@given(FOUND, st.dictionaries(VARIABLE, LIST), LIST, st.booleans())
def test_cuda_s_list_never_adds_to_what_was_given(
    found: tuple[FoundGpu, ...], environ: dict[str, str], visible: str, is_own_view: bool
):
    environ.pop("CUDA_VISIBLE_DEVICES", None)
    given_ = select(found, None, environ, is_own_view=is_own_view)
    narrowed = select(found, None, {**environ, "CUDA_VISIBLE_DEVICES": visible}, is_own_view=is_own_view)
    most = {pick.gpu.uuid: pick.share_ratio for pick in given_.chosen}
    for pick in narrowed.chosen:
        assert pick.share_ratio <= most[pick.gpu.uuid] + 1e-9


@given(FOUND, st.permutations([*UUIDS, *MIGS]), st.integers(0, 7))
def test_the_order_of_a_container_s_list_changes_nothing(
    found: tuple[FoundGpu, ...], entries: list[str], count: int
):
    texts = [",".join(part) for part in (entries[:count], entries[:count][::-1])]
    one, other = (shares(selected(found, NVIDIA_VISIBLE_DEVICES=text)) for text in texts)
    assert one == pytest.approx(other)
