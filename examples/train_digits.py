"""Trains a small classifier on scikit-learn's handwritten digits for a fixed time, with a visible loss.

A real job to put `carbonmon run --` before: a two-layer network in NumPy on 1,797 images of 8 × 8
pixels (UCI Optical Recognition of Handwritten Digits, shipped with scikit-learn). Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HIDDEN = 512
BATCH = 64
LEARNING_RATE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to train (default: 20)")
    seconds = parser.parse_args().seconds

    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(images / 16.0, labels, test_size=0.25, random_state=0)
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
            print(f"epoch {epoch:4d}  loss {loss / len(train_x):.4f}", flush=True)
    answers = np.argmax(np.maximum(test_x @ first + first_bias, 0.0) @ second + second_bias, axis=1)
    print(f"trained {epoch} epochs; test accuracy {np.mean(answers == test_y):.1%}", flush=True)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis; shapes (n, 10) to (n, 10)."""
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    main()
