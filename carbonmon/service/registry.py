"""The runs of a monitor and their participants: how each begins, what it lives by, and how it ends.

A participant is a connection of a process that takes part in a run. A run that began with a participant
ends with its last one; one that was registered ends when it is unregistered, or when its processes or its
cgroup are gone; the one run of `carbonmon run` ends with its job.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from carbonmon.client.launcher import safe_id
from carbonmon.core.config import Config
from carbonmon.core.model import EndsWith, IdlePolicy, RunInfo
from carbonmon.core.ports import Roots
from carbonmon.monitor.node import Monitor, RunPlan
from carbonmon.runs.layout import SUMMARY_FILE
from carbonmon.service import naming, run_folder

MAX_RUNS = 200
LINGER_S = 5.0
"""How long a run waits for ranks that its launcher promised and that have not come yet."""

LATE_S = 5.0
"""A change of phase is taken at the time that its sender states if that was not longer ago."""


@dataclass(eq=False)
class Participant:
    """A connection that takes part in a run; `phase` is the innermost that it is in."""

    run_id: str
    phase: str | None = None


@dataclass(eq=False)
class Entry:
    """A run as the registry knows it.

    `phase` is that of the run while no participant is in one. `expected` ranks were promised by the launcher,
    `joined` have come. `seen`: it had a living process once.
    """

    plan: RunPlan
    uid: int
    phase: str | None = None
    participants: list[Participant] = field(default_factory=list)
    expected: int = 1
    joined: int = 0
    linger_until_s: float | None = None
    alone_since_s: float = 0.0
    seen: bool = False
    ending: bool = False

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


class NewRun(NamedTuple):
    """What somebody says of a run that is to begin; `key` names it on this node, `run_id` everywhere."""

    name: str | None
    run_id: str | None
    key: str | None
    command: tuple[str, ...]
    labels: Mapping[str, str]
    scheduler: str
    scheduler_job_id: str
    nodes: int
    idle_policy: IdlePolicy
    roots: Roots


class Registry:
    """Called by the thread of the socket; `tidy` by the main thread.

    `config` is what the monitor was started with; another may take its place. `creates`: unknown runs may
    begin. `once`: one run only, and the monitor ends with it.
    """

    def __init__(
        self, monitor: Monitor, config: Config, uid: int, *, creates: bool, once: bool = False
    ) -> None:
        self.monitor = monitor
        self.config = config
        self.uid = uid
        self.creates = creates
        self._once = once
        self._entries: dict[str, Entry] = {}
        self.begun = 0

    @property
    def entries(self) -> list[Entry]:
        """The runs that live or are about to end."""
        return list(self._entries.values())

    @property
    def is_full(self) -> bool:
        return len(self._entries) >= MAX_RUNS

    @property
    def is_over(self) -> bool:
        """Whether the only run of this monitor was there and has ended, or is about to."""
        return self._once and bool(self.begun) and all(entry.ending for entry in self.entries)

    def find(self, asked: str | None, uid: int = 0) -> Entry | None:
        """A living run by its id, else its key; None asks for the only one of a monitor that has no more."""
        living = [entry for entry in self.entries if not entry.ending and uid in (0, entry.uid)]
        if len(living) == 1 and (self._once or not self.creates):
            return living[0]
        if asked is None:
            return None
        by_id = [entry for entry in living if entry.run_id == asked]
        found = by_id or [entry for entry in living if entry.key == asked]
        return found[0] if found else None

    def has(self, run_id: str, uid: int) -> bool:
        """Whether a living run of this user has an id or key, whatever others have."""
        return any(
            not entry.ending and entry.uid == uid and run_id in (entry.run_id, entry.key)
            for entry in self.entries
        )

    def adopt(self, plan: RunPlan) -> None:
        """A run that the monitor has from elsewhere: that of its own job, or of a monitor before it."""
        uid = self.uid if plan.info.uid is None else plan.info.uid
        entry = self._entries[plan.info.id] = Entry(plan, uid)
        entry.seen = plan.before is not None
        self.begun += 1

    def create(self, new: NewRun, uid: int, ends_with: EndsWith) -> Entry:
        """Plan a run and take its folder; the monitor is to begin it. Raises `ConfigError`."""
        host = self.config.host or platform.node()
        name = new.name or naming.command_name(new.command)
        suffix = f".{safe_id(host)}" if new.nodes > 1 else ""
        wall_s = self.monitor.clock.wall_s()
        default_id = safe_id(new.run_id) if new.run_id else naming.default_run_id({}, name, wall_s)
        folder = run_folder.create(self.config.output, None, default_id, suffix)
        info = RunInfo(
            id=folder.name.removesuffix(suffix),
            name=name,
            command=new.command,
            labels=tuple(new.labels.items()),
            host=host,
            started_at_s=wall_s,
            scheduler=new.scheduler,
            scheduler_job_id=new.scheduler_job_id,
            idle_policy=new.idle_policy,
            uid=uid,
            key=new.run_id or new.key,
            ends_with=ends_with,
        )
        entry = Entry(RunPlan(info, folder, new.roots), uid)
        self.monitor.plan(entry.plan)
        self._entries[info.id] = entry
        self.begun += 1
        return entry

    def take_part(self, entry: Entry, local_size: int) -> Participant:
        """One more participant, of `local_size` that the launcher starts on this node."""
        participant = Participant(entry.run_id)
        entry.participants.append(participant)
        entry.joined += 1
        entry.linger_until_s = None
        entry.expected = max(entry.expected, local_size)
        return participant

    def leave(self, entry: Entry, participant: Participant) -> bool:
        """Whether the run is to end now, because this was the last participant and all have come."""
        # First, so that `tidy` in its thread does not take the run for lost before we end it.
        entry.linger_until_s = self.monitor.clock.now_s() + LINGER_S
        self.lose(entry, participant)
        if entry.ends_with != "participants" or entry.participants or entry.ending:
            entry.linger_until_s = None
            return False
        return entry.joined >= entry.expected

    def lose(self, entry: Entry, participant: Participant) -> None:
        """A participant without a goodbye: its run goes on while any of its processes lives."""
        if participant in entry.participants:
            entry.alone_since_s = self.monitor.clock.now_s()
            entry.participants.remove(participant)
            if participant.phase is not None:
                self.tell_phases(entry, None)

    def end(
        self,
        entry: Entry,
        exit_code: int | None = None,
        signal: int | None = None,
        tell: Callable[[dict[str, Any] | None], object] | None = None,
    ) -> None:
        """End a run; `tell` gets its summary when it is written."""
        entry.ending = True
        self.monitor.end(entry.run_id, exit_code, signal, partial(self._ended, entry, tell))

    def _ended(self, entry: Entry, tell: Callable[[dict[str, Any] | None], object] | None) -> None:
        """A run is written, in the thread that writes."""
        if tell is not None:
            tell(_summary(entry.plan.folder))
        if self._entries.get(entry.run_id) is entry:
            del self._entries[entry.run_id]

    def tidy(self) -> None:
        """End the runs that have lost what they lived by; called every second or so."""
        now_s = self.monitor.clock.now_s()
        for entry in self.entries:
            account = self.monitor.runs.get(entry.run_id)
            if account is None or entry.ending:
                continue
            processes = account.processes or 0
            # A process that was named may end before it is looked at; a cgroup may fill later.
            entry.seen |= processes > 0 or (account.processes is not None and bool(entry.plan.roots.pids))
            if entry.ends_with == "processes" and entry.seen and processes == 0:
                self.end(entry)
            elif entry.ends_with == "participants" and not entry.participants:
                if entry.linger_until_s is not None:
                    is_over = now_s >= entry.linger_until_s
                else:  # nobody said goodbye: what was counted before the last one was lost proves nothing
                    looked_s = 2.0 * self.monitor.sampler.interval_s
                    is_over = processes == 0 and now_s - entry.alone_since_s > looked_s
                if is_over:
                    self.end(entry)

    def tell_phases(self, entry: Entry, at_s: float | None) -> None:
        """The phases of a run's participants, or its own, have changed at `at_s`."""
        now_s = self.monitor.clock.now_s()
        if at_s is None or not now_s - LATE_S <= at_s <= now_s:
            at_s = now_s
        names = [each.phase for each in entry.participants if each.phase is not None]
        if not names and entry.phase is not None:
            names = [entry.phase]
        self.monitor.change_phase(entry.run_id, names, at_s)


def _summary(folder: Path) -> dict[str, Any] | None:
    """The summary that was just written; None without one."""
    try:
        document: dict[str, Any] = json.loads((folder / SUMMARY_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return document
