"""Appends the rows of a run's series.jsonl, so that their sums are the run's totals whatever happened before.

What the file holds is summed up when it is opened. At each checkpoint the sums are compared with the totals:
what a killed monitor, a failing disk or a damaged line cost becomes a row of its own, without extremes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.core.files import MODE, append_whole
from carbonmon.core.model import RunState, Snapshot
from carbonmon.runs import layout
from carbonmon.runs.series_rows import PARTS_KEPT, Key, Line, OpenRow, Parts, SeriesFold, time_shares

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
        self._opened: os.stat_result
        self._size = 0
        self._synced_s = 0.0
        self._is_synced = True
        self._line_end = b""
        self._sums: dict[Key, list[float]] = {}
        self._is_summed_up = False
        self._fold = SeriesFold()
        self._pending: list[Line] = []

    def open(self) -> None:
        """Open and lock the file; raises OSError, or `ConfigError` if another monitor has it."""
        self.close()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, MODE)
        self._opened = os.fstat(self._descriptor)
        if not stat.S_ISREG(self._opened.st_mode):
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
        # While ours is open, no other file gets its number.
        return os.path.samestat(found, self._opened)

    def write(self, snapshot: Snapshot, run: RunState, now_s: float, is_last: bool) -> None:
        """Append the rows that are complete at a snapshot; all if it is the last one. Raises OSError."""
        if not self._is_summed_up:
            self._sum_up()
        period_s, before_s = self.period_s, self._fold.at_s
        lines, since_s = self._fold.take(self.parts, snapshot.samples, period_s)
        self._keep(self._lacking(snapshot, run, lines, before_s, min(since_s, snapshot.at_s)))
        lines += self._fold.end_sample(period_s)
        if is_last:
            lines += self._fold.close(snapshot.at_s)
        self._keep(lines)
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
        self._fold.at_s, self._line_end = 0.0, b""
        sums: dict[Key, list[float]] = {}
        if self._size:
            from carbonmon.runs.series import rows_in

            for _, rows in rows_in(_lines(self._descriptor), self._path, strict=False):
                _add(sums, [(row.key, row.energy_j, row.emissions_g, "") for row in rows or ()])
                self._fold.at_s = max([self._fold.at_s, *[row.at_s for row in rows or ()]])
            # An incomplete line that a crash left is ended, so that the next one stands by itself.
            self._line_end = b"" if os.pread(self._descriptor, 1, self._size - 1) == b"\n" else b"\n"
        _add(sums, self._pending)
        self._sums, self._is_summed_up = sums, True

    def _keep(self, lines: list[Line]) -> None:
        """Let lines wait to be written."""
        _add(self._sums, lines)
        self._pending += lines

    def _lacking(
        self, snapshot: Snapshot, run: RunState, closed: list[Line], before_s: float, since_s: float
    ) -> list[Line]:
        """Lines of what the totals hold and no line does: it was drawn before `since_s` (Unix time), after
        the last line, which ends at `before_s`.

        `closed` are the lines that come next. What is only rounding goes into the open rows.
        """
        sums: dict[Key, list[float]] = {}
        _add(sums, closed)
        lacking: dict[Key, float] = {}
        grams: dict[Key, float] = {}
        for total in run.totals:
            key = total.phase, total.device_id, total.method
            row = self._fold.rows.get(key)
            lacking_j, lacking_g = total.energy_j, total.emissions_g
            for known in (self._sums.get(key), sums.get(key)):
                if known is not None:
                    lacking_j, lacking_g = lacking_j - known[0], lacking_g - known[1]
            if row is not None and row.is_open:
                lacking_j, lacking_g = lacking_j - row.energy_j, lacking_g - row.emissions_g
            if lacking_j > max(ROUNDING_J, ROUNDING_RATIO * total.energy_j):
                lacking[key], grams[key] = lacking_j, max(0.0, lacking_g)
            elif row is not None and row.is_open:
                row.energy_j = max(0.0, row.energy_j + lacking_j)
                row.emissions_g = max(0.0, row.emissions_g + lacking_g)
        if not lacking:
            return []
        since_s = max(round(since_s, 3), before_s)
        begin_s = before_s or snapshot.at_s - run.duration_s
        components = {total.device_id: total.component for total in run.totals}
        intensity = snapshot.intensity
        at, charged = layout.number(since_s), layout.series_charged(intensity.g_per_kwh, intensity.kind)
        lines = []
        for key, joules, seconds in time_shares(lacking, max(0.0, since_s - begin_s)):
            whole = OpenRow(key, components[key[1]], intensity)
            whole.go_on(joules, grams[key], seconds, None)
            line = whole.closed(at, charged)
            if line is not None:
                lines.append(line)
        self._fold.at_s = max(self._fold.at_s, since_s)
        return lines

    def _append(self, now_s: float, syncs: bool) -> None:
        data = "".join([line[3] for line in self._pending]).encode()
        try:
            append_whole(self._descriptor, self._line_end + data, syncs=syncs)
        except OSError:
            if len(self._pending) > PENDING_ROWS:
                _add(self._sums, [(key, -joules, -grams, "") for key, joules, grams, _ in self._pending])
                self._pending = []
            raise
        self._size += len(self._line_end) + len(data)
        self._line_end = b""
        self._pending = []
        self._is_synced = syncs
        if syncs:
            self._synced_s = now_s


def _add(sums: dict[Key, list[float]], lines: Iterable[Line]) -> None:
    for key, joules, grams, _ in lines:
        known = sums.get(key)
        if known is None:
            sums[key] = [joules, grams]
        else:
            known[0] += joules
            known[1] += grams


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
