"""The node meters of a monitor and their totals: beside the devices', never among them.

NodeMeterReader ──▶ core/node_energy ──▶ NodeMeterAccount ──▶ NodeMeterState in the Snapshot ──▶ exporters
newest answer       readings → joules    totals, coverage     and NodeEnergy of each run

For the sampling thread.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from carbonmon.core import node_energy
from carbonmon.core.model import Interval, Meter, SensorState
from carbonmon.core.node_meter import NodeEnergy, NodeMeterState
from carbonmon.core.ports import Clock
from carbonmon.monitor.node_meter_reader import NodeMeterReader

log = logging.getLogger(__name__)

COVERAGE_S = 60.0
"""The coverage ratio is over the last minute: a meter that answers every 10 s says something of six times."""

MARK_S = 1.0
"""How near to one another the totals are of which the coverage is made."""

METER_KEY = "node meter "
"""What the meters of a checkpoint are called by, before their names: a device has no such id."""


Charge = Callable[[str, float, float, float, float], float]
"""Splits the energy of a meter: its name, its joules, the devices' joules, from when to when (clock, s). It
returns what runs were charged with."""

Grown = Callable[[NodeEnergy, float, float], object]
"""Hears what a meter has measured, from when to when (clock, s)."""


class NodeMeters:
    """All node meters. `devices_j` tells what the metered devices drew until now, in joules, ever rising.

    `grown` hears what each of them measured; `charge` what the first did, if runs are charged with it.
    """

    def __init__(
        self,
        readers: Sequence[NodeMeterReader],
        devices_j: Callable[[], float],
        now_s: float,
        interval_s: float,
        grown: Grown,
        charge: Charge | None = None,
    ) -> None:
        """`interval_s` is the time between two looks."""
        self._accounts = [
            NodeMeterAccount(reader, now_s, interval_s, grown, None if place else charge)
            for place, reader in enumerate(readers)
        ]
        self._devices_j = devices_j
        self._gone: dict[str, NodeMeterState] = {}

    def __bool__(self) -> bool:
        return bool(self._accounts)

    def look(self, clock: Clock) -> None:
        """Take what each meter has said since the last look; waits for none of them."""
        devices_j = self._devices_j()
        self._each(lambda account: account.look(clock, devices_j))

    def settle(self, now_s: float) -> None:
        """Credit everything until now, where a run begins or ends."""
        if self._accounts:
            devices_j = self._devices_j()
            self._each(lambda account: account.settle(now_s, devices_j))

    def finish(self, now_s: float) -> None:
        """Credit everything until now, which is the end, and give up what nobody can know."""
        self.settle(now_s)
        self._each(lambda account: account.finish(now_s, self._devices_j()))

    def restore(
        self, states: Sequence[NodeMeterState], meters: Mapping[str, Meter] | None, outage_s: float
    ) -> None:
        """Go on from an earlier monitor's totals; its `meters` only on the same boot, else None.

        What a meter that is no longer there has measured stays. The devices are restored before.
        """
        by_name = {state.total.meter: state for state in states}
        here = {account.name for account in self._accounts}
        self._gone = {
            name: state._replace(power_w=None, coverage_ratio=None)
            for name, state in by_name.items()
            if name not in here
        }
        for name in self._gone:
            log.warning("node meter %s is not here any more: what it measured stays as it is", name)
        devices_j = self._devices_j() if self._accounts else 0.0
        for account in self._accounts:
            state = by_name.get(account.name)
            if state is None:
                account.skip(devices_j)
            else:
                meter = None if meters is None else meters.get(METER_KEY + account.name)
                account.restore(state, meter, outage_s, devices_j)

    def totals(self) -> dict[str, NodeEnergy]:
        """The totals until now, by the meter's name."""
        now = {account.name: account.total for account in self._accounts}
        return now | {name: state.total for name, state in self._gone.items()} if self._gone else now

    def states(self) -> tuple[NodeMeterState, ...]:
        return (*[account.state() for account in self._accounts], *self._gone.values())

    def meters(self) -> tuple[tuple[str, Meter], ...]:
        """What the next readings will be compared with, for a checkpoint."""
        return tuple([(METER_KEY + each.name, each.fold.meter) for each in self._accounts])

    def sources(self) -> tuple[SensorState, ...]:
        return tuple([account.reader.state() for account in self._accounts])

    def close(self) -> None:
        for account in self._accounts:
            account.reader.close()

    def _each(self, call: Callable[[NodeMeterAccount], object]) -> None:
        for account in self._accounts:
            try:
                if not account.is_given_up:
                    call(account)
            except Exception:  # noqa: PERF203 (our own bug: it costs this meter, and no device and no job)
                log.exception("node meter %s is given up by a fault of carbonmon's own", account.name)
                account.give_up()


class NodeMeterAccount:
    """The totals of one meter."""

    def __init__(
        self,
        reader: NodeMeterReader,
        now_s: float,
        interval_s: float,
        grown: Grown,
        charge: Charge | None = None,
    ) -> None:
        self.reader = reader
        self._grown = grown
        self._charge = charge
        self.name = reader.name
        self.fold = node_energy.begun(reader.name, max(interval_s, reader.meter.period_s), now_s)
        self.total = NodeEnergy(reader.name)
        self.is_given_up = False
        self._power_w: float | None = None
        self._devices_j = 0.0
        self._marks = deque([(now_s, self.total)])

    def look(self, clock: Clock, devices_j: float) -> None:
        newest = self.reader.newest(clock)
        self.reader.tell()
        if newest is None:
            now_s = clock.now_s()
            if node_energy.is_silent(self.fold, now_s):
                self._power_w = None
                self.settle(now_s, devices_j)
            return
        reading, at_s = newest
        self.fold, intervals, rejected = node_energy.advance(self.fold, reading, at_s)
        self._power_w = self.fold.power_w
        self._add(intervals, devices_j, rejected)
        if self._power_w is None and intervals:
            self._power_w = intervals[-1].power_w

    def settle(self, now_s: float, devices_j: float) -> None:
        self.fold, interval = node_energy.settle(self.fold, now_s)
        if interval is not None:
            self._add([interval], devices_j)

    def finish(self, now_s: float, devices_j: float) -> None:
        interval = node_energy.finish(self.fold, now_s)
        if interval is not None:
            self._add([interval], devices_j)

    def restore(self, state: NodeMeterState, meter: Meter | None, outage_s: float, devices_j: float) -> None:
        self.total = state.total if meter is not None else state.total.lost(outage_s)
        if meter is not None:
            self.fold = node_energy.resumed(self.fold, meter)
        self.skip(devices_j)

    def skip(self, devices_j: float) -> None:
        """What the devices drew until here is none of what this meter has measured."""
        self._devices_j = devices_j
        self._marks = deque([(self.fold.said_s, self.total)])

    def give_up(self) -> None:
        """Keep the totals as they are, and read no more."""
        self.is_given_up, self._power_w = True, None

    def state(self) -> NodeMeterState:
        return NodeMeterState(
            self.total,
            self._power_w,
            self._coverage(),
            node_energy.counter_step_j(self.fold),
            self._charge is not None,
        )

    def _add(self, intervals: Sequence[Interval], devices_j: float, rejected: int = 0) -> None:
        """Add settled intervals, and what the devices drew meanwhile, as far as the time was observed."""
        if rejected:
            self.total = self.total._replace(rejected=self.total.rejected + rejected)
        if not intervals:
            return
        seconds = sum(each.end_s - each.start_s for each in intervals)
        lost_s = sum(each.unobserved_s for each in intervals)
        grown_j = max(0.0, devices_j - self._devices_j)
        observed_s = max(0.0, seconds - lost_s)
        self._devices_j = devices_j
        total = self.total
        rest_j = 0.0
        start_s, end_s = intervals[0].start_s, intervals[-1].end_s
        if self._charge is not None:
            energy_j = sum(each.energy_j for each in intervals)
            rest_j = energy_j - self._charge(self.name, energy_j, grown_j, start_s, end_s)
        self.total = total._replace(
            unattributed_j=total.unattributed_j + rest_j,
            counter_j=total.counter_j + sum(each.counter_j for each in intervals),
            power_j=total.power_j + sum(each.power_j for each in intervals),
            covered_j=total.covered_j + (grown_j * observed_s / seconds if seconds > 0.0 else 0.0),
            observed_s=total.observed_s + observed_s,
            unobserved_s=total.unobserved_s + lost_s,
            rejected=total.rejected + sum(each.resets + each.jumps for each in intervals),
        )
        self._grown(self.total.minus(total), start_s, end_s)
        if len(self._marks) > 1 and end_s - self._marks[-2][0] < MARK_S:
            self._marks.pop()
        self._marks.append((end_s, self.total))
        while len(self._marks) > 2 and self._marks[1][0] <= end_s - COVERAGE_S:
            self._marks.popleft()

    def _coverage(self) -> float | None:
        """The devices' part of the node's energy over the last minute."""
        if self._power_w is None or len(self._marks) < 2:
            return None
        over = self._marks[-1][1].minus(self._marks[0][1])
        return over.covered_j / over.energy_j if over.energy_j > 0.0 else None
