"""The same moment by both of a machine's times."""

from __future__ import annotations

from collections.abc import Sequence

from carbonmon.monitor.clock import MOST_LOOKS, same_moment
from tests.support.harness import FakeClock


class Busy(FakeClock):
    """Another process has its turn before some of the looks at the time of day, for so long each."""

    def __init__(self, turns_s: Sequence[float]) -> None:
        super().__init__()
        self._turns_s = list(turns_s)

    def wall_s(self) -> float:
        self.time_s += self._turns_s.pop(0) if self._turns_s else 0.0
        return super().wall_s()


def test_the_two_times_are_of_one_moment_whoever_had_a_turn_in_between():
    for turns_s in ([], [0.2], [0.2, 0.1, 0.3]):
        clock = Busy(turns_s)
        now_s, wall_s = same_moment(clock)
        assert wall_s - now_s == clock.wall_offset_s
        assert now_s == 1000.0 + sum(turns_s)


def test_a_clock_that_never_stands_still_is_not_looked_at_for_ever():
    clock = Busy([0.2] * 99)
    same_moment(clock)
    assert clock.time_s <= 1000.0 + 0.2 * MOST_LOOKS + 1e-6
