"""All runs of a node go on from one moment, wherever the monitor was killed while it wrote them."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from carbonmon.core import files
from carbonmon.core.model import Snapshot
from carbonmon.monitor.guard import Guard
from carbonmon.monitor.recorder import FINISH_TIMEOUT_S, Recorder
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.checkpoint_slots import CheckpointSlots
from carbonmon.runs.layout import CHECKPOINT_FILES
from carbonmon.runs.node_checkpoint import UNSEALED_SCHEMA, NodeCheckpoint, read_devices, replay
from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.writer import RunFiles
from tests.runs.test_recorder import of
from tests.support import checkpoints
from tests.support.harness import FakeClock

RUNS = ("one", "two", "three", "four")


class KilledError(BaseException):
    """SIGKILL: nothing of the process happens after it."""


class Node:
    """The folders of several runs, whose recorder keeps the state of all together."""

    def __init__(self, base: Path) -> None:
        self.path = base / ".checkpoints.host.json"
        self.folders = {run_id: base / run_id for run_id in RUNS}
        self.latest = of(1, *RUNS)
        self.together = NodeCheckpoint(self.path, "a boot")
        self.recorder = Recorder(FakeClock(), [], self, Guard("journal"), together=self.together)
        for run_id, folder in self.folders.items():
            folder.mkdir()
            self.recorder.add(run_id, RunFiles(folder, "a boot"))

    def killed(self, snapshot: Snapshot, after: int, due: bool = True) -> None:
        """Write a snapshot, and be killed when so many files were written."""
        left = after
        replace, write = files.replace_file, CheckpointSlots.write

        def count() -> None:
            nonlocal left
            if left == 0:
                raise KilledError
            left -= 1

        def replaced(path: Path, data: bytes, mode: int) -> files.FileId:
            count()
            return replace(path, data, mode)

        def written(slots: CheckpointSlots, text: str) -> None:
            count()
            write(slots, text)

        with (
            mock.patch.object(CheckpointSlots, "write", written),
            mock.patch("carbonmon.runs.node_checkpoint.replace_file", replaced),
            pytest.raises(KilledError),
        ):
            self.recorder.write(snapshot, due)
        self.recorder.close()

    def saved(self) -> dict[str, int]:
        return {run_id: read_checkpoint(folder).snapshot.samples for run_id, folder in self.folders.items()}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with closing(Node(tmp_path).recorder) as recorder:
        node = recorder._snapshots
        assert isinstance(node, Node)
        node.recorder.write(of(2, *RUNS))
        yield node


@pytest.mark.parametrize("after", range(5))
def test_wherever_a_monitor_is_killed_all_runs_go_on_from_one_moment(node: Node, after: int):
    node.killed(of(7, *RUNS), after)
    if after > 1:
        assert len(set(node.saved().values())) == 2, "some are older than others: the fault that is mended"
    assert set(replay(node.path)) == {
        folder for run_id, folder in node.folders.items() if 0 < after < 2 + RUNS.index(run_id)
    }
    assert set(node.saved().values()) == {2 if after == 0 else 7}
    (run,) = read_checkpoint(node.folders["two"]).snapshot.runs
    assert (run.info.id, run.recovered_j) == ("two", 2.0 if after == 0 else 7.0)


@pytest.mark.parametrize("after", [0, 1])
def test_a_monitor_that_is_killed_while_it_writes_the_end_of_a_run_keeps_it_or_the_run(
    node: Node, after: int
):
    """What it drew is in the ended run, or in the run that goes on; the others fit to either."""
    node.recorder._ending["one"] = mock.Mock()
    node.killed(of(7, *RUNS, ended=("one",)), after, due=False)
    brought = replay(node.path)
    assert len(brought) == 4 * after
    assert all(each.snapshot.samples == 7 for each in brought.values())
    assert set(node.saved().values()) == {7 if after else 2}
    has_ended = read_checkpoint(node.folders["one"]).snapshot.runs[0].ended_at_s is not None
    assert has_ended == (after == 1)
    assert replay(node.path) == {}, "once"


def test_at_the_end_of_a_run_only_its_own_files_are_written_beside_the_state_of_all(node: Node):
    node.recorder._ending["one"] = mock.Mock()
    node.recorder.write(of(7, *RUNS, ended=("one",)), due=False)
    assert node.saved() == {"one": 7, "two": 2, "three": 2, "four": 2}
    assert node.recorder.shown().samples == 7, "all of it is safe"
    node.recorder.close()
    assert set(replay(node.path)) == {node.folders[run_id] for run_id in RUNS[1:]}
    assert set(node.saved().values()) == {7}


def test_a_disk_that_takes_nothing_hides_no_newer_state(node: Node):
    node.killed(of(7, *RUNS), 1)
    full = OSError(28, "No space left on device")
    with mock.patch("carbonmon.runs.checkpoint_slots.replace_file", side_effect=full):
        brought = replay(node.path)
    assert set(node.saved().values()) == {2}
    assert {folder.name: each.snapshot.samples for folder, each in brought.items()} == dict.fromkeys(RUNS, 7)


def test_the_devices_go_on_also_without_a_run_but_for_those_that_are_gone(node: Node):
    node.recorder.write(of(9))
    devices = [state.device for state in of(9).devices]
    before = read_devices(node.path, devices[1:])
    assert before is not None
    assert (before.snapshot.samples, before.snapshot.runs, before.boot_id) == (9, (), "a boot")
    assert [state.device for state in before.snapshot.devices] == devices[1:]
    assert [(state.counter_j, state.unattributed_j) for state in before.snapshot.devices] == [
        (state.counter_j, state.unattributed_j) for state in of(9).devices[1:]
    ]
    assert read_devices(node.path.with_name("none"), devices) is None


def test_before_the_first_sample_what_the_monitor_before_has_left_stays(node: Node):
    """A driver hangs when a daemon starts, which is killed before it knows anything."""
    node.recorder.write(of(7, *RUNS))
    kept = node.path.read_bytes()
    node.recorder.write(of(7)._replace(samples=0, runs=(), devices=()))
    assert node.path.read_bytes() == kept


def test_without_a_place_for_the_state_of_all_each_run_is_written(node: Node):
    node.path.unlink()
    node.path.mkdir()
    with pytest.raises(OSError):
        node.recorder.write(of(7, *RUNS), due=False)
    assert set(node.saved().values()) == {7}


def no_room() -> Any:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return mock.patch("carbonmon.runs.node_checkpoint.replace_file", side_effect=full)


@pytest.mark.parametrize("due", [True, False])
def test_without_room_for_the_state_of_all_no_run_gets_ahead_of_the_others(node: Node, due: bool):
    """A run whose file grows into another page fails, and one that is overwritten does not."""
    node.recorder._ending["one"] = mock.Mock(since_s=node.recorder._clock.now_s())
    with no_room(), pytest.raises(OSError, match="No space left"):
        node.recorder.write(of(7, *RUNS, ended=("one",)), due)
    assert set(node.saved().values()) == {2}
    assert node.recorder._refused == {"one"}, "whoever waits for its end gets it from memory"
    node.recorder.write(of(9, *RUNS, ended=("one",)), due)
    assert node.saved()["one"] == 9


def test_the_end_of_a_run_is_written_at_last_also_without_room_for_the_state_of_all(node: Node):
    node.recorder._ending["one"] = mock.Mock(since_s=node.recorder._clock.now_s())
    node.recorder._clock.time_s += 0.6 * FINISH_TIMEOUT_S  # type: ignore[attr-defined]
    with no_room(), pytest.raises(OSError, match="No space left"):
        node.recorder.write(of(7, *RUNS, ended=("one",)))
    assert node.saved() == {"one": 7, "two": 2, "three": 2, "four": 2}


def test_a_run_alone_goes_on_without_room_for_the_state_of_all(tmp_path: Path):
    with closing(Node(tmp_path).recorder) as recorder:
        for run_id in RUNS[1:]:
            recorder._files.pop(run_id).close()
        recorder.write(of(2, RUNS[0]))
        with no_room(), pytest.raises(OSError, match="No space left"):
            recorder.write(of(7, RUNS[0]))
        assert read_checkpoint(tmp_path / RUNS[0]).snapshot.samples == 7


def test_what_is_newer_or_has_ended_or_has_a_monitor_is_left_alone(node: Node):
    node.recorder.write(of(7, *RUNS))
    kept = node.path.read_bytes()
    node.recorder.write(of(9, *RUNS, ended=("two",)))
    node.path.write_bytes(kept)
    assert replay(node.path) == {}
    assert set(node.saved().values()) == {9}, "newer"
    old = {run_id: _document(folder) for run_id, folder in node.folders.items()}
    for folder in node.folders.values():
        _change(folder, clock_s=1.0)
    assert replay(node.path) == {}
    assert {run_id: _document(folder) for run_id, folder in node.folders.items()} == {
        run_id: {**document, "clock_s": 1.0} for run_id, document in old.items()
    }, "their monitor lives"
    node.recorder.close()
    replay(node.path)
    assert node.saved() == {"one": 7, "two": 9, "three": 7, "four": 7}, "the second has ended"


def _document(folder: Path) -> dict[str, object]:
    return {key: value for key, value in checkpoints.read(folder).items() if key != "crc32"}


def _change(folder: Path, **values: object) -> None:
    for name in CHECKPOINT_FILES:
        if (folder / name).exists():
            checkpoints.edit(folder / name, lambda found: found.update(values))


def _of_another_boot(node: Node) -> None:
    for folder in node.folders.values():
        _change(folder, boot_id="another")


def _of_another_run(node: Node) -> None:
    """The runs of a folder that was given away, and taken again."""
    for folder in node.folders.values():
        _change(folder, run="another")


def _linked(node: Node) -> None:
    node.path.rename(node.path.with_name("elsewhere"))
    node.path.symlink_to("elsewhere")


def _twice(node: Node) -> None:
    os.link(node.path, node.path.with_name("second-name"))


def _of_somebody_else(node: Node) -> None:
    if os.geteuid() == 0:
        os.chown(node.path, 54321, 54321)
    else:
        node.path.write_text("[]")


def _outside(node: Node) -> None:
    (node.path.parent / "out").mkdir()

    def lead_out(kept: dict[str, Any]) -> None:
        for run in kept["runs"]:
            run["folder"] = f"../{node.path.parent.name}/{run['folder']}"

    checkpoints.edit(node.path, lead_out)


def _damaged(node: Node) -> None:
    def spoil(kept: dict[str, Any]) -> None:
        for run in kept["runs"]:
            run["totals"] = "much"

    checkpoints.edit(node.path, spoil)


def _cut(node: Node) -> None:
    node.path.write_bytes(node.path.read_bytes()[:-100])


def _of_another_release(node: Node) -> None:
    checkpoints.edit(node.path, lambda found: found.update(schema="carbonmon.node-checkpoint/3"))


def _without_checksum(node: Node) -> None:
    kept = json.loads(node.path.read_bytes())
    del kept["crc32"], kept["sequence"]
    node.path.write_text(json.dumps(kept))


def _a_digit_flipped(node: Node) -> None:
    """A joule more or less in a file that is JSON as before."""
    text = node.path.read_bytes()
    place = text.index(b'"recovered_j":7') + len(b'"recovered_j":')
    node.path.write_bytes(text[:place] + b"6" + text[place + 1 :])
    assert json.loads(node.path.read_bytes())["runs"][0]["recovered_j"] == 6.0


@pytest.mark.parametrize("harm", [_of_another_boot, _of_another_run, _damaged])
def test_a_state_that_does_not_fit_a_run_changes_nothing(node: Node, harm: Callable[[Node], None]):
    node.killed(of(7, *RUNS), 1)
    harm(node)
    before = {run_id: _document(folder) for run_id, folder in node.folders.items()}
    assert replay(node.path) == {}
    assert {run_id: _document(folder) for run_id, folder in node.folders.items()} == before


REFUSED = [
    *(_linked, _twice, _of_somebody_else, _outside, _cut, _of_another_release),
    *(_without_checksum, _a_digit_flipped),
]


@pytest.mark.parametrize("harm", REFUSED)
def test_a_state_of_somebody_else_and_a_damaged_one_is_refused(node: Node, harm: Callable[[Node], None]):
    node.killed(of(7, *RUNS), 1)
    harm(node)
    with pytest.raises(RunFileError):
        replay(node.path)
    assert set(node.saved().values()) == {2}


def test_a_state_of_a_build_before_the_checksum_is_gone_on_from(node: Node):
    node.killed(of(7, *RUNS), 1)
    kept = json.loads(node.path.read_bytes())
    del kept["crc32"], kept["sequence"]
    node.path.write_text(json.dumps({**kept, "schema": UNSEALED_SCHEMA}))
    assert len(replay(node.path)) == len(RUNS)
    assert set(node.saved().values()) == {7}
    assert read_devices(node.path, [state.device for state in of(7).devices]) is not None


def test_any_byte_that_changed_is_seen(node: Node):
    """Also in the seal itself; spaces and line ends behind the object are no part of it."""
    data = node.path.read_bytes().rstrip()
    devices = [state.device for state in of(2).devices]
    for place in range(0, len(data), 7):
        node.path.write_bytes(data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :])
        with pytest.raises(RunFileError, match=re.escape(str(node.path))):
            read_devices(node.path, devices)
