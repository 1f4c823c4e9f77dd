"""Appends the rows of a run's series.jsonl, so that their sums are the run's totals whatever happened before.

What the file holds is summed up when it is opened. At each checkpoint the sums are compared with the totals:
what a killed monitor, a failing disk or a damaged line cost becomes a row of its own, without extremes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.core.files import MODE, append_whole
from carbonmon.core.model import RunState, Snapshot
from carbonmon.runs import layout
from carbonmon.runs.series_rows import PARTS_KEPT, Key, OpenRow, Parts, SeriesFold, SeriesRow, time_shares

PERIODS = ((2_500_000, 1.0), (5_000_000, 10.0), (12_000_000, 60.0), (40_000_000, 300.0), (50_000_000, 900.0))
LONGEST_PERIOD_S = 3600.0
"""The period (s) of the rows while the file has less than so many bytes: fine for short runs, a month within
50 MB."""

SYNC_PERIOD_S = 60.0
"""The disk is waited for so often: a checkpoint costs no second fsync. What a power failure takes is found in
the totals again."""

ROUNDING_J, ROUNDING_RATIO = 0.01, 1e-9
"""A difference of the totals up to this is rounding and goes into the row that is open."""

TAIL_BYTES = 1 << 16
"""The last lines are searched in so many last bytes: a hundred times a row."""

CHUNK_BYTES = 1 << 18

PENDING_ROWS = 4096
"""So many rows wait for a disk that fails; then they are one row for each device, without extremes."""


class SeriesFile:
    """series.jsonl of a run, open for appending. `lock` is called with its descriptor."""

    def __init__(self, folder: Path, lock: Callable[[int], object]) -> None:
        self.parts: Parts = deque(maxlen=PARTS_KEPT)
        self._path = folder / layout.SERIES_FILE
        self._lock = lock
        self._descriptor = -1
        self._size = 0
        self._synced_s = 0.0
        self._is_synced = True
        self._at_s = 0.0
        self._line_end = b""
        self._sums: dict[Key, list[float]] = {}
        self._is_summed_up = False
        self._fold = SeriesFold()
        self._pending: list[SeriesRow] = []

    def open(self) -> None:
        """Open and lock the file; raises OSError, or `ConfigError` if another monitor has it."""
        self.close()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, MODE)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            self.close()
            raise OSError(errno.EINVAL, "series.jsonl is no regular file")
        try:
            self._lock(self._descriptor)
            self._check_version()
        except ConfigError:
            self.close()
            raise
        self._is_summed_up = False

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def is_in_place(self) -> bool:
        """Whether the folder still holds the file that we write: not removed, moved or replaced."""
        if self._descriptor < 0:
            return False
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self._descriptor))

    def write(self, snapshot: Snapshot, run: RunState, now_s: float, is_last: bool) -> None:
        """Append the rows that are complete at a snapshot; all if it is the last one. Raises OSError."""
        if not self._is_summed_up:
            self._sum_up()
        period_s, since_s = self.period_s, snapshot.at_s
        rows: list[SeriesRow] = []
        while self.parts:
            part = self.parts.popleft()
            if part[0].sample >= snapshot.samples:
                self.parts.appendleft(part)
                break
            since_s = min(since_s, part[0].at_s - part[2])
            rows += self._fold.add(part, period_s)
        self._keep(self._lacking(snapshot, run, rows, since_s))
        rows += self._fold.end_sample(period_s)
        if is_last:
            rows += self._fold.close(snapshot.at_s)
        self._keep(rows)
        syncs = is_last or now_s - self._synced_s >= SYNC_PERIOD_S
        if self._pending or (syncs and not self._is_synced):
            self._append(now_s, syncs)

    @property
    def period_s(self) -> float:
        """The time between two rows of a device (s); it grows with the file."""
        return next((period_s for size, period_s in PERIODS if self._size < size), LONGEST_PERIOD_S)

    def _check_version(self) -> None:
        """Raise `ConfigError` if a newer version has written the file: its rows could not be summed up."""
        self._size = os.fstat(self._descriptor).st_size
        begin = max(0, self._size - TAIL_BYTES)
        if self._size:  # only a resumed run has lines
            from carbonmon.runs.series import check_version

            for line in os.pread(self._descriptor, TAIL_BYTES, begin).splitlines()[-2:]:
                check_version(line, self._path)

    def _sum_up(self) -> None:
        """What the file holds, by row; only a resumed run has any."""
        self._size = os.fstat(self._descriptor).st_size
        self._at_s, self._line_end = 0.0, b""
        sums: dict[Key, list[float]] = {}
        if self._size:
            from carbonmon.runs.series import rows_in

            for _, rows in rows_in(_lines(self._descriptor), self._path, strict=False):
                for row in rows or ():
                    _add(sums, row)
                    self._at_s = max(self._at_s, row.at_s)
            # An incomplete line that a crash left is ended, so that the next one stands by itself.
            self._line_end = b"" if os.pread(self._descriptor, 1, self._size - 1) == b"\n" else b"\n"
        for row in self._pending:
            _add(sums, row)
        self._sums, self._is_summed_up = sums, True

    def _keep(self, rows: list[SeriesRow]) -> None:
        """Let rows wait to be written. The wall clock may be set back; time in the series never is."""
        for row in rows:
            at_s = self._at_s = max(self._at_s, row.at_s)
            self._pending.append(row._replace(at_s=at_s))
            _add(self._sums, row)

    def _lacking(
        self, snapshot: Snapshot, run: RunState, closed: list[SeriesRow], since_s: float
    ) -> list[SeriesRow]:
        """Rows of what the totals hold and no row does: it was drawn before `since_s` (Unix time).

        `closed` are the rows that come next. What is only rounding goes into the open rows.
        """
        sums: dict[Key, list[float]] = {}
        for row in closed:
            _add(sums, row)
        lacking: dict[Key, float] = {}
        grams: dict[Key, float] = {}
        for total in run.totals:
            key = total.phase, total.device_id, total.method
            open_row = self._fold.rows.get(key)
            lacking_j, lacking_g = total.energy_j, total.emissions_g
            for known in (self._sums.get(key), sums.get(key)):
                if known is not None:
                    lacking_j, lacking_g = lacking_j - known[0], lacking_g - known[1]
            if open_row is not None:
                lacking_j, lacking_g = lacking_j - open_row.energy_j, lacking_g - open_row.emissions_g
            if lacking_j > max(ROUNDING_J, ROUNDING_RATIO * total.energy_j):
                lacking[key], grams[key] = lacking_j, max(0.0, lacking_g)
            elif open_row is not None:
                open_row.energy_j = max(0.0, open_row.energy_j + lacking_j)
                open_row.emissions_g = max(0.0, open_row.emissions_g + lacking_g)
        since_s = max(round(since_s, 3), self._at_s)
        begin_s = self._at_s or snapshot.at_s - run.duration_s
        components = {total.device_id: total.component for total in run.totals}
        rows = []
        for key, joules, seconds in time_shares(lacking, max(0.0, since_s - begin_s)):
            open_row = OpenRow(components[key[1]], snapshot.intensity)
            open_row.energy_j, open_row.emissions_g, open_row.duration_s = joules, grams[key], seconds
            rows.append(open_row.closed(since_s, key))
        return rows

    def _append(self, now_s: float, syncs: bool) -> None:
        data = "".join(map(layout.series_text, self._pending)).encode()
        try:
            append_whole(self._descriptor, self._line_end + data, syncs=syncs)
        except OSError:
            if len(self._pending) > PENDING_ROWS:
                for row in self._pending:
                    _add(self._sums, row, -1.0)
                self._pending = []
            raise
        self._size += len(self._line_end) + len(data)
        self._line_end = b""
        self._pending = []
        self._is_synced = syncs
        if syncs:
            self._synced_s = now_s


def _add(sums: dict[Key, list[float]], row: SeriesRow, sign: float = 1.0) -> None:
    joules_grams = sums.setdefault(row.key, [0.0, 0.0])
    joules_grams[0] += sign * row.energy_j
    joules_grams[1] += sign * row.emissions_g


def _lines(descriptor: int) -> Iterator[bytes]:
    """The lines of an open file, with their ends; little of it is in memory at a time.

    It is not opened a second time: on some file systems closing that would end the lock.
    """
    offset, rest = 0, b""
    while found := os.pread(descriptor, CHUNK_BYTES, offset):
        offset += len(found)
        *lines, rest = (rest + found).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest
