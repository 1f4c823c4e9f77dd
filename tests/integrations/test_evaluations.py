"""When evaluations come: what frameworks say of it, and what the monitor is told."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

import carbonmon
from carbonmon.integrations import meter, session
from carbonmon.integrations.evaluations import of_lightning, of_transformers
from carbonmon.service.socket.server import ControlServer
from tests.integrations.conftest import FakeMeter
from tests.support import frameworks
from tests.support.fake_monitor import warned
from tests.support.frameworks import Trainer, recording, recordings

pytestmark = pytest.mark.usefixtures("clean")


def trainer_of(**more: Any) -> SimpleNamespace:
    """A Lightning trainer with 100 batches an epoch and a validation of 20."""
    known = {
        "enable_validation": True,
        "val_check_batch": 100,
        "num_training_batches": 100,
        "check_val_every_n_epoch": 1,
        "num_val_batches": [12, 8],
        "accumulate_grad_batches": 1,
    }
    return SimpleNamespace(**known | more)


@pytest.mark.parametrize(
    ("how", "data", "told"),
    [
        ("no", [0] * 160, (None, 10.0)),
        ("steps", [0] * 160, (50, 10.0)),
        ("epoch", {"a": [0] * 32, "b": [0] * 16}, (200.0, 3.0)),
        ("epoch", None, (200.0, None)),
        ("epoch", iter([0]), (200.0, None)),
        (SimpleNamespace(value="steps"), [0] * 16, (50, 1.0)),
    ],
)
def test_a_trainer_evaluates_by_its_arguments(how: Any, data: Any, told: tuple[float | None, float | None]):
    state = SimpleNamespace(eval_steps=50, max_steps=600, num_train_epochs=3)
    args, trainer = SimpleNamespace(eval_strategy=how), SimpleNamespace(eval_dataset=data)
    assert of_transformers(args, state, trainer, 16) == told


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, (100.0, 20.0)),
        ({"accumulate_grad_batches": 4}, (25.0, 5.0)),
        ({"check_val_every_n_epoch": 3}, (300.0, 20.0)),
        ({"val_check_batch": 25}, (25.0, 20.0)),
        ({"val_check_batch": 30}, (None, None)),
        ({"val_check_batch": 30, "check_val_every_n_epoch": None}, (30.0, 20.0)),
        ({"val_check_batch": 25, "check_val_every_n_epoch": 2}, (None, None)),
        ({"val_check_batch": math.inf}, (None, None)),
        ({"enable_validation": False}, (None, None)),
        ({"num_val_batches": []}, (100.0, None)),
        ({"num_val_batches": [math.inf]}, (100.0, None)),
    ],
)
def test_lightning_validates_by_its_intervals(more: dict[str, Any], told: tuple[float | None, float | None]):
    assert of_lightning(trainer_of(**more)) == told


def test_a_loop_tells_when_its_evaluations_come(server: ControlServer, fake: FakeMeter):
    with carbonmon.track() as run:
        for _ in run.steps(range(4), total=4, evaluation_every=2, evaluation_steps=0.5):
            pass
    last = fake.of("progress")[-1]
    assert (last["evaluation_every"], last["evaluation_steps"]) == (2, 0.5)


def test_behind_another_training_of_the_process_nothing_is_announced(server: ControlServer, fake: FakeMeter):
    with carbonmon.track() as run:
        for _ in range(2):
            counting = session.Session(run)
            counting.measure(meter.Counts(0), 10, None)
            counting.announce(lambda: (5, None))
            assert counting.meter is not None
            counting.meter.count(meter.Counts(10))
            counting.leave()
    told = [each.get("evaluation_every") for each in fake.of("progress")]
    assert 5 in told
    assert told[-1] is None, "its steps are not those of this training"


def test_a_framework_that_says_it_in_another_way_gets_no_warning(
    monkeypatch: pytest.MonkeyPatch, server: ControlServer, fake: FakeMeter, caplog: pytest.LogCaptureFixture
):
    hf = frameworks.load(monkeypatch, "transformers")
    trainer = Trainer(hf)
    trainer.play(hf.attach(trainer), recording(*recordings("transformers")[0]))
    assert not any("announce" in line or "evaluation" in line for line in warned(caplog))
    assert all("evaluation_every" not in told for told in fake.of("progress"))


def test_a_length_that_is_no_number_is_left_out_and_the_steps_are_counted(
    server: ControlServer, fake: FakeMeter, caplog: pytest.LogCaptureFixture
):
    with carbonmon.track() as run:
        assert list(run.steps(range(3), total="all")) == [0, 1, 2]  # type: ignore[arg-type]  # a user may
    last = fake.of("progress")[-1]
    assert last["step"] == 3
    assert "total" not in last
    assert [line for line in warned(caplog) if "total is left out" in line] != []
