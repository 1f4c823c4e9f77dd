"""The idle power of a CPU package or of memory, observed; and the part of its energy above it; pure.

A device is idle while the CPUs of the node are: in every sample of at least `IDLE_WINDOW_S` seconds they
were busy for less than `IDLE_BUSY_RATIO` of their time, and less than `IDLE_BUSY_CPUS` of them. Its idle
power is the lowest mean power over such a time. With the power P of an interval, the part of its energy that
work caused is

    (P − P_idle) / P,  at least 0

as in the linear model P = P_idle + (P_busy − P_idle) × U (Fan, Weber, Barroso, "Power Provisioning for a
Warehouse-sized Computer", 2007); P is measured here, so that U is not needed.
"""

from __future__ import annotations

from carbonmon.core.model import Device, Interval
from carbonmon.core.records import NamedTuple

IDLE_WINDOW_S = 10.0
IDLE_BUSY_RATIO = 0.02
IDLE_BUSY_CPUS = 0.5
"""On a machine of 128 CPUs 2 % are two and a half busy ones, which draw far more than idle ones."""

UNKNOWN_NOTE = "by CPU time, idle energy in proportion: idle power not observed yet"
AT_FIRST = "; in proportion at first"


class IdlePower(NamedTuple):
    """`idle_w` is the lowest mean power that was observed, None before. The idle time that goes on now has
    lasted for `seconds`, in which the device drew `joules`."""

    idle_w: float | None = None
    seconds: float = 0.0
    joules: float = 0.0


class DynamicPart(NamedTuple):
    """The part of a device's energy that is charged by CPU time without idle energy; a note says how."""

    ratio: float
    note: str


ALL = DynamicPart(1.0, UNKNOWN_NOTE)


def is_idle(busy_s: float, capacity_s: float, elapsed_s: float) -> bool:
    """Whether CPUs were idle that were busy for `busy_s` of `capacity_s` CPU seconds in `elapsed_s` seconds.

    Without a capacity nobody counted them.
    """
    return busy_s < IDLE_BUSY_RATIO * capacity_s and busy_s < IDLE_BUSY_CPUS * elapsed_s


def observe(before: IdlePower, device: Device, interval: Interval, idle: bool) -> IdlePower:
    """What is known after one more interval, during which the CPUs were idle, or not.

    An estimate says nothing of a device that is measured, and a time without energy nothing of any.
    """
    seconds = interval.end_s - interval.start_s
    is_estimate = interval.tdp_j > 0.0 and device.methods != ("tdp",)
    if not idle or is_estimate or interval.unobserved_s or interval.power_w is None:
        return before if not before.seconds else IdlePower(before.idle_w)
    seconds += before.seconds
    joules = before.joules + interval.power_w * (interval.end_s - interval.start_s)
    if seconds < IDLE_WINDOW_S:
        return IdlePower(before.idle_w, seconds, joules)
    if joules <= 0.0:
        return IdlePower(before.idle_w)
    mean_w = joules / seconds
    return IdlePower(mean_w if before.idle_w is None else min(before.idle_w, mean_w))


def dynamic_part(idle_w: float | None, power_w: float | None) -> DynamicPart:
    """The part above the idle power (W) of a device that drew `power_w` in the mean.

    All of it while the idle power is unknown: what a run causes is then not more than that.
    """
    if idle_w is None:
        return ALL
    note = f"by CPU time, without its idle power of {idle_w:.3g} W (observed)"
    if power_w is None:
        return DynamicPart(1.0, note)
    return DynamicPart((power_w - idle_w) / power_w if power_w > idle_w else 0.0, note)


def joined_note(before: str | None, note: str) -> str:
    """The note of a run whose idle power became known in its midst says so from then on."""
    was_unknown = before is not None and (before == UNKNOWN_NOTE or before.endswith(AT_FIRST))
    return note + AT_FIRST if was_unknown and note != UNKNOWN_NOTE else note
