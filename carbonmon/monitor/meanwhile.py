"""What the node's devices and the monitor did while a run lasted: totals now, less those at its begin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from carbonmon.core.model import Interval, NodeTotal
from carbonmon.core.node_meter import NodeEnergy
from carbonmon.core.records import NamedTuple


class NodeTotals(NamedTuple):
    """The totals of each device by its id, the monitor's samples and its CPU seconds (None: unknown), and the
    totals of the node meters by name.

    Made once for a snapshot, whatever the number of runs.
    """

    devices: Mapping[str, NodeTotal]
    samples: int = 0
    cpu_s: float | None = 0.0
    meters: Mapping[str, NodeEnergy] = {}


class Found(NamedTuple):
    """What the devices, the monitor and the node meters did between two moments."""

    devices: tuple[NodeTotal, ...]
    samples: int
    cpu_s: float | None
    meters: tuple[NodeEnergy, ...] = ()


NOTHING = NodeTotals({})


class Meanwhile:
    """The difference of two `NodeTotals`: from a run's begin until now, or until its end."""

    __slots__ = ("_begin", "_found")

    def __init__(self) -> None:
        self._begin = NOTHING
        self._found: Found | None = None

    def begin(self, node: NodeTotals) -> None:
        """Count from here on."""
        self._begin = node

    def restore(
        self,
        rows: Iterable[NodeTotal],
        samples: int,
        cpu_s: float | None,
        meters: Iterable[NodeEnergy],
        node: NodeTotals,
    ) -> None:
        """Go on from what an earlier monitor found; devices that it did not know count from here on."""
        measured = {row.meter: row for row in meters}
        found = {row.device_id: row for row in rows}
        self._begin = NodeTotals(
            {
                device_id: minus(total, found[device_id]) if device_id in found else total
                for device_id, total in node.devices.items()
            },
            node.samples - samples,
            _difference(node.cpu_s, cpu_s),
            {
                name: total.minus(measured[name]) if name in measured else total
                for name, total in node.meters.items()
            },
        )

    def leave_out(self, part: Interval, g_per_j: float) -> None:
        """Do not count a part of a device's interval that is being settled: it is not of the run's time."""
        before = self._begin.devices.get(part.device_id)
        if before is not None:
            left_out = before._replace(
                counter_j=before.counter_j + part.counter_j,
                power_j=before.power_j + part.power_j,
                tdp_j=before.tdp_j + part.tdp_j,
                emissions_g=before.emissions_g + part.energy_j * g_per_j,
            )
            devices = {**self._begin.devices, part.device_id: left_out}
            self._begin = self._begin._replace(devices=devices)

    def leave_out_of_meter(self, grown: NodeEnergy, ratio: float) -> None:
        """The same of what a node meter has just measured: a part of it."""
        before = self._begin.meters.get(grown.meter)
        if before is not None:
            meters = {**self._begin.meters, grown.meter: before.plus(grown, ratio)}
            self._begin = self._begin._replace(meters=meters)

    def end(self, node: NodeTotals) -> None:
        """Count no further."""
        self._found = self.until(node)

    def until(self, node: NodeTotals) -> Found:
        """What was found since the begin."""
        if self._found is not None:
            return self._found
        now = node.devices
        return Found(
            tuple([minus(now[device_id], before) for device_id, before in self._begin.devices.items()]),
            node.samples - self._begin.samples,
            _difference(node.cpu_s, self._begin.cpu_s),
            tuple([node.meters[name].minus(before) for name, before in self._begin.meters.items()]),
        )


def minus(now: NodeTotal, before: NodeTotal) -> NodeTotal:
    """The growth of each total; never below 0, whatever rounding does.

    It is called for every run and device at each snapshot: hence the plain arithmetic.
    """
    device_id, counter_j, power_j, tdp_j, grams, used_s, known_s, resets, jumps, step_backs, stuck, odd = now
    _, counter_0, power_0, tdp_0, grams_0, used_0, known_0, resets_0, jumps_0, back_0, stuck_0, odd_0 = before
    return NodeTotal(
        device_id,
        counter_j - counter_0 if counter_j > counter_0 else 0.0,
        power_j - power_0 if power_j > power_0 else 0.0,
        tdp_j - tdp_0 if tdp_j > tdp_0 else 0.0,
        grams - grams_0 if grams > grams_0 else 0.0,
        used_s - used_0 if used_s > used_0 else 0.0,
        known_s - known_0 if known_s > known_0 else 0.0,
        resets - resets_0 if resets > resets_0 else 0,
        jumps - jumps_0 if jumps > jumps_0 else 0,
        step_backs - back_0 if step_backs > back_0 else 0,
        stuck - stuck_0 if stuck > stuck_0 else 0,
        odd - odd_0 if odd > odd_0 else 0,
    )


def _difference(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before
