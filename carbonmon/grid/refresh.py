"""Requests figures from live sources when they are due, in a thread, and publishes immutable chains.

A source is requested again when its slot has ended, with another delay on each node, and not if another run
has cached its answer on disk. After an error it is not requested for 30 s, and twice as long each time up to
an hour. It is requested only if no source before it in the chain has a figure in force.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from math import isfinite

from carbonmon.core.errors import FetchError
from carbonmon.core.model import Intensity
from carbonmon.core.pacing import Backoff
from carbonmon.core.ports import GridSource, Http
from carbonmon.core.timeline import Slot, Timeline
from carbonmon.grid.cache import Cache, CachedFigures, check_slot
from carbonmon.grid.chain import SourceChain, SourceFigures

log = logging.getLogger(__name__)

FIRST_BACKOFF_S, MAX_BACKOFF_S = 30.0, 3600.0
MAX_WAIT_S = 86_400.0
"""Upper limit of the time between two requests, also if a source asks for a longer one."""
PAST_S, FORECAST_S = 48 * 3600.0, 48 * 3600.0
"""How much of the past and of forecasts is cached."""
MIN_LAG_S = 120.0
"""A figure stays in force for at least so long after its slot, until the next one can be here."""
MAX_SPREAD_S = 60.0
MAX_SLEEP_S = 60.0
"""The thread reads the clock at least so often: a machine may sleep, and its clock may be set."""
MAX_SLOTS = 20_000

_REASON = re.compile(r"[a-z0-9_]{1,40}")


class _SourceState:
    """One source with its figures, and when it was and is to be requested."""

    def __init__(self, source: GridSource) -> None:
        self.source = source
        self.name = f"{source.name}:{source.zone}" if source.zone else source.name
        self.timeline = Timeline()
        self.asked_s = self.tried_s = self.due_s = float("-inf")
        self.backoff = Backoff(FIRST_BACKOFF_S, MAX_BACKOFF_S)
        self.is_failing = False
        self.unchanged = 0
        self.logged_reasons: set[str] = set()

    def figures(self) -> SourceFigures:
        source = self.source
        lag_s = max(MIN_LAG_S, source.lag_s)
        return SourceFigures(self.timeline, source.name, source.zone, source.basis, source.accounting, lag_s)

    def is_due(self, now_s: float) -> bool:
        return now_s >= self.due_s or now_s < self.tried_s - MAX_SLEEP_S  # the clock was set back

    def update(self, cached: CachedFigures, now_s: float, spread_ratio: float) -> None:
        """Set the figures, and when to request again, with this node's own delay."""
        if self.is_failing:
            log.info("grid: %s answers again", self.name)
        self.is_failing = False
        self.backoff.reset()
        self.logged_reasons.clear()
        self.timeline = self.timeline.merged(cached.timeline.slots, now_s - PAST_S)
        self.asked_s, self.tried_s = cached.asked_s, now_s
        spread_s = spread_ratio * min(MAX_SPREAD_S, self.source.slot_s / 10)
        self.due_s = min(cached.due_s, now_s + MAX_WAIT_S) + spread_s


class Refresher:
    """Keeps the figures of sources up to date. `step` checks all of them once and may be called by tests.

    `chain` and `errors` may be read by any thread: they are replaced, never changed. `default` is the annual
    figure after all sources. `spread_ratio`, 0 to 1, spreads the requests of many processes over time.
    """

    def __init__(
        self,
        sources: Sequence[GridSource],
        http: Http | None,
        cache: Cache,
        wall_s: Callable[[], float],
        default: Intensity,
        spread_ratio: float | None = None,
    ) -> None:
        self._states = [_SourceState(source) for source in sources]
        self._http = http
        self._cache = cache
        self._wall_s = wall_s
        self._default = default
        self._spread_ratio = own_spread_ratio() if spread_ratio is None else spread_ratio
        self._counts: Counter[tuple[str, str]] = Counter()
        self._source_index: int | None = None
        self._ending = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self.errors: tuple[tuple[str, str, int], ...] = ()
        now_s = wall_s()
        for state in self._states:
            self._load_cached(state, now_s)
        self.chain = self._make_chain()

    def start(self) -> None:
        """Start the thread; once, and not after `close`."""
        with self._starting:
            if self._thread is None and self._states and not self._ending.is_set():
                self._thread = threading.Thread(target=self._run, name="carbonmon-grid", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:  # no more threads for this user: the annual figure stands in
                    log.warning("grid: nothing is requested: %s", error)

    def close(self) -> None:
        """End the thread without waiting: a request may hang, and ends with the process."""
        self._ending.set()

    def step(self) -> float:
        """Request the sources that are due, as far as needed; returns the Unix time of the next step."""
        next_s = self._wall_s() + MAX_BACKOFF_S
        for index, state in enumerate(self._states):
            now_s = self._wall_s()
            if state.is_due(now_s) and not self._load_cached(state, now_s) and not self._ending.is_set():
                self._ask(state, now_s)
                self.chain = self._make_chain()
            next_s = min(next_s, state.due_s)
            now_s = self._wall_s()
            fresh_until_s = self.chain.fresh_until(index, now_s)
            if fresh_until_s > now_s:
                next_s = min(next_s, fresh_until_s)
                break
        self._log_source_change()
        return next_s

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                pause_s = self.step() - self._wall_s()
            except Exception:  # a bug of ours must not end the refreshing for the rest of a long run
                log.exception("the sources of intensity could not be refreshed")
                pause_s = MAX_SLEEP_S
            self._ending.wait(min(max(pause_s, 1.0), MAX_SLEEP_S))

    def _load_cached(self, state: _SourceState, now_s: float) -> bool:
        """Load what another process, or an earlier one, cached on disk; whether that saves a request."""
        cached = self._cache.load(state.source, now_s)
        if cached is None or cached.asked_s <= state.asked_s:
            return False
        state.update(cached, now_s, self._spread_ratio)
        self.chain = self._make_chain()
        return not state.is_due(now_s)

    def _ask(self, state: _SourceState, now_s: float) -> None:
        assert self._http is not None
        state.tried_s = now_s
        try:
            slots = _checked(state.source.latest(self._http, now_s), now_s)
        except FetchError as error:
            self._fail(state, error.reason, str(error), error.retry_after_s)
        # A third party's code may raise anything, with anything in its text.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._fail(state, "bug", f"{type(error).__name__} in the source's own code", None)
        else:
            self._succeed(state, slots, now_s)

    def _succeed(self, state: _SourceState, slots: list[Slot], now_s: float) -> None:
        before = state.timeline.before(now_s)
        known = state.timeline.merged(slots, now_s - PAST_S)
        newest = known.before(now_s)
        has_new = newest is not None and (before is None or newest.end_s > before.end_s)
        state.unchanged = 0 if has_new else state.unchanged + 1
        cached = CachedFigures(known, now_s, _due_s(state, known, now_s))
        state.update(cached, now_s, self._spread_ratio)
        self._cache.save(state.source, cached)

    def _fail(self, state: _SourceState, reason: str, detail: str, retry_after_s: float | None) -> None:
        if not isinstance(reason, str) or _REASON.fullmatch(reason) is None:
            reason = "other"
        self._counts[state.source.name, reason] += 1
        self.errors = tuple(sorted((*key, count) for key, count in self._counts.items()))
        state.is_failing = True
        pause_s = state.backoff.wait_s()
        if retry_after_s is not None and isfinite(retry_after_s):
            pause_s = max(pause_s, min(retry_after_s, MAX_WAIT_S))
        state.due_s = self._wall_s() + pause_s * (1 + 0.1 * self._spread_ratio)
        if reason not in state.logged_reasons:
            state.logged_reasons.add(reason)
            detail = " ".join(detail.split())[:200]
            log.warning("grid: %s: %s (%s); asking again in %.0f s", state.name, detail, reason, pause_s)

    def _make_chain(self) -> SourceChain:
        was_asked = any(state.tried_s > float("-inf") for state in self._states)
        names = " and ".join(state.name for state in self._states)
        none_yet = "not asked yet: the annual figure stands in until there is an answer"
        why = f"{names} {'had no figure' if was_asked else none_yet}" if self._states else ""
        return SourceChain([state.figures() for state in self._states], self._default, why)

    def _log_source_change(self) -> None:
        """Log once when the figure in force is another source's than before."""
        index = self.chain.at(self._wall_s()).source_index
        if index == self._source_index or not self._states:
            return
        if index == len(self._states):
            log.warning("grid: no live figure: the annual one of %s is used", self._default.zone)
        elif self._source_index is not None or index:
            log.info("grid: the figures are now those of %s", self._states[index].name)
        self._source_index = index


def _due_s(state: _SourceState, known: Timeline, now_s: float) -> float:
    """When a source that answered is requested again: when its slot ends.

    One that publishes late is requested about once a slot, each time a little sooner, so that the time of the
    request approaches that of publication. If it has nothing new, it is requested after a quarter of a slot,
    and more and more rarely when it is later than its usual lag.
    """
    slot = known.at(now_s)
    if slot is not None:
        return slot.end_s
    slot_s = min(max(state.source.slot_s, 60.0), MAX_BACKOFF_S)
    if not state.unchanged:
        return now_s + 0.9 * slot_s
    newest = known.before(now_s)
    is_late = newest is None or now_s >= newest.end_s + state.figures().lag_s
    doublings = min(state.unchanged - 1, 10) if is_late else 0
    pause_s = min(max(slot_s / 4, 60.0), 900.0) * 2.0**doublings
    return now_s + min(pause_s, MAX_BACKOFF_S)


def own_spread_ratio() -> float:
    """A number from 0 to 1 of this process: the same while it runs, another one on another node."""
    return zlib.crc32(f"{os.uname().nodename}:{os.getpid()}".encode("utf-8", "replace")) / 0xFFFFFFFF


def _checked(found: Iterable[Slot], now_s: float) -> list[Slot]:
    """Check the slots and leave out those too far in the future; raises FetchError for invalid ones."""
    try:
        slots = [check_slot(slot) for slot in islice(found, MAX_SLOTS)]
        Timeline(slots)
    except (ValueError, TypeError, OverflowError):
        raise FetchError("garbage", "it gave impossible figures") from None
    slots = [slot for slot in slots if slot.start_s < now_s + FORECAST_S]
    if not slots:
        raise FetchError("empty", "it gave no figure")
    return slots
