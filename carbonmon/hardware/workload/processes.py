"""CPU time of the process trees of all runs.

A process's own clock gives what it used while it is alive (`scan`). What it used after the last scan, and
all CPU time of processes that began and ended between two scans, comes from its parent (child_cpu.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from carbonmon.hardware.own_children import is_ours
from carbonmon.hardware.workload.child_cpu import ChildCpuAccounting
from carbonmon.hardware.workload.proc import Processes, Stat, with_parents
from carbonmon.hardware.workload.tree import FOREIGN_PARTS, Member, Run, Tree


class ProcessTable:
    """The processes of all runs. `exclude` are pids that are no members, nor are their descendants, unless
    they are wrappers or a root is below them: the monitor itself."""

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
        self._newest_pid: bytes | None = None
        self._unsure = 1
        self._unlisted_ticks = 0
        """When the last root came beside which nobody was looked at: of an older process, which is listed now
        and was not known, the time so far is no run's."""
        self._has_missed = False
        """One may have begun and ended between two looks, and no scan has taken that into account yet."""
        self._has_fresh_members = False
        """One may have forked after the search that found it and before its clock was first read, and then
        never run again: so there is one more search, whoever runs."""
        self._child_cpu = ChildCpuAccounting(self._tree, self._processes)

    def add(self, run_id: str, pids: Iterable[int], wrappers: Iterable[int] = ()) -> None:
        """Follow these trees, also as more trees of a known run. What they used before is not the run's.

        Members of another run become this run's, with their descendants.
        """
        run = self._runs.setdefault(run_id, Run(run_id))
        is_first = not self._tree.members
        if not is_first:  # all CPU time of processes that began in known trees since the last scan counts
            self._has_missed |= self._find_new()
        newest, now_ticks = self._processes.newest_pid(), self._processes.now_ticks()
        new_roots = [pid for pid in wrappers if self._add_root(run, pid, True)]
        new_roots += [pid for pid in pids if pid not in self._exclude and self._add_root(run, pid, False)]
        if not new_roots:
            pass
        elif newest is not None and all(map(self._is_childless, new_roots)):
            # Whatever they begin has a number from here on: no other process need be looked at.
            if is_first:
                self._newest_pid, self._unsure = newest, 0
            self._unlisted_ticks = now_ticks
        else:
            self._tree.recheck_all()
            for member, stat in self._tree.search():
                if member.run is run:
                    self._set_baseline(member, stat)
        self._has_fresh_members = True

    def remove(self, run_id: str) -> None:
        """Stop following a run. Its processes inside another run's tree are that run's from now on: their CPU
        time so far will be in the times of a parent there, and must not count as new."""
        run = self._runs.pop(run_id, None)
        if run is None:
            return
        for member in [member for member in self._tree.members.values() if member.run is run]:
            above = self._tree.ancestors(member)
            outside = next((parent for parent in above if parent.run is not run), None)
            if outside is None:
                self._child_cpu.remove(member)
            else:
                self._set_baseline(member)
                self._tree.assign(member, outside.run, False, False)

    def scan(self) -> dict[str, float]:
        """CPU seconds of each run since the scan before."""
        tree, unread = self._tree, self._child_cpu.unread
        tree.begin_scan()
        known = len(tree.members)
        active, vanished = self._read_clocks(tree.members.values())
        has_missed, self._has_missed = self._has_missed, False
        if not known:
            pass  # nobody whose children could be found
        elif vanished or self._unsure or self._has_fresh_members or self._may_have_forked(active):
            self._has_fresh_members = False
            has_missed |= self._find_new()
        else:  # Who forks uses CPU time. The kernel may tell it a tick later (thread_group_cputime in
            tree.find_late()  # kernel/sched/cputime.c): what began meanwhile is looked at then.
        if len(tree.members) > known:
            more = self._read_clocks(islice(tree.members.values(), known, None))
            active += more[0]
            vanished += more[1]
            self._has_fresh_members = True
        # A process that forks or waits uses CPU time. While each process that begins on the node is seen,
        # every child is known and its end is seen: stat need not be read. It is read once, when it is idle.
        to_read = set(unread) if has_missed else unread.difference([member for member, _ in active])
        unread.difference_update(to_read)
        stat_of = self._processes.stat
        for member, now_s in active:
            stat = stat_of(member.pid) if has_missed else None
            if now_s < member.own_s or (stat is not None and stat.start != member.start):
                vanished.append(member)
                self._newest_pid, self._unsure = None, 1  # another process has its pid: search again
                continue
            if not member.wrapper:
                member.run.unreported_s += now_s - member.own_s
            member.own_s = now_s
            if not has_missed:
                unread.add(member)
            elif stat is None or not self._child_cpu.is_unchanged(member, stat):
                to_read.add(member)
            else:
                to_read.discard(member)
        for member in vanished:
            self._child_cpu.on_vanished(member)
        self._child_cpu.pending.update(to_read)
        self._child_cpu.report_pending()
        used_s = {}
        for run in self._runs.values():
            used_s[run.id] = run.unreported_s
            run.unreported_s = 0.0
        return used_s

    def _read_clocks(self, members: Iterable[Member]) -> tuple[list[tuple[Member, float]], list[Member]]:
        """Those that used CPU time since they were read last, with their time, and those that vanished."""
        active: list[tuple[Member, float]] = []
        vanished: list[Member] = []
        clock_s = self._processes.own_s
        for member in members:
            try:
                now_s = clock_s(member.clock)
            except OSError:
                vanished.append(member)
                continue
            if now_s != member.own_s:
                active.append((member, now_s))
        return active, vanished

    def _may_have_forked(self, active: list[tuple[Member, float]]) -> bool:
        """Whether one of these, which ran, may have begun a process that is not known yet.

        We ourselves run at each look, and begin nothing of a run but its job.
        """
        if not self._processes.are_clocks_exact:
            return True
        if len(active) != 1 or active[0][0].pid != self._processes.own_pid:
            return bool(active)
        members, ours = self._tree.members, self._tree.children.get(self._processes.own_pid, ())
        return all(members[pid].wrapper for pid in ours)

    def _find_new(self) -> bool:
        """Find the processes that began since the last call; whether one of them may have ended unseen."""
        has_missed = self._look_for_new()
        for member, stat in self._tree.listed:
            if member.start < self._unlisted_ticks:
                self._set_baseline(member, stat)
        return has_missed

    def _look_for_new(self) -> bool:
        before, now = self._newest_pid, self._processes.newest_pid()
        self._newest_pid = now
        if now is not None and now == before:
            self._tree.find_late()
            return False
        newcomers = None if now is None or before is None else self._processes.newcomers(before, now)
        # Where the numbers began again from below, one that was nobody's may be a member's by now.
        self._unsure = FOREIGN_PARTS if newcomers is None and before is not None else max(0, self._unsure - 1)
        return not self._tree.find_new(newcomers)

    def stat(self, pid: int) -> Stat | None:
        """/proc/PID/stat of any process; None if there is none."""
        return self._processes.stat(pid)

    def totals_and_roots(self) -> dict[str, tuple[float, list[tuple[int, int, bool]]]]:
        """Of each run: CPU seconds of its living processes and the children they waited for, and its roots.

        Children that our own process waited for are left out: another monitor could not see them.
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

    def owner_around(self, pid: int) -> str | None:
        """The run of a process, else of its nearest parent in one, as of the last scan. For any thread."""
        for each, stat in with_parents(self._processes.stat, pid):
            member = self._tree.members.get(each)
            if member is not None and member.start == stat.start:
                return member.run.id
        return None

    def members(self, run_id: str) -> frozenset[int]:
        return frozenset(pid for pid, member in self._tree.members.items() if member.run.id == run_id)

    def count(self, run_id: str) -> int:
        """How many of its processes were alive at the last scan; wrappers and zombies are not counted."""
        run = self._runs.get(run_id)
        return 0 if run is None else run.alive

    def close(self) -> None:
        self._processes.close()

    def _is_childless(self, pid: int) -> bool:
        """Whether a process has begun none that could be of its run."""
        children = self._processes.children(pid)
        if children and pid == self._processes.own_pid:
            return all(map(is_ours, children))
        return children is not None and not children

    def _add_root(self, run: Run, pid: int, wrapper: bool) -> bool:
        """Make a process a root; whether its descendants are still to be found."""
        tree = self._tree
        stat = self._processes.stat(pid)
        member = tree.members.get(pid)
        if member is not None and (stat is None or stat.start != member.start):
            self._child_cpu.on_vanished(member)
            member = None
        if stat is None:
            return False
        if member is None:
            member = tree.add(pid, stat, run)
            if member is None:
                return False
            self._set_baseline(member)
            tree.assign(member, run, True, wrapper)
            return True
        if member.run is not run:
            for part in tree.subtree(member):
                before_s = part.own_s
                self._set_baseline(part)
                if not part.wrapper:
                    part.run.unreported_s += part.own_s - before_s
                tree.assign(part, run, part.root, part.wrapper)
        tree.assign(member, run, True, wrapper or member.wrapper)
        return False

    def _set_baseline(self, member: Member, stat: Stat | None = None) -> None:
        """Count its CPU time, and that of children it waited for, from now on."""
        stat = stat or self._processes.stat(member.pid)
        if stat is None or stat.start != member.start:
            return
        self._child_cpu.unread.add(member)
        try:
            member.own_s = max(member.own_s, self._processes.own_s(member.clock))
            member.reaped_s = self._processes.reaped_s(member.pid, stat)
        except OSError:
            pass  # it has vanished: the next scan sees that
