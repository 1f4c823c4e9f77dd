"""Children that were waited for: nothing lost and nothing twice.

What a process used after our last look at its clock, and processes that lived and died between two looks,
are in the times of children that their parent waited for (cutime and cstime of proc(5)): those hold the
whole life of each child and of all that the child waited for.

So when a member with a known life of x vanishes, its nearest living ancestor has probably got it: x is taken
off that ancestor's growth, and only the rest is new. A parent that ignores SIGCHLD gets nothing (times(2));
then nothing is taken off either.
"""

from __future__ import annotations

from carbonmon.hardware.workload.proc import TICK_S, Processes, Stat
from carbonmon.hardware.workload.tree import Member, Tree

ATTEMPTS = 5
"""How often a parent's times are read in one scan while its children go on vanishing."""

ROUNDING_S = 2 * TICK_S
"""cutime and cstime are each cut down to whole ticks, so a child's exact life may exceed its parent's growth
by this much. That is carried to the next growth; more is not, for it was never given to the parent."""


class Estates:
    """Who got the CPU time of those that vanished. `pending` are members whose children's times are due;
    `unread` are those whose stat is to be read in a later scan."""

    def __init__(self, tree: Tree, processes: Processes) -> None:
        self.tree = tree
        self.pending: set[Member] = set()
        self.unread: set[Member] = set()
        self._processes = processes

    def settle(self) -> None:
        """Credit the runs with what their pending members waited for.

        Wrappers come last, inner ones before outer ones: what those below turn out not to have got may be
        theirs.
        """
        attempts: dict[Member, int] = {}
        while self.pending:
            member = next((member for member in self.pending if not member.wrapper), None)
            if member is None:
                member = max(self.pending, key=self._depth)
            self.pending.discard(member)
            attempts[member] = attempts.get(member, 0) + 1
            if attempts[member] > ATTEMPTS:
                self.unread.add(member)  # it goes on in the next scan, with what is lost up to now
            else:
                self._settle(member)

    def forget(self, member: Member) -> None:
        """It is a member no more, though it may live on."""
        self.unread.discard(member)
        self.pending.discard(member)
        children = self.tree.drop(member)
        if children:  # those of an inner run go on, and it may become a member again
            self.tree.children[member.pid] = children

    def is_as_before(self, member: Member, stat: Stat) -> bool:
        """Whether its stat says nothing that is not known."""
        known = stat.ppid == member.ppid and not stat.ended
        return known and self._processes.reaped_s(member.pid, stat) == member.reaped_s

    def _look(self, member: Member) -> Stat | None:
        """Its stat, None if it is gone. The children of one that has ended, waited for or not, have others
        for parents already."""
        tree = self.tree
        seen, first = [member], None
        for each in seen:
            stat = self._processes.stat(each.pid)
            if stat is None or stat.start != each.start:
                continue
            if each is member:
                first = stat
            if stat.ended and not each.ended:
                seen += [tree.members[pid] for pid in tree.children.get(each.pid, ())]
            tree.update(each, stat)
        return first

    def bury(self, member: Member) -> None:
        """It vanished: its life goes to the ancestor that may have waited for it, its children to others."""
        tree = self.tree
        graves = [member]
        while graves:
            member = graves.pop()
            if tree.members.get(member.pid) is not member:
                continue
            orphans = tree.drop(member)
            tree.vanished[member.pid] = member
            self.unread.discard(member)
            self.pending.discard(member)
            heir, doubtful = tree.heir(member)
            if heir is not None:
                # With its parent gone too, either that one waited for it before it ended, or a subreaper did
                # after. The same holds for what this one should have waited for.
                life_s = member.own_s + member.reaped_s - member.balance_s
                heir.lost_s += life_s + member.lost_s
                heir.doubtful_s += (life_s if doubtful else 0.0) + member.lost_s
                self.pending.add(heir)
            for pid in orphans:
                orphan = tree.members[pid]
                if self._look(orphan) is None:
                    graves.append(orphan)

    def _settle(self, member: Member) -> None:
        """Credit what a member waited for since the last look, less what is known of those children."""
        stat = self._look(member)
        if stat is None:
            self.bury(member)
            return
        reaped_s = self._processes.reaped_s(member.pid, stat)
        # A child may have been waited for after its clock was read, and before this.
        gone = self._gone_below(member) if reaped_s > member.reaped_s else []
        if gone:
            for child in gone:
                self.bury(child)
            self.pending.add(member)
            return
        if stat.ended:  # it may have ended before those children did
            member.doubtful_s = member.lost_s
        rest_s = member.balance_s + reaped_s - member.reaped_s - member.lost_s
        member.reaped_s = reaped_s
        if rest_s < 0.0 and member.doubtful_s > 0.0:
            # Orphans below a wrapper become its children.
            reaper = next((above for above in self.tree.ancestors(member) if above.wrapper), None)
            if reaper is not None:
                elsewhere_s = min(-rest_s, member.doubtful_s)
                reaper.lost_s += elsewhere_s
                rest_s += elsewhere_s
                self.pending.add(reaper)
        member.run.credit_s += max(0.0, rest_s)
        member.balance_s = max(min(0.0, rest_s), -ROUNDING_S)
        member.lost_s = member.doubtful_s = 0.0

    def _depth(self, member: Member) -> int:
        return sum(1 for _ in self.tree.ancestors(member))

    def _gone_below(self, member: Member) -> list[Member]:
        """Those that it may have waited for and that are gone: its children, of a wrapper any descendant."""
        tree = self.tree
        if member.wrapper:
            below = tree.subtree(member)[1:]
        else:
            below = [tree.members[pid] for pid in tree.children.get(member.pid, ())]
        return [child for child in below if self._is_gone(child)]

    def _is_gone(self, member: Member) -> bool:
        try:
            self._processes.own_s(member.clock)
        except OSError:
            return True
        return False
