"""Whether the energy counters of cards grow as their power says; asked once, at opening.

Counters with a wrong rate were seen (github.com/ROCm/amdsmi, issue 38). One that is right is known after some
hundredths of a second; the others are looked at for two seconds, because power may be an average that lags
behind, or be read at moments that say little of the mean.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from carbonmon.core.records import NamedTuple
from carbonmon.hardware.amdsmi.quantities import Energy

LOOKS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""When the counters are read again, after their first value."""

TOLERANCE_RATIO, TOLERANCE_W = 0.25, 5.0
"""How far the counter's mean may be outside of all powers that were read meanwhile."""


class Look(NamedTuple):
    """A counter and the power (W) beside it at one moment; None is what could not be read."""

    energy: Energy | None
    power_w: float | None
    at_s: float


class Judged(NamedTuple):
    """The cards whose counter is not believed, by id with the reason, and those that could not be checked."""

    refused: dict[str, str]
    unchecked: list[str]


def check_counters(
    looks: Mapping[str, Callable[[], Look]], sleep: Callable[[float], None] = time.sleep
) -> Judged:
    """Look at the counter of each card, by id, until it agrees with the power or two seconds have passed."""
    undecided = {card: _Trial(look()) for card, look in looks.items()}
    unchecked = [card for card, trial in undecided.items() if trial.first.energy is None]
    before_s = 0.0
    for after_s in LOOKS_S if undecided else ():
        sleep(after_s - before_s)
        before_s = after_s
        for card in list(undecided):
            verdict = undecided[card].add(looks[card]())
            if verdict is None:
                unchecked.append(card)
            if verdict is not False:
                del undecided[card]
        if not undecided:
            break
    return Judged({card: trial.reason for card, trial in undecided.items()}, list(dict.fromkeys(unchecked)))


class _Trial:
    """What was seen of one card so far."""

    def __init__(self, first: Look) -> None:
        self.first = first
        self.powers_w = list(_known(first))
        self.reason = ""

    def add(self, look: Look) -> bool | None:
        """Whether the counter agrees with the power; None where it cannot be told."""
        self.powers_w += _known(look)
        before, after = self.first.energy, look.energy
        if before is None or after is None or not self.powers_w:
            return None
        elapsed_s = look.at_s - self.first.at_s
        if before.at_ns is not None and after.at_ns is not None:
            own_s = (after.at_ns - before.at_ns) / 1e9
            if own_s == 0.0:
                return None  # it was not renewed: there is nothing to compare
            if 0.5 * elapsed_s < own_s < 2.0 * elapsed_s:
                elapsed_s = own_s
        mean_w = (after.energy_uj - before.energy_uj) / 1e6 / elapsed_s if elapsed_s > 0.0 else 0.0
        low_w, high_w = min(self.powers_w), max(self.powers_w)
        self.reason = (
            f"its energy counter grows by {mean_w:.4g} W, its power is {_span(low_w, high_w)} W: "
            "the counter is wrong and not used"
        )
        return (
            low_w * (1.0 - TOLERANCE_RATIO) - TOLERANCE_W
            <= mean_w
            <= high_w * (1.0 + TOLERANCE_RATIO) + TOLERANCE_W
        )


def _known(look: Look) -> Iterator[float]:
    if look.power_w is not None:
        yield look.power_w


def _span(low_w: float, high_w: float) -> str:
    return f"{low_w:.4g}" if high_w - low_w < 1.0 else f"{low_w:.4g} to {high_w:.4g}"
