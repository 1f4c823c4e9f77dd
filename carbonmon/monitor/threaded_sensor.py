"""A sensor whose driver may hang: that costs only itself.

It is read in the sampling thread, for which another one stands by, or else in a thread of its own.
"""

from __future__ import annotations

import logging

from carbonmon.core.model import Failure, Reading, SensorState
from carbonmon.core.ports import Clock, Sensor
from carbonmon.hardware.own_thread import WAIT_S, OwnThread
from carbonmon.monitor.guard import GuardedSensor, merge_readings
from carbonmon.monitor.relief import InPlace, Relief

log = logging.getLogger(__name__)

STALE_S = 5.0
"""An answer to a question that was asked longer ago is not used: nobody knows of which moment it is. The
next value of a counter covers that time exactly."""


class ThreadedSensor(GuardedSensor):
    """A guarded sensor whose newest answer a tick takes. One that comes late counts at the next tick."""

    def __init__(self, sensor: Sensor, wait_s: float = WAIT_S) -> None:
        super().__init__(sensor)
        self._own: OwnThread | InPlace = OwnThread(self.name, wait_s)
        self._was_late = False
        self._asked_s = 0.0
        self._answer: dict[str, tuple[Reading | Failure, float]] = {}

    may_hang = True

    def read_in_place(self, relief: Relief) -> None:
        """From now on read it in the sampling thread, which `relief` stands by for. Before the first read."""
        self._own = InPlace(relief)

    def read(self, clock: Clock, edge: bool, into: dict[str, tuple[Reading | Failure, float]]) -> None:
        """Collect into `into` what the sensor said by now, each reading stamped right after it was made."""
        was_late = self._own.is_late
        if not self._own.is_busy:
            self._asked_s = clock.now_s()

        def collect() -> None:
            answer: dict[str, tuple[Reading | Failure, float]] = {}
            super(ThreadedSensor, self).read(clock, edge, answer)
            self._answer = answer

        if self._own.run(collect):
            answer, self._answer = self._answer, {}
            if was_late and clock.now_s() - self._asked_s > STALE_S:
                answer = {}
            if into:
                for device_id, (reading, at_s) in answer.items():
                    merge_readings(into, device_id, reading, at_s)
            else:
                into.update(answer)
        if self._own.is_late is not self._was_late:
            self._was_late = self._own.is_late
            if not self._was_late:
                log.warning("sensor %s answers again", self.name)
            else:
                log.warning(
                    "sensor %s did not answer within %g s: its driver may hang; the others are read on",
                    self.name,
                    self._own.wait_s,
                )

    def state(self) -> SensorState:
        state = super().state()
        if not self._own.is_late:
            return state
        return state._replace(up=False, reason=f"it did not answer within {self._own.wait_s:g} s")

    def close(self) -> None:
        """Close the sensor, in its own thread; a driver that hangs is left as it is."""
        if self._own.is_busy:
            return
        own = self._own if isinstance(self._own, OwnThread) else OwnThread(self.name)
        if own.run(super().close):
            own.close()
