"""Asks live sources when it is time, in a thread of its own, and publishes what is known, an immutable chain.

A source is asked again when its slot has ended, a little later on each node than on others, and not if
another run has its answer on disk. After an error it is left alone for 30 s, and twice as long each time up
to an hour. It is asked only if no source before it in the chain has a figure in force.
"""

from __future__ import annotations

import logging
import os
import platform
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
from carbonmon.grid.cache import Cache, Kept, check_slot
from carbonmon.grid.chain import Chain, Link

log = logging.getLogger(__name__)

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 30.0, 3600.0
LONGEST_WAIT_S = 86_400.0
"""Whatever a source asks for, and however long its slots are."""
KEPT_S, AHEAD_S = 48 * 3600.0, 48 * 3600.0
"""How much of the past and of forecasts is kept."""
GRACE_S = 120.0
"""A figure stays in force for so long after its slot, until its successor can be here."""
LONGEST_SPREAD_S = 60.0
LONGEST_SLEEP_S = 60.0
"""The thread looks at the clock at least so often: a machine may sleep, and its clock may be set."""
MOST_SLOTS = 20_000

_REASON = re.compile(r"[a-z0-9_]{1,40}")


class _Asked:
    """One source, and what this process knows of asking it."""

    def __init__(self, source: GridSource) -> None:
        self.source = source
        self.name = f"{source.name}:{source.zone}" if source.zone else source.name
        self.timeline = Timeline()
        self.asked_s = self.tried_s = self.due_s = float("-inf")
        self.backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
        self.is_failing = False
        self.vain = 0
        self.told: set[str] = set()

    def link(self) -> Link:
        source = self.source
        lag_s = max(GRACE_S, source.lag_s)
        return Link(self.timeline, source.name, source.zone, source.basis, source.accounting, lag_s)

    def is_due(self, now_s: float) -> bool:
        return now_s >= self.due_s or now_s < self.tried_s - LONGEST_SLEEP_S  # the clock was set back

    def take(self, kept: Kept, now_s: float, spread_ratio: float) -> None:
        """What is known now, and when to ask again: a little later than others in the same moment."""
        if self.is_failing:
            log.info("grid: %s answers again", self.name)
        self.is_failing = False
        self.backoff.reset()
        self.told.clear()
        self.timeline = self.timeline.merged(kept.timeline.slots, now_s - KEPT_S)
        self.asked_s, self.tried_s = kept.asked_s, now_s
        spread_s = spread_ratio * min(LONGEST_SPREAD_S, self.source.slot_s / 10)
        self.due_s = min(kept.due_s, now_s + LONGEST_WAIT_S) + spread_s


class Refresher:
    """Keeps what sources say up to date. `step` is one look at all of them and may be called by tests.

    `chain` and `errors` may be read by any thread: they are replaced, never changed. `last` is the annual
    figure behind all sources. `spread_ratio`, 0 to 1, is this process's place among all that ask at a time.
    """

    def __init__(
        self,
        sources: Sequence[GridSource],
        http: Http | None,
        cache: Cache,
        wall_s: Callable[[], float],
        last: Intensity,
        spread_ratio: float | None = None,
    ) -> None:
        self._asked = [_Asked(source) for source in sources]
        self._http = http
        self._cache = cache
        self._wall_s = wall_s
        self._last = last
        self._spread_ratio = own_spread_ratio() if spread_ratio is None else spread_ratio
        self._counts: Counter[tuple[str, str]] = Counter()
        self._place: int | None = None
        self._ending = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self.errors: tuple[tuple[str, str, int], ...] = ()
        now_s = wall_s()
        for asked in self._asked:
            self._adopt(asked, now_s)
        self.chain = self._make_chain()

    def start(self) -> None:
        """Begin to ask, in a thread of its own; once, and not after the end."""
        with self._starting:
            if self._thread is None and self._asked and not self._ending.is_set():
                self._thread = threading.Thread(target=self._run, name="carbonmon-grid", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread without waiting: a request may hang, and ends with the process."""
        self._ending.set()

    def step(self) -> float:
        """Ask who is due, as far down the chain as is needed; returns the Unix time of the next look."""
        next_s = self._wall_s() + LONGEST_BACKOFF_S
        for place, asked in enumerate(self._asked):
            now_s = self._wall_s()
            if asked.is_due(now_s) and not self._adopt(asked, now_s) and not self._ending.is_set():
                self._ask(asked, now_s)
                self.chain = self._make_chain()
            next_s = min(next_s, asked.due_s)
            now_s = self._wall_s()
            fresh_until_s = self.chain.fresh_until(place, now_s)
            if fresh_until_s > now_s:
                next_s = min(next_s, fresh_until_s)
                break
        self._tell_place()
        return next_s

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                pause_s = self.step() - self._wall_s()
            except Exception:  # a fault of ours must not end the refreshing for the rest of a long run
                log.exception("the sources of intensity could not be looked at")
                pause_s = LONGEST_SLEEP_S
            self._ending.wait(min(max(pause_s, 1.0), LONGEST_SLEEP_S))

    def _adopt(self, asked: _Asked, now_s: float) -> bool:
        """Take what another process, or an earlier one, has on disk; whether that saves asking."""
        kept = self._cache.load(asked.source, now_s)
        if kept is None or kept.asked_s <= asked.asked_s:
            return False
        asked.take(kept, now_s, self._spread_ratio)
        self.chain = self._make_chain()
        return not asked.is_due(now_s)

    def _ask(self, asked: _Asked, now_s: float) -> None:
        assert self._http is not None
        asked.tried_s = now_s
        try:
            slots = _checked(asked.source.latest(self._http, now_s), now_s)
        except FetchError as error:
            self._fail(asked, error.reason, str(error), error.retry_after_s)
        # A third party's code may raise anything, with anything in its text.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._fail(asked, "bug", f"{type(error).__name__} in the source's own code", None)
        else:
            self._succeed(asked, slots, now_s)

    def _succeed(self, asked: _Asked, slots: list[Slot], now_s: float) -> None:
        before = asked.timeline.before(now_s)
        known = asked.timeline.merged(slots, now_s - KEPT_S)
        newest = known.before(now_s)
        asked.vain = asked.vain + 1 if newest is None or (before and newest.end_s <= before.end_s) else 0
        kept = Kept(known, now_s, _due_s(asked, known, now_s))
        asked.take(kept, now_s, self._spread_ratio)
        self._cache.save(asked.source, kept)

    def _fail(self, asked: _Asked, reason: str, detail: str, retry_after_s: float | None) -> None:
        if not isinstance(reason, str) or _REASON.fullmatch(reason) is None:
            reason = "other"
        self._counts[asked.source.name, reason] += 1
        self.errors = tuple(sorted((*key, count) for key, count in self._counts.items()))
        asked.is_failing = True
        pause_s = asked.backoff.wait_s()
        if retry_after_s is not None and isfinite(retry_after_s):
            pause_s = max(pause_s, min(retry_after_s, LONGEST_WAIT_S))
        asked.due_s = self._wall_s() + pause_s * (1 + 0.1 * self._spread_ratio)
        if reason not in asked.told:
            asked.told.add(reason)
            detail = " ".join(detail.split())[:200]
            log.warning("grid: %s: %s (%s); asking again in %.0f s", asked.name, detail, reason, pause_s)

    def _make_chain(self) -> Chain:
        was_asked = any(asked.tried_s > float("-inf") for asked in self._asked)
        names = " and ".join(asked.name for asked in self._asked)
        why = f"{names} {'had no figure' if was_asked else 'not heard yet'}" if self._asked else ""
        return Chain([asked.link() for asked in self._asked], self._last, why)

    def _tell_place(self) -> None:
        """Log once when another source than before speaks for the moment."""
        place = self.chain.at(self._wall_s()).place
        if place == self._place or not self._asked:
            return
        if place == len(self._asked):
            log.warning("grid: no live figure: the annual one of %s stands in", self._last.zone)
        elif self._place is not None or place:
            log.info("grid: the figures are those of %s now", self._asked[place].name)
        self._place = place


def _due_s(asked: _Asked, known: Timeline, now_s: float) -> float:
    """When a source that answered is asked again: when its slot ends.

    One that publishes late is asked about once a slot, each time a little sooner, so that the moment of
    asking moves towards that of publishing. If it has nothing new, it is asked after a quarter of a slot, and
    more and more rarely once it is later than it uses to be.
    """
    slot = known.at(now_s)
    if slot is not None:
        return slot.end_s
    slot_s = min(max(asked.source.slot_s, 60.0), LONGEST_BACKOFF_S)
    if not asked.vain:
        return now_s + 0.9 * slot_s
    newest = known.before(now_s)
    is_late = newest is None or now_s >= newest.end_s + asked.link().lag_s
    doublings = min(asked.vain - 1, 10) if is_late else 0
    pause_s = min(max(slot_s / 4, 60.0), 900.0) * 2.0**doublings
    return now_s + min(pause_s, LONGEST_BACKOFF_S)


def own_spread_ratio() -> float:
    """This process's place among many, 0 to 1: the same all its life, and another on another node."""
    return zlib.crc32(f"{platform.node()}:{os.getpid()}".encode("utf-8", "replace")) / 0xFFFFFFFF


def _checked(found: Iterable[Slot], now_s: float) -> list[Slot]:
    """A source's slots as they must be, without what is too far ahead; raises FetchError for others."""
    try:
        slots = [check_slot(slot) for slot in islice(found, MOST_SLOTS)]
        Timeline(slots)
    except (ValueError, TypeError, OverflowError):
        raise FetchError("garbage", "it told impossible figures") from None
    slots = [slot for slot in slots if slot.start_s < now_s + AHEAD_S]
    if not slots:
        raise FetchError("empty", "it told no figure")
    return slots
