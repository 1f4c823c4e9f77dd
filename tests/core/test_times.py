"""Times in ISO 8601, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.times import (
    MINUTES,
    NoTimeError,
    NoZoneError,
    known_time,
    parse_time,
    rfc3339,
    utc_text,
)

EIGHT_S = 1795291200.0
"""2026-11-21T20:00Z."""


@pytest.mark.parametrize(
    "text",
    ["2026-11-21T20:00Z", "2026-11-21 20:00:00z", "2026-11-21T21:00+01:00", "2026-11-21 14:30 -0530"],
)
def test_a_time_is_understood_with_any_zone(text: str):
    assert parse_time(text) == EIGHT_S


def test_fractions_count_and_a_day_alone_begins_at_midnight():
    assert parse_time("2026-11-21T20:00:00.25Z") == EIGHT_S + 0.25
    assert parse_time("2026-11-21T20:00:00,123456789Z") == pytest.approx(EIGHT_S + 0.123456, abs=1e-6)
    assert parse_time("2026-11-21", is_utc=True) == EIGHT_S - 20 * 3600.0


@pytest.mark.parametrize(
    "text", ["", "now", "2026-13-01T00:00Z", "2026-02-30T00:00Z", "0001-01-01T00:00+14:00"]
)
def test_what_is_no_time_or_in_no_calendar_is_refused(text: str):
    with pytest.raises(NoTimeError):
        parse_time(text)
    assert known_time(text) is None


def test_a_time_without_a_zone_is_refused_unless_it_is_known_to_be_utc():
    with pytest.raises(NoZoneError):
        parse_time("2026-11-21T20:00")
    assert parse_time("2026-11-21T20:00", is_utc=True) == EIGHT_S


def test_times_are_written_in_utc():
    assert (utc_text(EIGHT_S), utc_text(EIGHT_S, MINUTES)) == ("2026-11-21T20:00:00Z", "2026-11-21T20:00Z")
    assert rfc3339(EIGHT_S + 0.5) == "2026-11-21T20:00:00.500Z"
    assert rfc3339(None) is rfc3339(1e18) is known_time(None) is None


@given(st.integers(0, 4_000_000_000_000))
def test_what_is_written_is_read_again(milliseconds: int):
    unix_s = milliseconds / 1000.0
    assert known_time(rfc3339(unix_s)) == pytest.approx(unix_s, abs=1.1e-3)
