"""Takes the answers of live sources apart, value by value: what is not plainly right is a `FetchError`.

`garbage` is an answer of another form or with impossible values, `error_body` one that is an error though its
status is none, `empty` one without a single figure. The texts name the key in question, never its value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from math import isfinite
from typing import Any

from carbonmon.core.errors import FetchError
from carbonmon.core.timeline import Slot

HIGHEST_G_PER_KWH = 5000.0
LONGEST_SLOT_S = 3600.0
_FIRST_YEAR, _LAST_YEAR = 2000, 2100
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:\.\d{1,9})?)?(Z|([+-])(\d\d):?(\d\d))?", re.ASCII
)


def garbage(problem: str) -> FetchError:
    return FetchError("garbage", f"an answer of another form: {problem}")


def json_object(found: Any) -> Mapping[str, Any]:
    """The object that an answer must be, and not one that tells of an error."""
    if not isinstance(found, dict):
        raise garbage("it is no object")
    if "error" in found or "error_code" in found or found.get("status") == "error":
        raise FetchError("error_body", "it answered with an error instead of figures")
    return found


def json_objects(container: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    """The objects in the list under a key."""
    found = container.get(key)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise garbage(f"{key!r} is no list of objects")
    return found


def member(container: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under a key."""
    found = container.get(key)
    if not isinstance(found, dict):
        raise garbage(f"{key!r} is no object")
    return found


def expect(container: Mapping[str, Any], key: str, wanted: object) -> None:
    """Raise FetchError unless the value under the key is the one that was asked for."""
    found = container.get(key)
    if type(found) is not type(wanted) or found != wanted:
        raise garbage(f"{key!r} is not what was asked for")


def g_per_kwh(row: Mapping[str, Any], key: str, factor: float = 1.0) -> float | None:
    """The intensity under a key, times a factor of its unit; None for null, which is an unknown one."""
    if key not in row:
        raise garbage(f"there is no {key!r}")
    found = row[key]
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise garbage(f"{key!r} is no number")
    # An int may be too large to become a float: compare first.
    if not (-1e9 < found < 1e9 and isfinite(found) and 0.0 <= found * factor <= HIGHEST_G_PER_KWH):
        raise garbage(f"{key!r} is an impossible intensity")
    return found * factor


def unix_s(row: Mapping[str, Any], key: str, is_utc: bool = False) -> float:
    """The Unix time of an ISO 8601 text under a key. It must tell its zone, unless `is_utc` knows it."""
    found = row.get(key)
    match = _TIME.fullmatch(found) if isinstance(found, str) else None
    if match is None or not _FIRST_YEAR <= int(match[1]) <= _LAST_YEAR:
        raise garbage(f"{key!r} is no time")
    if match[7] is None and not is_utc:
        raise garbage(f"{key!r} is a time without its zone")
    offset = timedelta(hours=int(match[9] or 0), minutes=int(match[10] or 0))
    year, month, day, hour, minute, second = (int(match[part] or 0) for part in range(1, 7))
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        raise garbage(f"{key!r} is no time") from None
    return (moment + offset if match[8] == "-" else moment - offset).timestamp()


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


def utc_text(time_s: float, form: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    return datetime.fromtimestamp(time_s, tz=timezone.utc).strftime(form)


def unsupported(name: str, what: str) -> FetchError:
    """What a source raises for what it does not offer."""
    return FetchError("unsupported", f"{name} offers no {what}")
