"""Trains a small classifier on scikit-learn's handwritten digits for a fixed time, with a visible loss.

A real job to put `carbonmon run --` before: a two-layer network in NumPy on 1,797 images of 8 × 8
pixels (UCI Optical Recognition of Handwritten Digits, shipped with scikit-learn). Needs scikit-learn.
It names its phases; without a monitor that is to be had, `carbonmon.track` does nothing.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import carbonmon

HIDDEN = 512
BATCH = 64
LEARNING_RATE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to train (default: 20)")
    seconds = parser.parse_args().seconds

    with carbonmon.track(name="train_digits") as run:
        with run.phase("load"):
            images, labels = load_digits(return_X_y=True)
            data = train_test_split(images / 16.0, labels, test_size=0.25, random_state=0)
        train_x, test_x, train_y, test_y = data
        with run.phase("train"):
            layers, epochs = train(run, train_x, train_y, seconds)
        with run.phase("evaluate"):
            accuracy = np.mean(answers(layers, test_x) == test_y)
        print(f"trained {epochs} epochs; test accuracy {accuracy:.1%}", flush=True)


def train(
    run: carbonmon.Run, train_x: np.ndarray, train_y: np.ndarray, seconds: float
) -> tuple[list[np.ndarray], int]:
    """Stochastic gradient descent for so long; returns weights and biases, and how many epochs it took."""
    random = np.random.default_rng(0)
    first = random.normal(0.0, np.sqrt(2.0 / 64), (64, HIDDEN))
    first_bias = np.zeros(HIDDEN)
    second = random.normal(0.0, np.sqrt(2.0 / HIDDEN), (HIDDEN, 10))
    second_bias = np.zeros(10)

    start = report = time.monotonic()
    epoch = 0
    while time.monotonic() - start < seconds:
        epoch += 1
        order = random.permutation(len(train_x))
        loss = 0.0
        for batch in np.array_split(order, len(train_x) // BATCH):
            x, y = train_x[batch], train_y[batch]
            hidden = np.maximum(x @ first + first_bias, 0.0)
            probabilities = softmax(hidden @ second + second_bias)
            loss -= float(np.log(probabilities[np.arange(len(y)), y] + 1e-12).sum())
            probabilities[np.arange(len(y)), y] -= 1.0
            gradient = probabilities / len(y)
            back = (gradient @ second.T) * (hidden > 0.0)
            second -= LEARNING_RATE * hidden.T @ gradient
            second_bias -= LEARNING_RATE * gradient.sum(axis=0)
            first -= LEARNING_RATE * x.T @ back
            first_bias -= LEARNING_RATE * back.sum(axis=0)
        if epoch == 1 or time.monotonic() - report >= 2.0:
            report = time.monotonic()
            spent = run.snapshot()["energy_j"]
            energy = "" if spent is None else f"  {spent:.0f} J so far"
            print(f"epoch {epoch:4d}  loss {loss / len(train_x):.4f}{energy}", flush=True)
    return [first, first_bias, second, second_bias], epoch


def answers(layers: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """The digit that the network sees in each image; shapes (n, 64) to (n,)."""
    first, first_bias, second, second_bias = layers
    return np.argmax(np.maximum(x @ first + first_bias, 0.0) @ second + second_bias, axis=1)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis; shapes (n, 10) to (n, 10)."""
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    main()
