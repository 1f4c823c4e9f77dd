"""From the readings of a node meter to joules: the devices' own fold (`energy.py`), with a counter's rules.

- A counter counts when it moves. Its steps may be as coarse as a kWh, and nobody knows how far within a step
  it was at the first reading: the first move is its baseline. Until then, and while it stands between two
  moves, integrated power is credited, which the next move corrects: no joule counts twice.
- A slow meter says something every few seconds. At a run's begin and end its last power is taken to last
  until then (`settle`), for two readings' time at most: behind that nothing is known.
"""

from __future__ import annotations

from carbonmon.core import energy
from carbonmon.core.energy import UJ_PER_J, Limits
from carbonmon.core.model import Device, Failure, Interval, Meter, Reading
from carbonmon.core.node_meter import MOST_NODE_W, NodeReading
from carbonmon.core.records import NamedTuple

LEAST_LASTS_S = 5.0


class NodeFold(NamedTuple):
    """What is known of a node meter after its last reading, `said_s` on the injected clock.

    `lasts_s` is how long a power stands for the time after it. `seen_uj` is the counter's last value, `line`
    that of the last reading. `power_w` is the last power, `step_uj` the smallest step of the counter.
    """

    device: Device
    limits: Limits
    lasts_s: float
    meter: Meter
    said_s: float
    seen_uj: int | None = None
    line: str = ""
    power_w: float | None = None
    step_uj: int | None = None


def begun(name: str, period_s: float, now_s: float) -> NodeFold:
    """The fold of a meter that is read from now on, every `period_s` seconds at best.

    The fold knows devices: this one is counted, shown and charged nowhere.
    """
    device = Device(name, "module", name, max_power_w=MOST_NODE_W)
    meter = energy.start(device, Failure(name, "silent"), now_s)
    limits = energy.limits_for(period_s)
    return NodeFold(device, limits, max(LEAST_LASTS_S, 2.0 * period_s), meter, now_s)


def resumed(fold: NodeFold, meter: Meter) -> NodeFold:
    """The fold that goes on from an earlier monitor's on the same boot."""
    last_s, last_w = meter.fallback.last_s, meter.fallback.last_w
    said_s = meter.settled_s if last_s is None else last_s
    return fold._replace(meter=meter, said_s=said_s, seen_uj=meter.base_uj, power_w=last_w)


def advance(fold: NodeFold, said: NodeReading, at_s: float) -> tuple[NodeFold, list[Interval], int]:
    """The next fold, the intervals that the reading settles, how many of its quantities are implausible."""
    power_w, energy_uj, line = said
    rejected = 0
    if power_w == 0.0:
        power_w = None  # a machine that runs draws power: it is not known
    if power_w is not None and not 0.0 <= power_w <= MOST_NODE_W:
        power_w, rejected = None, 1
    at_s = max(at_s, fold.said_s, fold.meter.settled_s)
    fold = fold._replace(said_s=at_s, power_w=power_w)
    anomaly = "" if energy_uj is None else _anomaly(fold, energy_uj, line, at_s)
    intervals: list[Interval] = []
    if anomaly:
        fold, intervals = _ended_line(fold, at_s, anomaly)
    moved_uj = None
    if energy_uj is not None:
        if fold.seen_uj is not None and energy_uj > fold.seen_uj:
            moved_uj = energy_uj
            step_uj = energy_uj - fold.seen_uj
            fold = fold._replace(step_uj=min(step_uj, fold.step_uj or step_uj))
        fold = fold._replace(seen_uj=energy_uj, line=line)
    reading = Reading(fold.device.id, moved_uj, power_w)
    meter, interval = energy.advance(fold.meter, fold.device, reading, at_s, fold.limits)
    if interval is not None:
        intervals.append(interval)
    return fold._replace(meter=meter), intervals, rejected


def settle(fold: NodeFold, now_s: float) -> tuple[NodeFold, Interval | None]:
    """Credit everything until now: the last power is taken to last, unless it is too old."""
    if now_s <= fold.meter.settled_s:
        return fold, None
    is_known = fold.power_w is not None and now_s - fold.said_s <= fold.lasts_s
    reading: Reading | Failure = (
        Reading(fold.device.id, power_w=fold.power_w) if is_known else Failure(fold.device.id, "silent")
    )
    limits = fold.limits._replace(hold_s=0.0)
    meter, interval = energy.advance(fold.meter, fold.device, reading, now_s, limits)
    return fold._replace(meter=meter), interval


def is_silent(fold: NodeFold, now_s: float) -> bool:
    """Whether the meter has said nothing for so long that its last power stands for nothing any more."""
    return now_s - fold.said_s > fold.limits.max_gap_s


def finish(fold: NodeFold, now_s: float) -> Interval | None:
    """What is open at the end of metering, once everything is settled."""
    return energy.finish(fold.meter, fold.device, now_s)


def _anomaly(fold: NodeFold, energy_uj: int, line: str, at_s: float) -> str:
    """Why a counter's value does not go on from the one before: reset, or jump; "" if it may.

    A slow counter has no second value soon that could say whether a step back was a glitch: the next move is
    a new baseline in any case, and power is credited until then.
    """
    meter, seen_uj = fold.meter, fold.seen_uj
    if seen_uj is None:
        return ""
    if energy_uj < seen_uj or (fold.line and line != fold.line):
        return "reset"
    if meter.base_uj is None:
        return ""
    elapsed_s = at_s - meter.base_s
    _, anomaly = energy.difference_uj(meter.base_uj, energy_uj, elapsed_s, None, MOST_NODE_W)
    return anomaly


def _ended_line(fold: NodeFold, at_s: float, anomaly: str) -> tuple[NodeFold, list[Interval]]:
    """The counter began anew: what its old line did not tell is power's, and the new line begins now."""
    reading = Reading(fold.device.id, power_w=fold.power_w)
    limits = fold.limits._replace(hold_s=0.0)
    meter, settled = energy.advance(fold.meter, fold.device, reading, at_s, limits)
    rest = energy.finish(meter, fold.device, at_s)
    intervals = [each for each in (settled, rest) if each is not None]
    last = intervals.pop() if intervals else Interval(fold.device.id, at_s, at_s)
    intervals.append(last._replace(resets=int(anomaly == "reset"), jumps=int(anomaly == "jump")))
    return fold._replace(meter=energy.start(fold.device, reading, at_s), seen_uj=None), intervals


def counter_step_j(fold: NodeFold) -> float | None:
    """The smallest step of the counter that was seen, in joules."""
    return None if fold.step_uj is None else fold.step_uj / UJ_PER_J
