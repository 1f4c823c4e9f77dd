"""The callbacks of Trainer and Lightning, in the order of hooks that was recorded of each release."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import carbonmon
from carbonmon.client import current
from carbonmon.client.connection import MonitorConnection
from carbonmon.client.part import Part
from carbonmon.client.phase import PhaseStack
from carbonmon.integrations import amounts, meter, session
from carbonmon.service.socket.server import ControlServer
from tests.integrations.conftest import FakeMeter
from tests.support import frameworks
from tests.support.fake_monitor import warned
from tests.support.frameworks import Trainer, play_lightning, recording, recordings

pytestmark = pytest.mark.usefixtures("clean")

PER_STEP = "carbonmon_energy_per_step_j"


@pytest.fixture(autouse=True)
def figures_at_each_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "LEAST_S", 0.0)
    monkeypatch.setattr(meter, "WAITING_RATIO", math.inf)
    monkeypatch.setattr(session, "LOOKING_S", 0.0)


@pytest.fixture(autouse=True)
def no_run_is_left_open(clean: None) -> Iterator[None]:
    """A planted fault may leave the run of a test entered."""
    yield
    current._current = None


def budget_is_spent_at(monkeypatch: pytest.MonkeyPatch, asked: int) -> None:
    """A budget that asks for a stop from the n-th time on that it is looked at."""
    times = iter(range(10**6))
    is_spent = property(lambda _: next(times) >= asked)
    monkeypatch.setattr(carbonmon.Run, "should_stop", is_spent, raising=False)


# transformers


@pytest.fixture
def hf(monkeypatch: pytest.MonkeyPatch) -> Any:
    return frameworks.load(monkeypatch, "transformers")


@pytest.mark.parametrize(("file", "scenario"), recordings("transformers"))
def test_the_logs_of_a_training_have_figures_and_those_of_an_evaluation_have_none(
    hf: Any, server: ControlServer, fake: FakeMeter, file: str, scenario: str
):
    trainer = Trainer(hf)
    added = trainer.play(hf.attach(trainer), recording(file, scenario))
    of_training = [each for event, each in added if {"loss", "train_loss"} & set(event["logs"])]
    of_evaluation = [each for event, each in added if "eval_loss" in event["logs"]]
    assert all("carbonmon_energy_j" in each for each in of_training)
    assert of_evaluation == [{}] * len(of_evaluation)
    assert len(of_evaluation) == {"steps": 4, "resumed": 0, "epochs": 2}[scenario]
    # 100 J for each window with steps in it, whatever evaluations and checkpoints were between them.
    steps = {"steps": [3.0, 3.0], "resumed": [1.0], "epochs": [3.0, 3.0]}[scenario]
    windows = {"steps": [2.0, 2.0], "resumed": [1.0], "epochs": [1.0, 1.0]}[scenario]
    expected = [100.0 * joined / count for joined, count in zip(windows, steps, strict=True)]
    assert [each[PER_STEP] for each in of_training if PER_STEP in each][: len(expected)] == expected


@pytest.mark.parametrize(("file", "scenario"), recordings("transformers"))
def test_the_counts_are_the_state_s_and_only_grow(
    hf: Any, server: ControlServer, fake: FakeMeter, file: str, scenario: str
):
    trainer = Trainer(hf)
    trainer.play(hf.attach(trainer), recording(file, scenario))
    told = fake.of("progress")
    first, last = {"steps": (0, 8), "resumed": (8, 10), "epochs": (0, 6)}[scenario]
    assert (told[0]["step"], told[-1]["step"], told[-1]["total"]) == (first, last, last)
    tokens = {"steps": (0, 896), "resumed": (896, 1088), "epochs": (0, 640)}[scenario]
    assert (told[0]["tokens"], told[-1]["tokens"]) == tokens
    # 2.8, 3.4 and 2 epochs of 20 examples: the last batch of each epoch has 4, not 8.
    assert told[-1]["samples"] == pytest.approx({"steps": 56, "resumed": 68, "epochs": 40}[scenario])


def test_attach_puts_the_callback_before_those_that_report(hf: Any):
    trainer = Trainer(hf)
    callback = hf.attach(trainer)
    flow, *others = trainer.callback_handler.callbacks
    assert type(flow).__name__ == "DefaultFlowCallback"
    assert others == [callback, trainer.reporter]
    trainer.callback_handler.callbacks = [trainer.reporter]
    assert trainer.callback_handler.callbacks.index(hf.attach(trainer)) == 0


def test_a_copy_of_the_callback_counts_steps_and_tokens(hf: Any, server: ControlServer, fake: FakeMeter):
    """A search in other processes pickles the trainer with all that it holds."""
    trainer = Trainer(hf)
    copied = pickle.loads(pickle.dumps(hf.attach(trainer)))
    added = trainer.play(copied, recording(*recordings("transformers")[0]))
    assert added[-1][1]["carbonmon_energy_j"] > 0.0
    assert fake.of("progress")[-1]["tokens"] == 896
    assert "samples" not in fake.of("progress")[-1]


def test_an_evaluation_without_a_training_gets_nothing(hf: Any, server: ControlServer, fake: FakeMeter):
    trainer = Trainer(hf)
    events = [
        each for each in recording(*recordings("transformers")[0]) if "eval_loss" in each.get("logs", ())
    ]
    assert trainer.play(hf.attach(trainer), events) == [(event, {}) for event in events]
    assert fake.heard == []


@pytest.mark.parametrize(
    ("model", "args"),
    [
        ({"main_input_name": "pixel_values"}, {}),
        ({"main_input_name": "input_ids", "config": SimpleNamespace(is_encoder_decoder=True)}, {}),
        ({"main_input_name": "input_ids"}, {"include_num_input_tokens_seen": "no"}),
        ({"main_input_name": "input_ids"}, {"include_num_input_tokens_seen": False}),
    ],
)
def test_what_are_no_tokens_of_the_model_is_not_told_as_tokens(
    hf: Any, server: ControlServer, fake: FakeMeter, model: dict[str, Any], args: dict[str, Any]
):
    trainer = Trainer(hf, model=SimpleNamespace(**model))
    added = trainer.play(hf.attach(trainer), recording(*recordings("transformers")[0]), **args)
    assert all("carbonmon_energy_per_token_j" not in each for _, each in added)
    assert all("tokens" not in told and "flops" not in told for told in fake.of("progress"))


def test_a_rank_that_does_not_write_adds_nothing_to_its_log(hf: Any, server: ControlServer, fake: FakeMeter):
    trainer = Trainer(hf)
    events = recording(*recordings("transformers")[0])
    for ranks in ({"is_world_process_zero": False}, {"is_local_process_zero": False}):
        assert all(each == {} for _, each in trainer.play(hf.attach(trainer), events, **ranks))


def test_a_failed_training_is_left_when_the_next_one_begins(hf: Any, server: ControlServer, fake: FakeMeter):
    trainer = Trainer(hf)
    callback = hf.attach(trainer)
    events = recording(*recordings("transformers")[0])
    trainer.play(callback, events[:6])  # an exception ends a training without any hook
    trainer.play(callback, events)
    assert [each["op"] for each in fake.heard if each["op"] in ("join", "leave")] == [
        *("join", "leave"),
        *("join", "leave"),
    ]


@pytest.mark.parametrize("saves", [False, True])
def test_a_spent_budget_stops_a_trainer_that_is_alone(
    hf: Any, server: ControlServer, fake: FakeMeter, monkeypatch: pytest.MonkeyPatch, saves: bool
):
    trainer = Trainer(hf)
    callback = hf.attach(trainer, save_on_stop=saves)
    budget_is_spent_at(monkeypatch, 3)
    asked = []
    for event in recording(*recordings("transformers")[0]):
        about = SimpleNamespace(**event)
        about.should_training_stop = about.should_save = False
        getattr(callback, event["hook"])(about, about, about)
        if event["hook"] in ("on_train_begin", "on_step_end"):
            asked.append((about.should_training_stop, about.should_save))
    assert asked[:3] == [(False, False)] * 3
    assert asked[3:] == [(True, saves)] * 6


def test_of_several_ranks_none_stops_by_itself_or_says_that_it_would(
    hf: Any, server: ControlServer, fake: FakeMeter, monkeypatch: pytest.MonkeyPatch
):
    def looked(_: object) -> bool:
        looks.append(True)
        return True

    looks: list[bool] = []
    monkeypatch.setattr(carbonmon.Run, "should_stop", property(looked), raising=False)
    for agree, stops_at in ((False, []), (True, [0, 3, 6])):
        trainer = Trainer(hf)
        callback = hf.attach(trainer, agree=agree)
        monkeypatch.setattr(hf, "any_rank", lambda wish: wish)
        stopped = []
        for event in recording(*recordings("transformers")[0]):
            about = SimpleNamespace(**(event | {"should_training_stop": False, "world_size": 2}))
            getattr(callback, event["hook"])(about, about, about)
            if about.should_training_stop:
                stopped.append(event["global_step"])
        assert stopped == stops_at
        assert bool(looks) is agree


# Lightning


@pytest.fixture
def pl(monkeypatch: pytest.MonkeyPatch) -> Any:
    return frameworks.load(monkeypatch, "lightning")


@pytest.mark.parametrize(("file", "scenario"), recordings("lightning"))
def test_the_loggers_get_figures_at_lightning_s_own_steps_and_at_the_end(
    pl: Any, server: ControlServer, fake: FakeMeter, file: str, scenario: str
):
    callback = pl.CarbonmonCallback(samples=4)
    logger, _ = play_lightning(callback, recording(file, scenario))
    # Lightning logs after its 3rd, 6th, … step, and calls these 2, 5, …; the last row comes behind all.
    steps = {"epochs": [2, 5, 8, 11, 14], "accumulated": [2, 4], "failed": [2, 4]}[scenario]
    assert [step for step, _ in logger.rows] == steps
    assert all("carbonmon_energy_j" in figures for _, figures in logger.rows)
    batches = {"epochs": 3, "accumulated": 6, "failed": 3}[scenario]
    first = logger.rows[0][1]
    windows = 2.0 if scenario == "accumulated" else 1.0  # a validation is in the midst of it
    assert first[PER_STEP] == pytest.approx(100.0 * windows / 3)
    assert first["carbonmon_energy_per_sample_j"] == pytest.approx(100.0 * windows / (4 * batches))
    assert fake.of("leave")


def test_no_sanity_check_or_validation_is_in_the_figures_of_a_step(
    pl: Any, server: ControlServer, fake: FakeMeter
):
    play_lightning(pl.CarbonmonCallback(), recording("lightning-2.6.6.json", "epochs"))
    ended = [end for _, end in fake.cuts if end is not None]
    # Two epochs: 3 + 3 + 1 batches each, then a validation, a checkpoint.
    assert len(fake.asked_windows) == 6
    assert set(fake.asked_windows) < set(ended)


def test_a_length_that_lightning_does_not_know_is_not_told(pl: Any, server: ControlServer, fake: FakeMeter):
    events = recording("lightning-2.6.6.json", "epochs")
    for length in (-1, math.inf):
        play_lightning(pl.CarbonmonCallback(), events, estimated_stepping_batches=length)
    assert all("total" not in told for told in fake.of("progress"))


def test_a_spent_budget_stops_lightning_alone_or_by_agreement(
    pl: Any, server: ControlServer, fake: FakeMeter, monkeypatch: pytest.MonkeyPatch
):
    budget_is_spent_at(monkeypatch, 0)
    events = recording("lightning-2.6.6.json", "epochs")
    for agree, ranks, stops in ((False, 1, True), (False, 2, False), (True, 2, True)):
        _, trainer = play_lightning(pl.CarbonmonCallback(agree=agree), events, world_size=ranks)
        assert trainer.should_stop is stops


# Whatever fails of ours


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("planted")


FAULTS: dict[str, tuple[Any, str]] = {
    "join": (session, "track"),
    "begin": (session.Session, "enter"),
    "measure": (session.Session, "measure"),
    "leave": (session.Session, "leave"),
    "stop": (session.Session, "is_to_stop"),
    "meter": (meter.Meter, "__init__"),
    "count": (meter.Meter, "count"),
    "cut": (meter.Meter, "cut"),
    "figures": (meter.Meter, "figures"),
    "end": (meter.Meter, "end"),
    "totals": (meter.Meter, "_totals"),
    "stretches": (meter.Meter, "_add_stretches"),
    "since begin": (meter, "since_begin"),
    "since log": (meter, "since_log"),
    "keys": (meter, "keys"),
    "progress": (carbonmon.Run, "progress"),
    "request": (MonitorConnection, "request"),
    "send": (MonitorConnection, "send"),
    "window": (Part, "window"),
    "told": (Part, "told"),
    "message": (PhaseStack, "cut"),
    "forget": (PhaseStack, "forget"),
    "amounts": (amounts.Amounts, "add"),
}


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    target, name = FAULTS[request.param]
    is_property = isinstance(vars(target).get(name), property)
    monkeypatch.setattr(target, name, property(broken) if is_property else broken)
    return str(request.param)


def test_a_fault_of_ours_lets_a_trainer_go_on(
    hf: Any, server: ControlServer, fake: FakeMeter, fault: str, caplog: pytest.LogCaptureFixture
):
    trainer = Trainer(hf)
    callback = hf.attach(trainer)
    trainer.play(callback, recording(*recordings("transformers")[0]))
    if fault != "amounts":  # which the callback of Trainer does not use
        assert any("planted" in line for line in warned(caplog))


def test_a_fault_of_ours_lets_lightning_go_on(
    pl: Any, server: ControlServer, fake: FakeMeter, fault: str, caplog: pytest.LogCaptureFixture
):
    play_lightning(pl.CarbonmonCallback(samples=1), recording("lightning-2.6.6.json", "epochs"))
    assert any("planted" in line for line in warned(caplog))


def test_a_fault_of_ours_lets_a_loop_go_on(server: ControlServer, fake: FakeMeter, fault: str):
    with carbonmon.track() as run:
        steps = run.steps(range(5), tokens=1)
        assert [(batch, steps.figures(last=True))[0] for batch in steps] == [0, 1, 2, 3, 4]
