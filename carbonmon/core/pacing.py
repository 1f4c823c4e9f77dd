"""How often something may be done, and when to try again what failed; the time is the caller's."""

from __future__ import annotations


class TokenBucket:
    """So many tokens a second, and at most `burst` of them saved up; full at first."""

    __slots__ = ("_at_s", "_burst", "_level", "_rate_hz")

    def __init__(self, rate_hz: float, burst: float, now_s: float) -> None:
        self._rate_hz, self._burst = rate_hz, burst
        self._level, self._at_s = burst, now_s

    def take(self, now_s: float, tokens: float = 1.0, least: float = 1.0) -> float:
        """Take tokens where at least `least` are there: 0.0; else the seconds until they are.

        More may be taken than there are: the debt is waited for.
        """
        self._level = min(self._burst, self._level + (now_s - self._at_s) * self._rate_hz)
        self._at_s = now_s
        if self._level < least:
            return (least - self._level) / self._rate_hz
        self._level -= tokens
        return 0.0

    def is_full(self, now_s: float) -> bool:
        """Whether it is as it was at first: one that was never taken from would do as well."""
        return self._level + (now_s - self._at_s) * self._rate_hz >= self._burst


class Backoff:
    """When to try again: after `first_s`, then twice as long each time, at most `longest_s`.

    `at_s` is the time before which it is not to be tried; -inf before the first failure.
    """

    __slots__ = ("_first_s", "_longest_s", "_wait_s", "at_s")

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self.reset()

    def reset(self) -> None:
        """It worked: the next failure is the first again."""
        self.at_s = float("-inf")
        self._wait_s = self._first_s

    def wait_s(self) -> float:
        """The wait after one more failure."""
        wait_s = self._wait_s
        self._wait_s = min(2.0 * wait_s, self._longest_s)
        return wait_s

    def schedule(self, now_s: float) -> None:
        """It failed now."""
        self.at_s = now_s + self.wait_s()
