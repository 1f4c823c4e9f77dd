"""Takes the answers of live sources apart, value by value: what is not plainly right is a `FetchError`.

`garbage` is an answer of another form or with impossible values, `error_body` one that is an error though its
status is none, `empty` one without a single figure. The texts name the key in question, never its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

from carbonmon.core.errors import FetchError
from carbonmon.core.timeline import HIGHEST_G_PER_KWH, Slot
from carbonmon.core.times import NoTimeError, NoZoneError, parse_time
from carbonmon.core.typed import Entry, Source

LONGEST_SLOT_S = 3600.0
_EARLIEST_S, _LATEST_S = parse_time("2000-01-01T00:00Z"), parse_time("2101-01-01T00:00Z")

_ANSWER = Source("an answer of another form", partial(FetchError, "garbage"), shows=False)


def garbage(problem: str) -> Exception:
    """The error for an answer that is not as the provider describes it."""
    return _ANSWER.mistake(problem)


def answer(found: Any) -> Entry:
    """The object that an answer must be, and not one that tells of an error."""
    if not isinstance(found, dict):
        raise garbage("it is no object")
    if "error" in found or "error_code" in found or found.get("status") == "error":
        raise FetchError("error_body", "it answered with an error instead of figures")
    return Entry(_ANSWER, found)


def expect(entry: Entry, key: str, wanted: object) -> None:
    """Raise FetchError unless the value under the key is the one that was asked for."""
    found = entry.values.get(key)
    if type(found) is not type(wanted) or found != wanted:
        raise garbage(f"{entry.prefix}{key} is not what was asked for")


def g_per_kwh(row: Entry, key: str, factor: float = 1.0) -> float | None:
    """The intensity under a key, times a factor of its unit; None for null, which is an unknown one."""
    if not row.has(key):
        raise garbage(f"there is no {row.prefix}{key}")
    found: float | None = row.value(key, float | None, highest=HIGHEST_G_PER_KWH / factor)
    return None if found is None else found * factor


def unix_s(row: Entry, key: str, is_utc: bool = False) -> float:
    """The Unix time of an ISO 8601 text under a key. It must tell its zone, unless `is_utc` knows it."""
    try:
        time_s = parse_time(row.text(key), is_utc)
    except NoZoneError:
        raise garbage(f"{row.prefix}{key} is a time without its zone") from None
    except NoTimeError:
        raise garbage(f"{row.prefix}{key} is no time") from None
    if not _EARLIEST_S <= time_s < _LATEST_S:
        raise garbage(f"{row.prefix}{key} is no time of this century")
    return time_s // 1.0  # slots begin at whole seconds


def in_order(slots: Iterable[Slot]) -> list[Slot]:
    """The slots in the order of time, each once; what is said of the same time twice must be the same.

    An observation goes before a forecast of the same time. Raises FetchError for slots that overlap, that
    have no plausible length, and for none at all.
    """
    known: dict[float, Slot] = {}
    for slot in slots:
        if not 0 < slot.end_s - slot.start_s <= LONGEST_SLOT_S:
            raise garbage("a figure for no time, or for more than an hour")
        before = known.setdefault(slot.start_s, slot)
        if before.kind == "forecast" and slot.kind != "forecast":
            known[slot.start_s] = slot
        elif before.kind == slot.kind and before[:3] != slot[:3]:
            raise garbage("two figures for the same time")
    ordered = [known[start_s] for start_s in sorted(known)]
    if any(slot.end_s > after.start_s for slot, after in pairwise(ordered)):
        raise garbage("figures for times that overlap")
    if not ordered:
        raise FetchError("empty", "the answer holds no figure")
    return ordered


def within(slots: Iterable[Slot], start_s: float, end_s: float) -> list[Slot]:
    """The slots that reach into a stretch of time, in order; raises FetchError as `in_order`."""
    return in_order(slot for slot in slots if slot.end_s > start_s and slot.start_s < end_s)


def spans(start_s: float, end_s: float, longest_s: float, grid_s: float) -> Iterator[tuple[float, float]]:
    """A stretch of time, widened to the source's grid of slots, in pieces that it answers at once."""
    at_s = start_s // grid_s * grid_s
    last_s = -(-end_s // grid_s) * grid_s
    while at_s < last_s:
        until_s = min(at_s + longest_s, last_s)
        yield at_s, until_s
        at_s = until_s
