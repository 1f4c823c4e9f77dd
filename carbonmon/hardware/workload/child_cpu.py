"""CPU time of children that have ended, from the times of their parents: nothing lost, nothing twice.

CPU time that a process used after its clock was last read, and that of processes that began and ended between
two scans, is in the times of children that their parent waited for (cutime and cstime of proc(5)): those
hold all CPU time of each child and of all that the child waited for.

So when a member with a known CPU time of x vanishes, its nearest living ancestor has probably received it: x
is subtracted from the increase of that ancestor's times, and only the rest is new. A parent that ignores
SIGCHLD receives nothing (times(2)); then nothing is subtracted either.
"""

from __future__ import annotations

from carbonmon.hardware.workload.proc import TICK_S, Processes, Stat
from carbonmon.hardware.workload.tree import Member, Tree

ATTEMPTS = 5
"""How often a parent's times are read in one scan while more of its children vanish."""

ROUNDING_S = 2 * TICK_S
"""cutime and cstime are each rounded down to whole ticks, so a child's exact CPU time may exceed the increase
of its parent's times by this much. So much is carried over to the next increase; the rest is dropped, because
the parent never received it."""


class ChildCpuAccounting:
    """Reports the CPU time of vanished processes once, from the times of an ancestor. `pending` are members
    whose children's times are to be read now; `unread` are those whose stat is to be read in a later scan."""

    def __init__(self, tree: Tree, processes: Processes) -> None:
        self.tree = tree
        self.pending: set[Member] = set()
        self.unread: set[Member] = set()
        self._processes = processes

    def report_pending(self) -> None:
        """Report to the runs the CPU time of children that their pending members waited for.

        Wrappers come last, inner ones before outer ones: they may have received what those below did not.
        """
        attempts: dict[Member, int] = {}
        while self.pending:
            member = next((member for member in self.pending if not member.wrapper), None)
            if member is None:
                member = max(self.pending, key=self._depth)
            self.pending.discard(member)
            attempts[member] = attempts.get(member, 0) + 1
            if attempts[member] > ATTEMPTS:
                self.unread.add(member)  # continued in the next scan, with what has vanished up to now
            else:
                self._report(member)

    def remove(self, member: Member) -> None:
        """Stop following a member, which may still be alive."""
        self.unread.discard(member)
        self.pending.discard(member)
        children = self.tree.remove(member)
        if children:  # those of an inner run stay members, and it may become a member again
            self.tree.children[member.pid] = children

    def is_unchanged(self, member: Member, stat: Stat) -> bool:
        """Whether its stat holds nothing new."""
        is_known = stat.ppid == member.ppid and not stat.ended
        return is_known and self._processes.reaped_s(member.pid, stat) == member.reaped_s

    def _read_stat(self, member: Member) -> Stat | None:
        """Read and note its stat; None if it has vanished. The children of one that has ended, waited for or
        not, have other parents already: theirs are read as well."""
        tree = self.tree
        to_read, first = [member], None
        for each in to_read:
            stat = self._processes.stat(each.pid)
            if stat is None or stat.start != each.start:
                continue
            if each is member:
                first = stat
            if stat.ended and not each.ended:
                to_read += [tree.members[pid] for pid in tree.children.get(each.pid, ())]
            tree.update(each, stat)
        return first

    def on_vanished(self, member: Member) -> None:
        """A member vanished: note its CPU time at the ancestor that may have waited for it, and give its
        children their new parents."""
        tree = self.tree
        vanished = [member]
        while vanished:
            member = vanished.pop()
            if tree.members.get(member.pid) is not member:
                continue
            orphans = tree.remove(member)
            tree.vanished[member.pid] = member
            self.unread.discard(member)
            self.pending.discard(member)
            ancestor, is_uncertain = tree.nearest_living_ancestor(member)
            if ancestor is not None:
                # If its parent vanished too, either that one waited for it before it ended, or a subreaper
                # did after. The same holds for what this one should have waited for.
                reported_s = member.own_s + member.reaped_s - member.carry_s
                ancestor.vanished_s += reported_s + member.vanished_s
                ancestor.uncertain_s += (reported_s if is_uncertain else 0.0) + member.vanished_s
                self.pending.add(ancestor)
            for pid in orphans:
                orphan = tree.members[pid]
                if self._read_stat(orphan) is None:
                    vanished.append(orphan)

    def _report(self, member: Member) -> None:
        """Report the increase of the times of children, less what was reported of these children before."""
        stat = self._read_stat(member)
        if stat is None:
            self.on_vanished(member)
            return
        reaped_s = self._processes.reaped_s(member.pid, stat)
        # A child may have been waited for after its clock was read, and before this.
        vanished = self._vanished_below(member) if reaped_s > member.reaped_s else []
        if vanished:
            for child in vanished:
                self.on_vanished(child)
            self.pending.add(member)
            return
        if stat.ended:  # it may have ended before those children did
            member.uncertain_s = member.vanished_s
        rest_s = member.carry_s + reaped_s - member.reaped_s - member.vanished_s
        member.reaped_s = reaped_s
        if rest_s < 0.0 and member.uncertain_s > 0.0:
            # Orphans below a wrapper become its children.
            reaper = next((above for above in self.tree.ancestors(member) if above.wrapper), None)
            if reaper is not None:
                received_s = min(-rest_s, member.uncertain_s)
                reaper.vanished_s += received_s
                rest_s += received_s
                self.pending.add(reaper)
        member.run.unreported_s += max(0.0, rest_s)
        member.carry_s = max(min(0.0, rest_s), -ROUNDING_S)
        member.vanished_s = member.uncertain_s = 0.0

    def _depth(self, member: Member) -> int:
        return sum(1 for _ in self.tree.ancestors(member))

    def _vanished_below(self, member: Member) -> list[Member]:
        """Vanished members that it may have waited for: its children; of a wrapper any descendant."""
        tree = self.tree
        if member.wrapper:
            below = tree.subtree(member)[1:]
        else:
            below = [tree.members[pid] for pid in tree.children.get(member.pid, ())]
        return [child for child in below if self._has_vanished(child)]

    def _has_vanished(self, member: Member) -> bool:
        try:
            self._processes.own_s(member.clock)
        except OSError:
            return True
        return False
