"""The records of the registry: a run as it knows it, a participant, and a run that is to begin."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from carbonmon.core.model import EndsWith, IdlePolicy, Rank
from carbonmon.core.ports import Roots
from carbonmon.monitor.node import RunPlan

_SERIALS = itertools.count(1)


@dataclass(eq=False)
class Participant:
    """A connection that takes part in a run; `phase` is the innermost that it is in.

    `is_rank`: its launcher gave it a rank, which is `rank`; `key` is what it shares with the other ranks of
    its launch. A helper, such as a worker that loads data, holds no run open.
    """

    run_id: str
    is_rank: bool = False
    is_helper: bool = False
    phase: str | None = None
    key: str | None = None
    rank: Rank | None = None
    serial: int = field(default_factory=lambda: next(_SERIALS))


@dataclass(eq=False)
class Entry:
    """A run as the registry knows it.

    `tell` hears the summary when it has ended. `phase` is that of the run while no participant is in one.
    `expected` ranks were promised by the launcher, `joined` have come; `ranks` are known by number, also
    those that were found and did not come by themselves. `seen`: it had a living process once. `failure` is
    the exit code or signal of the first rank that failed: its launcher ends the others.
    """

    plan: RunPlan
    uid: int
    phase: str | None = None
    participants: list[Participant] = field(default_factory=list)
    expected: int = 1
    joined: int = 0
    ranks: set[int] = field(default_factory=set)
    linger_until_s: float | None = None
    alone_since_s: float = 0.0
    seen: bool = False
    ending: bool = False
    ended_s: float = 0.0
    tell: Callable[[dict[str, Any] | None], object] | None = None
    failure: tuple[int | None, int | None] | None = None

    @property
    def run_id(self) -> str:
        return self.plan.info.id

    @property
    def key(self) -> str | None:
        """What its participants ask for: the id that their launcher gave, or what else they share."""
        return self.plan.info.key

    @property
    def ends_with(self) -> EndsWith:
        return self.plan.info.ends_with

    def is_for(self, job: tuple[str, str]) -> bool:
        """Whether it was registered for a whole job of a scheduler."""
        info = self.plan.info
        return (info.scheduler, info.scheduler_job_id) == job and self.ends_with != "participants"


class NewRun(NamedTuple):
    """What somebody says of a run that is to begin; `key` names it on this node, `run_id` everywhere."""

    name: str | None
    run_id: str | None
    key: str | None
    default_id: str | None
    command: tuple[str, ...]
    labels: Mapping[str, str]
    scheduler: str
    scheduler_job_id: str
    nodes: int
    idle_policy: IdlePolicy
    roots: Roots
