"""Samples, tokens and FLOPs of batches, added up on behalf of all ranks."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, Union

from carbonmon.client.connection import warn_once

Amount = Union[float, Callable[[Any], float]]  # noqa: UP007 (evaluated when loaded, where | takes no Callable)
"""What each batch has of something: a number, or a function of the batch."""


class Amounts:
    """Sums by name. A name with a batch whose amount is no number is left out from there on, with a warning.

    `ranks` is how many ranks have batches of their own; where nobody says, None, nothing can be added up.
    """

    def __init__(self, given: Mapping[str, Amount | None], ranks: int | None) -> None:
        self._given = {name: amount for name, amount in given.items() if amount is not None}
        if self._given and ranks is None:
            text = "carbonmon: no figures by %s: say how many ranks have batches of their own, ranks=N"
            warn_once("ranks", text, ", ".join(self._given))
            self._given = {}
        self._ranks = ranks or 1
        self._sums = dict.fromkeys(self._given, 0.0)

    def renew(self, given: Mapping[str, Amount | None]) -> None:
        """The batches of another loader: how they are counted; what is not counted any more is left out."""
        for name in list(self._sums):
            amount = given.get(name)
            if amount is None:
                del self._sums[name]
            else:
                self._given[name] = amount

    def add(self, batch: object) -> None:
        """Add what a batch has."""
        for name in list(self._sums):
            amount = self._given[name]
            try:
                self._sums[name] += checked(amount(batch) if callable(amount) else amount) * self._ranks
            # A function of the user's that fails must not end the training.
            except Exception as error:  # noqa: BLE001
                del self._sums[name]
                warn_once(name, "carbonmon: no figures by %s from this batch on: %r", name, error)

    def __getitem__(self, name: str) -> float | None:
        return self._sums.get(name)


def checked(value: object) -> float:
    """A number from 0 on; `ValueError` of anything else. A tensor is none: to read a GPU's waits for it."""
    if not isinstance(value, numbers.Real) or not 0.0 <= float(value) < math.inf:
        raise ValueError(f"{value!r:.80} is no number from 0 on")
    return float(value)
