"""A run's files: what was written comes back, and what is damaged is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.footprint import Overheads
from carbonmon.core.model import Device, Failure, Reading, Snapshot
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.resume import Outage, resume_run
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from carbonmon.runs import layout
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.reader import read_checkpoint, read_run
from carbonmon.runs.series import read_series
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.text import table_text
from tests.fuzz.folders import (
    a_snapshot,
    document,
    is_possible,
    scratch,
    series_1_bytes,
    series_bytes,
    write,
)
from tests.fuzz.strategies import HOSTILE_FILES, damaged_bytes, damaged_json, snapshots
from tests.support import checkpoints
from tests.support.effort import examples
from tests.support.harness import INFO, FakeClock, FixedIntensity, make_sampler
from tests.support.series import rows_of, sums

pytestmark = pytest.mark.timeout(300)

NAMES = (layout.RUN_FILE, layout.CHECKPOINT_FILE)
SCHEMAS = {layout.RUN_FILE: layout.RUN_SCHEMA, layout.CHECKPOINT_FILE: layout.CHECKPOINT_SCHEMA}
SNAPSHOT = a_snapshot()
with scratch() as _folder:
    write(_folder, SNAPSHOT)
    FILES = {name: (_folder / name).read_bytes() for name in (*NAMES, layout.SERIES_FILE)}
    DOCUMENTS = {name: document(_folder, name) for name in NAMES}


def read_or_refuse(folder: Path, *named: str) -> None:
    """Reading gives a checkpoint of possible numbers that can be shown, or names one of the files."""
    try:
        checkpoint = read_checkpoint(folder)
    except RunFileError as error:
        assert any(str(error).startswith(str(folder / name)) for name in named), error
        assert len(str(error)) < 600
        return
    assert is_possible(checkpoint.snapshot)
    assert table_text(summarize(checkpoint.snapshot, checkpoint.snapshot.runs[0], "recovered"))


def read_series_or_refuse(folder: Path) -> None:
    try:
        moments, damaged = read_series(folder)
    except RunFileError as error:
        assert str(error).startswith(str(folder / layout.SERIES_FILE))
        return
    assert is_possible(moments)
    assert damaged == sorted(set(damaged))


# ---- round trips ----


@given(snapshots())
@examples(60)
def test_every_snapshot_comes_back_from_its_files_as_it_was(snapshot: Snapshot):
    with scratch() as folder:
        write(folder, snapshot)
        checkpoint = read_checkpoint(folder)
        assert checkpoint.snapshot == snapshot
        assert checkpoint.boot_id == "a boot"
        assert read_run(folder) == (snapshot.runs[0].info, [state.device for state in snapshot.devices])
        rows, damaged = read_series(folder)
        drawn = rows_of(snapshot, snapshot.runs[0])
        assert (len(rows), damaged) == (3 * len(drawn), [])
        assert rows[: len(drawn)] == [row._replace(at_s=0.0) for row in drawn]


GPU = Device(
    "GPU-1", "gpu", "a GPU", 0, ("counter", "power"), max_power_w=400.0, share_ratio=3 / 7, share_note="3g"
)
CPU = Device("package-0", "cpu", "a CPU", 0, ("counter",), counter_range_uj=10**9, max_power_w=300.0)


class Drawn:
    """A sensor that says what a test drew."""

    name = "drawn"

    def __init__(self) -> None:
        self.said: list[Reading | Failure] = []

    def devices(self) -> list[Device]:
        return [GPU, CPU]

    def sources(self) -> list[object]:
        return []

    def read(self, now_s: float, edge: bool = False) -> list[Reading | Failure]:
        return self.said

    def close(self) -> None:
        pass


SAID = st.tuples(
    st.none() | st.integers(0, 10**9), st.none() | st.floats(0, 1e4), st.none() | st.floats(0, 1)
)


@given(st.lists(st.tuples(st.floats(0.001, 30.0), SAID, SAID), max_size=12), st.booleans())
@examples(100)
def test_whatever_the_sensors_say_every_checkpoint_can_be_read_and_gone_on_from(
    steps: list[tuple[float, tuple[object, ...], tuple[object, ...]]], same_boot: bool
):
    clock, sensor = FakeClock(), Drawn()
    devices = {device.id: device for device in sensor.devices()}

    def monitor() -> Sampler:
        return make_sampler(
            [GuardedSensor(sensor)],  # type: ignore[arg-type]
            devices, [], FixedIntensity(), clock, 1.0, Overheads(pue_ratio=1.2), "test",
        )  # fmt: skip

    def play(sampler: Sampler) -> None:
        for step_s, *said in steps:
            clock.time_s += step_s
            sensor.said = [
                Reading(device_id, energy_uj, power_w, None, ratio)  # type: ignore[arg-type]
                for device_id, (energy_uj, power_w, ratio) in zip(devices, said, strict=True)
            ]
            sampler.tick()
            written_and_read(sampler.latest)

    def written_and_read(snapshot: Snapshot) -> Snapshot:
        with scratch() as folder:
            write(folder, snapshot)
            return read_checkpoint(folder).snapshot

    first = monitor()
    first.begin(RunAccount(INFO, devices.values()))
    play(first)
    before = written_and_read(first.latest)
    clock.time_s += 3.0
    second = monitor()
    resume_run(second, RunAccount(INFO, devices.values()), before, Outage(3.0, same_boot))
    play(second)
    assert is_possible(written_and_read(second.finish(0, None)))


# ---- damage ----


@given(st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), damaged_bytes(FILES[name]))))
@examples(250)
def test_a_file_with_damaged_bytes_is_read_or_named(change: tuple[str, bytes]):
    name, data = change
    with scratch() as folder:
        write(folder, SNAPSHOT)
        (folder / name).write_bytes(data)
        read_or_refuse(folder, *NAMES)


@given(st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), damaged_json(DOCUMENTS[name]))))
@examples(250)
def test_a_file_with_other_values_is_read_or_named(change: tuple[str, bytes]):
    name, data = change
    with scratch() as folder:
        write(folder, SNAPSHOT)
        (folder / name).write_bytes(checkpoints.as_written(json.loads(data)))
        read_or_refuse(folder, *NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", HOSTILE_FILES)
def test_a_hostile_file_is_named(name: str, content: str):
    with scratch() as folder:
        write(folder, SNAPSHOT)
        (folder / name).write_bytes(HOSTILE_FILES[content](SCHEMAS[name]))
        with pytest.raises(RunFileError) as refused:
            read_checkpoint(folder)
        assert str(refused.value).startswith(str(folder / name))
        assert len(str(refused.value)) < 600


@pytest.mark.parametrize("name", [*NAMES, layout.SERIES_FILE])
@pytest.mark.parametrize("instead", ["nothing", "folder", "pipe", "endless", "loop", "unreadable"])
def test_what_is_no_file_is_named_and_nobody_waits_for_it(name: str, instead: str):
    with scratch() as folder:
        write(folder, SNAPSHOT)
        path = folder / name
        path.unlink()
        if instead == "folder":
            path.mkdir()
        elif instead == "pipe":
            os.mkfifo(path)
        elif instead != "nothing":
            target = {"endless": "/dev/zero", "loop": path, "unreadable": "/proc/self/mem"}[instead]
            path.symlink_to(target)
        with pytest.raises(RunFileError, match=f"{name}: cannot be read: "):
            read_series(folder) if name == layout.SERIES_FILE else read_checkpoint(folder)


# ---- the series ----


@given(damaged_bytes(FILES[layout.SERIES_FILE]))
@examples(250)
def test_a_series_with_damaged_bytes_is_read_or_named(data: bytes):
    with scratch() as folder:
        (folder / layout.SERIES_FILE).write_bytes(data)
        read_series_or_refuse(folder)


LINES = [line.encode() for line in FILES[layout.SERIES_FILE].decode().splitlines()]
OLD_LINES = series_1_bytes(SNAPSHOT).splitlines()


@given(damaged_json(json.loads(LINES[2])))
@examples(250)
def test_a_row_with_other_values_is_read_or_its_line_is_counted(line: bytes):
    with scratch() as folder:
        (folder / layout.SERIES_FILE).write_bytes(b"\n".join([*LINES[:2], line, *LINES[2:], b""]))
        try:
            rows, damaged = read_series(folder)
        except RunFileError as error:
            assert "line 3: schema" in str(error)
            return
        assert is_possible(rows)
        assert damaged in ([], [3])
        assert len(rows) >= len(LINES)


@given(damaged_json(json.loads(OLD_LINES[1])))
@examples(250)
def test_a_moment_of_version_1_with_other_values_is_read_or_its_line_is_counted(line: bytes):
    with scratch() as folder:
        lines = [*OLD_LINES[:2], line, *OLD_LINES[2:], *LINES, b""]
        (folder / layout.SERIES_FILE).write_bytes(b"\n".join(lines))
        try:
            rows, damaged = read_series(folder)
        except RunFileError as error:
            assert "line 3: schema" in str(error)
            return
        assert is_possible(rows)
        if damaged:
            assert damaged[0] == 3
        if line.startswith(b'{"at_s"'):
            assert damaged in ([], [3])


@given(st.data())
@examples(60)
def test_a_series_cut_off_anywhere_loses_its_torn_line_alone(data: st.DataObject):
    whole = series_1_bytes(SNAPSHOT) + series_bytes(SNAPSHOT) + series_bytes(a_snapshot(2))
    end = data.draw(st.integers(0, len(whole)))
    with scratch() as folder:
        (folder / layout.SERIES_FILE).write_bytes(whole[:end])
        rows, damaged = read_series(folder)
        (folder / layout.SERIES_FILE).write_bytes(whole)
        assert rows == read_series(folder)[0][: len(rows)]
        assert damaged == []
        assert len(rows) >= whole[:end].count(b'"series":2}\n')


@given(st.lists(st.permutations(range(4)), min_size=1, max_size=5), st.data())
@examples(60)
def test_each_session_s_numbers_mean_the_devices_of_its_own_header(
    orders: list[list[int]], data: st.DataObject
):
    """Sessions see devices in other orders; a header that is lost takes its moments along, never wrongly."""
    node = a_snapshot(2)
    text = b""
    for number, order in enumerate(orders, 1):
        states = tuple(node.devices[place] for place in order)
        text += series_1_bytes(grown(node._replace(devices=states), number), 2)
    lines = text.split(b"\n")
    lost = data.draw(st.none() | st.integers(0, len(orders) - 1))
    if lost is not None:
        lines[3 * lost] = lines[3 * lost][: data.draw(st.integers(1, 40))]
    truth = sums(rows_of(node, node.runs[0]))
    with scratch() as folder:
        (folder / layout.SERIES_FILE).write_bytes(b"\n".join(lines))
        rows, damaged = read_series(folder)
    found = sums(rows)
    times = len(orders) - (lost == len(orders) - 1)
    assert found == pytest.approx({key: joules * times for key, joules in truth.items()} if times else {})
    assert damaged == ([] if lost is None else [3 * lost + n for n in (1, 2, 3)])


def grown(snapshot: Snapshot, times: int) -> Snapshot:
    """A snapshot in which so many times as much was drawn."""
    (run,) = snapshot.runs
    totals = tuple(row._replace(energy_j=row.energy_j * times) for row in run.totals)
    return snapshot._replace(runs=(run._replace(totals=totals),))
