"""Whatever is decorated is measured while its body runs, or refused when it is decorated."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import carbonmon
from carbonmon.service.socket.server import ControlServer
from tests.support.fake_monitor import Fake
from tests.support.rows import for_each_row

pytestmark = pytest.mark.usefixtures("clean")


def test_the_bare_decorator_tracks_each_call(server: ControlServer, fake: Fake):
    @carbonmon.track
    def train(steps: int, lr: float = 1.0) -> float:
        """Train."""
        return steps * lr

    assert train(3, lr=2.0) == 6.0
    assert train(1) == 1.0
    assert train.__name__ == "train"
    assert train.__doc__ == "Train."
    assert len(fake.of("join")) == len(fake.of("leave")) == 2


def test_the_decorator_with_choices_tracks_and_lets_exceptions_pass(server: ControlServer, fake: Fake):
    @carbonmon.track(name="cifar")
    def train() -> None:
        raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        train()
    assert fake.of("join")[0]["name"] == "cifar"
    assert fake.of("leave")[0]["exit_code"] == 1


def test_a_coroutine_function_is_tracked_until_it_ends(server: ControlServer, fake: Fake):
    @carbonmon.track
    async def train() -> int:
        await asyncio.sleep(0)
        assert not fake.of("leave")
        return 7

    assert asyncio.run(train()) == 7
    assert len(fake.of("leave")) == 1


def steps(count: int) -> Iterator[int]:
    yield from range(count)


def hidden(function: Callable[..., Any]) -> Callable[..., Any]:
    """Another decorator, behind which nobody sees what kind of function it is."""

    @functools.wraps(function)
    def inner(*args: Any) -> Any:
        return function(*args)

    return inner


async def steps_async(count: int) -> AsyncIterator[int]:
    for step in range(count):
        await asyncio.sleep(0)
        yield step


async def collected(found: AsyncIterator[int]) -> list[int]:
    return [step async for step in found]


class Trainer:
    def __call__(self, count: int) -> int:
        return count

    @carbonmon.track
    @classmethod
    def of_class(cls, count: int) -> int:
        return count

    @carbonmon.track
    @staticmethod
    def static(count: int) -> int:
        return count

    @carbonmon.track
    def method(self, count: int) -> Iterator[int]:
        yield from range(count)


class AsyncTrainer:
    async def __call__(self, count: int) -> int:
        return count


@for_each_row(
    ("call", "result", "runs"),
    [
        (lambda: list(carbonmon.track(steps)(3)), [0, 1, 2], 1),
        (lambda: list(carbonmon.track(hidden(steps))(3)), [0, 1, 2], 2),
        (lambda: asyncio.run(collected(carbonmon.track(steps_async)(3))), [0, 1, 2], 1),
        (lambda: asyncio.run(collected(carbonmon.track(hidden(steps_async))(3))), [0, 1, 2], 2),
        (lambda: asyncio.run(carbonmon.track(AsyncTrainer())(3)), 3, 1),
        (lambda: asyncio.run(carbonmon.track(functools.partial(AsyncTrainer(), 3))()), 3, 1),
        (lambda: carbonmon.track(functools.partial(max, 3))(2), 3, 1),
        (lambda: carbonmon.track(Trainer())(3), 3, 1),
        (lambda: Trainer.of_class(3), 3, 1),
        (lambda: Trainer.static(3), 3, 1),
        (lambda: list(Trainer().method(3)), [0, 1, 2], 1),
    ],
)
def test_what_can_be_called_is_measured(
    server: ControlServer, fake: Fake, call: Callable[[], Any], result: Any, runs: int
):
    fake.heard.clear()
    assert call() == result
    assert len(fake.of("join")) == len(fake.of("leave")) == runs


def test_a_generator_is_measured_from_its_first_step_to_its_last(server: ControlServer, fake: Fake):
    assert inspect.isgeneratorfunction(carbonmon.track(steps))
    found = carbonmon.track(steps)(2)
    assert not fake.of("join")
    assert next(found) == 0
    assert len(fake.of("join")) == 1
    assert not fake.of("leave")
    assert list(found) == [1]
    assert len(fake.of("leave")) == 1


def test_what_is_sent_and_thrown_reaches_the_body(server: ControlServer, fake: Fake):
    heard: list[object] = []

    @carbonmon.track
    async def listen() -> AsyncIterator[int]:
        while True:
            try:
                heard.append((yield 1))
            except KeyError as error:  # noqa: PERF203 (it is what is tested)
                heard.append(type(error))

    async def talk() -> None:
        listening: Any = listen()
        await listening.__anext__()
        await listening.asend("a")
        await listening.athrow(KeyError)
        await listening.aclose()

    asyncio.run(talk())
    assert heard == ["a", KeyError]
    assert [message["exit_code"] for message in fake.of("leave")] == [0]


def test_ending_a_generator_early_and_cancelling_are_no_failures(server: ControlServer, fake: Fake):
    found = carbonmon.track(steps)(2)
    next(found)
    found.close()  # type: ignore[attr-defined] # it is a generator

    @carbonmon.track
    async def wait() -> None:
        await asyncio.sleep(100.0)

    async def cancel() -> None:
        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancel())
    assert [message["exit_code"] for message in fake.of("leave")] == [0, 0]


def test_async_with_is_measured(server: ControlServer, fake: Fake):
    async def train() -> None:
        async with carbonmon.track("cifar") as run:
            assert run.active
            raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        asyncio.run(train())
    assert [message["name"] for message in fake.of("join")] == ["cifar"]
    assert fake.of("leave")[0]["exit_code"] == 1


@for_each_row(
    ("decorated", "what"),
    [
        (Trainer, "Trainer is a class: decorate its methods"),
        (property(lambda self: 1), "this is a property: decorate the function inside"),
        (functools.cached_property(lambda self: 1), "this is a cached_property"),
        (functools.partialmethod(steps), "this is a partialmethod"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_what_to_do(decorated: Any, what: str):
    for decorate in (carbonmon.track, carbonmon.track(name="cifar")):
        with pytest.raises(TypeError, match=what):
            decorate(decorated)


@for_each_row(("labels", "shown"), [(["team=vision"], "team=vision"), ("team=vision", "team=vision")])
def test_labels_that_are_no_mapping_are_refused_with_an_example(labels: Any, shown: str):
    with pytest.raises(TypeError, match=rf'{shown}.*labels are a mapping, for instance {{"team": "vision"}}'):
        carbonmon.track("cifar", labels=labels)
