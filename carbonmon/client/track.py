"""What training code calls: `with carbonmon.track() as run:`, or `@carbonmon.track` on a function.

Imported by the training process: standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar, overload

from carbonmon.client import current
from carbonmon.client.decorate import tracked
from carbonmon.client.join_run import RunOptions, short_text
from carbonmon.client.phase import Phase
from carbonmon.client.run import Run

__all__ = ("Phase", "Run", "track")

Function = TypeVar("Function", bound=Callable[..., Any])


class Tracking:
    """The result of `track`: a context manager, also of `async with`, a decorator, and `start` by hand."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._runs: list[Run] = []

    def __enter__(self) -> Run:
        run = current.enter(self._options)
        self._runs.append(run)
        return run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        current.leave(self._runs.pop(), error)

    async def __aenter__(self) -> Run:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def start(self) -> Run:
        """Begin without a block, as in a notebook's cell; what was started before and not stopped is ended.

        `Run.stop` ends it, else the end of the process.
        """
        return current.start(self._options)

    def stop(self) -> None:
        """End what `start` began."""
        current.stop_started()

    def __call__(self, function: Function) -> Function:
        decorated: Function = tracked(function, lambda: Tracking(self._options))
        return decorated

    def __reduce__(self) -> tuple[Any, ...]:
        return Tracking, (self._options,)


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
    electricity comes from, for a run that starts its own monitor. Raises `TypeError` where it decorates what
    it cannot measure, and for labels that are no mapping.
    """
    if callable(name) or hasattr(type(name), "__get__"):  # a function, or what a decorator has made of one
        return Tracking(RunOptions())(name)  # type: ignore[type-var]
    if labels is not None and not isinstance(labels, Mapping):
        raise TypeError(
            f'track(labels={short_text(labels)}): labels are a mapping, for instance {{"team": "vision"}}'
        )
    given = {short_text(key): short_text(value) for key, value in (labels or {}).items()}
    texts = [None if value is None else short_text(value) for value in (name, region, run_id)]
    return Tracking(RunOptions(texts[0], texts[1], texts[2], given or None))
