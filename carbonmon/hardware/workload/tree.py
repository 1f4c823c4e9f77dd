"""Assigns processes to runs: the process trees of all runs, found with one listing of /proc.

Later processes are looked at one by one, by the numbers that were given out since.

A member stays a member until it vanishes, also if it gets another parent. A new process belongs to its
parent's run; an orphan belongs to the run of the leader of its process group or session, which a double fork
keeps. So the nearest root above a process decides.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator

from carbonmon.hardware.own_children import is_ours
from carbonmon.hardware.workload.proc import Processes, Stat, clock_of

log = logging.getLogger(__name__)

MAX_PROCESSES = 20_000
"""Members of all runs together; further processes are left out."""

FEW = 64
"""So many new processes and threads are always looked at one by one: most have ended already, which costs
little, while a listing costs the more the more processes the node has."""

LISTING_PERIOD = 64
"""After so many searches all of /proc is listed again: a restored process may have any number (`set_tid` of
clone3(2))."""

FOREIGN_PARTS = 64
"""Of the processes that belong to no run, one part is read again in each search: a reused pid is found
within as many searches."""


class Run:
    """A run: CPU time that is not reported yet, and how many of its processes are alive, without wrappers."""

    __slots__ = ("alive", "id", "unreported_s")

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.unreported_s = 0.0
        self.alive = 0


class Member:
    """A process of a run. `own_s` and `reaped_s` are its CPU time and that of the children it waited for, as
    last read. `vanished_s` is the CPU time of vanished descendants that was reported before, `uncertain_s`
    the part of it that another ancestor may have received, `carry_s` what rounding left over."""

    __slots__ = (
        "carry_s",
        "clock",
        "ended",
        "own_s",
        "pid",
        "ppid",
        "reaped_s",
        "root",
        "run",
        "start",
        "uncertain_s",
        "vanished_s",
        "wrapper",
    )

    def __init__(self, pid: int, stat: Stat, run: Run) -> None:
        self.pid = pid
        self.clock = clock_of(pid)
        self.ppid = stat.ppid
        self.start = stat.start
        self.ended = stat.ended
        self.run = run
        self.root = self.wrapper = False
        self.own_s = self.reaped_s = 0.0
        self.vanished_s = self.uncertain_s = self.carry_s = 0.0

    @property
    def counts(self) -> bool:
        return not self.ended and not self.wrapper


class Tree:
    """The members of all runs, their children, and those that vanished in this scan and the one before."""

    def __init__(self, processes: Processes, exclude: frozenset[int]) -> None:
        self.members: dict[int, Member] = {}
        self.children: dict[int, set[int]] = {}
        self.vanished: dict[int, Member] = {}
        self._vanished_before: dict[int, Member] = {}
        self._processes = processes
        self._exclude = exclude
        self._own_pid = os.getpid()
        self.listed: list[tuple[Member, Stat]] = []
        """What the last `find_new` has found in a listing of /proc, if it made one: also what is old."""
        self._known: set[str] = set()
        self._unseen: Collection[int] = ()
        self._foreign: list[set[str]] = [set() for _ in range(FOREIGN_PARTS)]
        self._part = 0
        self._searches = 0
        self._has_warned_of_limit = self._has_warned_of_listing = False

    def begin_scan(self) -> None:
        """Keep those that vanished in the last scan, forget those before."""
        self._vanished_before, self.vanished = self.vanished, {}

    def find_new(self, newcomers: Collection[int] | None) -> bool:
        """Find the processes that began since the last call; whether each of them is still there.

        `newcomers` are the numbers that were given out meanwhile, None if they are not known.
        """
        self.find_late()
        self.listed = []
        self._searches += 1
        is_due = self._searches % LISTING_PERIOD == 0
        if newcomers is None or is_due or len(newcomers) > max(FEW, len(self._known) // 4):
            self.listed = self.search()
            if newcomers is not None:
                self._unseen = [pid for pid in tuple(newcomers)[-FEW:] if str(pid) not in self._known]
            return False
        return self._look_at(newcomers)

    def find_late(self) -> None:
        """Look once more at the numbers of the last search that were not there.

        The kernel gives a number out a little before /proc shows the process (copy_process in kernel/fork.c).
        """
        unseen, self._unseen = self._unseen, ()
        if unseen:
            self._look_at(unseen)
            self._unseen = ()

    def _look_at(self, newcomers: Collection[int]) -> bool:
        """Assign these; whether each is there, as a thread or as a process that was not known before.

        Never where some are left out: nobody sees when those end.
        """
        fresh: dict[int, Stat] = {}
        gone: set[int] = set()
        for pid in newcomers:
            stat = None if pid in self.members else self._processes.stat(pid)
            if stat is None:
                gone.add(pid)
            elif not stat.is_thread:
                fresh[pid] = stat
        self._assign(fresh, lambda ppid: ppid in gone)  # of no run: read once more with the next listing
        self._unseen = gone
        return not gone and not self._has_warned_of_limit

    def search(self) -> list[tuple[Member, Stat]]:
        """Find the processes that are new in /proc; returns those that are members."""
        try:
            names = self._processes.names()
        except OSError as error:
            if not self._has_warned_of_listing:
                log.warning("new processes cannot be found: %s", error)
            self._has_warned_of_listing = True
            return []
        self._has_warned_of_listing = False
        known = self._known
        self._part = (self._part + 1) % FOREIGN_PARTS
        known -= self._foreign[self._part]
        self._foreign[self._part].clear()
        known &= names
        new = names - known
        known |= new
        fresh: dict[int, Stat] = {}
        for name in new:
            if name.isdigit() and (pid := int(name)) not in self.members:
                stat = self._processes.stat(pid)
                if stat is None:
                    names.discard(name)
                else:
                    fresh[pid] = stat
        pids = list(fresh)
        found = self._assign(fresh, lambda ppid: str(ppid) not in names)
        for pid in pids:
            if pid not in self.members:
                self._foreign[pid % FOREIGN_PARTS].add(str(pid))
        return found

    def _assign(self, fresh: dict[int, Stat], is_gone: Callable[[int], bool]) -> list[tuple[Member, Stat]]:
        """Assign new processes to runs, ancestors first, whatever their pids: those wrap around."""
        found = []
        while fresh:
            chain = [fresh.popitem()]
            while (ppid := chain[-1][1].ppid) in fresh:
                chain.append((ppid, fresh.pop(ppid)))
            for pid, stat in reversed(chain):
                member = self._classify(pid, stat, is_gone)
                if member is not None:
                    found.append((member, stat))
        return found

    def recheck_all(self) -> None:
        """Read every process again in the next search: there is a new root."""
        self._known = {str(pid) for pid in self.members}

    def add(self, pid: int, stat: Stat, run: Run) -> Member | None:
        """Add a member; None if there are too many."""
        if len(self.members) >= MAX_PROCESSES:
            if not self._has_warned_of_limit:
                log.warning("more than %d processes in all runs: the others are left out", MAX_PROCESSES)
            self._has_warned_of_limit = True
            return None
        member = self.members[pid] = Member(pid, stat, run)
        self._known.add(str(pid))
        self.children.setdefault(stat.ppid, set()).add(pid)
        run.alive += member.counts
        return member

    def remove(self, member: Member) -> set[int]:
        """Remove a member; returns the pids of its children."""
        del self.members[member.pid]
        self._known.discard(str(member.pid))
        self._unlink(member)
        member.run.alive -= member.counts
        return self.children.pop(member.pid, set())

    def update(self, member: Member, stat: Stat) -> None:
        """Note what may change for a process: its parent, and that it has ended."""
        if member.ended is not stat.ended:
            before = member.counts
            member.ended = stat.ended
            member.run.alive += member.counts - before
        if member.ppid != stat.ppid:
            self._unlink(member)
            member.ppid = stat.ppid
            self.children.setdefault(stat.ppid, set()).add(member.pid)

    def assign(self, member: Member, run: Run, root: bool, wrapper: bool) -> None:
        """Make it a process of `run`, with these roles."""
        member.run.alive -= member.counts
        member.run, member.root, member.wrapper = run, root, wrapper
        run.alive += member.counts

    def subtree(self, top: Member) -> list[Member]:
        """`top` and its descendants in its run down to the next roots."""
        found, seen = [top], {top.pid}
        for member in found:
            for pid in self.children.get(member.pid, ()):
                child = self.members[pid]
                if child.run is top.run and not child.root and pid not in seen:
                    seen.add(pid)
                    found.append(child)
        return found

    def ancestors(self, member: Member) -> Iterator[Member]:
        """Its parent and so on, up to the last one that is a member."""
        for _ in range(len(self.members)):  # a reused pid of a parent could make a cycle
            parent = self.members.get(member.ppid)
            if parent is None:
                return
            yield parent
            member = parent

    def nearest_living_ancestor(self, member: Member) -> tuple[Member | None, bool]:
        """The nearest ancestor of a vanished member that still lives, and whether others vanished between."""
        ppid = member.ppid
        for steps in range(len(self.vanished) + 1):
            if ppid in self.members:
                return self.members[ppid], steps > 0
            if ppid not in self.vanished:
                break
            ppid = self.vanished[ppid].ppid
        return None, False

    def _unlink(self, member: Member) -> None:
        siblings = self.children.get(member.ppid)
        if siblings is not None:
            siblings.discard(member.pid)
            if not siblings:
                del self.children[member.ppid]

    def _classify(self, pid: int, stat: Stat, is_gone: Callable[[int], bool]) -> Member | None:
        if pid in self._exclude or (stat.ppid == self._own_pid and is_ours(pid)):
            return None
        if stat.ppid not in self.members and is_gone(stat.ppid):
            again = self._processes.stat(pid)  # its parent ended meanwhile: read its new parent
            if again is None or again.start != stat.start:
                return None
            stat = again
        parent = self.members.get(stat.ppid)
        run = parent.run if parent is not None else self._run_of_leader(stat)
        return None if run is None else self.add(pid, stat, run)

    def _run_of_leader(self, stat: Stat) -> Run | None:
        """The run of an orphan, by its process group or session.

        A process whose parent is in its own session is no orphan: for example the next one in a pipeline
        whose first process is a root, while their common shell belongs to no run.
        """
        for leader in (stat.pgrp, stat.session):
            for members in (self.members, self.vanished, self._vanished_before):
                if leader in members:
                    parent = self._processes.stat(stat.ppid) if stat.ppid > 1 else None
                    orphan = parent is None or parent.session != stat.session
                    return members[leader].run if orphan else None
        return None
