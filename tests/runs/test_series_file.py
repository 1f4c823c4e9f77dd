"""series.jsonl as it is written: it adds up to the totals whatever happens, and stays small."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.monitor.resume import Outage, resume_run
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from carbonmon.runs import layout, series_file
from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.series import read_series
from carbonmon.runs.series_rows import SeriesRow
from carbonmon.runs.writer import RunFiles
from tests.chaos.inprocess import GPU, POWER_ONLY, POWER_W, Source, run_j, sampler_of
from tests.fuzz.folders import scratch
from tests.support.effort import examples
from tests.support.harness import INFO, FakeClock
from tests.support.rows import for_each_row
from tests.support.series import ROW, sums, totals_of

BOTH = [GPU, POWER_ONLY]


class Watched:
    """A run of two devices on a fake clock, with its folder: what a monitor does, in one thread."""

    def __init__(self, folder: Path, clock: FakeClock | None = None, outage_s: float | None = None) -> None:
        self.folder = folder
        self.clock = clock or FakeClock()
        self.files = RunFiles(folder, "a boot")
        self.sampler: Sampler = sampler_of(Source(BOTH), self.clock, 1.0)
        account = RunAccount(INFO, BOTH, parts=self.files.parts)
        if outage_s is None:
            self.sampler.tick(edge=True)
            self.sampler.begin(account)
        else:
            before = read_checkpoint(folder).snapshot
            resume_run(self.sampler, account, before, Outage(outage_s, same_boot=True))
            self.sampler.tick(edge=True)
        self.account = account

    def watch(self, seconds: int, *, writes: bool = True) -> None:
        for second in range(1, seconds + 1):
            self.clock.time_s += 1.0
            self.sampler.tick()
            if writes and second % 5 == 0:
                self.write()

    def write(self, is_last: bool = False) -> None:
        snapshot = self.sampler.latest
        self.files.write(snapshot, snapshot.runs[0], self.clock.time_s, is_last)

    def rows(self) -> list[SeriesRow]:
        rows, damaged = read_series(self.folder)
        assert damaged == []
        return rows

    def is_whole(self) -> bool:
        """Whether the rows add up to the totals of the checkpoint."""
        totals = read_checkpoint(self.folder).snapshot.runs[0].totals
        return sums(self.rows()) == pytest.approx(totals_of(totals), abs=0.01)

    def end(self) -> None:
        self.sampler.finish(0, None)
        self.write()
        self.close()

    def close(self) -> None:
        self.files.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Watched]:
    with closing(Watched(tmp_path)) as run:
        yield run


def test_a_short_run_has_a_row_each_second_of_each_device_and_at_each_checkpoint_they_are_its_totals(
    run: Watched,
):
    for _ in range(4):
        run.watch(5)
        assert run.is_whole()
    rows = run.rows()
    for device in BOTH:
        mine = [row for row in rows if row.device == device.id]
        assert [round(row.at_s - mine[0].at_s) for row in mine] == list(range(20))
        assert {row.power_w for row in mine} == {POWER_W[device.id]}
        assert {(row.power_min_w, row.power_max_w) for row in mine} == {(POWER_W[device.id],) * 2}
    assert sum(row.emissions_g for row in rows) == pytest.approx(
        sum(row.emissions_g for row in run.sampler.latest.runs[0].totals), abs=1e-6
    )


def test_when_the_file_has_grown_rows_get_longer_and_the_end_of_the_run_closes_the_last_one(
    run: Watched, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(series_file, "PERIODS", ((3_000, 1.0), (6_000, 10.0)))
    monkeypatch.setattr(series_file, "LONGEST_PERIOD_S", 60.0)
    run.watch(205)
    seen = [row for row in run.rows() if row.device == GPU.id]
    assert [row.duration_s for row in seen[:3]] == [1.0] * 3
    assert 10.0 in {row.duration_s for row in seen} and seen[-1].duration_s == 60.0
    assert not run.is_whole(), "the row that goes on is not there yet"
    run.end()
    assert run.is_whole()
    assert run.rows()[-1].at_s == run.sampler.latest.at_s


def test_a_monitor_that_leaves_a_run_to_the_next_one_closes_its_rows(
    run: Watched, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(series_file, "PERIODS", ())
    run.watch(20)
    assert run.rows() == []
    run.write(is_last=True)
    assert run.is_whole()


def test_what_a_killed_monitor_had_not_written_is_a_row_without_extremes_and_the_outage_another(
    run: Watched, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(series_file, "PERIODS", ())
    monkeypatch.setattr(series_file, "LONGEST_PERIOD_S", 25.0)
    run.watch(int(25.0 - run.clock.wall_s() % 25.0) + 10)
    run.write()
    killed_s = run.clock.wall_s()
    run.close()
    run.clock.time_s += 20.0
    with closing(Watched(run.folder, run.clock, 20.0)) as again:
        again.watch(5)
        again.end()
        assert again.is_whole()
        mine = [row for row in again.rows() if row.device == GPU.id]
    gap, *later = [row for row in mine if row.at_s >= killed_s]
    assert (gap.at_s, gap.power_min_w, gap.power_max_w) == (killed_s, None, None)
    assert gap.power_w == POWER_W[GPU.id]
    assert later[0].duration_s == 20.0, "the counter bridges what nobody saw"
    assert later[0].power_w == POWER_W[GPU.id]


def test_a_damaged_line_is_made_up_for_when_the_run_is_resumed(run: Watched):
    run.watch(20)
    run.close()
    path = run.folder / layout.SERIES_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    lines[6] = b'{"at_s":17' + lines[6][10:30] + b"\n"
    path.write_bytes(b"".join(lines))
    with closing(Watched(run.folder, run.clock, 0.0)) as again:
        again.watch(5)
        again.end()
    rows, damaged = read_series(run.folder)
    assert damaged == [7]
    totals = read_checkpoint(run.folder).snapshot.runs[0].totals
    assert sums(rows) == pytest.approx(totals_of(totals), abs=0.01)


@for_each_row("pending_rows", [4, 4096])
def test_a_disk_that_is_full_for_a_while_costs_no_joule_and_a_long_while_the_extremes(pending_rows: int):
    with scratch() as folder, closing(Watched(folder)) as run:
        run.watch(10)
        full = OSError(errno.ENOSPC, "No space left on device")
        with (
            mock.patch.object(series_file, "PENDING_ROWS", pending_rows),
            mock.patch.object(series_file, "append_whole", side_effect=full),
        ):
            for _ in range(4):
                with suppress(OSError):
                    run.watch(5)
        assert len(run.rows()) == 20
        run.watch(5)
        assert run.is_whole()
        unknown = [row for row in run.rows() if row.power_max_w is None]
        assert bool(unknown) == (pending_rows == 4)
        run.end()
        assert run.is_whole()


def test_of_a_disk_that_hangs_so_much_is_forgotten_that_memory_stays_small_and_no_joule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(series_file, "PARTS_KEPT", 60)
    with closing(Watched(tmp_path)) as run:
        run.watch(10)
        run.watch(100, writes=False)
        assert len(run.files.parts) == 60
        run.watch(5)
        assert run.is_whole()
        rows = [row for row in run.rows() if row.device == GPU.id]
    assert {row.power_w for row in rows} == {POWER_W[GPU.id]}
    assert [(row.duration_s, row.power_max_w) for row in rows if row.duration_s > 1.0] == [(75.0, None)]
    assert [row.at_s for row in rows] == sorted(row.at_s for row in rows)


def test_a_checkpoint_waits_for_the_disk_no_more_often_than_before(run: Watched):
    """For the slot of the checkpoint; for the series once a minute, and at the end of the run."""
    run.watch(10)
    with (
        mock.patch.object(os, "fsync", wraps=os.fsync) as waited,
        mock.patch.object(os, "fdatasync", wraps=os.fdatasync) as waited_for_data,
    ):
        run.watch(5)
        assert (waited.call_count, waited_for_data.call_count) == (0, 1)
        run.watch(60)
        assert (waited.call_count, waited_for_data.call_count) == (1, 1 + 12)
        run.end()
        assert (waited.call_count, waited_for_data.call_count) == (1 + 1, 1 + 12 + 1)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["watch", "phase", "kill", "full disk", "no folder", "lost"]), st.integers(1, 20)
    ),
    min_size=1,
    max_size=6,
)


@given(STEPS)
@examples(15)
def test_whatever_happens_the_rows_of_a_run_that_ended_are_its_totals(steps: list[tuple[str, int]]):
    with scratch() as folder, mock.patch.object(os, "fsync"):
        run = Watched(folder)
        for event, seconds in steps:
            run.watch(seconds)
            if event == "phase":
                run.account.phases.change(run.clock.time_s + 0.4, [f"phase {seconds % 3}"])
            elif event == "kill":
                run.write()
                run.close()
                run.clock.time_s += seconds
                run = Watched(folder, run.clock, float(seconds))
            elif event == "full disk":
                full = OSError(errno.ENOSPC, "No space left on device")
                with mock.patch.object(series_file, "append_whole", side_effect=full), suppress(OSError):
                    run.watch(seconds)
            elif event == "no folder":
                for path in folder.iterdir():
                    path.unlink()
            elif event == "lost":
                run.files.parts.clear()
        run.end()
        assert run.is_whole()
        rows = run.rows()
        assert [row.at_s for row in rows] == sorted(row.at_s for row in rows)
        assert sum(row.energy_j for row in rows) == pytest.approx(run_j(run.sampler.latest), abs=0.05)


def test_every_line_has_the_same_keys_and_each_column_one_type_which_no_null_hides(run: Watched):
    """What pandas, polars and duckdb need: they take a column's type from its first values."""
    run.watch(10)
    run.account.phases.change(run.clock.time_s + 0.4, ["1"])
    run.watch(10)
    run.end()
    lines = [json.loads(line) for line in (run.folder / layout.SERIES_FILE).read_bytes().splitlines()]
    assert {tuple(line) for line in lines} == {(*SeriesRow._fields, "series")}
    for column in lines[0]:
        assert {type(line[column]) for line in lines} == {type(getattr(ROW, column, 2))}, column


def test_the_query_for_duckdb_names_columns_that_rows_have_with_their_types():
    """Without types it reads numbers of later files as null."""
    page = (Path(__file__).resolve().parents[2] / "docs/use/series.md").read_text()
    named = dict(re.findall(r"(\w+): '(\w+)'", page.partition("columns = {")[2].partition("}")[0]))
    types = {float: "DOUBLE", str: "VARCHAR"}
    assert named
    assert named == {column: types[type(getattr(ROW, column))] for column in named}
    query = page.partition("```sql")[2].partition("```")[0]
    assert set(re.findall(r"\b(?:max|sum)\((\w+)\)", query)) | {"device"} == set(named)
