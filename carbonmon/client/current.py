"""The one run of this process: entered, left, stopped by hand, closed at exit, and let go of after a fork.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import atexit
import os
import threading

from carbonmon.client import notebook
from carbonmon.client.join_run import RunOptions, forget_open
from carbonmon.client.process_end import ProcessEnd, outcome_of
from carbonmon.client.run import Run

_current: Run | None = None
_started: Run | None = None
_handle: Run | None = None
_entering = threading.RLock()
_process_end = ProcessEnd()


def enter(options: RunOptions) -> Run:
    """The run of this process: begun by the first that enters, shared by the others."""
    global _current
    with _entering:
        if _current is None:
            run = Run()
            run._part.begin(options)
            _current = run
            if run.id is not None:
                _process_end.watch()
                notebook.say(f"run {run.id}: its summary will be in {run.folder}")
        elif options != RunOptions():
            _current._part.tell_unfollowed(options)
        _current._part.depth += 1
        return _current


def leave(run: Run, error: BaseException | None) -> None:
    """One of those that entered leaves; the last one ends it. A run that was stopped has ended already."""
    if run is not _current or not run._part.is_ours():
        return  # forked while the parent tracked: the run is the parent's
    with _entering:
        run._part.depth -= 1
        if not run._part.depth:
            _end(run, outcome_of(error))


def start(options: RunOptions) -> Run:
    """Enter without a block. What was started before and not stopped is left first: it does not nest."""
    global _started
    with _entering:
        before, _started = _started, None
        if before is not None:
            leave(before, None)
        _started = enter(options)
        return _started


def stop(run: Run) -> None:
    """End a run of this process now."""
    with _entering:
        if run is _current and run._part.is_ours():
            _end(run, outcome_of(None))


def stop_started() -> None:
    """End what was started without a block, if anything was."""
    with _entering:
        if _started is not None:
            stop(_started)


def restored(run_id: str | None) -> Run:
    """A run that was pickled or copied: this process's own if it is that one, else a handle.

    All handles of a run in a process are one: a pool unpickles one for each task.
    """
    global _handle
    if run_id is None:
        return Run()
    for run in (_current, _handle):
        if run is not None and run._part.is_ours() and run.id == run_id:
            return run
    _handle = Run(run_id)
    return _handle


def _end(run: Run, outcome: dict[str, int]) -> None:
    global _current, _started
    run._part.depth, _current = 0, None
    if _started is run:
        _started = None
    _process_end.unwatch()
    run._part.restore()
    run._part.end(outcome)
    if run.id is not None:
        figures = f"{run.energy_j:.4g} J, {run.emissions_g:.3g} g CO2e in {run.duration_s:.1f} s"
        notebook.say(f"run {run.id}: {figures}; more: carbonmon report {run.id}")


def _at_exit() -> None:
    """Close what was entered by hand and not left: with the process's exit code and its last second."""
    with _entering:
        if _current is not None and _current._part.is_ours():
            _end(_current, _process_end.outcome())


def _after_fork() -> None:
    """A forked child has no run: if it tracks, it joins as a participant of its own."""
    global _current, _started, _entering, _process_end
    run, _current, _started = _current, None, None
    _entering = threading.RLock()
    _process_end.unwatch()
    _process_end = ProcessEnd()
    forget_open()
    if run is not None:
        run._part.become_handle()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
