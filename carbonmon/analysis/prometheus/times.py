"""Moments as users write them: a time with its zone, Unix seconds, or how long ago."""

from __future__ import annotations

import re

from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple
from carbonmon.core.times import EARLIEST_S, NoTimeError, NoZoneError, parse_time

_AGO = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smhdw])")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_UNIX = re.compile(r"[0-9]{9,11}(?:\.[0-9]{1,9})?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class Moment(NamedTuple):
    """A Unix time in s, or seconds before now."""

    at_s: float
    is_ago: bool

    def unix_s(self, now_s: float) -> float:
        return now_s - self.at_s if self.is_ago else self.at_s


def parse_moment(text: str, option: str) -> Moment:
    """The moment that a text gives; a day alone begins at midnight in UTC. Raises ConfigError."""
    word = text.strip()
    ago = _AGO.fullmatch(word)
    if ago is not None:
        return Moment(float(ago[1]) * _UNITS_S[ago[2]], is_ago=True)
    if _UNIX.fullmatch(word):
        return Moment(float(word), is_ago=False)
    try:
        unix_s = parse_time(word, is_utc=_DATE.fullmatch(word) is not None)
    except NoZoneError:
        raise ConfigError(f"{option}: {text!r:.40} has no zone; give for example 2026-11-21T20:00Z") from None
    except NoTimeError:
        raise _invalid(text, option) from None
    if unix_s < EARLIEST_S:
        raise _invalid(text, option)
    return Moment(unix_s, is_ago=False)


def _invalid(text: str, option: str) -> ConfigError:
    return ConfigError(
        f"{option}: {text!r:.40} is no time; give 2026-11-21T20:00Z, Unix seconds, or 12h or 30d"
    )
