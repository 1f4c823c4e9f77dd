"""`Run`, the object that `track` gives to training code.

It raises no errors of its own and never waits inside the training loop: without a monitor all methods do
nothing, after one warning. Imported by the training process: standard library only.
"""

from __future__ import annotations

import itertools
import math
import operator
import os
import threading
import time
from typing import Any
from weakref import WeakValueDictionary, ref

from carbonmon.client.connection import Refused, log, warn_once
from carbonmon.client.join_run import (
    JoinedRun,
    NoMonitor,
    RunOptions,
    join_again,
    join_run,
    keep_open,
    short_text,
)
from carbonmon.client.phase import Phase
from carbonmon.client.protocol import BOOT_CLOCK, RUN_VARIABLE, SOCKET_VARIABLE, ProtocolError
from carbonmon.client.switch import is_off

SNAPSHOT_S, LEAVE_S = 2.0, 10.0
PROGRESS_S = 0.1
"""Least time between two messages of progress; the last one is always sent."""

FRESH_S = 0.1
"""A figure that was asked for so short a time ago is not asked for again."""

SNAPSHOT_FIELDS = ("run_id", "folder", "phase", "duration_s", "energy_j", "emissions_g", "power_w")
FIGURES = ("duration_s", "energy_j", "emissions_g", "power_w", "measured_ratio")

_NOT_SENT = object()


class Run:
    """This process's part in a run.

    Phases are a stack of the run, not of a thread: the last one entered counts. A copy (pickle, deepcopy),
    and what a forked child inherits, is a handle: when it is used it takes part in the run by the
    environment, if that names the same run, and else does nothing.
    """

    def __init__(self, run_id: str | None = None) -> None:
        self.depth = 0
        self._id = run_id
        self._folder: str | None = None
        self._known: dict[str, Any] = {}
        self._summary: dict[str, Any] | None = None
        self._numbers = itertools.count(1)
        self._before: dict[str, str | None] = {}
        self._begin_part(is_handle=run_id is not None)

    def _begin_part(self, is_handle: bool) -> None:
        """The part of this process, which has not joined yet."""
        self._pid = os.getpid()
        self._joined: JoinedRun | None = None
        self._may_join = is_handle
        self._lock = threading.RLock()
        self._phases: list[Phase] = []
        self._windows: WeakValueDictionary[int, Phase] = WeakValueDictionary()
        self._forgotten: list[int] = []
        self._sent_phase: object = None
        self._progress: dict[str, Any] | None = None
        self._progress_s = self._asked_s = -math.inf

    @property
    def id(self) -> str | None:
        """The id of the run, None without a monitor."""
        return self._id

    @property
    def folder(self) -> str | None:
        """The folder with the run's summary, None without a monitor."""
        return self._folder

    @property
    def active(self) -> bool:
        """Whether there is a connection to a monitor now."""
        joined = self._link()
        return joined is not None and joined.connection.is_connected

    @property
    def energy_j(self) -> float:
        """Joules that the run drew on this node: the last known, NaN before the first, as the next three."""
        return self._figure("energy_j")

    @property
    def emissions_g(self) -> float:
        """Grams of CO2 equivalent, with PUE."""
        return self._figure("emissions_g")

    @property
    def power_w(self) -> float:
        """Watts of the run on this node at the last sample."""
        return self._figure("power_w")

    @property
    def duration_s(self) -> float:
        """Seconds since the run began."""
        return self._figure("duration_s")

    @property
    def summary(self) -> dict[str, Any] | None:
        """The totals at the end of this process's part, None before: figures, always floats, and `state`.

        The state is `final` if the run has ended, `running` if others go on, `unknown` without an answer:
        then the figures are the last known ones, NaN where there are none.
        """
        return self._summary

    def phase(self, name: object) -> Phase:
        """A context manager: energy used inside of it counts for the phase `name`. Phases may be nested."""
        return Phase(self, short_text(name))

    def progress(self, step: float, total: float | None = None) -> None:
        """Report the progress of the run: `step` of `total`."""
        if self._link() is None:
            return
        try:
            message = {"op": "progress", "step": _finite_number(step)}
            if total is not None:
                message["total"] = _finite_number(total)
        except (TypeError, ValueError, OverflowError) as error:
            warn_once("progress", "carbonmon's progress(%r, %r): %s", step, total, error)
            return
        with self._lock:
            self._progress = message
            now_s = time.monotonic()
            if now_s - self._progress_s >= PROGRESS_S or step == total:
                self._progress_s = now_s
                self._send_pending()

    def snapshot(self) -> dict[str, Any]:
        """The run's totals so far: `energy_j` (J), `emissions_g` (g CO2e, with PUE), `power_w` (W) and more.

        The figures are the node's part of the run, the same in every rank on it. Takes a sample. Without an
        answer they are the last known ones, None where there are none.
        """
        self._ask()
        empty: dict[str, Any] = dict.fromkeys(SNAPSHOT_FIELDS)
        return empty | self._known | {"run_id": self.id, "folder": self.folder}

    def stop(self) -> None:
        """End this process's part in the run now, whatever block it is in; a second time does nothing."""
        from carbonmon.client import current

        current.stop(self)

    def __reduce__(self) -> tuple[Any, ...]:
        from carbonmon.client import current

        return current.restored, (self._id,)

    # ---- for `current` and `Phase` ----

    def is_ours(self) -> bool:
        return os.getpid() == self._pid

    def begin(self, options: RunOptions) -> None:
        """Join the run, or log once why not."""
        if is_off(os.environ):
            return
        try:
            joined = join_run(options, os.environ)
        except (NoMonitor, ProtocolError) as error:
            warn_once("none", "carbonmon does not meter this run: %s", error)
            return
        # A bug of ours must not end a training run.
        except Exception as error:  # noqa: BLE001
            warn_once("none", "carbonmon does not meter this run, by a bug of its own: %r", error)
            log.debug("carbonmon could not join the run", exc_info=True)
            return
        self._take_part(joined)
        variables = {SOCKET_VARIABLE: os.fspath(joined.connection.path), RUN_VARIABLE: joined.run_id}
        for name, value in variables.items():
            self._before[name] = os.environ.get(name)
            _set(name, value)

    def end(self, outcome: dict[str, int]) -> None:
        """Leave the run; waits until the monitor has written the summary."""
        joined = self._link()
        answer: dict[str, Any] | None = None
        if joined is not None:
            with self._lock:
                self._send_pending()
            answer = self._request({"op": "leave", **outcome}, LEAVE_S, is_last=True)
        self._learn((answer or {}).get("totals"))
        for number, found in ((answer or {}).get("windows") or {}).items():
            phase = self._windows.get(int(number))
            if phase is not None and phase.window == int(number) and found:
                phase.take({**found, "is_settled": True})
        state = "unknown" if answer is None else "final" if answer.get("last") else "running"
        numbers = {name: self._last_known(name) for name in FIGURES}
        self._summary = {"run_id": self.id, "folder": self.folder, "state": state, **numbers}
        if joined is not None:
            if answer is not None and answer.get("goes_on"):
                keep_open(joined.connection)
            else:
                joined.connection.close()
        self._joined, self._may_join = None, False

    def restore(self) -> None:
        for name, value in self._before.items():
            _set(name, value)

    def become_handle(self) -> None:
        """After a fork: the connection is the parent's."""
        joined = self._joined
        self._begin_part(is_handle=joined is not None or self._may_join)
        if joined is not None:
            joined.connection.abandon()

    def enter(self, phase: Phase) -> None:
        number = None
        if self._link() is not None:
            with self._lock:
                self._phases.append(phase)
                number = next(self._numbers)
                if self._send_phase(begin=number):
                    self._windows[number] = phase
                else:
                    number = None
        phase.begin(number)

    def exit(self, phase: Phase) -> None:
        number = phase.leave()
        if self._link() is None:
            return
        with self._lock:
            for index in range(len(self._phases) - 1, -1, -1):
                if self._phases[index] is phase:
                    del self._phases[index]
                    self._send_phase(**({} if number is None else {"end": number}))
                    return

    def forget(self, number: int | None) -> None:
        """Nobody will ask for this window any more: the next message says so."""
        if number is not None:
            self._forgotten.append(number)

    def window(self, number: int) -> dict[str, Any] | None:
        """What the monitor knows of a window of ours now; None without an answer."""
        if self._link() is None:
            return None
        with self._lock:
            self._send_pending()
        answer = self._request({"op": "window", "window": number}, SNAPSHOT_S)
        found = None if answer is None else answer.get("window")
        return found if isinstance(found, dict) else None

    # ---- the connection ----

    def _link(self) -> JoinedRun | None:
        """The connection of this process, None without one; a handle joins when it is used first."""
        if not self.is_ours():
            self.become_handle()
        if self._joined is None and self._may_join:
            with self._lock:
                self._may_join = False
                try:
                    joined = join_again(self._id, os.environ)
                # A handle that cannot join does nothing, whatever the reason is.
                except Exception as error:  # noqa: BLE001
                    log.debug("this process takes no part in carbonmon's run %s: %r", self._id, error)
                else:
                    if joined is not None:
                        self._take_part(joined)
        return self._joined

    def _take_part(self, joined: JoinedRun) -> None:
        own = ref(self)  # a cycle would keep the connection of a handle open that nobody has any more

        def state_messages() -> list[dict[str, Any]]:
            run = own()
            return [] if run is None else [run._phase_message()]

        joined.connection.state_messages = state_messages
        self._id, self._folder = joined.run_id, joined.folder
        self._joined = joined

    def _figure(self, name: str) -> float:
        if time.monotonic() - self._asked_s >= FRESH_S:
            self._ask()
        return self._last_known(name)

    def _last_known(self, name: str) -> float:
        value = self._known.get(name)
        return math.nan if value is None else float(value)

    def _ask(self) -> None:
        if self._link() is None:
            return
        with self._lock:
            self._send_pending()
        self._learn(self._request({"op": "snapshot"}, SNAPSHOT_S))
        self._asked_s = time.monotonic()

    def _learn(self, answer: dict[str, Any] | None) -> None:
        """Take the figures of an answer; one that it does not know stays as it was."""
        own = ("v", "id", "ok", "run_id", "folder")
        known = {key: value for key, value in (answer or {}).items() if key not in own and value is not None}
        self._known = self._known | known

    def _phase_message(self) -> dict[str, Any]:
        innermost = self._phases[-1:]  # in one operation: a reconnecting thread reads it without the lock
        name = innermost[0].name if innermost else None
        return {"op": "phase", "name": name, "at_s": time.clock_gettime(BOOT_CLOCK)}

    def _send_phase(self, **marks: int) -> bool:
        message = self._phase_message() | marks
        forgotten, self._forgotten = self._forgotten, []
        if forgotten:
            message["forget"] = forgotten
        is_sent = self._send(message)
        self._sent_phase = message["name"] if is_sent else _NOT_SENT
        return is_sent

    def _send_pending(self) -> None:
        """Send the progress that was held back, and the phase if its message was dropped."""
        if self._sent_phase is _NOT_SENT:
            self._send_phase()
        if self._progress is not None:
            self._send(self._progress)
            self._progress = None

    def _send(self, message: dict[str, Any]) -> bool:
        try:
            return self._joined is not None and self._joined.connection.send(message)
        # A bug of ours must not end a training run.
        except Exception as error:  # noqa: BLE001
            warn_once("bug", "a message to carbonmon's monitor failed: %r", error)
            return False

    def _request(
        self, message: dict[str, Any], timeout_s: float, is_last: bool = False
    ) -> dict[str, Any] | None:
        assert self._joined is not None
        try:
            return self._joined.connection.request(message, timeout_s, is_last)
        except (OSError, Refused, ProtocolError) as error:
            warn_once(message["op"], "carbonmon's monitor does not do %r: %s", message["op"], error)
        # A bug of ours must not end a training run.
        except Exception as error:  # noqa: BLE001
            warn_once("bug", "a request to carbonmon's monitor failed: %r", error)
        return None


def _finite_number(value: Any) -> int | float:
    """A finite int or float, also from numbers of NumPy and torch."""
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
