"""Moments in ISO 8601, read and written. Who reads one says what is to become of a time without a zone."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from carbonmon.core.patterns import pattern

SECONDS = "%Y-%m-%dT%H:%M:%SZ"
MINUTES = "%Y-%m-%dT%H:%MZ"

EARLIEST_S, LATEST_S = 1e8, 1e11
"""Unix seconds from 1973 to the year 5138: below are years and days, above are milliseconds."""

_TIME = pattern(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?"
    r" ?(Z|UTC|GMT|([+-])([01]\d|2[0-3]):?([0-5]\d)?)?",
    re.IGNORECASE | re.ASCII,
)


class NoTimeError(ValueError):
    """A text that is no time, or no valid date."""


class NoZoneError(ValueError):
    """A time that does not tell its zone, so that nobody can know which moment is meant."""


def parse_time(text: str, is_utc: bool = False) -> float:
    """The Unix time of `2026-11-21T20:00:00.5Z`, with any zone; seconds, time and fraction may be missing.

    `is_utc` is the zone of a time that tells none. Raises `NoTimeError` and `NoZoneError`.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise NoTimeError("no time")
    if match[8] is None and not is_utc:
        raise NoZoneError("no zone")
    offset = timedelta(hours=int(match[10] or 0), minutes=int(match[11] or 0))
    year, month, day, hour, minute, second = (int(match[part] or 0) for part in range(1, 7))
    microsecond = int((match[7] or "").ljust(6, "0")[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, microsecond, tzinfo=timezone.utc)
        moment += offset if match[9] == "-" else -offset
    except (ValueError, OverflowError):
        raise NoTimeError("no valid date") from None
    return moment.timestamp()


def known_time(text: str | None) -> float | None:
    """The Unix time of a time that we wrote ourselves; None for an unknown one, and for one that is none."""
    try:
        return None if text is None else parse_time(text)
    except ValueError:
        return None


def utc_text(unix_s: float, form: str = SECONDS) -> str:
    """A Unix time as a text in UTC."""
    return datetime.fromtimestamp(unix_s, tz=timezone.utc).strftime(form)


def shown_utc(unix_s: float, form: str = "%Y-%m-%d %H:%M") -> str:
    """A Unix time in UTC for people; of one beyond the calendar, as a damaged file may have it, "unknown"."""
    return shown_in(timezone.utc, unix_s, form)


def shown_in(zone: timezone, unix_s: float, form: str = "%Y-%m-%d %H:%M") -> str:
    """The same in another zone."""
    try:
        return datetime.fromtimestamp(unix_s, tz=zone).strftime(form)
    except (ValueError, OverflowError, OSError):
        return "unknown"


def zone_at(unix_s: float) -> timezone:
    """The zone of this machine, with the offset that it has at a time; UTC for one beyond the calendar."""
    try:
        offset = datetime.fromtimestamp(unix_s).astimezone().utcoffset()
    except (ValueError, OverflowError, OSError):
        offset = None
    return timezone(offset) if offset else timezone.utc


def local_text(unix_s: float | None, timespec: str = "minutes") -> str:
    """A Unix time for people: in the zone of this machine, with its offset; `timespec` as in `isoformat`."""
    try:
        moment = None if unix_s is None else datetime.fromtimestamp(unix_s).astimezone()
    except (ValueError, OverflowError, OSError):
        moment = None
    return "at an unknown time" if moment is None else moment.isoformat(" ", timespec)


def rfc3339(unix_s: float | None) -> str | None:
    """A Unix time as text in UTC with milliseconds; None where it is unknown or beyond the calendar."""
    if unix_s is None:
        return None
    try:
        moment = datetime.fromtimestamp(unix_s, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
