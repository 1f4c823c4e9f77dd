"""A process's part in a run: the object that `track` gives to training code.

It never raises for a reason of its own and never waits inside the training loop: without a monitor everything
here does nothing, after one warning. Imported by the training process: standard library only.
"""

from __future__ import annotations

import math
import operator
import os
import threading
import time
from typing import Any

from carbonmon.client.joining import Joined, NoMonitor, Wish, join, text_of
from carbonmon.client.link import Refused, log, warn_once
from carbonmon.client.protocol import RUN_VARIABLE, SOCKET_VARIABLE, STEADY_CLOCK, ProtocolError

SNAPSHOT_S, LEAVE_S = 2.0, 10.0
PROGRESS_S = 0.1
"""Progress is told no more often than this; the last one is always told."""

SNAPSHOT_FIELDS = ("run_id", "folder", "phase", "duration_s", "energy_j", "emissions_g", "power_w")

_UNKNOWN = object()


class Run:
    """This process's part in a run.

    Phases are a stack of the run, not of a thread: the last one entered counts. In a child that was forked
    from the process that joined, everything does nothing.
    """

    def __init__(self) -> None:
        self.depth = 0
        self._joined: Joined | None = None
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._phases: list[Phase] = []
        self._told: object = None
        self._progress: dict[str, Any] | None = None
        self._progress_s = 0.0
        self._before: dict[str, str | None] = {}

    @property
    def id(self) -> str | None:
        """The id of the run, None without a monitor."""
        return self._joined.run_id if self._joined else None

    @property
    def folder(self) -> str | None:
        """The folder with the run's summary, None without a monitor."""
        return self._joined.folder if self._joined else None

    @property
    def active(self) -> bool:
        """Whether a monitor hears us at the moment."""
        return self._joined is not None and self.is_ours() and self._joined.link.is_connected

    def phase(self, name: object) -> Phase:
        """A context manager: what is used inside of it counts for the phase `name`. Phases may be nested."""
        return Phase(self, text_of(name))

    def progress(self, step: float, total: float | None = None) -> None:
        """Tell how far the run is: `step` of `total`."""
        if self._joined is None or not self.is_ours():
            return
        try:
            message = {"op": "progress", "step": _number(step)}
            if total is not None:
                message["total"] = _number(total)
        except (TypeError, ValueError, OverflowError) as error:
            warn_once("progress", "progress(%r, %r): %s", step, total, error)
            return
        with self._lock:
            self._progress = message
            now_s = time.monotonic()
            if now_s - self._progress_s >= PROGRESS_S or step == total:
                self._progress_s = now_s
                self._catch_up()

    def snapshot(self) -> dict[str, Any]:
        """The run's totals so far, `energy_j`, `emissions_g`, `power_w` and more; None without a monitor."""
        empty: dict[str, Any] = dict.fromkeys(SNAPSHOT_FIELDS)
        if self._joined is None or not self.is_ours():
            return empty
        with self._lock:
            self._catch_up()
        answer = self._ask({"op": "snapshot"}, SNAPSHOT_S)
        if answer is None:
            return empty
        known = {"run_id": self.id, "folder": self.folder}
        return empty | known | {key: value for key, value in answer.items() if key not in ("v", "id", "ok")}

    def is_ours(self) -> bool:
        return os.getpid() == self._pid

    def begin(self, wish: Wish) -> None:
        """Join the run, or say once why not."""
        if os.environ.get("CARBONMON_DISABLE", "0") not in ("", "0"):
            return
        try:
            joined = join(wish, os.environ)
        except (NoMonitor, ProtocolError) as error:
            warn_once("none", "this run is not metered: %s", error)
            return
        # A fault of ours must not end a training run.
        except Exception as error:  # noqa: BLE001
            warn_once("none", "this run is not metered, by a fault of carbonmon's own: %r", error)
            log.debug("the run could not be joined", exc_info=True)
            return
        joined.link.resume = self._state
        self._joined = joined
        ours = {SOCKET_VARIABLE: os.fspath(joined.link.path), RUN_VARIABLE: joined.run_id}
        for name, value in ours.items():
            self._before[name] = os.environ.get(name)
            _set(name, value)

    def end(self, error: BaseException | None) -> None:
        """Leave the run; waits for the monitor to have written what it has to write."""
        if self._joined is None:
            return
        with self._lock:
            self._catch_up()
        self._ask({"op": "leave", **_outcome(error)}, LEAVE_S)
        self._joined.link.close()

    def restore(self) -> None:
        for name, value in self._before.items():
            _set(name, value)

    def enter(self, phase: Phase) -> None:
        if self._joined is not None and self.is_ours():
            with self._lock:
                self._phases.append(phase)
                self._tell_phase()

    def exit(self, phase: Phase) -> None:
        if self._joined is not None and self.is_ours():
            with self._lock:
                for index in range(len(self._phases) - 1, -1, -1):
                    if self._phases[index] is phase:
                        del self._phases[index]
                        break
                self._tell_phase()

    def _phase_message(self) -> dict[str, Any]:
        innermost = self._phases[-1:]  # in one step: a reconnecting thread reads it without the lock
        name = innermost[0].name if innermost else None
        return {"op": "phase", "name": name, "at_s": time.clock_gettime(STEADY_CLOCK)}

    def _tell_phase(self) -> None:
        message = self._phase_message()
        if message["name"] != self._told:
            self._told = message["name"] if self._tell(message) else _UNKNOWN

    def _catch_up(self) -> None:
        """Tell the progress that was held back, and the phase if its message was dropped."""
        if self._told is _UNKNOWN:
            self._tell_phase()
        if self._progress is not None:
            self._tell(self._progress)
            self._progress = None

    def _state(self) -> list[dict[str, Any]]:
        """What a monitor has to be told after the connection to it was lost."""
        return [self._phase_message()]

    def _tell(self, message: dict[str, Any]) -> bool:
        try:
            return self._joined is not None and self._joined.link.tell(message)
        # A fault of ours must not end a training run.
        except Exception as error:  # noqa: BLE001
            warn_once("fault", "a message to the monitor failed: %r", error)
            return False

    def _ask(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        assert self._joined is not None
        try:
            return self._joined.link.ask(message, timeout_s)
        except (OSError, Refused, ProtocolError) as error:
            warn_once(message["op"], "the monitor: %s: %s", message["op"], error)
        # A fault of ours must not end a training run.
        except Exception as error:  # noqa: BLE001
            warn_once("fault", "a question to the monitor failed: %r", error)
        return None


class Phase:
    """One phase of a run; may be entered again and again."""

    __slots__ = ("_run", "name")

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        self.name = name

    def __enter__(self) -> Phase:
        self._run.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._run.exit(self)


def _number(value: Any) -> int | float:
    """A finite number of Python's own, also from NumPy and torch."""
    try:
        return operator.index(value)
    except TypeError:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"{number} is no progress") from None
        return number


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _outcome(error: BaseException | None) -> dict[str, int]:
    """How the process will end if nobody catches what left the block."""
    if isinstance(error, KeyboardInterrupt):
        return {"signal": 2}
    if isinstance(error, SystemExit):
        code = error.code
        return {"exit_code": code if isinstance(code, int) else int(code is not None)}
    return {"exit_code": int(error is not None)}
