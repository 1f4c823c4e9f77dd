"""CPU time of the process trees of all runs.

A process's own clock tells what it used while it lives (`scan`); what it used after our last look, and all of
those that lived and died between two looks, comes from the times of its parent (reaping.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from carbonmon.hardware.workload.proc import Processes, Stat
from carbonmon.hardware.workload.reaping import Estates
from carbonmon.hardware.workload.tree import Member, Run, Tree


class ProcessTable:
    """The processes of all runs. `exclude` are pids that are no members, nor what descends from them,
    unless they are wrappers or roots stand below them: the monitor itself."""

    def __init__(
        self,
        procfs: Path,
        exclude: frozenset[int] = frozenset(),
        processes: Processes | None = None,
    ) -> None:
        self._processes = Processes(procfs) if processes is None else processes
        self._tree = Tree(self._processes, exclude)
        self._exclude = exclude
        self._runs: dict[str, Run] = {}
        self._newest: bytes | None = None
        self._estates = Estates(self._tree, self._processes)

    def add(self, run_id: str, pids: Iterable[int], wrappers: Iterable[int] = ()) -> None:
        """Follow these trees, as more of a run if it is known. What they used before is not the run's.

        Members of another run become this run's, with their descendants.
        """
        run = self._runs.setdefault(run_id, Run(run_id))
        self._tree.search()  # what was born in known trees since the last scan brings all its life with it
        grown = [self._root(run, pid, True) for pid in wrappers]
        grown += [self._root(run, pid, False) for pid in pids if pid not in self._exclude]
        if any(grown):
            self._tree.forget_foreign()
            for member, stat in self._tree.search():
                if member.run is run:
                    self._begin(member, stat)

    def remove(self, run_id: str) -> None:
        """Follow a run no more. What is left of it inside another run's tree is that run's from now on:
        its life so far will be in the times of a parent there, and must not be taken for new."""
        run = self._runs.pop(run_id, None)
        if run is None:
            return
        for member in [member for member in self._tree.members.values() if member.run is run]:
            above = self._tree.ancestors(member)
            outside = next((parent for parent in above if parent.run is not run), None)
            if outside is None:
                self._estates.forget(member)
            else:
                self._begin(member)
                self._tree.mark(member, outside.run, False, False)

    def scan(self) -> dict[str, float]:
        """CPU seconds of each run since the scan before."""
        newest = self._processes.newest()
        born = newest is None or newest != self._newest
        self._newest = newest
        tree, unread = self._tree, self._estates.unread
        tree.age()
        if born:
            tree.search()
        moved: list[tuple[Member, float]] = []
        gone: list[Member] = []
        clock_s = self._processes.own_s
        for member in tree.members.values():
            try:
                now_s = clock_s(member.clock)
            except OSError:
                gone.append(member)
                continue
            if now_s != member.own_s:
                moved.append((member, now_s))
        # A process that forks or waits uses CPU time. While nothing is born anywhere, every child is known
        # and its end is seen, so stat need not be read. It is once, when the process has come to rest.
        look = set(unread) if born else unread.difference([member for member, _ in moved])
        unread.difference_update(look)
        stat_of = self._processes.stat
        for member, now_s in moved:
            stat = stat_of(member.pid) if born else None
            if now_s < member.own_s or (stat is not None and stat.start != member.start):
                gone.append(member)
                self._newest = None  # another process has its pid: search again
                continue
            if not member.wrapper:
                member.run.credit_s += now_s - member.own_s
            member.own_s = now_s
            if not born:
                unread.add(member)
            elif stat is None or not self._estates.is_as_before(member, stat):
                look.add(member)
            else:
                look.discard(member)
        for member in gone:
            self._estates.bury(member)
        self._estates.pending.update(look)
        self._estates.settle()
        used_s = {}
        for run in self._runs.values():
            used_s[run.id] = run.credit_s
            run.credit_s = 0.0
        return used_s

    def stat(self, pid: int) -> Stat | None:
        """What the kernel says of any process; None if there is none."""
        return self._processes.stat(pid)

    def living(self) -> dict[str, tuple[float, list[tuple[int, int, bool]]]]:
        """Of each run: CPU seconds of what lives and of the children that it waited for, and its roots.

        What our own process waited for is left out: another monitor could not see it.
        """
        found: dict[str, tuple[float, list[tuple[int, int, bool]]]] = {
            run_id: (0.0, []) for run_id in self._runs
        }
        ourselves = self._processes.own_pid
        for member in self._tree.members.values():
            used_s, roots = found[member.run.id]
            if member.root:
                roots.append((member.pid, member.start, member.wrapper))
            if member.pid != ourselves:
                own_s = 0.0 if member.wrapper else member.own_s
                found[member.run.id] = used_s + own_s + member.reaped_s, roots
        return found

    def owner_of(self, pid: int) -> str | None:
        """The run that a process belongs to, as of the last scan."""
        member = self._tree.members.get(pid)
        return None if member is None else member.run.id

    def members(self, run_id: str) -> frozenset[int]:
        return frozenset(pid for pid, member in self._tree.members.items() if member.run.id == run_id)

    def count(self, run_id: str) -> int:
        """How many of its processes lived at the last scan; wrappers and zombies are not counted."""
        run = self._runs.get(run_id)
        return 0 if run is None else run.alive

    def close(self) -> None:
        self._processes.close()

    def _root(self, run: Run, pid: int, wrapper: bool) -> bool:
        """Make a process a root; whether its descendants are still to be found."""
        tree = self._tree
        stat = self._processes.stat(pid)
        member = tree.members.get(pid)
        if member is not None and (stat is None or stat.start != member.start):
            self._estates.bury(member)
            member = None
        if stat is None:
            return False
        if member is None:
            member = tree.adopt(pid, stat, run)
            if member is None:
                return False
            self._begin(member)
            tree.mark(member, run, True, wrapper)
            return True
        if member.run is not run:
            for part in tree.subtree(member):
                before_s = part.own_s
                self._begin(part)
                if not part.wrapper:
                    part.run.credit_s += part.own_s - before_s
                tree.mark(part, run, part.root, part.wrapper)
        tree.mark(member, run, True, wrapper or member.wrapper)
        return False

    def _begin(self, member: Member, stat: Stat | None = None) -> None:
        """What it used up to now, and what it waited for, is told to nobody."""
        stat = stat or self._processes.stat(member.pid)
        if stat is None or stat.start != member.start:
            return
        self._estates.unread.add(member)
        try:
            member.own_s = max(member.own_s, self._processes.own_s(member.clock))
            member.reaped_s = self._processes.reaped_s(member.pid, stat)
        except OSError:
            pass  # it is gone: the next scan sees that
