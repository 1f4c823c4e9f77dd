"""Trainers played from recorded hooks, with stand-ins for the frameworks: what callbacks of ours do in them.

What was recorded, and how, is in tests/frameworks/record.py.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

HOOKS = Path(__file__).parent.parent / "fixtures" / "hooks"

Event = dict[str, Any]


def recordings(framework: str) -> list[tuple[str, str]]:
    """The (file, scenario) pairs of a framework."""
    files = sorted(HOOKS.glob(f"{framework}-*.json"))
    return [(file.name, scenario) for file in files for scenario in json.loads(file.read_text())]


def recording(file: str, scenario: str) -> list[Event]:
    found: list[Event] = json.loads((HOOKS / file).read_text())[scenario]
    return found


def load(monkeypatch: pytest.MonkeyPatch, framework: str) -> Any:
    """The module of our callback, on a framework that has the base classes only."""
    if framework == "transformers":
        base = type("TrainerCallback", (), {})
        flow = type("DefaultFlowCallback", (base,), {})
        stand_ins = {"transformers": {"TrainerCallback": base, "DefaultFlowCallback": flow}}
    else:
        base = type("Callback", (), {})
        stand_ins = {"lightning": {}, "lightning.pytorch": {}}
        stand_ins["lightning.pytorch.callbacks"] = {"Callback": base}
    for name, members in stand_ins.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    ours = f"carbonmon.integrations.{framework}"
    monkeypatch.delitem(sys.modules, ours, raising=False)
    module = importlib.import_module(ours)
    monkeypatch.setitem(sys.modules, ours, module)
    return module


class Trainer:
    """transformers' Trainer, as far as `attach` and the callback look at it."""

    def __init__(self, module: Any, model: Any = None) -> None:
        self.model = model or SimpleNamespace(main_input_name="input_ids", dtype="torch.float32")
        self.model_init = None
        self.reporter = SimpleNamespace()
        self.callback_handler = SimpleNamespace(callbacks=[module.DefaultFlowCallback(), self.reporter])
        self.dataset = range(20)

    def add_callback(self, callback: Any) -> None:
        self.callback_handler.callbacks.append(callback)

    def get_total_train_batch_size(self, args: Any) -> int:
        return 8

    def play(
        self, callback: Any, events: list[Event], **changes: Any
    ) -> list[tuple[Event, dict[str, float]]]:
        """What each `on_log` got added, and all hooks called in order; `changes` replace recorded values."""
        added = []
        objects = {"model": self.model, "train_dataloader": SimpleNamespace(dataset=self.dataset)}
        for event in events:
            about = SimpleNamespace(**(event | changes))
            logs = dict.fromkeys(event["logs"], 1.0) if "logs" in event else None
            before = set(logs or ())
            getattr(callback, event["hook"])(about, about, about, logs=logs, **objects)
            if logs is not None:
                added.append((event, {key: logs[key] for key in logs if key not in before}))
        return added


class Logger:
    """A logger of Lightning's."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append((step, metrics))


def play_lightning(callback: Any, events: list[Event], **changes: Any) -> tuple[Logger, Any]:
    """The logger after the recorded hooks, and the trainer."""
    logger = Logger()
    module = SimpleNamespace(device=SimpleNamespace(type="cpu"))
    trainer = SimpleNamespace(
        loggers=[logger],
        is_global_zero=True,
        should_stop=False,
        estimated_stepping_batches=14,
        distributed_sampler_kwargs=None,
        num_nodes=1,
        precision="32-true",
        strategy=SimpleNamespace(reduce_boolean_decision=lambda wish, all: wish),  # noqa: A006 (its name)
    )
    arguments = {
        "on_train_batch_start": ("batch", 0),
        "on_train_batch_end": ("loss", "batch", 0),
        "on_save_checkpoint": ({},),
        "on_exception": (RuntimeError(),),
    }
    for event in events:
        vars(trainer).update({key: value for key, value in event.items() if key != "should_stop"} | changes)
        trainer.fit_loop = SimpleNamespace(
            epoch_loop=SimpleNamespace(_batches_that_stepped=event["batches_that_stepped"])
        )
        getattr(callback, event["hook"])(trainer, module, *arguments.get(event["hook"], ()))
    return logger, trainer
