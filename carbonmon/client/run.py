"""`Run`, the object that `track` gives to training code.

It raises no errors of its own and never waits inside the training loop: without a monitor all methods do
nothing, after one warning. Imported by the training process: standard library only.
"""

from __future__ import annotations

import math
import operator
import os
import threading
import time
from typing import Any

from carbonmon.client import choices
from carbonmon.client.connection import Refused, log, warn_once
from carbonmon.client.join_run import JoinedRun, NoMonitor, RunOptions, join_run, short_text
from carbonmon.client.protocol import BOOT_CLOCK, RUN_VARIABLE, SEEN_VARIABLE, SOCKET_VARIABLE, ProtocolError
from carbonmon.client.variables import mark

SNAPSHOT_S, LEAVE_S = 2.0, 10.0
PROGRESS_S = 0.1
"""Least time between two messages of progress; the last one is always sent."""

SNAPSHOT_FIELDS = ("run_id", "folder", "phase", "duration_s", "energy_j", "emissions_g", "power_w")

_NOT_SENT = object()


class Run:
    """This process's part in a run.

    Phases are a stack of the run, not of a thread: the last one entered counts. In a child that was forked
    from the process that joined, everything does nothing.
    """

    def __init__(self) -> None:
        self.depth = 0
        self._joined: JoinedRun | None = None
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._phases: list[Phase] = []
        self._sent_phase: object = None
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
        """Whether there is a connection to a monitor now."""
        return self._joined is not None and self.is_ours() and self._joined.connection.is_connected

    def phase(self, name: object) -> Phase:
        """A context manager: energy used inside of it counts for the phase `name`. Phases may be nested."""
        return Phase(self, short_text(name))

    def progress(self, step: float, total: float | None = None) -> None:
        """Report the progress of the run: `step` of `total`."""
        if self._joined is None or not self.is_ours():
            return
        try:
            message = {"op": "progress", "step": _finite_number(step)}
            if total is not None:
                message["total"] = _finite_number(total)
        except (TypeError, ValueError, OverflowError) as error:
            warn_once("progress", "progress(%r, %r): %s", step, total, error)
            return
        with self._lock:
            self._progress = message
            now_s = time.monotonic()
            if now_s - self._progress_s >= PROGRESS_S or step == total:
                self._progress_s = now_s
                self._send_pending()

    def snapshot(self) -> dict[str, Any]:
        """The run's totals so far, `energy_j`, `emissions_g`, `power_w` and more; None without a monitor."""
        empty: dict[str, Any] = dict.fromkeys(SNAPSHOT_FIELDS)
        if self._joined is None or not self.is_ours():
            return empty
        with self._lock:
            self._send_pending()
        answer = self._request({"op": "snapshot"}, SNAPSHOT_S)
        if answer is None:
            return empty
        known = {"run_id": self.id, "folder": self.folder}
        return empty | known | {key: value for key, value in answer.items() if key not in ("v", "id", "ok")}

    def is_ours(self) -> bool:
        return os.getpid() == self._pid

    def begin(self, options: RunOptions) -> None:
        """Join the run, or log once why not."""
        if os.environ.get("CARBONMON_DISABLE", "0") not in ("", "0"):
            return
        try:
            joined = join_run(options, os.environ)
        except (NoMonitor, ProtocolError) as error:
            warn_once("none", "this run is not metered: %s", error)
            return
        # A bug of ours must not end a training run.
        except Exception as error:  # noqa: BLE001
            warn_once("none", "this run is not metered, by a bug of carbonmon: %r", error)
            log.debug("the run could not be joined", exc_info=True)
            return
        joined.connection.state_messages = self._state_messages
        self._joined = joined
        variables = {
            SOCKET_VARIABLE: os.fspath(joined.connection.path),
            RUN_VARIABLE: joined.run_id,
            SEEN_VARIABLE: mark(os.environ),
        }
        for name, value in variables.items():
            self._before[name] = os.environ.get(name)
            _set(name, value)

    def tell_unfollowed(self, options: RunOptions) -> None:
        """Warn of options that come when the run has begun already."""
        if self._joined is not None and self.is_ours():
            chosen = choices.of_arguments(options._asdict())
            answer = {**self._joined.answer, "begun": False}
            choices.tell(self._joined.connection, answer, chosen, is_inside=True)

    def end(self, error: BaseException | None) -> None:
        """Leave the run; waits until the monitor has written the summary."""
        if self._joined is None:
            return
        with self._lock:
            self._send_pending()
        self._request({"op": "leave", **_outcome(error)}, LEAVE_S)
        self._joined.connection.close()

    def restore(self) -> None:
        for name, value in self._before.items():
            _set(name, value)

    def enter(self, phase: Phase) -> None:
        if self._joined is not None and self.is_ours():
            with self._lock:
                self._phases.append(phase)
                self._send_phase()

    def exit(self, phase: Phase) -> None:
        if self._joined is not None and self.is_ours():
            with self._lock:
                for index in range(len(self._phases) - 1, -1, -1):
                    if self._phases[index] is phase:
                        del self._phases[index]
                        break
                self._send_phase()

    def _phase_message(self) -> dict[str, Any]:
        innermost = self._phases[-1:]  # in one operation: a reconnecting thread reads it without the lock
        name = innermost[0].name if innermost else None
        return {"op": "phase", "name": name, "at_s": time.clock_gettime(BOOT_CLOCK)}

    def _send_phase(self) -> None:
        message = self._phase_message()
        if message["name"] != self._sent_phase:
            self._sent_phase = message["name"] if self._send(message) else _NOT_SENT

    def _send_pending(self) -> None:
        """Send the progress that was held back, and the phase if its message was dropped."""
        if self._sent_phase is _NOT_SENT:
            self._send_phase()
        if self._progress is not None:
            self._send(self._progress)
            self._progress = None

    def _state_messages(self) -> list[dict[str, Any]]:
        """The messages to send after a lost connection was made again."""
        return [self._phase_message()]

    def _send(self, message: dict[str, Any]) -> bool:
        try:
            return self._joined is not None and self._joined.connection.send(message)
        # A bug of ours must not end a training run.
        except Exception as error:  # noqa: BLE001
            warn_once("bug", "a message to the monitor failed: %r", error)
            return False

    def _request(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        assert self._joined is not None
        try:
            return self._joined.connection.request(message, timeout_s)
        except (OSError, Refused, ProtocolError) as error:
            warn_once(message["op"], "the monitor: %s: %s", message["op"], error)
        # A bug of ours must not end a training run.
        except Exception as error:  # noqa: BLE001
            warn_once("bug", "a request to the monitor failed: %r", error)
        return None


class Phase:
    """One phase of a run; may be entered several times."""

    __slots__ = ("_run", "name")

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        self.name = name

    def __enter__(self) -> Phase:
        self._run.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._run.exit(self)


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


def _outcome(error: BaseException | None) -> dict[str, int]:
    """The exit code or signal of the process if the exception that left the block is not caught."""
    if isinstance(error, KeyboardInterrupt):
        return {"signal": 2}
    if isinstance(error, SystemExit):
        code = error.code
        return {"exit_code": code if isinstance(code, int) else int(code is not None)}
    return {"exit_code": int(error is not None)}
