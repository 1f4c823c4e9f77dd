"""Times, months, spans and sizes as people write them, in the zone of this machine."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple
from carbonmon.core.times import EARLIEST_S, NoTimeError, NoZoneError, parse_time

_SPAN = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smhdw])")
_SPAN_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_MONTH = re.compile(r"(\d{4})-(\d\d)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([kMGT]i?)?B", re.IGNORECASE)
_PREFIXES = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class Month(NamedTuple):
    """A month of the calendar."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"

    @property
    def start_s(self) -> float:
        """When it begins (Unix time)."""
        return datetime(self.year, self.number, 1).timestamp()

    @property
    def end_s(self) -> float:
        return self.next().start_s

    def next(self) -> Month:
        return Month(self.year + self.number // 12, self.number % 12 + 1)


def month_of(unix_s: float) -> Month:
    """The month in which a moment lies."""
    moment = datetime.fromtimestamp(unix_s)
    return Month(moment.year, moment.month)


def parse_month(text: str, option: str = "--month") -> Month:
    """The month of `2026-11`. Raises `ConfigError`."""
    match = _MONTH.fullmatch(text)
    if match is None or not 1 <= int(match[2]) <= 12 or not 1973 <= int(match[1]) < 5000:
        raise ConfigError(f"{option}: {text!r:.40} is no month; give for example 2026-11")
    return Month(int(match[1]), int(match[2]))


def parse_span(text: str, option: str) -> float:
    """Seconds of `90s`, `12h`, `30d`, `2w`. Raises `ConfigError`."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{option}: {text!r:.40} is no span of time; give for example 12h, 30d or 2w")
    return float(match[1]) * _SPAN_UNITS_S[match[2]]


def parse_local_moment(text: str, option: str, now_s: float) -> float:
    """The Unix time of a day, of a time with or without zone, or of how long ago it was (`7d`).

    Without a zone it is in that of this machine. Raises `ConfigError`.
    """
    word = text.strip()
    if _SPAN.fullmatch(word):
        return now_s - parse_span(word, option)
    try:
        try:
            unix_s = parse_time(word)
        except NoZoneError:
            written = datetime.fromtimestamp(parse_time(word, is_utc=True), tz=timezone.utc)
            unix_s = written.replace(tzinfo=None).timestamp()
    except (NoTimeError, ValueError, OverflowError):
        unix_s = 0.0
    if unix_s < EARLIEST_S:
        raise ConfigError(f"{option}: {text!r:.40} is no time; give 2026-11-21, 2026-11-21T20:00, or 7d")
    return unix_s


def parse_bytes(text: str, option: str, other: str = "") -> float:
    """Bytes of `500MB`, `1.5 GiB`. Raises `ConfigError`, which names what `other` may be given."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{option}: {text!r:.40} is no size; give for example 500MB or 2GiB{other}")
    prefix = (match[2] or "").upper()
    base = 1024 if prefix.endswith("I") else 1000
    return float(match[1]) * float(base ** _PREFIXES[prefix.removesuffix("I")])
