"""The two slots of a checkpoint: whatever becomes of one, the other or a clear error is what counts."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from unittest import mock
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core import files
from carbonmon.runs import checkpoint_slots
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.checkpoint_slots import (
    PAGE_BYTES,
    CheckpointSlots,
    OtherVersion,
    has_checkpoint,
    newest,
)
from carbonmon.runs.layout import CHECKPOINT_FILES, CHECKPOINT_SCHEMA
from carbonmon.runs.seal import checked_sequence, sealed, sealed_parts

FIRST, SECOND = CHECKPOINT_FILES


@pytest.fixture
def unsaid() -> Iterator[None]:
    """Thousands of damaged slots are not worth thousands of warnings."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def text(number: int, size: int = 10) -> str:
    return json.dumps({"schema": CHECKPOINT_SCHEMA, "number": number, "more": "x" * size}) + "\n"


def number(folder: Path) -> int:
    found = newest(folder)
    assert set(found.values["more"]) <= {"x"}
    return found.value("number", int)


def written(folder: Path, count: int) -> CheckpointSlots:
    slots = CheckpointSlots(folder)
    for n in range(1, count + 1):
        slots.write(text(n))
    return slots


def identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_size


def test_slots_are_written_in_turn_over_the_same_two_files(tmp_path: Path):
    slots = CheckpointSlots(tmp_path)
    slots.write(text(1))
    assert [path.name for path in tmp_path.iterdir()] == [FIRST]
    slots.write(text(2))
    before = {name: identity(tmp_path / name) for name in CHECKPOINT_FILES}
    for n in range(3, 9):
        slots.write(text(n))
        assert number(tmp_path) == n
        held = {json.loads((tmp_path / name).read_bytes())["number"] for name in CHECKPOINT_FILES}
        assert held == {n - 1, n}, "each is JSON that any program reads"
    assert {name: identity(tmp_path / name) for name in CHECKPOINT_FILES} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(CHECKPOINT_FILES)


def test_what_is_written_says_its_checksum_as_documented(tmp_path: Path):
    written(tmp_path, 1)
    data = (tmp_path / FIRST).read_bytes()
    assert len(data) % PAGE_BYTES == 0
    assert data.startswith(b'{"crc32":"')
    assert int(data[10:18], 16) == crc32(data[20:].rstrip())
    assert json.loads(data)["sequence"] == 1


def test_a_longer_and_a_shorter_text_are_read_alike(tmp_path: Path):
    slots = CheckpointSlots(tmp_path)
    for n, size in enumerate((10, 10, 9000, 9000, 5, 5, 4096, 20_000), 1):
        slots.write(text(n, size))
        assert number(tmp_path) == n
        assert len(newest(tmp_path).values["more"]) == size


def test_what_a_full_disk_left_behind_a_slot_is_gone_with_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A longer text was begun, for which there was no space: a shorter one does not reach its end."""
    slots = written(tmp_path, 4)
    write = os.write
    left = 3 * PAGE_BYTES // 2

    def full(descriptor: int, data: bytes) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(descriptor, data[:left])
        left -= done
        return done

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        slots.write(text(5, 9000))
    monkeypatch.setattr(os, "write", write)
    caplog.clear()
    assert number(tmp_path) == 4
    for n in (6, 7, 8):
        slots.write(text(n))
        assert number(tmp_path) == n


@pytest.mark.parametrize("name", CHECKPOINT_FILES)
def test_every_flipped_bit_is_seen_and_the_slot_before_or_the_other_counts(
    tmp_path: Path, name: str, unsaid: None
):
    written(tmp_path, 4)
    whole = (tmp_path / name).read_bytes()
    end = len(whole.rstrip()) + 3
    expected = {FIRST: 4, SECOND: 3}[name]
    for place in range(end):
        for bit in range(8):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            (tmp_path / name).write_bytes(data)
            found = number(tmp_path)
            is_blank = data.rstrip(b" \n") == whole.rstrip(b" \n")  # a space that is a line's end now
            assert found == (4 if is_blank else expected), (place, bit)


@pytest.mark.parametrize("name", CHECKPOINT_FILES)
@pytest.mark.parametrize("unit", [1, 512, PAGE_BYTES])
def test_a_write_that_was_torn_anywhere_leaves_the_slot_before(
    tmp_path: Path, name: str, unit: int, unsaid: None
):
    """The new bytes came to the disk up to a place and behind it are the old ones, or the other way round."""
    slots = CheckpointSlots(tmp_path)
    before = 4 if name == FIRST else 3
    for n in range(1, before + 1):
        slots.write(text(n, 9000))
    old = (tmp_path / name).read_bytes()
    slots.write(text(before + 1, 9050))
    new = (tmp_path / name).read_bytes()
    places = range(unit, len(new), unit) if unit > 7 else [*range(1, 120), *range(9000, 9160)]
    for place in places:
        for torn in (new[:place] + old[place:], old[:place] + new[place:], new[:place]):
            (tmp_path / name).write_bytes(torn)
            expected = before + 1 if torn.rstrip() == new.rstrip() else before
            assert number(tmp_path) == expected, place


def test_what_is_wrong_is_said_once_and_names_the_slot_that_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    written(tmp_path, 4)
    (tmp_path / SECOND).write_bytes((tmp_path / SECOND).read_bytes()[:60])
    with caplog.at_level(logging.WARNING):
        assert number(tmp_path) == 3
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / SECOND}: damaged: its checksum is not that of its content; {FIRST} counts"
    ]


def test_a_slot_that_is_overwritten_meanwhile_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    written(tmp_path, 4)
    torn = [b'{"crc32":"00000000","sequence":5,']
    read = checkpoint_slots.read_bytes

    def meanwhile(path: Path, limit_bytes: int) -> bytes:
        return torn.pop() if path.name == SECOND and torn else read(path, limit_bytes)

    monkeypatch.setattr(checkpoint_slots, "read_bytes", meanwhile)
    assert number(tmp_path) == 4
    assert caplog.text == ""


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"{}", b"[]", b"{", b'{"crc32":"', b" " * 4096])
def test_where_neither_slot_is_whole_it_is_an_error_that_names_the_first(tmp_path: Path, content: bytes):
    written(tmp_path, 2)
    for name in CHECKPOINT_FILES:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RunFileError) as error:
        newest(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / FIRST}: ")
    (tmp_path / FIRST).unlink()
    with pytest.raises(RunFileError, match="cannot be read"):
        newest(tmp_path)
    assert has_checkpoint(tmp_path)


def test_a_slot_without_the_other_counts(tmp_path: Path):
    written(tmp_path, 2)
    (tmp_path / FIRST).unlink()
    assert number(tmp_path) == 2


# ---- other versions ----


def test_the_file_of_an_earlier_release_is_read_and_replaced_before_anything_is_overwritten(tmp_path: Path):
    old = {"schema": "carbonmon.checkpoint/1", "number": 7, "more": ""}
    (tmp_path / FIRST).write_text(json.dumps(old))
    before = identity(tmp_path / FIRST)[0]
    assert number(tmp_path) == 7
    slots = CheckpointSlots(tmp_path)
    with mock.patch.object(files, "overwrite_file", side_effect=AssertionError):
        slots.write(text(8))
    assert identity(tmp_path / FIRST)[0] != before
    assert number(tmp_path) == 8


def test_a_file_of_an_earlier_release_with_a_checksum_s_number_is_none(tmp_path: Path):
    """A slot of ours that lost its checksum and whose schema was flipped is not taken for an old file."""
    data = sealed(text(3)).replace(b'"crc32"', b'"crd32"').replace(b"checkpoint/2", b"checkpoint/1")
    (tmp_path / FIRST).write_bytes(data)
    with pytest.raises(RunFileError, match="its checksum is missing"):
        newest(tmp_path)


@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_slot_of_a_newer_version_is_an_error_though_the_other_one_is_ours(tmp_path: Path, is_sealed: bool):
    written(tmp_path, 2)
    new = json.dumps({"schema": "carbonmon.checkpoint/3", "number": 9})
    (tmp_path / FIRST).write_bytes(sealed(new, 3) if is_sealed else new.encode())
    with pytest.raises(RunFileError, match=r"'carbonmon\.checkpoint/3' is not 'carbonmon\.checkpoint/2'"):
        newest(tmp_path)
    assert issubclass(OtherVersion, RunFileError)


def test_another_monitor_goes_on_with_the_numbers_and_overwrites_no_file_that_it_has_not_made(tmp_path: Path):
    written(tmp_path, 5)
    before = {name: identity(tmp_path / name)[0] for name in CHECKPOINT_FILES}
    second = CheckpointSlots(tmp_path)
    for n in (6, 7):
        second.write(text(n))
        assert number(tmp_path) == n
        assert newest(tmp_path).values["sequence"] == n
    for name, inode in before.items():
        assert identity(tmp_path / name)[0] != inode


def test_a_damaged_slot_never_wins_against_what_the_next_monitor_writes(tmp_path: Path):
    written(tmp_path, 5)
    path = tmp_path / FIRST
    path.write_bytes(path.read_bytes().replace(b'"sequence":5', b'"sequence":9'))
    assert number(tmp_path) == 4
    CheckpointSlots(tmp_path).write(text(6))
    assert number(tmp_path) == 6


# ---- what others put at the place of a slot, and disks ----


@pytest.mark.parametrize("planted", ["link", "second name", "pipe", "folder", "nothing", "copy"])
def test_nothing_that_somebody_put_at_its_place_is_written_into(tmp_path: Path, planted: str):
    folder, path = tmp_path / "run", tmp_path / "run" / FIRST
    folder.mkdir()
    slots = written(folder, 2)
    foreign = tmp_path / "foreign"
    foreign.write_text("precious" * 2000)
    copy = path.read_bytes()
    path.unlink()
    if planted == "link":
        path.symlink_to(foreign)
    elif planted == "second name":
        os.link(foreign, path)
    elif planted == "pipe":
        os.mkfifo(path)
    elif planted == "folder":
        path.mkdir()
    elif planted == "copy":
        path.write_bytes(copy)
    if planted == "folder":
        with pytest.raises(OSError, match="directory"):
            slots.write(text(3))
        path.rmdir()
    slots.write(text(3))
    assert number(folder) == 3
    assert foreign.read_text() == "precious" * 2000
    assert path.is_file() and not path.is_symlink()


def test_a_folder_that_is_gone_is_an_error_and_the_next_write_works_where_it_is_back(tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    slots = written(folder, 3)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError):
        slots.write(text(4))
    folder.mkdir()
    slots.write(text(4))
    slots.write(text(5))
    assert number(folder) == 5


@pytest.mark.parametrize("call", ["write", "fdatasync", "open"])
def test_a_slot_that_failed_is_written_again_and_the_other_one_stays(tmp_path: Path, call: str):
    slots = written(tmp_path, 4)
    other = (tmp_path / SECOND).read_bytes()
    for _ in range(3):
        with mock.patch.object(os, call, side_effect=OSError(errno.EIO, "Input/output error")):
            with pytest.raises(OSError, match="Input/output"):
                slots.write(text(5))
        assert (tmp_path / SECOND).read_bytes() == other
        assert number(tmp_path) in (4, 5)
    slots.write(text(5))
    assert number(tmp_path) == 5
    assert (tmp_path / SECOND).read_bytes() == other


@given(st.lists(st.text(max_size=20), max_size=5), st.integers(0, 10**17))
def test_a_seal_over_parts_is_that_over_the_whole(texts: list[str], sequence: int):
    whole = json.dumps({"texts": texts}, ensure_ascii=False)
    cuts = [0, *sorted({len(whole) // 3, 2 * len(whole) // 3} - {0}), len(whole)]
    parts = [whole[begin:end] for begin, end in pairwise(cuts)]
    data = b"".join(sealed_parts(parts, sequence))
    assert data == sealed(whole, sequence)
    assert checked_sequence(Path("file"), data) == sequence
