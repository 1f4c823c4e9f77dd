"""The runs of a monitor and their participants: how each begins, what it lives by, and how it ends.

A participant is a connection of a process that takes part in a run. A run that began with a participant
ends with its last one; one that was registered ends when it is unregistered, or when its processes or its
cgroup are gone; the one run of `carbonmon run` ends with its job.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from carbonmon.client.launcher import safe_id
from carbonmon.core.config import Config
from carbonmon.core.model import EndsWith, RunInfo, RunState
from carbonmon.core.windows import Marks
from carbonmon.monitor.node import Monitor, RunPlan
from carbonmon.monitor.run_account import RunAccount
from carbonmon.runs.layout import SUMMARY_FILE
from carbonmon.runs.users import known_name
from carbonmon.service import naming, run_folder
from carbonmon.service.entries import Entry, NewRun, Participant

MAX_RUNS = 200
LINGER_S = 5.0
"""How long a run waits for ranks that its launcher promised and that have not come yet."""

DISK_S = 8.0
"""How long whoever ends a run waits until its files are written; a client waits 10 s for the answer."""

LATE_S = 5.0
"""A change of phase is taken at the time that its sender states if that was not longer ago."""

FIRST_RUN_S = 60.0
"""How long a monitor that was started for one run waits for it."""

NEXT_RUN_S = 5.0
"""How long it waits for the next one, so that a function that is tracked at each call starts one monitor."""


class Registry:
    """Called by the thread of the socket; `tidy` and `retire` by the main thread.

    `config` is what the monitor was started with; another may take its place. `creates`: unknown runs may
    begin. `once`: one run at a time, and the monitor ends a little after the last. `turn` is held while a run
    begins, so that a monitor that is about to end takes no more. `waiting` are those who may begin the next.
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
        self._settings: str | None = None
        self._began_s = self._free_s = monitor.clock.now_s()
        self._over = False
        self.turn = threading.RLock()
        self.waiting: set[object] = set()
        self.begun = 0

    @property
    def entries(self) -> list[Entry]:
        """The runs that live or are about to end."""
        return list(self._entries.values())

    @property
    def is_daemon(self) -> bool:
        """Whether it takes runs until it is told to end."""
        return self.creates and not self._once

    @property
    def age_s(self) -> float:
        """Seconds since it began to take runs."""
        return self.monitor.clock.now_s() - self._began_s

    @property
    def is_full(self) -> bool:
        return len(self._entries) >= MAX_RUNS

    def takes(self, settings: str | None) -> bool:
        """Whether a run may begin now, of a process whose choices for a monitor are summed up as `settings`.

        A monitor that processes have started takes runs with the choices of its first one, which it was
        started with; for others it makes way.
        """
        if not self._once or not self.begun:
            self._settings = settings
            return not self._over
        if self._settings is None or settings != self._settings:
            self._over = True
        return not self._over

    @property
    def may_go_on(self) -> bool:
        """Whether a process that leaves may begin the next run here."""
        return self._once and self._settings is not None and not self._over

    def refuse(self) -> None:
        """The first run could not begin: who started this monitor for it will not come again."""
        self._over |= self._once and not self.begun

    def retire(self) -> bool:
        """Whether this monitor is to end now; then no run begins any more."""
        with self.turn:
            if not self._once or self._entries:
                return False
            now_s = self.monitor.clock.now_s()
            if not self.begun:
                self._over |= now_s - self._began_s > FIRST_RUN_S
            else:
                self._over |= not self.waiting or now_s - self._free_s > NEXT_RUN_S
            return self._over

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

    def find_launch(self, key: str, job: tuple[str, str], uid: int) -> Entry | None:
        """The living run of the processes that share a key.

        Else the run that a scheduler's hooks registered for this (scheduler, job id).
        """
        living = [entry for entry in self.entries if not entry.ending and uid in (0, entry.uid)]
        if len(living) == 1 and (self._once or not self.creates):
            return living[0]
        theirs = [entry for entry in living if entry.key == key]
        registered = [entry for entry in living if job[1] and entry.is_for(job)]
        return next(iter(theirs or registered), None)

    def find_around(self, pid: int, uid: int) -> Entry | None:
        """The living run that a process or one of its parents belongs to."""
        run_id = self.monitor.run_around(pid) if pid else None
        entry = None if run_id is None else self._entries.get(run_id)
        return entry if entry is not None and not entry.ending and uid in (0, entry.uid) else None

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
        host = self.config.host or os.uname().nodename
        name = new.name or naming.command_name(new.command)
        suffix = f".{safe_id(host)}" if new.nodes > 1 else ""
        wall_s = self.monitor.clock.wall_s()
        default_id = new.run_id or new.default_id
        default_id = safe_id(default_id) if default_id else naming.default_run_id({}, name, wall_s)
        if default_id == "last":  # the word for the newest run: nobody could ask for it, nor go on with it
            default_id = "run-last"
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
            key=new.key or new.run_id,
            ends_with=ends_with,
            user=known_name(uid) if self.config.user_names else "",
        )
        entry = Entry(RunPlan(info, folder, new.roots), uid)
        self.monitor.plan(entry.plan)
        self._entries[info.id] = entry
        self.begun += 1
        return entry

    def take_part(
        self, entry: Entry, local_size: int, is_rank: bool = False, is_helper: bool = False
    ) -> Participant:
        """One more participant, of `local_size` that the launcher starts on this node."""
        participant = Participant(entry.run_id, is_rank, is_helper)
        entry.participants.append(participant)
        if is_helper:
            return participant
        entry.joined += 1
        entry.linger_until_s = None
        entry.expected = max(entry.expected, local_size)
        return participant

    def leave(
        self, entry: Entry, participant: Participant, exit_code: int | None = None, signal: int | None = None
    ) -> bool:
        """Whether the run is to end now, because this was the last participant and all have come."""
        if participant.is_rank and (exit_code or signal) and entry.failure is None:
            entry.failure = (exit_code, signal)
        # First, so that `tidy` in its thread does not take the run for lost before we end it.
        entry.linger_until_s = self.monitor.clock.now_s() + LINGER_S
        self.lose(entry, participant)
        if participant.is_helper or entry.ends_with != "participants" or is_held(entry) or entry.ending:
            entry.linger_until_s = None
            return False
        return entry.joined >= entry.expected or self._has_waited(entry)

    def _has_waited(self, entry: Entry) -> bool:
        """Whether all ranks are known, and had time to come by themselves: then nobody is waited for."""
        account = self.monitor.runs.get(entry.run_id)
        if account is None or len(entry.ranks) < entry.expected:
            return False
        return self.monitor.clock.now_s() - account.start_s >= LINGER_S

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
        last: Callable[[RunAccount, RunState], object] | None = None,
    ) -> None:
        """End a run; `last` gets its final totals, then `tell` its summary.

        It is told when it is written, from memory where a disk fails, or takes longer than `DISK_S`.
        """
        entry.ending, entry.ended_s, entry.tell = True, self.monitor.clock.now_s(), tell
        if entry.failure is not None:
            exit_code, signal = entry.failure
        for note in self.notes(entry):
            self.monitor.note(entry.run_id, note)
        self.monitor.end(
            entry.run_id,
            exit_code,
            signal,
            partial(self._ended, entry),
            last,
            partial(self._tell, entry, None),
        )

    def notes(self, entry: Entry) -> list[str]:
        """What people should know of a run that ends with its participants: ranks that did not take part."""
        present = max(len(entry.ranks), entry.joined)  # rank 0 may have come before it was one
        if entry.ends_with != "participants" or not 0 < present < entry.expected:
            return []
        took = f"{present} of {entry.expected} ranks on this node took part"
        return [f"{took}, the others are not counted: call track() in each rank"]

    def _ended(self, entry: Entry) -> None:
        """A run is written, in the thread that writes."""
        self._free_s = self.monitor.clock.now_s()
        if entry.tell is not None:
            self._tell(entry, _summary(entry.plan.folder))
        if self._entries.get(entry.run_id) is entry:
            del self._entries[entry.run_id]

    def _tell(self, entry: Entry, written: dict[str, Any] | None) -> None:
        """Tell the summary that was written, else what is known: whoever waits for it waits for no disk."""
        tell, entry.tell = entry.tell, None
        if tell is not None:
            is_final = written is not None and written.get("state") == "final"
            tell(written if is_final else self.monitor.final_summary(entry.run_id) or written)

    def tidy(self) -> None:
        """End the runs that have lost what they lived by; called every second or so."""
        now_s = self.monitor.clock.now_s()
        for entry in self.entries:
            account = self.monitor.runs.get(entry.run_id)
            if entry.ending and now_s - entry.ended_s > DISK_S:
                self._tell(entry, None)
            if account is None or entry.ending:
                continue
            processes = account.processes or 0
            # A process that was named may end before it is looked at; a cgroup may fill later.
            entry.seen |= processes > 0 or (account.processes is not None and bool(entry.plan.roots.pids))
            if entry.ends_with == "processes" and entry.seen and processes == 0:
                self.end(entry)
            elif entry.ends_with == "participants" and not is_held(entry):
                if entry.linger_until_s is not None:
                    is_over = now_s >= entry.linger_until_s
                else:  # nobody said goodbye: what was counted before the last one was lost proves nothing
                    looked_s = 2.0 * self.monitor.sampler.interval_s
                    is_over = processes == 0 and now_s - entry.alone_since_s > looked_s
                if is_over:
                    self.end(entry)

    def tell_phases(self, entry: Entry, at_s: float | None, marks: Marks | None = None) -> None:
        """The phases of a run's participants, or its own, have changed at `at_s`."""
        now_s = self.monitor.clock.now_s()
        if at_s is None or not now_s - LATE_S <= at_s <= now_s:
            at_s = now_s
        names = [each.phase for each in entry.participants if each.phase is not None]
        if not names and entry.phase is not None:
            names = [entry.phase]
        self.monitor.change_phase(entry.run_id, names, at_s, marks)


def is_held(entry: Entry) -> bool:
    """Whether a participant that is no helper is there."""
    return not all(participant.is_helper for participant in entry.participants)


def _summary(folder: Path) -> dict[str, Any] | None:
    """The summary that was just written; None without one."""
    try:
        document: dict[str, Any] = json.loads((folder / SUMMARY_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return document
