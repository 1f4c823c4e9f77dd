"""The records of the registry: a run as it knows it, a participant, and a run that is to begin."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from carbonmon.core.model import EndsWith, IdlePolicy, Rank
from carbonmon.core.ports import Roots
from carbonmon.core.records import NamedTuple
from carbonmon.monitor.node import RunPlan

_SERIALS = itertools.count(1)


class Participant:
    """A connection that takes part in a run; `phase` is the innermost that it is in.

    `is_rank`: its launcher gave it a rank, which is `rank`; `key` is what it shares with the other ranks of
    its launch. A helper, such as a worker that loads data, holds no run open.
    """

    def __init__(
        self,
        run_id: str,
        is_rank: bool = False,
        is_helper: bool = False,
        key: str | None = None,
        rank: Rank | None = None,
    ) -> None:
        self.run_id = run_id
        self.is_rank = is_rank
        self.is_helper = is_helper
        self.phase: str | None = None
        self.key = key
        self.rank = rank
        self.serial = next(_SERIALS)


class Entry:
    """A run as the registry knows it.

    `tell` hears the summary when it has ended. `phase` is that of the run while no participant is in one.
    `expected` ranks were promised by the launcher, `joined` have come; `ranks` are known by number, also
    those that were found and did not come by themselves. `seen`: it had a living process once. `failure` is
    the exit code or signal of the first rank that failed: its launcher ends the others.
    """

    def __init__(self, plan: RunPlan, uid: int) -> None:
        self.plan = plan
        self.uid = uid
        self.phase: str | None = None
        self.participants: list[Participant] = []
        self.expected = 1
        self.joined = 0
        self.ranks: set[int] = set()
        self.linger_until_s: float | None = None
        self.alone_since_s = 0.0
        self.seen = False
        self.ending = False
        self.ended_s = 0.0
        self.tell: Callable[[dict[str, Any] | None], object] | None = None
        self.failure: tuple[int | None, int | None] | None = None

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
