"""The live view: a thread asks the monitor, the main thread draws and hears the keys."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from carbonmon.core.errors import FetchError
from carbonmon.core.records import NamedTuple
from carbonmon.top.api import MonitorApi, NoRun
from carbonmon.top.document import Document
from carbonmon.top.frame import frame, rows_to_mark
from carbonmon.top.screen import Ended, Screen
from carbonmon.top.view import View

PERIOD_S = 2.0
"""Between two looks, as of the page."""


class Look(NamedTuple):
    """What one look has found: answers, or why there are none."""

    run_id: str
    now: Document | None = None
    runs: list[Document] | None = None
    series: Document | None = None
    problem: FetchError | None = None


def look(api: MonitorApi, run_id: str) -> Look:
    """Ask for the node with its runs, or for one of them; raises FetchError."""
    now = api.now(run_id)
    has_runs = not run_id and bool(now.part("run"))
    return Look(run_id, now, api.runs() if has_runs else [])


def first_view(api: MonitorApi, run_id: str = "") -> View:
    """What is seen first: the run that is asked for, else the only one, else the node; raises FetchError."""
    view = View(api.base, run_id)
    found = look(api, run_id)
    now = found.now or Document({})
    if not run_id and now.part("runs").number("running") == 1:
        view.run_id = now.part("run").raw_text("id")
    view.take(now, found.runs or [])
    return view


def watch(api: MonitorApi, view: View, environ: Mapping[str, str]) -> int:
    """Show a view until a key or a signal ends it; returns the exit code."""
    try:
        with Screen(environ) as screen:
            asker = _Asker(api, screen.wake)
            asker.want(view)
            asker.start()
            while True:
                columns, rows = screen.size()
                screen.draw(frame(view, columns, rows, screen.signs))
                for key in screen.wait():
                    if key == "q":
                        return 0
                    obey(view, key)
                for found in asker.found():
                    take(view, found)
                asker.want(view)
    except Ended as end:
        return 128 + end.number


def obey(view: View, key: str) -> None:
    """Do what a key says; one that says nothing ends the help."""
    view.notes.clear()
    was_help, view.is_help = view.is_help, key in ("h", "?") and not view.is_help
    if was_help or view.is_help:
        return
    if key == "s":
        view.step_sort()
    elif key == "p" and not view.is_node:
        view.step_phase()
    elif key == "n" and not view.is_node:
        view.look_at("")
    elif key == "enter" and view.is_node and view.runs:
        view.look_at(view.sorted_runs()[min(view.marked, len(view.runs) - 1)].raw_text("id"))
    elif key in ("up", "down"):
        view.move(1 if key == "down" else -1, rows_to_mark(view))


def take(view: View, found: Look) -> None:
    """Take what a look has found; one of a run that is not looked at any more is forgotten."""
    if found.run_id != view.run_id:
        return
    if isinstance(found.problem, NoRun):
        run_id = view.now.part("run").text("id")
        view.notes.append(f"run {run_id} is not shown there any more: carbonmon report {run_id}")
        view.problem = ""
        view.look_at("")
    elif found.problem is not None:
        view.problem = str(found.problem).removeprefix(f"{view.url}: ")
    if found.now is not None:
        view.take(found.now, found.runs or [])
    if found.series is not None:
        view.history.load(found.series)


class _Asker(threading.Thread):
    """Asks again and again; what is wanted may change meanwhile, and is then asked for at once."""

    def __init__(self, api: MonitorApi, wake: Callable[[], None]) -> None:
        super().__init__(name="carbonmon-top", daemon=True)
        self._api, self._wake = api, wake
        self._found: queue.SimpleQueue[Look] = queue.SimpleQueue()
        self._changed = threading.Event()
        self._run_id, self._wants_series = "", False

    def want(self, view: View) -> None:
        """From now on ask for what this view shows."""
        is_other = view.run_id != self._run_id
        self._run_id = view.run_id
        self._wants_series = not view.is_node and view.history.is_due
        if is_other:
            self._changed.set()

    def found(self) -> list[Look]:
        """What was found since the last call."""
        looks = []
        while not self._found.empty():
            looks.append(self._found.get())
        return looks

    def run(self) -> None:
        is_first = True  # the first view was asked for already
        while True:
            run_id = self._run_id
            if not is_first:
                self._tell(self._look(run_id))
            is_first = False
            if self._wants_series and run_id:
                with suppress(FetchError):  # what is seen from now on is drawn without
                    self._tell(Look(run_id, series=self._api.series(run_id)))
            self._changed.wait(PERIOD_S)
            self._changed.clear()

    def _look(self, run_id: str) -> Look:
        try:
            return look(self._api, run_id)
        except FetchError as error:
            return Look(run_id, problem=error)
        except Exception as error:  # noqa: BLE001 (our own bug: it is said, and the view goes on)
            return Look(run_id, problem=FetchError("bug", f"a fault of carbonmon's own: {error!r}"))

    def _tell(self, found: Look) -> None:
        self._found.put(found)
        self._wake()
