"""`Phase`, a stretch of a run that training code names: it is in the summary, and its energy is told live.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary, ref

from carbonmon.client.protocol import BOOT_CLOCK

if TYPE_CHECKING:
    from carbonmon.client.part import Part
    from carbonmon.client.run import Run

ASKED_AGAIN_S = 0.1
"""Least time between two questions for the same figures."""


class Phase:
    """One phase of a run; may be entered several times. Its figures are those of the last time.

    They count all that the run drew on this node from its begin to its end, nested phases included; the
    summary counts a joule in the innermost phase only. Until the next reading of each counter, up to a second
    after the end, the newest part is reckoned from power samples, or the last power (`is_settled`).
    """

    __slots__ = ("__weakref__", "_asked_s", "_found", "_last", "_open", "_run", "name")

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        self.name = name
        self._open: list[int] = []
        self._last: int | None = None
        self._found: dict[str, Any] = {}
        self._asked_s = -math.inf

    @property
    def energy_j(self) -> float:
        """Joules: the best known now, NaN where nothing is known."""
        return self._figure("energy_j")

    @property
    def energy_low_j(self) -> float:
        """The least that was drawn within its edges, in joules; the sensors' own error is not in it."""
        return self._figure("low_j")

    @property
    def energy_high_j(self) -> float:
        """The most that was drawn within its edges, in joules."""
        return self._figure("high_j")

    @property
    def duration_s(self) -> float:
        """Seconds from its begin to its end, or until now; NaN where nothing is known."""
        return self._figure("duration_s")

    @property
    def is_interpolated(self) -> bool:
        """Whether more than 5 % of the joules are so near to an edge that they may be on its other side.

        The phase is then short against the refresh of a counter. True where nothing is known.
        """
        self._ask()
        return bool(self._found.get("is_interpolated", True))

    @property
    def is_settled(self) -> bool:
        """Whether the figures are final: it has ended, and each counter was read since."""
        self._ask()
        return bool(self._found.get("is_settled", False))

    def __enter__(self) -> Phase:
        self._run._part.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._run._part.exit(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has the name, and the figures of its own times in it."""
        return Phase, (self._run, self.name)

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be half gone
            if self._last is not None:
                self._run._part.phases.forget(self._last)

    def _begin(self, window: int | None) -> None:
        """It was entered; the monitor knows this time by a number, None if it could not be told."""
        if self._last is not None and self._last not in self._open:
            self._run._part.phases.forget(self._last)
        self._last, self._found = window, {}
        self._open.append(-1 if window is None else window)

    def _leave(self) -> int | None:
        """It is left: the number of the time that ends."""
        window = self._open.pop() if self._open else -1
        if window >= 0 and window != self._last:  # it was entered again in itself
            if self._last is not None:
                self._run._part.phases.forget(self._last)
            self._last, self._found = window, {}
        self._asked_s = -math.inf
        return None if window < 0 else window

    def _take(self, window: int, found: dict[str, Any]) -> None:
        """What the monitor says at last of one of its times."""
        if window == self._last:
            self._found = {**found, "is_settled": True}

    def _ask(self) -> None:
        now_s = time.monotonic()
        if (
            self._last is not None
            and not self._found.get("is_settled")
            and now_s - self._asked_s >= ASKED_AGAIN_S
        ):
            self._asked_s = now_s
            found = self._run._part.window(self._last)
            if found:
                self._found = found

    def _figure(self, name: str) -> float:
        self._ask()
        value = self._found.get(name)
        return math.nan if value is None else float(value)


class PhaseStack:
    """The phases that this process is in, the last one entered on top, and what the monitor is told of them.

    Each time that a phase is entered is a window with a number.
    """

    def __init__(self, part: Part) -> None:
        self._part = ref(part)  # a cycle would keep the connection of a handle open that nobody has any more
        self._numbers = itertools.count(1)
        self.restart()

    def restart(self) -> None:
        """After a fork: what the parent was in is the parent's."""
        self._lock = threading.RLock()  # re-entrant: a signal handler may change the phase
        self._phases: list[Phase] = []
        self._windows: WeakValueDictionary[int, Phase] = WeakValueDictionary()
        self._forgotten: list[int] = []
        self._was_dropped = False

    def enter(self, phase: Phase) -> int | None:
        """The number of the window that begins; None if the monitor could not be told."""
        with self._lock:
            self._phases.append(phase)
            number = next(self._numbers)
            if not self._tell(begin=number):
                return None
            self._windows[number] = phase
            return number

    def exit(self, phase: Phase, number: int | None) -> None:
        """Leave the window; nothing where this process did not enter the phase."""
        with self._lock:
            for index in range(len(self._phases) - 1, -1, -1):
                if self._phases[index] is phase:
                    del self._phases[index]
                    self._tell(**({} if number is None else {"end": number}))
                    return

    def cut(self, ended: int | None) -> int | None:
        """End a window and begin the next at this moment; the phase stays. None if that could not be told."""
        with self._lock:
            number = next(self._numbers)
            is_told = self._tell(begin=number, **({} if ended is None else {"end": ended}))
            return number if is_told else None

    def forget(self, number: int) -> None:
        """Nobody will ask for this window any more: the next message says so."""
        self._forgotten.append(number)

    def flush(self) -> None:
        """Tell the present phase if the last message was dropped."""
        with self._lock:
            if self._was_dropped:
                self._tell()

    def take(self, windows: dict[str, Any]) -> None:
        """What the monitor says at last of windows, by number."""
        for number, found in windows.items():
            phase = self._windows.get(int(number))
            if phase is not None and found:
                phase._take(int(number), found)

    def message(self) -> dict[str, Any]:
        """What tells the monitor the present phase."""
        innermost = self._phases[-1:]  # in one operation: a reconnecting thread reads it without the lock
        name = innermost[0].name if innermost else None
        return {"op": "phase", "name": name, "at_s": time.clock_gettime(BOOT_CLOCK)}

    def _tell(self, **marks: int) -> bool:
        message = self.message() | marks
        forgotten, self._forgotten = self._forgotten, []
        if forgotten:
            message["forget"] = forgotten
        part = self._part()
        is_sent = part is not None and part.send(message)
        self._was_dropped = not is_sent
        return is_sent
