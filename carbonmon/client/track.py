"""What training code calls: `with carbonmon.track() as run:`, or `@carbonmon.track` on a function.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from carbonmon.client.join_run import RunOptions, short_text
from carbonmon.client.run import Run

__all__ = ("Run", "track")

Function = TypeVar("Function", bound=Callable[..., Any])

_COROUTINE = 0x80  # CO_COROUTINE of inspect, which is slow to import


class Tracking:
    """The result of `track`: a context manager and a decorator."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._runs: list[Run] = []

    def __enter__(self) -> Run:
        run = _enter(self._options)
        self._runs.append(run)
        return run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _leave(self._runs.pop(), error)

    def __call__(self, function: Function) -> Function:
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & _COROUTINE:

            @functools.wraps(function)
            async def run_async(*args: Any, **more: Any) -> Any:
                with Tracking(self._options):
                    return await function(*args, **more)

            return cast(Function, run_async)

        @functools.wraps(function)
        def run(*args: Any, **more: Any) -> Any:
            with Tracking(self._options):
                return function(*args, **more)

        return cast(Function, run)


@overload
def track(name: Function) -> Function: ...


@overload
def track(
    name: str | None = None,
    region: str | None = None,
    run_id: str | None = None,
    labels: Mapping[str, object] | None = None,
) -> Tracking: ...


def track(
    name: object = None,
    region: str | None = None,
    run_id: str | None = None,
    labels: Mapping[str, object] | None = None,
) -> Any:
    """Meter what happens inside: `with track("cifar") as run:`, `@track` or `@track(region="DE")`.

    Inside a run that is already active (nested, in another thread, in a child process, in `carbonmon run`)
    that run is joined, and one warning names the arguments that have no effect. `region` is where the
    electricity comes from, for a run that starts its own monitor.
    """
    if callable(name):
        return Tracking(RunOptions())(name)
    given = {short_text(key): short_text(value) for key, value in (labels or {}).items()}
    texts = [None if value is None else short_text(value) for value in (name, region, run_id)]
    return Tracking(RunOptions(texts[0], texts[1], texts[2], given or None))


_current: Run | None = None
_entering = threading.RLock()


def _enter(options: RunOptions) -> Run:
    """The run of this process: begun by the first `track`, shared by the others."""
    global _current
    with _entering:
        if _current is None:
            run = Run()
            run.begin(options)
            _current = run
        elif options != RunOptions():
            _current.tell_unfollowed(options)
        _current.depth += 1
        return _current


def _leave(run: Run, error: BaseException | None) -> None:
    global _current
    if not run.is_ours():
        return  # forked while the parent tracked: the run is the parent's
    with _entering:
        run.depth -= 1
        if run.depth:
            return
        _current = None
        run.restore()
    run.end(error)


def _forget() -> None:
    """A forked child has no run: if it tracks, it joins as a participant of its own."""
    global _current, _entering
    _current = None
    _entering = threading.RLock()


os.register_at_fork(after_in_child=_forget)
