"""Damage to the checkpoints of all runs of a node: its figures, or those of the runs' own; never others."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.model import Snapshot
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.layout import NODE_CHECKPOINT_SCHEMA, SERIES_FILE
from carbonmon.runs.node_checkpoint import UNSEALED_SCHEMA, NodeCheckpoint, read_devices, replay
from carbonmon.runs.reader import read_checkpoint
from tests.fuzz.folders import a_snapshot, is_possible, scratch, write
from tests.fuzz.strategies import HOSTILE_FILES, damaged_bytes, damaged_json
from tests.support import checkpoints
from tests.support.effort import examples

pytestmark = pytest.mark.timeout(300)

FILE, FOLDER = ".checkpoints.host.json", "a-run"
BEFORE, NEWEST = (
    a_snapshot()._replace(samples=samples, at_s=1e9 + samples, clock_s=float(samples)) for samples in (41, 42)
)
DEVICES = [state.device for state in NEWEST.devices]


def written(base: Path) -> Path:
    """The folder of runs as a daemon left it that was killed before it wrote the run's own checkpoint."""
    folder = base / FOLDER
    folder.mkdir()
    write(folder, BEFORE)
    run_id = NEWEST.runs[0].info.id
    NodeCheckpoint(base / FILE, "a boot").write(NEWEST, {run_id: folder})
    return folder


with scratch() as _base:
    written(_base)
    DATA = (_base / FILE).read_bytes()
UNSEALED = {**json.loads(DATA), "schema": UNSEALED_SCHEMA}
del UNSEALED["crc32"], UNSEALED["sequence"]


@pytest.fixture(autouse=True, scope="module")
def unsaid() -> Iterator[None]:
    """Each example has a warning of its own."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def after(base: Path, data: bytes) -> Snapshot | None:
    """The run as the next daemon finds it with such a file, None where the file was refused."""
    folder = written(base)
    (base / FILE).write_bytes(data)
    names = {path.relative_to(base) for path in base.rglob("*")}
    is_refused = False
    try:
        assert set(replay(base / FILE)) <= {folder}
    except RunFileError as error:
        assert str(error).startswith(str(base / FILE))
        assert len(str(error)) < 600
        is_refused = True
    try:
        devices = read_devices(base / FILE, DEVICES)
        assert devices is not None
        assert is_possible(devices.snapshot)
    except RunFileError as error:
        assert str(error).startswith(str(base / FILE))
    made = {path.relative_to(base) for path in base.rglob("*")} - names
    assert {path.parent.name for path in made} <= {FOLDER}, "nothing is made beside the run's folder"
    assert SERIES_FILE in {path.name for path in folder.iterdir()}
    found = read_checkpoint(folder).snapshot
    if is_refused:
        assert found == BEFORE, "its own checkpoint counts"
    return None if is_refused else found


def test_without_damage_the_run_is_brought_to_the_file_s_moment():
    with scratch() as base:
        assert after(base, DATA) == NEWEST
    with scratch() as base:
        assert after(base, json.dumps(UNSEALED).encode()) == NEWEST


@given(damaged_bytes(DATA))
@examples(100)
def test_a_file_with_damaged_bytes_gives_its_figures_or_none(data: bytes):
    with scratch() as base:
        assert after(base, data) in (NEWEST, None)


@given(damaged_json(UNSEALED), st.booleans())
@examples(100)
def test_a_file_with_other_values_gives_possible_figures_or_is_named(data: bytes, is_sealed: bool):
    document = json.loads(data)
    if is_sealed and document.get("schema") == UNSEALED_SCHEMA:
        document = {**document, "schema": NODE_CHECKPOINT_SCHEMA, "crc32": "", "sequence": 1}
    with scratch() as base:
        found = after(base, checkpoints.as_written(document))
        assert found is None or is_possible(found)


@pytest.mark.parametrize("schema", [NODE_CHECKPOINT_SCHEMA, UNSEALED_SCHEMA])
@pytest.mark.parametrize("content", HOSTILE_FILES)
def test_a_hostile_file_is_named_and_the_run_s_own_checkpoint_counts(content: str, schema: str):
    with scratch() as base:
        assert after(base, HOSTILE_FILES[content](schema)) is None


@pytest.mark.parametrize("value", ["1e999", "[" * 970 + "]" * 970, '"\\ud800"'])
def test_what_cannot_be_written_again_leaves_the_run_as_it_is(value: str):
    """A key that this version does not know is not looked at, but it is copied."""
    text = json.dumps(UNSEALED).replace('"runs": [{', f'"runs": [{{"unknown": {value}, ')
    with scratch() as base:
        assert after(base, text.encode()) in (BEFORE, NEWEST, None)
