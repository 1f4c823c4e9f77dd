"""What training code has done, as a message to the monitor: numbers that can be counted with, and no others.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from carbonmon.client.connection import warn_once

ENDLESS = (1 << 63) - 1
"""Frameworks give this for a number of steps without an end (transformers 5); others give -1 or infinity."""

LARGEST = 1e30
"""No training does so much of anything: 1e27 FLOPs are more than any has had (Epoch AI, 2025)."""

LONGEST_PRECISION = 40


class Progress:
    """Makes the messages of one process, and keeps the highest counts that it has told.

    A figure that cannot be right is left out, after one warning of its kind. Nothing is raised.
    """

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    @property
    def told(self) -> dict[str, float]:
        """The highest counts, by the names of a message."""
        return dict(self._told)

    def message(
        self,
        step: Any,
        total: Any,
        precision: Any,
        evaluations: tuple[Any, Any] = (None, None),
        **counts: Any,
    ) -> dict[str, Any] | None:
        """The message of a report; None where nothing of it can be used. `evaluations`: after how many steps
        one follows, and how many steps have as many samples."""
        message: dict[str, Any] = {}
        for name, value in (("step", step), *counts.items()):
            if value is not None:
                try:
                    number = _number(value)
                    if not 0 <= number <= LARGEST:
                        raise ValueError(f"{number} is no count")
                    if number < self._told.get(name, 0):
                        raise ValueError(f"{number} comes after {self._told[name]}: counts only grow")
                # A tensor or an array may raise anything when it is asked for its number.
                except Exception as error:  # noqa: BLE001
                    _leave_out(name, error)
                else:
                    self._told[name] = message[name] = number
        if not message:
            return None
        if total is not None:
            try:
                steps = _total(total)
                if steps is not None and steps < message.get("step", 0):
                    raise ValueError(f"step {message['step']} is beyond the total of {steps}")
            except Exception as error:  # noqa: BLE001  # as above
                _leave_out("total", error)
            else:
                if steps is not None:
                    message["total"] = steps
        for name, value in zip(("evaluation_every", "evaluation_steps"), evaluations, strict=True):
            if value is not None:
                try:
                    number = _number(value)
                    if not 0 < number <= LARGEST:
                        raise ValueError(f"{number} is no number of steps")
                except Exception as error:  # noqa: BLE001  # as above
                    _leave_out(name, error)
                else:
                    message[name] = number
        if precision is not None:
            try:
                message["precision"] = str(precision)[:LONGEST_PRECISION]
            except Exception as error:  # noqa: BLE001  # as above
                _leave_out("precision", error)
        return message


def _number(value: Any) -> int | float:
    """An int or float, also from numbers of NumPy and torch."""
    try:
        return operator.index(value)
    except TypeError:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"{number} is no count") from None
        return number


def _total(value: Any) -> int | float | None:
    """Steps in all, None where that is unknown, as frameworks say it."""
    steps: int | float
    try:
        steps = operator.index(value)
    except TypeError:
        steps = float(value)
    return steps if 0 < steps < ENDLESS else None


def _leave_out(name: str, error: Exception) -> None:
    warn_once(f"progress {name}", "carbonmon's progress: %s is left out: %s", name, str(error)[:200])
