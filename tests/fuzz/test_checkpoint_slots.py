"""Damage to the two slots of a checkpoint: the newest figures, those before, or an error; never others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.runs.checked import RunFileError
from carbonmon.runs.checkpoint_slots import CheckpointSlots
from carbonmon.runs.layout import CHECKPOINT_FILES, checkpoint_text
from carbonmon.runs.reader import read_checkpoint
from tests.fuzz.folders import a_snapshot, scratch, write
from tests.fuzz.strategies import damaged_bytes
from tests.support.effort import examples

BEFORE, NEWEST = (a_snapshot()._replace(samples=samples, at_s=1e9 + samples) for samples in (41, 42))


def written(folder: Path) -> None:
    """The folder of a run as its monitor left it after its second checkpoint."""
    write(folder, BEFORE)
    slots = CheckpointSlots(folder)
    for snapshot in (BEFORE, NEWEST):
        slots.write(checkpoint_text(snapshot, snapshot.runs[0], "a boot"))


with scratch() as _folder:
    written(_folder)
    SLOTS = {name: (_folder / name).read_bytes() for name in CHECKPOINT_FILES}
FIRST, SECOND = CHECKPOINT_FILES


@pytest.fixture(autouse=True, scope="module")
def unsaid() -> Iterator[None]:
    """Each example has a warning of its own."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@given(st.sampled_from(CHECKPOINT_FILES).flatmap(lambda n: st.tuples(st.just(n), damaged_bytes(SLOTS[n]))))
@examples(200)
def test_damage_to_one_slot_costs_at_most_one_checkpoint(damage: tuple[str, bytes]):
    name, data = damage
    with scratch() as folder:
        written(folder)
        (folder / name).write_bytes(data)
        found = read_checkpoint(folder).snapshot
        assert found == NEWEST or (name == SECOND and found == BEFORE)


@given(damaged_bytes(SLOTS[FIRST]), damaged_bytes(SLOTS[SECOND]))
@examples(100)
def test_damage_to_both_slots_gives_no_other_figures(first: bytes, second: bytes):
    with scratch() as folder:
        written(folder)
        (folder / FIRST).write_bytes(first)
        (folder / SECOND).write_bytes(second)
        try:
            found = read_checkpoint(folder).snapshot
        except RunFileError as error:
            assert str(error).startswith(str(folder / FIRST)) or str(error).startswith(str(folder / SECOND))
            assert len(str(error)) < 600
            return
        assert found in (BEFORE, NEWEST)


@given(st.integers(0, 10**6), st.booleans())
@examples(100)
def test_a_torn_write_of_the_next_checkpoint_leaves_this_one(place: int, is_backwards: bool):
    """Some bytes of the next checkpoint came to the disk, from the front or from the back."""
    with scratch() as folder:
        written(folder)
        later = NEWEST._replace(samples=43, at_s=2e9)
        path = folder / FIRST
        old = path.read_bytes()
        CheckpointSlots(folder).write(checkpoint_text(later, later.runs[0], "a boot"))
        new = path.read_bytes()
        place %= len(new) + 1
        path.write_bytes(old[:place] + new[place:] if is_backwards else new[:place] + old[place:])
        found = read_checkpoint(folder).snapshot
        assert found in (NEWEST, later)
        assert found == NEWEST or path.read_bytes().rstrip() == new.rstrip()
