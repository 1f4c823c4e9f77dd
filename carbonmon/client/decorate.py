"""Makes a function of one that is tracked at each call, whatever kind of function it is.

The body of a generator or coroutine runs after its call: it is tracked from its first step to its end, with
what runs between its steps. Imported by the training process: standard library only.
"""

from __future__ import annotations

import functools
import types
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

Track = Callable[[], AbstractContextManager[Any]]

_GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200
"""Flags of a function's code, as `inspect` has them, which is slow to import."""


def tracked(function: Any, track: Track) -> Any:
    """The function, tracked; raises `TypeError`, with what to do, for what has no calls to measure."""
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(tracked(function.__func__, track))
    if isinstance(function, type):
        raise TypeError(
            f"carbonmon.track measures calls, and {function.__name__} is a class: decorate its methods, "
            "or put what is to be measured into `with carbonmon.track():`"
        )
    if not callable(function):
        raise TypeError(
            f"carbonmon.track measures functions, and this is a {type(function).__name__}: "
            "decorate the function inside of it (put @carbonmon.track below the other decorator)"
        )
    make = _maker(_code_flags(function))
    return functools.wraps(function)((make or _function)(function, track))


def _maker(flags: int) -> Callable[[Any, Track], Any] | None:
    """What makes the tracked function of one whose body runs after its call; None for any other."""
    if flags & _ASYNC_GENERATOR:
        return _async_generator
    if flags & (_COROUTINE | _ITERABLE_COROUTINE):
        return _coroutine
    return _generator if flags & _GENERATOR else None


def _code_flags(function: Any) -> int:
    """The flags of what is called at last: behind a partial, a method, or the call of an object."""
    while isinstance(function, (functools.partial, types.MethodType)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004 (its code)
    return 0 if code is None else int(code.co_flags)


def _function(function: Any, track: Track) -> Any:
    def run(*args: Any, **more: Any) -> Any:
        with track():
            result = function(*args, **more)
        # Another decorator may hide what it is: then the body begins only now.
        kinds = {types.CoroutineType: _coroutine, types.GeneratorType: _generator}
        make = {**kinds, types.AsyncGeneratorType: _async_generator}.get(type(result))
        return result if make is None else make(lambda: result, track)()

    return run


def _coroutine(function: Any, track: Track) -> Any:
    async def run(*args: Any, **more: Any) -> Any:
        with track():
            return await function(*args, **more)

    return run


def _generator(function: Any, track: Track) -> Any:
    def steps(*args: Any, **more: Any) -> Generator[Any, Any, Any]:
        with track():
            return (yield from function(*args, **more))

    return steps


def _async_generator(function: Any, track: Track) -> Any:
    async def steps(*args: Any, **more: Any) -> AsyncGenerator[Any, Any]:
        with track():
            inner = function(*args, **more)
            sent: Any = None
            raised: BaseException | None = None
            try:
                while True:
                    try:
                        value = await (inner.asend(sent) if raised is None else inner.athrow(raised))
                    except StopAsyncIteration:
                        return
                    try:
                        sent, raised = (yield value), None
                    except GeneratorExit:
                        raise
                    except BaseException as error:  # noqa: BLE001 (it is the inner generator's to handle)
                        sent, raised = None, error
            finally:
                await inner.aclose()

    return steps
