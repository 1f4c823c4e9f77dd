"""What a counter tells late of a device, of seconds in which nothing else told it either: each run's part."""

from __future__ import annotations

from carbonmon.core.attribution import Divided, scale_interval
from carbonmon.core.model import Interval
from carbonmon.monitor.run_span import RunSpan


class LateEnergy:
    """An interval that is charged, of a device whose counter had not told of `open_s` seconds before it."""

    def __init__(self, device_id: str, divided: Divided, open_s: float) -> None:
        self.divided = divided
        self._device_id = device_id
        self._open_s = open_s
        self._own_s: dict[str, float] = {}

    def added(self, part: Interval, run_id: str, span: RunSpan, ratio: float) -> Interval:
        """A run's part of the interval with its part of what came late, by its seconds that waited for it.

        Seconds of the interval that wait themselves are noted. `ratio` is the run's share.
        """
        if self.divided.waits_ratio:
            span.wait(self._device_id, self.divided.waits_ratio * (part.end_s - part.start_s))
        late = self.divided.late
        if late is None or self._device_id not in span.open_s:
            return part
        self._own_s[run_id] = own_s = span.open_s.pop(self._device_id)
        return part._replace(counter_j=part.counter_j + late.counter_j * own_s / self._open_s * ratio)

    def of_others(self, run_id: str) -> Interval | None:
        """What came late and was drawn when this run did not live; None where nothing did."""
        late = self.divided.late
        if late is None:
            return None
        return scale_interval(late, max(0.0, 1.0 - self._own_s.get(run_id, 0.0) / self._open_s))
