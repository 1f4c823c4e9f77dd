"""The exceptions of carbonmon, named by what the caller should do.

CarbonmonError
├── ConfigError          the user's own words are wrong: say so and stop before the job starts
├── FetchError           a source on the network did not answer usefully: count it by reason, try another
└── SensorError
    ├── SensorUnavailable   this source cannot serve here: step down the ladder, show the remedy
    ├── SensorReadError     this read failed: count it and ask again at the next tick
    └── SensorGone          the source ended as expected (a replay's last line): ask no more
"""

from __future__ import annotations


class CarbonmonError(Exception):
    """Anything that carbonmon raises on purpose; its text is fit for a user's eyes."""


class ConfigError(CarbonmonError):
    """A mistake in an option, the environment or a file: says what, where and how to mend it."""


class FetchError(CarbonmonError):
    """A source on the network did not answer usefully; the text holds neither keys nor what it said.

    `reason` is a short, stable word for a label: timeout, connect, http_401, http_429, http_500, redirect,
    too_large, not_json, garbage,
    empty, key, tls, error_body, unsupported. `retry_after_s` is how long the source asked to be left alone.
    """

    def __init__(self, reason: str, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.retry_after_s = retry_after_s


class SensorError(CarbonmonError):
    """A source of readings that does not deliver."""


class SensorUnavailable(SensorError):
    """Raised at opening by a source that cannot serve on this machine."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class SensorReadError(SensorError):
    """Raised by a read that failed as a whole; the next tick asks again."""


class SensorGone(SensorError):
    """Raised by a source that has ended and will not come back."""
