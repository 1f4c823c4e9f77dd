"""One piece of advice."""

from __future__ import annotations

from carbonmon.core.records import NamedTuple


class Advice(NamedTuple):
    """What of a run's own data could be less: `finding`, what to do, how much at most, and how that follows.

    `saves_j` and `saves_g` are None where they do not follow from the run's data; energy saved saves its
    emissions too, a place or an hour emissions only.
    """

    topic: str
    finding: str
    action: str
    saves_j: float | None
    saves_g: float | None
    how: str
