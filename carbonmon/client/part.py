"""This process's part in a run: joins, tells and asks the monitor, and leaves.

It raises no errors of its own and never waits inside the training loop. Imported by the training process:
standard library only.
"""

from __future__ import annotations

import math
import os
import threading
import time
from typing import TYPE_CHECKING, Any
from weakref import ref

from carbonmon.client import choices
from carbonmon.client.connection import Refused, log, warn_once
from carbonmon.client.join_run import JoinedRun, NoMonitor, RunOptions, join_again, join_run, keep_open
from carbonmon.client.phase import PhaseStack
from carbonmon.client.progress import Progress
from carbonmon.client.protocol import RUN_VARIABLE, SEEN_VARIABLE, SOCKET_VARIABLE, ProtocolError
from carbonmon.client.switch import is_off
from carbonmon.client.variables import mark

if TYPE_CHECKING:
    from carbonmon.client.phase import Phase

SNAPSHOT_S, LEAVE_S = 2.0, 10.0
PROGRESS_S = 0.1
"""Least time between two messages of progress; the last one is always sent."""

STOP_S = 1.0
"""Least time between two questions whether training is to stop."""

FRESH_S = 0.1
"""A figure that was asked for so short a time ago is not asked for again."""

FIGURES = ("duration_s", "energy_j", "emissions_g", "power_w", "measured_ratio")


class Part:
    """A part that begins with `begin`, or that of a handle: then it joins when it is used first.

    `depth` counts those that have entered it. `known` are the figures that the monitor told last.
    """

    def __init__(self, run_id: str | None = None) -> None:
        self.depth = 0
        self.id = run_id
        self.folder: str | None = None
        self.known: dict[str, Any] = {}
        self.summary: dict[str, Any] | None = None
        self.phases = PhaseStack(self)
        self._before: dict[str, str | None] = {}
        self._restart(may_join=run_id is not None)

    def _restart(self, may_join: bool) -> None:
        self._pid = os.getpid()
        self._joined: JoinedRun | None = None
        self._may_join = may_join
        self._lock = threading.RLock()
        self._counts = Progress()
        self._progress: dict[str, Any] = {}
        self._done_s = self._progress_s = self._asked_s = self._stop_asked_s = -math.inf
        self._step: float | None = None

    def is_ours(self) -> bool:
        return os.getpid() == self._pid

    def begin(self, options: RunOptions) -> None:
        """Join the run, or log once why not."""
        if is_off(os.environ):
            return
        try:
            joined = join_run(options, os.environ)
        except (NoMonitor, ProtocolError) as error:
            warn_once("none", "carbonmon: this run is not metered: %s", error)
            return
        # A bug of ours must not end a training run.
        except Exception as error:  # noqa: BLE001
            warn_once("none", "carbonmon: this run is not metered, by a bug of carbonmon: %r", error)
            log.debug("carbonmon could not join the run", exc_info=True)
            return
        self._take_part(joined)
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
        joined = self.link()
        if joined is not None:
            chosen = choices.of_arguments(options._asdict())
            choices.tell(joined.connection, {**joined.answer, "begun": False}, chosen, is_inside=True)

    def end(self, outcome: dict[str, int]) -> None:
        """Leave the run; waits until the monitor has written the summary."""
        joined = self.link()
        answer: dict[str, Any] = {}
        if joined is not None:
            self._flush()
            answer = self._request({"op": "leave", **outcome}, LEAVE_S, is_last=True) or {}
            for note in answer.get("notes") or ():  # what of the job was not counted
                log.warning("carbonmon: run %s: %s", self.id, note)
        self._learn(answer.get("totals"))
        self.phases.take(answer.get("windows") or {})
        state = "unknown" if not answer else "final" if answer.get("last") else "running"
        figures = {name: self.last_known(name) for name in FIGURES}
        self.summary = {"run_id": self.id, "folder": self.folder, "state": state, **figures}
        if joined is not None:
            if answer.get("goes_on"):
                keep_open(joined.connection)
            else:
                joined.connection.close()
        self._joined, self._may_join = None, False

    def restore(self) -> None:
        """Give the environment back as it was."""
        for name, value in self._before.items():
            _set(name, value)

    def become_handle(self) -> None:
        """After a fork: the connection is the parent's, and this process may have one of its own."""
        joined = self._joined
        self._restart(may_join=joined is not None or self._may_join)
        self.phases.restart()
        if joined is not None:
            joined.connection.abandon()

    def link(self) -> JoinedRun | None:
        """The connection of this process, None without one; a handle joins when it is used first."""
        if not self.is_ours():
            self.become_handle()
        if self._may_join:
            with self._lock:
                self._may_join = False
                try:
                    joined = join_again(self.id, os.environ)
                # A handle that cannot join does nothing, whatever the reason is.
                except Exception as error:  # noqa: BLE001
                    log.debug("this process takes no part in carbonmon's run %s: %r", self.id, error)
                else:
                    if joined is not None:
                        self._take_part(joined)
        return self._joined

    def progress(
        self,
        step: Any,
        total: Any,
        precision: Any,
        evaluations: tuple[Any, Any] = (None, None),
        **counts: Any,
    ) -> None:
        """Tell what is done now and then, and the last step of all always."""
        if self.link() is None:
            return
        with self._lock:
            message = self._counts.message(step, total, precision, evaluations, **counts)
            if message is None:
                return
            self._progress |= message
            self._step = message.get("step", self._step)
            self._done_s = now_s = time.monotonic()
            is_last = message.get("step", -1) == message.get("total")
            if is_last or now_s - self._progress_s >= PROGRESS_S:
                self._progress_s = now_s
                self._flush()

    @property
    def told(self) -> dict[str, float]:
        """The highest counts that this process has told."""
        return self._counts.told

    def should_stop(self) -> bool:
        """Whether training is to stop with the step that was told last; never waits."""
        joined = self.link()
        if joined is None:
            return False
        connection, now_s = joined.connection, time.monotonic()
        try:
            connection.hear()
            if now_s - self._stop_asked_s >= STOP_S:
                self._stop_asked_s = now_s
                self._flush()
                connection.ask({"op": "stopping"})
        # A bug of ours must not end a training run.
        except Exception as error:  # noqa: BLE001
            warn_once("bug", "a message to carbonmon's monitor failed: %r", error)
        told = connection.heard if connection.heard.get("stop") else self.known
        at_step = told.get("stop_at_step")
        if not told.get("stop") or self._step is None:
            return bool(told.get("stop"))
        return at_step is not None and self._step >= at_step  # None: the monitor will name one soon

    def ask(self) -> bool:
        """Ask for the figures; without an answer the known ones stay. Whether there was one."""
        if self.link() is None:
            return False
        self._flush()
        answer = self._request({"op": "snapshot"}, SNAPSHOT_S)
        self._learn(answer)
        self._asked_s = time.monotonic()
        return answer is not None

    def figure(self, name: str) -> float:
        """A figure, asked for unless it just was; NaN before the first answer."""
        if time.monotonic() - self._asked_s >= FRESH_S:
            self.ask()
        return self.last_known(name)

    def last_known(self, name: str) -> float:
        value = self.known.get(name)
        return math.nan if value is None else float(value)

    def enter(self, phase: Phase) -> None:
        phase._begin(None if self.link() is None else self.phases.enter(phase))

    def exit(self, phase: Phase) -> None:
        number = phase._leave()
        if self.link() is not None:
            self.phases.exit(phase, number)

    def cut(self, ended: int | None) -> int | None:
        """End a window and begin the next, without waiting; the number of the new one, None if untold."""
        return None if self.link() is None else self.phases.cut(ended)

    def window(self, number: int) -> dict[str, Any] | None:
        """What the monitor knows of a window of ours now; None without an answer."""
        if self.link() is None:
            return None
        self._flush()
        answer = self._request({"op": "window", "window": number}, SNAPSHOT_S)
        found = None if answer is None else answer.get("window")
        return found if isinstance(found, dict) else None

    def _take_part(self, joined: JoinedRun) -> None:
        own = ref(self.phases)  # the connection holds neither of us, so that it goes with us

        def state_messages() -> list[dict[str, Any]]:
            phases = own()
            return [] if phases is None else [phases.message()]

        joined.connection.state_messages = state_messages
        self.id, self.folder = joined.run_id, joined.folder
        self._joined = joined

    def _learn(self, answer: dict[str, Any] | None) -> None:
        """Take the figures of an answer; one that it does not know stays as it was."""
        own = ("v", "id", "ok", "run_id", "folder")
        known = {key: value for key, value in (answer or {}).items() if key not in own and value is not None}
        self.known = self.known | known

    def _flush(self) -> None:
        """Send the progress that was held back, and the phase if its message was dropped."""
        self.phases.flush()
        with self._lock:
            if self._progress:
                age_s = time.monotonic() - self._done_s
                if self.send({"op": "progress", "age_s": age_s, **self._progress}):
                    self._progress = {}

    def send(self, message: dict[str, Any]) -> bool:
        """Tell the monitor something without waiting; whether that was possible."""
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


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
