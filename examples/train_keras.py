"""Trains a small network with Keras, whose log of each epoch then holds joules a step and a sample.

The data are made on the spot, and a CPU is enough. Needs keras and one of its back ends (KERAS_BACKEND=jax).
"""

from __future__ import annotations

import argparse

import keras
import numpy as np

from carbonmon.integrations.keras import CarbonmonCallback

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5, help="how long to train (default: 5)")
    epochs = parser.parse_args().epochs

    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(20_000, 64)).astype("float32")
    y = np.square(x).sum(axis=1, keepdims=True)

    layers = [keras.Input((64,)), keras.layers.Dense(512, activation="relu"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer="adam", loss="mse")
    callbacks = [CarbonmonCallback(samples=BATCH)]  # before those that use its keys
    history = model.fit(
        x, y, batch_size=BATCH, epochs=epochs, validation_split=0.1, callbacks=callbacks, verbose=2
    )
    for key, values in history.history.items():
        print(f"{key:32}", *(f"{value:.4g}" for value in values))


if __name__ == "__main__":
    main()
