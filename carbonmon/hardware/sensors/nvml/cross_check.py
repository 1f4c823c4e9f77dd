"""Compares a GPU's energy counter with its power sensor over minutes.

Some boards' counters under-report (13 % at a fast poll, 1.6 % at 1 s on two GeForce boards), and the two
come from one sensor, so over minutes they must agree. Neither is corrected: which of them is wrong is not
known here, so the disagreement is logged, once per change of state.
"""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

WINDOW_S = 180.0
MIN_SAMPLES = 60
TOLERANCE_RATIO = 0.15
"""More than the sampling of a fast load once a second can explain over three minutes."""

MIN_POWER_W = 20.0
"""Below this both are small figures of an idle board."""


class CrossCheck:
    """Counter and power of one GPU since the window's start; times are seconds on the caller's clock."""

    __slots__ = ("_agree", "_begin_s", "_begin_uj", "_count", "_last_uj", "_name", "_sum_w")

    def __init__(self, name: str) -> None:
        self._name = name
        self._agree = True
        self.restart()

    def restart(self) -> None:
        """Begin a new window, as after a reset or a gap."""
        self._begin(0.0, -1)

    def _begin(self, now_s: float, energy_uj: int) -> None:
        self._begin_s, self._begin_uj, self._last_uj = now_s, energy_uj, energy_uj
        self._sum_w, self._count = 0.0, 0

    def add(self, now_s: float, energy_uj: int, power_w: float) -> None:
        """Note one reading of both, and compare at the end of a window."""
        elapsed_s = now_s - self._begin_s
        if self._begin_uj < 0 or energy_uj < self._last_uj or elapsed_s < 0.0:
            self._begin(now_s, energy_uj)
            return
        self._last_uj = energy_uj
        self._sum_w += power_w
        self._count += 1
        if elapsed_s >= WINDOW_S:
            if self._count >= MIN_SAMPLES:
                self._compare((energy_uj - self._begin_uj) / 1e6 / elapsed_s, self._sum_w / self._count)
            self._begin(now_s, energy_uj)

    def _compare(self, counter_w: float, sensor_w: float) -> None:
        largest_w = max(counter_w, sensor_w)
        agree = largest_w < MIN_POWER_W or abs(counter_w - sensor_w) <= TOLERANCE_RATIO * largest_w
        if agree != self._agree:
            self._agree = agree
            log.warning(
                "%s: its energy counter gives %.0f W and its power sensor %.0f W over %.0f min: %s",
                self._name,
                counter_w,
                sensor_w,
                WINDOW_S / 60.0,
                "they agree again" if agree else "one of them is wrong; the counter is used",
            )
