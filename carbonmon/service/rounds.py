"""Runs two commands in turn, each as a run of its own, so that what drifts meanwhile meets both."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from carbonmon.core.errors import CarbonmonError
from carbonmon.core.records import NamedTuple
from carbonmon.core.times import utc_text

SIDES = "a", "b"
LABEL = "comparison"
"""The label of all runs of one comparison."""


class RoundFailed(CarbonmonError):
    """A command of a round did not end well: there is nothing to compare."""


class Turn(NamedTuple):
    """A run that is to be: which command, in which round, under which id."""

    side: str
    round: int
    run_id: str


def turns(rounds: int, now_s: float) -> list[Turn]:
    """a b, b a, a b, …: a drift that goes on all the time, such as of temperature, adds up to the same."""
    name = f"compare-{utc_text(now_s, '%Y%m%d-%H%M%S')}"
    return [
        Turn(side, number, f"{name}-{side}{number}")
        for number in range(1, rounds + 1)
        for side in (SIDES if number % 2 else SIDES[::-1])
    ]


def run_in_turn(
    commands: dict[str, Sequence[str]], plan: Sequence[Turn], output: Path, tell: Callable[[Turn], object]
) -> None:
    """Run each turn's command under `carbonmon run`; `tell` is called before each. Raises `RoundFailed`."""
    for turn in plan:
        tell(turn)
        monitor = [sys.executable, "-m", "carbonmon", "run", "--quiet", "--own-monitor"]
        place = ["--output", str(output), "--run-id", turn.run_id]
        label = ["--label", f"{LABEL}={turn.run_id.rpartition('-')[0]}"]
        job = commands[turn.side]
        done = subprocess.run([*monitor, *place, *label, "--", *job], check=False)
        if done.returncode:
            raise RoundFailed(
                f"round {turn.round}: {' '.join(job)!r:.70} ended with {done.returncode}; what was measured "
                f"until then is in {output}"
            )
