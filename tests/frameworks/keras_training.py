"""Trains with Keras in several ways, and prints as JSON what its history and the monitor then hold."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import keras
import numpy as np

import carbonmon
from carbonmon.integrations import session
from carbonmon.integrations.keras import CarbonmonCallback
from carbonmon.integrations.meter import Meter

X, Y = np.zeros((80, 4), "float32"), np.zeros((80, 1), "float32")
BATCH = 8
BACKEND = keras.backend.backend()

FAULTS = "__init__", "cut", "figures"


def batches(count: int) -> Iterator[tuple[Any, Any]]:
    for _ in range(count):
        yield X[:BATCH], Y[:BATCH]


def fit(callbacks: list[Any], **settings: Any) -> dict[str, Any]:
    """The figures of a training, of what it told, and of the run that it had."""
    keras.backend.clear_session()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=settings.pop("steps_per_execution", 1))
    told: list[tuple[Any, Any]] = []
    progress = carbonmon.Run.progress

    def remember(run: Any, step: Any, total: Any = None, **more: Any) -> None:
        told.append((step, total))
        progress(run, step, total, **more)

    data = settings.pop("data", {"x": X, "y": Y, "batch_size": BATCH})
    with mock.patch.object(carbonmon.Run, "progress", remember), carbonmon.track():
        history = model.fit(**data, callbacks=callbacks, **{"epochs": 2, "verbose": 0, **settings})
    return {"history": history.history, "told": told}


def main() -> None:
    ours = CarbonmonCallback(samples=BATCH)
    found = {
        "validated": fit([ours], validation_data=(X, Y), epochs=3),
        "several at once": fit([ours], steps_per_execution=1 if BACKEND == "torch" else 4),
        "of unknown length": fit([ours], data={"x": batches(5)}, epochs=1),
        "resumed": fit([ours], initial_epoch=3, epochs=5),
        "stopped early": fit(
            [ours, keras.callbacks.EarlyStopping("carbonmon_energy_j", mode="min", patience=0)], epochs=9
        ),
    }
    spent = itertools.chain([False] * 13, itertools.repeat(True))
    is_spent = property(lambda _: next(spent))
    with (
        mock.patch.object(carbonmon.Run, "should_stop", is_spent, create=True),
        mock.patch.object(session, "LOOKING_S", 0.0),
    ):
        found["stopped by a budget"] = fit([ours], epochs=9)
    for name in FAULTS:
        with mock.patch.object(Meter, name, side_effect=RuntimeError("planted")):
            found[f"fault in {name}"] = fit([CarbonmonCallback()], validation_data=(X, Y))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
