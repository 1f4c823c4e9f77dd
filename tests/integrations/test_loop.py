"""A loop written by hand: each batch is a step, and what cannot be counted costs a figure, never the loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest

import carbonmon
from carbonmon.integrations import meter, session
from carbonmon.service.socket.server import ControlServer
from tests.integrations.conftest import FakeMeter
from tests.support.fake_monitor import until, warned

pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture(autouse=True)
def figures_at_each_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "LEAST_S", 0.0)
    monkeypatch.setattr(meter, "WAITING_RATIO", math.inf)
    monkeypatch.setattr(session, "LOOKING_S", 0.0)


def test_a_step_ends_where_its_figures_are_asked_for(server: ControlServer, fake: FakeMeter):
    logs: list[tuple[int, dict[str, float]]] = []
    with carbonmon.track() as run:
        steps = run.steps(range(10), total=10, tokens=50, samples=lambda batch: 5)
        for batch in steps:
            assert steps.count == batch + 1
            if steps.count % 5 == 0:
                logs.append((steps.count, steps.figures()))
    assert [step for step, _ in logs] == [5, 10]
    for _, figures in logs:
        assert figures["carbonmon_energy_per_step_j"] == 20.0
        assert figures["carbonmon_energy_per_sample_j"] == 4.0
        assert figures["carbonmon_energy_per_token_j"] == pytest.approx(0.4)
    # The totals are those since the loop began, not the run's.
    assert [figures["carbonmon_energy_j"] for _, figures in logs] == [100.0, 200.0]
    assert logs[0][1]["carbonmon_emissions_kg"] == pytest.approx(0.01)


def test_the_monitor_is_told_the_counts_and_the_length(server: ControlServer, fake: FakeMeter):
    with carbonmon.track() as run:
        for _ in run.steps(range(4), total=4, tokens=50, flops=1e12, precision="bf16"):
            pass
    told = fake.of("progress")
    assert (told[0]["step"], told[0]["tokens"]) == (0, 0)
    last = told[-1]
    assert (last["step"], last["total"], last["tokens"], last["flops"]) == (4, 4, 200, 4e12)
    assert last["precision"] == "bf16"


def test_what_is_between_two_epochs_is_none_of_the_training(server: ControlServer, fake: FakeMeter):
    with carbonmon.track() as run:
        for _ in range(2):
            steps = run.steps(range(3))
            for _ in steps:
                pass
            # a validation
        assert steps.count == 6
        figures = steps.figures()
    assert figures["carbonmon_energy_per_step_j"] == pytest.approx(200.0 / 6)
    assert (
        figures["carbonmon_is_interpolated"] == 1.0
    )  # nobody waited for what an epoch's last steps computed
    # Of the windows 1 (epoch), 2 (validation), 3 (epoch), 4 (after it), those of the epochs were asked for.
    assert fake.asked_windows == [1, 3]


def test_a_resumed_training_counts_from_its_checkpoint_on(server: ControlServer, fake: FakeMeter):
    with carbonmon.track() as run:
        steps = run.steps(range(10), first=500, total=510, tokens=10)
        for _ in steps:
            pass
        figures = steps.figures()
    assert steps.count == 510
    assert figures["carbonmon_energy_per_step_j"] == 10.0
    assert figures["carbonmon_energy_per_token_j"] == 1.0


def test_figures_that_are_asked_for_too_often_are_not_waited_for(
    server: ControlServer, fake: FakeMeter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(meter, "LEAST_S", 3600.0)
    with carbonmon.track() as run:
        steps = run.steps(range(50))
        logs = [steps.figures() for _ in steps]
        last = steps.figures(last=True)
    assert len([figures for figures in logs if figures]) == 1
    assert last["carbonmon_energy_per_step_j"] == pytest.approx(100.0 / 49)
    assert len(fake.of("snapshot")) == 3


def test_a_window_that_the_monitor_does_not_know_costs_the_figures_of_its_steps(
    server: ControlServer, fake: FakeMeter
):
    fake.lost = {1}
    with carbonmon.track() as run:
        steps = run.steps(range(4))
        logs = [steps.figures() for _ in steps]
    assert "carbonmon_energy_per_step_j" not in logs[0]
    assert logs[0]["carbonmon_energy_j"] == 100.0
    assert logs[1]["carbonmon_energy_per_step_j"] == 100.0


@pytest.mark.parametrize("is_off", [False, True])
def test_without_a_monitor_a_loop_is_a_loop(is_off: bool, monkeypatch: pytest.MonkeyPatch):
    if is_off:
        monkeypatch.setenv("CARBONMON_OFF", "1")
    with carbonmon.track() as run:
        steps = run.steps([1, 2, 3], tokens=1)
        assert len(steps) == 3
        assert [(batch, steps.figures(last=True)) for batch in steps] == [(1, {}), (2, {}), (3, {})]


def test_a_monitor_that_ends_leaves_the_loop_alone(server: ControlServer, fake: FakeMeter):
    with carbonmon.track() as run:
        steps = run.steps(range(6))
        logs = []
        for number in steps:
            if number == 3:
                server.close()
            logs.append(steps.figures())
    assert [bool(figures) for figures in logs] == [True, True, True, False, False, False]


class Tensor:
    """What a tensor on a GPU is here: a number that it would cost a wait to read."""

    def __float__(self) -> float:
        raise AssertionError("this waits for the GPU")

    __int__ = __float__


def raises(_: object) -> float:
    raise KeyError("ids")


@pytest.mark.parametrize(
    "tokens", [-1, math.nan, math.inf, "many", Tensor(), lambda _: Tensor(), lambda _: -5, raises, lambda: 1]
)
def test_tokens_that_are_no_number_cost_one_warning_and_their_figure(
    server: ControlServer, fake: FakeMeter, tokens: Any, caplog: pytest.LogCaptureFixture
):
    with carbonmon.track() as run:
        steps = run.steps(range(5), tokens=tokens, samples=2)
        for _ in steps:
            pass
        figures = steps.figures()
    assert "carbonmon_energy_per_token_j" not in figures
    assert figures["carbonmon_energy_per_sample_j"] == 10.0
    (line,) = [line for line in warned(caplog) if "tokens" in line]
    assert line.startswith("carbonmon: no figures by tokens from this batch on")


def test_several_ranks_must_say_how_many_have_batches_of_their_own(
    server: ControlServer, fake: FakeMeter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with carbonmon.track() as run:
        steps = run.steps(range(5), tokens=10)
        for _ in steps:
            pass
        assert "carbonmon_energy_per_token_j" not in steps.figures()
    assert any("ranks=N" in line for line in warned(caplog))
    with carbonmon.track() as run:
        steps = run.steps(range(5), tokens=10, ranks=2)
        for _ in steps:
            pass
        assert steps.figures()["carbonmon_energy_per_token_j"] == 1.0


def test_a_rank_that_is_not_the_first_of_its_node_counts_nothing(
    server: ControlServer, fake: FakeMeter, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with carbonmon.track() as run:
        steps = run.steps(range(5))
        assert [steps.figures() for _ in steps] == [{}] * 5
    assert fake.of("progress") == []


def test_a_process_that_is_alone_stops_where_it_is_asked_to(
    server: ControlServer, fake: FakeMeter, monkeypatch: pytest.MonkeyPatch
):
    asked = itertools.chain([False] * 3, itertools.repeat(True))
    monkeypatch.setattr(carbonmon.Run, "should_stop", property(lambda _: next(asked)), raising=False)
    with carbonmon.track() as run:
        assert list(run.steps(range(100))) == [0, 1, 2, 3]


def test_an_error_of_the_loader_or_the_body_passes_through(server: ControlServer, fake: FakeMeter):
    def loader() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    with carbonmon.track() as run:
        with pytest.raises(OSError, match="the disk is gone"):
            list(run.steps(loader()))
        with pytest.raises(ZeroDivisionError):
            for number in run.steps([0]):
                1 / number
        assert list(run.steps([7])) == [7]


def test_a_second_training_in_one_run_counts_on(server: ControlServer, fake: FakeMeter):
    """As a search does, whose trials each begin at step 0."""
    from carbonmon.integrations.figures import Counts

    with carbonmon.track() as run:
        for _ in range(2):
            trial = meter.Meter(run, Counts(0, tokens=0), 10)
            trial.count(Counts(10, tokens=100))
            assert trial.figures()["carbonmon_energy_per_token_j"] == 1.0
            trial.end()
    until(lambda: fake.of("progress")[-1]["step"] == 20, "the second training's end")
    last = fake.of("progress")[-1]
    assert (last["total"], last["tokens"]) == (20, 200)
