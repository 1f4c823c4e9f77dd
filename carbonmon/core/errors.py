"""The exceptions of carbonmon, named by what the caller should do.

CarbonmonError
├── ConfigError          an option, a variable or a file is wrong: say so and stop before the job starts
├── FetchError           a source on the network gave no usable answer: count it by reason, try another
└── SensorError
    ├── SensorUnavailable   this source does not work here: use the next method, show the remedy
    ├── SensorReadError     this read failed: count it and read again at the next tick
    └── SensorGone          the source ended as expected (a replay's last line): read no more
"""

from __future__ import annotations

from collections.abc import Collection


class CarbonmonError(Exception):
    """Anything that carbonmon raises on purpose; its text can be shown to users."""


class ConfigError(CarbonmonError):
    """A mistake in an option, the environment or a file: says what, where and how to fix it."""


class FetchError(CarbonmonError):
    """A source on the network gave no usable answer; the text holds neither keys nor the answer.

    `reason` is a short, stable word for a label: timeout, connect, http_401, http_429, http_500, redirect,
    too_large, not_json, garbage, empty, key, tls, error_body, unsupported. `retry_after_s` is how long to
    wait before the next request, as the source asked.
    """

    def __init__(self, reason: str, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.retry_after_s = retry_after_s


class SensorError(CarbonmonError):
    """A source of readings failed."""


class SensorUnavailable(SensorError):
    """Raised at opening by a source that does not work on this machine.

    `note` is what the user should be told before the job starts, where the cause may be a mistake.
    `gpus_seen` are ids of GPUs that it could read and that are not the job's.
    """

    def __init__(
        self, reason: str, remedy: str = "", note: str = "", gpus_seen: Collection[str] = ()
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.note = note
        self.gpus_seen = gpus_seen


class SensorReadError(SensorError):
    """Raised by a read that failed as a whole; the next tick reads again."""


class SensorGone(SensorError):
    """Raised by a source that has ended and will not come back."""
