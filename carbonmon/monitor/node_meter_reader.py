"""A node meter behind its guard: whatever it raises is data, and one that is slow or hangs delays no tick."""

from __future__ import annotations

import logging
import threading
from functools import partial

from carbonmon.core.errors import SensorError, SensorUnavailable
from carbonmon.core.model import SensorState
from carbonmon.core.node_meter import NodeReading
from carbonmon.core.ports import Clock, NodeMeter
from carbonmon.hardware.own_thread import OwnThread

log = logging.getLogger(__name__)

CLOSE_S = 1.0
"""How long the end of a meter's session with its service is waited for."""

LATE_S = 15.0
"""A read that takes longer than this hangs. What it says in the end is not used: nobody knows of which moment
it is."""


MOST_TOLD = 4
"""So many different troubles are logged until it answers again: a text may hold what a broken file says, or
how late an answer was, and be another one at each read."""


class NodeMeterReader:
    """For the sampling thread. `name` is unique among the meters of the machine.

    A meter that says `SensorUnavailable` at a read is read no more.
    """

    def __init__(self, meter: NodeMeter, name: str) -> None:
        self.name = name
        self.meter = meter
        self._own = OwnThread(f"node-{name}", wait_s=0.0) if meter.is_slow else None
        self._asked_s: float | None = None
        self._answer: tuple[NodeReading, float] | None = None
        self._is_over = False
        self._remedy = ""
        self._trouble = ""
        self._told: list[str] = []
        self._is_late = False
        self._read_s: float | None = None
        self._errors: dict[str, int] = {}

    def newest(self, clock: Clock) -> tuple[NodeReading, float] | None:
        """What it said since this was asked last, and when; it is asked again where its time has come."""
        now_s = clock.now_s()
        own, read = self._own, partial(self._read, clock)
        answer = None
        if own is not None and own.is_busy and own.run(read):
            answer = self._taken()
        if self._is_over:
            return None
        is_free = own is None or not own.is_busy
        if is_free and (self._asked_s is None or now_s - self._asked_s >= self.meter.period_s):
            self._asked_s = now_s
            if own is None:
                read()
            if own is None or own.run(read):
                answer = self._taken() or answer
        self._is_late = own is not None and own.is_busy and now_s - (self._asked_s or now_s) > LATE_S
        return answer

    def _taken(self) -> tuple[NodeReading, float] | None:
        """The answer of a read that has ended: nobody writes it now."""
        answer, self._answer = self._answer, None
        return answer

    @property
    def has_answered(self) -> bool:
        """Whether a read of it has ended, well or not."""
        return self._read_s is not None

    def state(self) -> SensorState:
        """Its state, as a source of the monitor."""
        trouble = self._state_text()
        return SensorState(
            f"node meter {self.name}",
            "used",
            trouble or self.meter.describe(),
            self._remedy,
            self._read_s is not None and not trouble,
            self._read_s,
            tuple(dict(self._errors).items()),
        )

    def close(self) -> None:
        """Let the meter go, and wait a moment for that; one that hangs is left as it is."""
        self._is_over = True
        if self._own is None:
            self._close()
        elif not self._own.is_busy:
            self._own.close()
            thread = threading.Thread(target=self._close, name=f"carbonmon-end-{self.name}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads for this user
                return
            thread.join(CLOSE_S)

    def _read(self, clock: Clock) -> None:
        """Read the meter, in its own thread if it has one, and keep what it said."""
        began_s = clock.now_s()
        reading = None
        trouble = ""
        try:
            reading = self.meter.read()
        except SensorUnavailable as error:
            trouble, self._remedy, self._is_over = error.reason, error.remedy, True
        except SensorError as error:
            trouble = str(error)
            self._errors["read"] = self._errors.get("read", 0) + 1
        except Exception as error:  # a meter's own bug must stop neither the devices' sensors nor the job
            trouble = f"{type(error).__name__}: {error}"
            self._errors["bug"] = self._errors.get("bug", 0) + 1
            log.debug("node meter %s failed", self.name, exc_info=True)
        at_s = clock.now_s()
        if at_s - began_s > LATE_S:
            reading, trouble = (
                None,
                trouble or f"its answer came after {at_s - began_s:.0f} s: too late to be used",
            )
        self._trouble, self._read_s = trouble, at_s - began_s
        if reading is not None:
            self._answer = (reading, at_s)

    def _state_text(self) -> str:
        return f"it has not answered for more than {LATE_S:g} s" if self._is_late else self._trouble

    def tell(self) -> None:
        """Log when it begins to fail, fails in a way that is new since then, or answers again."""
        trouble = self._state_text()
        if trouble and trouble not in self._told and len(self._told) < MOST_TOLD:
            self._told.append(trouble)
            log.warning("node meter %s cannot be read: %s", self.name, trouble)
        elif self._told and not trouble:
            self._told.clear()
            log.warning("node meter %s reads again", self.name)

    def _close(self) -> None:
        try:
            self.meter.close()
        except Exception:  # closing is the last thing that happens: nothing depends on it
            log.debug("closing node meter %s failed", self.name, exc_info=True)
