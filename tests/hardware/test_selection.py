"""Which GPUs a run uses, by the user's words or by CUDA's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.errors import ConfigError
from carbonmon.hardware.device_counts import parse_gpu_model
from carbonmon.hardware.found_gpus import Chosen, FoundGpu, MigInstance
from carbonmon.hardware.gpu_selection import allocate, check_entries, choose
from tests.support.rows import for_each_row

A = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
B = "GPU-8932aaaa-0000-1111-2222-333344445555"
C = "GPU-1d2c3b4a-0000-1111-2222-333344445555"
ONE, TWO, THREE = "MIG-11111111-0000", "MIG-22222222-0000", "MIG-33333333-0000"


def gpu(uuid: str, number: int, bus: int, name: str = "NVIDIA A100-SXM4-80GB") -> FoundGpu:
    return FoundGpu(uuid, number, name, f"00000000:{bus:02X}:00.0")


ALIKE = (gpu(A, 0, 0x80), gpu(B, 1, 0x10), gpu(C, 2, 0x40))
MIXED = (gpu(A, 0, 0x80), gpu(B, 1, 0x10, "Tesla T4"))
SLICED = (
    gpu(A, 0, 0x10)._replace(
        mig=(
            MigInstance(ONE, 1 / 7, "1 of 7"),
            MigInstance(TWO, 1 / 7, "1 of 7"),
            MigInstance(THREE, 4 / 7, "4 of 7"),
        )
    ),
    gpu(B, 1, 0x20),
)


def uuids(chosen: list[Chosen]) -> list[str]:
    return [pick.gpu.uuid for pick in chosen]


def by_cuda(found: tuple[FoundGpu, ...], visible: str, **environ: str) -> tuple[list[Chosen], list[str]]:
    return choose(found, None, {"CUDA_VISIBLE_DEVICES": visible, **environ})


# ---- the user's own words ----


def test_without_any_choice_every_gpu_is_metered_in_the_driver_s_order():
    assert uuids(choose(ALIKE[::-1], None, {})[0]) == [A, B, C]


def test_the_user_s_choice_goes_before_the_job_s():
    chosen, notes = choose(ALIKE, ("2",), {"CUDA_VISIBLE_DEVICES": "0"})
    assert (uuids(chosen), notes) == ([C], [])


def test_indices_uuids_and_beginnings_of_uuids_may_be_mixed_and_count_once():
    chosen, notes = choose(ALIKE, ("1", B, "GPU-1d2c", "GPU-8932f", "1"), {})
    assert (uuids(chosen), notes) == ([B, C, A], [])


@for_each_row("entry", ["9", "GPU-8932", "GPU-", "MIG-", "GPU-ffff", "MIG-GPU-ffff/1/0", "99999999999"])
def test_an_entry_that_names_no_single_gpu_is_noted_with_those_there_are_and_the_rest_stays(entry: str):
    chosen, notes = choose(ALIKE, (entry, "0"), {})
    assert uuids(chosen) == [A]
    assert notes == [f"--gpus {entry}: no such GPU here (there are 0 {A}, 1 {B}, 2 {C})"]


def test_an_empty_choice_is_no_gpu():
    assert choose(ALIKE, (), {}) == ([], [])
    assert choose((), ("0",), {}) == ([], ["--gpus 0: no such GPU here (there are none)"])


def test_entries_are_checked_before_any_hardware_is_asked():
    check_entries(("0", "17", "GPU-8932", "MIG-1", "MIG-GPU-8932/7/0"))
    for entry in ("first", "-1", "1.0", "²", "gpu-8932", "", "1" * 5000):
        with pytest.raises(ConfigError, match="neither an index nor a UUID"):
            check_entries(("0", entry))


# ---- CUDA_VISIBLE_DEVICES ----


def test_cuda_numbers_gpus_of_one_model_by_their_bus():
    assert uuids(by_cuda(ALIKE, "0,1,2")[0]) == [B, C, A]
    assert by_cuda(ALIKE, "1")[1] == []


def test_cuda_numbers_mixed_models_by_speed_which_is_noted():
    chosen, notes = by_cuda(MIXED, "0")
    assert uuids(chosen) == [B]
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in notes[0]
    assert by_cuda(MIXED, "0", CUDA_DEVICE_ORDER="PCI_BUS_ID")[1] == []
    assert by_cuda(MIXED, A)[1] == []
    assert choose(MIXED, None, {})[1] == []


@for_each_row(
    ("visible", "expected", "noted"),
    [
        ("", [], False),
        ("-1", [], False),
        ("NoDevFiles", [], False),
        (" 1 , 0 ", [C, B], False),
        ("1,-1,0", [C], False),
        ("1,,0", [C], False),
        ("1,7,0", [C], True),
        ("1,²,0", [C], True),
        (f"{C},{A[:8]}", [C], True),
        (f"{C},{A[:9]}", [C, A], False),
        ("all", [], True),
        ("0,0", [], True),
        ("1,0,1", [], True),
        (f"{C},{A},{C}", [], True),
        (f"{A[:9]},{A}", [], True),
        (f"{C},0", [C], True),
        (f"0,{C}", [B], True),
        ("+1", [C], True),
        ("1gpu,2", [C, A], True),
        ("0-2", [B], True),
        ("0:1", [B], True),
        ("0,1,2,3,4", [B, C, A], True),
        ("GPU-00000000-0000-0000-0000-000000000000", [], True),
        ("gpu-8932f937", [], True),
        ("99999999999", [], True),
        ("void", [], True),
        ("none", [], True),
        (" ", [], False),
        ("0\t,\t2", [B, A], False),
        (",0", [], False),
    ],
)
def test_cuda_reads_the_list_up_to_the_first_entry_that_names_nothing(
    visible: str, expected: list[str], noted: bool
):
    chosen, notes = by_cuda(ALIKE, visible)
    assert uuids(chosen) == expected
    assert bool(notes) is noted


# ---- MIG ----


def test_instances_of_one_gpu_add_their_shares_also_when_they_are_of_one_size():
    (pick,), _ = by_cuda(SLICED, f"{ONE},{TWO}")
    assert (pick.gpu.uuid, pick.share_ratio, pick.share_note) == (A, pytest.approx(2 / 7), "1 of 7; 1 of 7")
    assert by_cuda(SLICED, f"{ONE},{ONE}")[0] == []
    (pick,), _ = choose(SLICED, (ONE, ONE), {})
    assert (pick.share_ratio, pick.share_note) == (pytest.approx(1 / 7), "1 of 7")
    (pick,), _ = choose(SLICED, (THREE, ONE, TWO), {})
    assert pick.share_ratio == pytest.approx(6 / 7)


def test_a_whole_gpu_holds_all_of_its_instances():
    for entries in ((ONE, "0"), ("0", ONE), (A, ONE, TWO)):
        (pick,), _ = choose(SLICED, entries, {})
        assert pick == Chosen(SLICED[0])


@pytest.mark.parametrize("visible", ["0", A, A[:10]])
def test_cuda_gives_the_first_instance_of_a_gpu_in_mig_mode_and_never_the_gpu(visible: str):
    assert by_cuda(SLICED, visible) == ([Chosen(SLICED[0], 1 / 7, "1 of 7")], [])


def test_each_entry_of_cuda_s_list_counts_for_the_process_that_takes_it():
    chosen, notes = by_cuda(SLICED, "0,1")
    assert [(pick.gpu.uuid, pick.share_ratio) for pick in chosen] == [(A, 1 / 7), (B, 1.0)]
    assert notes == []


def test_a_gpu_in_mig_mode_without_instances_gives_cuda_nothing():
    bare = (gpu(A, 0, 0x10)._replace(is_mig=True), gpu(B, 1, 0x20))
    chosen, notes = by_cuda(bare, "0,1")
    assert uuids(chosen) == [B]
    assert "GPU 0 is in MIG mode and has no instance" in notes[0]


def test_where_nothing_says_which_instance_is_the_job_s_the_whole_gpu_counts_with_a_note():
    chosen, notes = choose(SLICED, None, {"HOME": "/root"})
    assert chosen == [Chosen(SLICED[0]), Chosen(SLICED[1])]
    assert "GPU 0 is in MIG mode" in notes[0]
    assert choose(SLICED, None, {})[1] == []  # a daemon has no job
    assert allocate(SLICED, None, {"HOME": "/root"}) == (None, [])


def test_an_instance_by_its_old_name_is_found_if_the_driver_names_it_so_else_its_gpu_counts_whole():
    old = f"MIG-{A}/7/0"
    named_so = SLICED[0]._replace(mig=(MigInstance(old, 3 / 7, "3 of 7"),))
    (pick,), _ = by_cuda((named_so, SLICED[1]), old)
    assert (pick.share_ratio, pick.share_note) == (3 / 7, "3 of 7")
    (pick,), _ = by_cuda(SLICED, old)
    assert (pick.gpu.uuid, pick.share_ratio) == (A, 1.0)
    assert "share of the GPU is unknown" in pick.share_note
    (pick,), _ = by_cuda(SLICED, f"{old},MIG-{A}/8/0")
    assert pick.share_ratio == 1.0
    numbered = SLICED[0]._replace(
        mig=tuple(
            mig._replace(gpu_instance=place + 7, compute_instance=0)
            for place, mig in enumerate(SLICED[0].mig)
        )
    )
    for name in (f"MIG-{A}/9/0", THREE):
        assert by_cuda((numbered,), name)[0] == [Chosen(numbered, 4 / 7, "4 of 7")]
    assert by_cuda((numbered,), f"MIG-{A}/1/2")[0] == []


# ---- what a job was given ----


@for_each_row(
    ("environ", "expected"),
    [
        ({}, None),
        ({"CUDA_VISIBLE_DEVICES": ""}, {}),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, {}),
        ({"CUDA_VISIBLE_DEVICES": "0"}, {B: 1.0}),
        ({"SLURM_JOB_GPUS": "0,2", "CUDA_VISIBLE_DEVICES": "0,1"}, {A: 1.0, C: 1.0}),
        ({"SLURM_JOB_GPUS": "0,2", "SLURM_STEP_GPUS": "2"}, {C: 1.0}),
        ({"SLURM_STEP_GPUS": f" {A} , 1"}, {A: 1.0, B: 1.0}),
        ({"SLURM_JOB_GPUS": "", "CUDA_VISIBLE_DEVICES": "1"}, {C: 1.0}),
        ({"NVIDIA_VISIBLE_DEVICES": f"{A},{B}", "CUDA_VISIBLE_DEVICES": "0,1"}, {A: 1.0, B: 1.0}),
        ({"NVIDIA_VISIBLE_DEVICES": f"{A},{B}", "CUDA_VISIBLE_DEVICES": "0"}, {B: 1.0}),
        ({"NVIDIA_VISIBLE_DEVICES": A, "SLURM_JOB_GPUS": "1"}, {A: 1.0}),
        ({"NVIDIA_VISIBLE_DEVICES": "all", "SLURM_STEP_GPUS": "0,2"}, {A: 1.0, C: 1.0}),
        ({"NVIDIA_VISIBLE_DEVICES": "2"}, {C: 1.0}),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, None),
        ({"NVIDIA_VISIBLE_DEVICES": "void", "CUDA_VISIBLE_DEVICES": "0"}, {B: 1.0}),
        ({"NVIDIA_VISIBLE_DEVICES": "none"}, {}),
        ({"NVIDIA_VISIBLE_DEVICES": "none", "CUDA_VISIBLE_DEVICES": "0"}, {}),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, None),
        ({"SLURM_STEP_GPUS": "0", "CUDA_VISIBLE_DEVICES": ""}, {}),
        ({"NVIDIA_VISIBLE_DEVICES": ""}, None),
    ],
)
def test_the_container_says_what_was_allocated_before_the_scheduler_and_cuda(
    environ: dict[str, str], expected: dict[str, float] | None
):
    assert allocate(ALIKE, None, environ) == (expected, [])


def test_the_user_s_gpus_are_the_allocation_whatever_the_environment_says():
    environ = {"SLURM_JOB_GPUS": "0", "CUDA_VISIBLE_DEVICES": ""}
    assert allocate(ALIKE, ("1",), environ) == ({B: 1.0}, [])
    allocated, notes = allocate(ALIKE, ("9",), environ)
    assert allocated == {}
    assert notes[0].startswith("--gpus 9: no such GPU here")


@pytest.mark.parametrize("variable", ["SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "NVIDIA_VISIBLE_DEVICES"])
@pytest.mark.parametrize("text", ["1,7", "0-3", "0:0"])
def test_a_list_that_names_gpus_that_are_not_here_is_another_view_and_not_used(variable: str, text: str):
    allocated, notes = allocate(ALIKE, None, {variable: text, "CUDA_VISIBLE_DEVICES": "2"})
    assert allocated == {A: 1.0}
    assert notes[0].startswith(f"{variable}={text}: no GPU")
    assert allocate(ALIKE, None, {variable: text})[0] is None


def test_mig_instances_are_fractions_of_their_gpu():
    environ = {"NVIDIA_VISIBLE_DEVICES": f"{ONE},{TWO}"}
    assert allocate(SLICED, None, environ) == ({A: pytest.approx(2 / 7)}, [])
    assert allocate(SLICED, None, {"CUDA_VISIBLE_DEVICES": THREE}) == ({A: pytest.approx(4 / 7)}, [])


# ---- laws ----

ENTRY = st.sampled_from(["0", "1", "2", A, B, C, ONE, TWO, THREE, "GPU-1", "GPU-8", "-1", ""]) | st.text(
    max_size=5
)


@given(st.sampled_from([ALIKE, MIXED, SLICED, ()]), st.none() | st.lists(ENTRY).map(tuple), st.text() | ENTRY)
def test_whatever_is_asked_for_each_gpu_is_chosen_at_most_once_with_a_share_of_it(
    found: tuple[FoundGpu, ...], gpus: tuple[str, ...] | None, visible: str
):
    for chosen, notes in (choose(found, gpus, {}), by_cuda(found, visible)):
        assert len(set(uuids(chosen))) == len(chosen)
        assert all(pick.gpu in found and 0.0 < pick.share_ratio <= 1.0 for pick in chosen)
        assert all(notes)


@given(st.lists(st.sampled_from(["0", "1", "2", A, B, C]), min_size=1, max_size=6))
def test_naming_a_gpu_more_than_once_changes_nothing(entries: list[str]):
    once = list(dict.fromkeys(entries))
    assert choose(ALIKE, tuple(entries), {}) == choose(ALIKE, tuple(once), {})


@given(st.from_regex(r"[A-Z][A-Z0-9 -]*[A-Z]", fullmatch=True), st.integers(1, 999))
def test_a_model_and_its_count_come_back_as_they_were_given(name: str, count: int):
    plain = " ".join(name.split())
    for text in (f"{name}:{count}", f"{name} x{count}", f"{count} × {name}", f"{name} ({count}x)"):
        assert parse_gpu_model(text) == (plain, count)
    assert parse_gpu_model(name) == (plain, 1)
