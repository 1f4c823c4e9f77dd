"""From successive readings of one device to joules: a pure fold without I/O, clock or thread.

A `Meter` holds what is known of one device between two readings; `advance` gives the next meter and
the interval of energy that the new reading settles. The rules:

- **Order of methods.** A hardware counter is best, an integrated power sensor next, TDP × utilisation
  last. The last two, the fallback methods, are read all the time (`FallbackMeter`), so that a step down
  leaves no gap.
- **Hold.** When a counter gives no value, its device is credited nothing for `hold_s`: the next counter
  reading covers the gap exactly. After that the fallback is credited, the held time included. A power
  sensor that fails is waited for as long, because its driver's buffer may cover the gap.
- **No joule twice.** What the fallback credited since the counter's last value (`ahead_j`) is subtracted
  from the counter's next difference; if the fallback was too high, from the following ones as well, while a
  run lives that had it (`sampler.py`). The total therefore returns to the counter's value, and it never
  decreases.
- **Wraps, resets, jumps, glitches.** A decrease of a counter that wraps is a wrap if the wrapped difference
  is plausible. Any other decrease, and a difference above what the device can draw, waits for the next
  values (`OddValue`): if they are back on the old line it was a glitch, and the counter covers it exactly;
  if they go on from the odd value it was a reset, or a jump: the fallback is credited until then, the
  counter from then on. All of them are counted.
- **Stuck.** A counter that stands still while the device certainly works gives no value. If it moves again,
  what the fallback credited is subtracted from its first difference.
- **Nothing is invented.** Time that no method observed is reported in seconds, without energy: at once
  where there is no counter; where there is one, when it is certain that it cannot cover the gap.
"""

from __future__ import annotations

from carbonmon.core.fallback import advance_fallback, fallback_baseline, fallback_interval
from carbonmon.core.model import Curve, Device, Failure, FallbackMeter, Interval, Meter, OddValue, Reading
from carbonmon.core.plausibility import is_working
from carbonmon.core.records import NamedTuple, record

UJ_PER_J = 1_000_000

PLAUSIBLE_SLACK_S = 1.0
"""Counters are refreshed in steps of up to 0.1 s (NVML; RAPL about 1 ms), so a short interval may hold
the energy of a longer one. A second at full power is far below any false value worth rejecting."""

SHAPE_TOLERANCE_S = 0.25
"""How much of an interval's ends its power samples may leave open: drivers take one every 20 to 100 ms."""

TOO_SHORT_S = 0.045
"""A shorter interval, which no `--interval` (0.05 s and more) asks for, tells no power."""

STILL_S = 0.5
"""A counter that did not change for so long stands still: the slowest are refreshed every 0.1 s (NVML)."""

DOUBT_S = 5.0
"""For so long a GPU's counter may stand still while the GPU works, and is believed all the same."""

NEW_LINE_VALUES = 3
"""After so many values below its line a counter was reset. Glitches of a second were seen: at a tick a second
they are one value, or two."""


class Limits(NamedTuple):
    """The times after which a method counts as failed, in seconds.

    `hold_s`: how long a counter without a value is waited for. `max_gap_s`: two readings of power or
    utilisation further apart than this leave a gap, because nothing observed the time between them.
    """

    hold_s: float
    max_gap_s: float


def limits_for(interval_s: float) -> Limits:
    """The limits that suit a sampling interval (s)."""
    return Limits(hold_s=max(5.0, 3.0 * interval_s), max_gap_s=max(10.0, 5.0 * interval_s))


def start(device: Device, reading: Reading | Failure, at_s: float) -> Meter:
    """The meter of a device at its first reading: a baseline, no energy."""
    if isinstance(reading, Failure):
        return Meter(at_s, None, at_s, FallbackMeter())
    return Meter(at_s, reading.energy_uj, at_s, fallback_baseline(device, reading, at_s), moved_s=at_s)


def advance(
    meter: Meter, device: Device, reading: Reading | Failure, at_s: float, limits: Limits
) -> tuple[Meter, Interval | None]:
    """The next meter, and the interval that this reading settles (None while a counter is held for).

    `at_s` is the time of the reading. A `Failure` is a reading in which the device said nothing.
    """
    if isinstance(reading, Failure):
        reading = Reading(reading.device_id)
    energy_uj = reading.energy_uj
    base_uj = meter.base_uj
    anomaly = ""
    if energy_uj is not None and base_uj is not None:
        elapsed_s = at_s - meter.base_s
        range_uj, max_power_w = device.counter_range_uj, device.max_power_w
        drawn_uj = energy_uj - base_uj
        # Nearly every difference is plain, of a device of known power: no more than that gives in the time.
        most_uj = 0.0 if max_power_w is None else max_power_w * elapsed_s * UJ_PER_J
        if not 0 <= drawn_uj <= most_uj or (range_uj is not None and most_uj >= range_uj):
            drawn_uj, anomaly = difference_uj(base_uj, energy_uj, elapsed_s, range_uj, max_power_w)
        odd = meter.odd
        if odd is not None and not anomaly and _is_on_new_line(meter, odd, energy_uj, drawn_uj, at_s):
            anomaly = "jump" if odd.is_jump else "reset"
        if not anomaly:
            if drawn_uj or at_s - meter.moved_s < STILL_S or not is_working(device, reading):
                return _credit_counter(meter, device, reading, energy_uj, drawn_uj, at_s)
            energy_uj = None
    fallback = advance_fallback(meter.fallback, device, reading, at_s, meter.settled_s, limits.max_gap_s)
    if energy_uj is None:
        stands_still = reading.energy_uj is not None
        waiting = base_uj is not None or not fallback.observed_s
        if waiting and at_s - meter.settled_s < limits.hold_s:
            return meter._replace(fallback=fallback, stands_still=stands_still), None
        return _step_down(meter, device, fallback, at_s, stands_still)
    if anomaly in ("reset", "jump"):
        return _doubt(meter, device, reading, fallback, energy_uj, at_s, anomaly == "jump", limits.hold_s)
    return _set_new_baseline(meter, device, fallback, energy_uj, at_s)


def last_power_w(before_w: float | None, interval: Interval) -> float | None:
    """The power to show after an interval: that of before where it is too short to tell one.

    The sample of a run's begin or end may follow the last one by a millisecond: a counter that was not
    refreshed meanwhile says 0 W then, one that was says kilowatts.
    """
    is_told = interval.end_s - interval.start_s >= TOO_SHORT_S or before_w is None
    return interval.power_w if is_told or interval.power_w is None else before_w


def finish(meter: Meter, device: Device, at_s: float) -> Interval | None:
    """Settle, at the end of metering, what was held for a counter that did not return."""
    end_s = max(at_s, meter.settled_s)
    is_newly_still = meter.stands_still and not meter.is_stuck
    if is_newly_still and device.component == "gpu" and end_s - meter.settled_s < DOUBT_S:
        # It did not stand still for long enough to be doubted. A package that runs never stands still.
        return Interval(device.id, meter.settled_s, end_s, power_w=0.0)
    interval = _count_odd(fallback_interval(meter, device, meter.fallback, end_s), meter.odd)
    interval = interval._replace(stuck=int(is_newly_still))
    lost_s = interval.unobserved_s + meter.open_s
    if not (lost_s or interval.energy_j or meter.odd):
        return None
    return interval._replace(unobserved_s=lost_s)


def difference_uj(
    before_uj: int, after_uj: int, elapsed_s: float, range_uj: int | None, max_power_w: float | None
) -> tuple[int, str]:
    """Microjoules drawn between two values of a counter, and "" or why they cannot be known.

    The reasons are `reset`, `jump` and `hidden wrap`. A powercap counter goes from `range_uj` to 0
    (Linux, Documentation/power/powercap/powercap.rst); when so much time passed that the device could
    have drawn a whole range, a wrap may be unseen and the difference is unknown.
    """
    drawn_uj = after_uj - before_uj
    if max_power_w is None:
        plausible_uj = None
    else:
        plausible_uj = max_power_w * (elapsed_s + PLAUSIBLE_SLACK_S) * UJ_PER_J
        if range_uj is not None and max_power_w * elapsed_s * UJ_PER_J >= range_uj:
            return 0, "hidden wrap"
    if drawn_uj < 0:
        if range_uj is None or plausible_uj is None:
            return 0, "reset"
        drawn_uj += range_uj + 1
        if drawn_uj < 0 or drawn_uj > plausible_uj:
            return 0, "reset"
    elif plausible_uj is not None and drawn_uj > plausible_uj:
        return 0, "jump"
    return drawn_uj, ""


def curve(
    shape: tuple[tuple[float, float], ...], offset_s: float, start_s: float, end_s: float
) -> Curve | None:
    """When the energy of an interval was drawn, from (s, W) samples whose clock is `offset_s` ahead of ours.

    Each sample holds for the time since the one before; the newest one also for the time after it. None
    where the samples leave a gap at an end, as after a step of their clock.
    """
    times_s = [start_s]
    joules = [0.0]
    power_w = 0.0
    for sample_s, power_w in shape:
        at_s = sample_s - offset_s
        if at_s > times_s[-1]:
            if len(times_s) == 1 and at_s - start_s > SHAPE_TOLERANCE_S:
                return None
            joules.append(joules[-1] + power_w * (at_s - times_s[-1]))
            times_s.append(at_s)
    if end_s > times_s[-1]:
        if end_s - times_s[-1] > SHAPE_TOLERANCE_S:
            return None
        joules.append(joules[-1] + power_w * (end_s - times_s[-1]))
        times_s.append(end_s)
    return Curve(tuple(times_s), tuple(joules)) if joules[-1] > 0.0 else None


def _credit_counter(
    meter: Meter, device: Device, reading: Reading, energy_uj: int, drawn_uj: int, at_s: float
) -> tuple[Meter, Interval]:
    """Credit a plausible difference of the counter, less what the fallback credited meanwhile."""
    settled_s, elapsed_s = meter.settled_s, at_s - meter.base_s
    drawn_j = drawn_uj / UJ_PER_J
    credited_j = drawn_j - meter.ahead_j
    ahead_j = 0.0
    if credited_j < 0.0:
        # A counter that stood still may have lost that time for good: then its next joules are new ones.
        credited_j, ahead_j = 0.0, 0.0 if meter.is_stuck else -credited_j
    power_w = drawn_j / elapsed_s if elapsed_s > 0.0 else None
    interval = record(
        Interval, (device.id, settled_s, at_s, credited_j, 0.0, 0.0, power_w, 0.0, 0, 0, None, 0, 0)
    )
    odd = meter.odd
    if odd is not None:  # it is back on its line: a glitch, which it covers
        interval = interval._replace(
            step_backs=0 if odd.is_jump else odd.values + odd.others,
            jumps=odd.values + odd.others if odd.is_jump else 0,
        )
    moved_s = at_s if drawn_uj else meter.moved_s
    fallback = fallback_baseline(device, reading, at_s)
    rate_w = power_w if at_s - settled_s >= TOO_SHORT_S else last_power_w(meter.rate_w, interval)
    after = record(
        Meter, (at_s, energy_uj, at_s, fallback, ahead_j, 0.0, moved_s, rate_w, False, False, None)
    )
    return after, interval


def _is_on_new_line(meter: Meter, odd: OddValue, energy_uj: int, drawn_uj: int, at_s: float) -> bool:
    """Whether a value that fits the old line as well goes on from the odd value.

    Time alone makes a difference plausible. After a step back the line counts whose power is nearer to that
    of before.
    """
    if odd.is_jump:
        return energy_uj >= odd.energy_uj
    elapsed_s = at_s - odd.at_s
    if meter.rate_w is None or elapsed_s <= 0.0:
        return False
    new_w = (energy_uj - odd.energy_uj) / UJ_PER_J / elapsed_s
    old_w = drawn_uj / UJ_PER_J / (at_s - meter.base_s)
    return abs(new_w - meter.rate_w) < abs(old_w - meter.rate_w)


def _doubt(
    meter: Meter,
    device: Device,
    reading: Reading,
    fallback: FallbackMeter,
    energy_uj: int,
    at_s: float,
    is_jump: bool,
    hold_s: float,
) -> tuple[Meter, Interval | None]:
    """A value that does not fit the counter's line: wait for what comes next, or take it as a new line."""
    odd = meter.odd
    if odd is not None and odd.is_jump == is_jump:
        elapsed_s = at_s - odd.at_s
        range_uj, max_power_w = device.counter_range_uj, device.max_power_w
        drawn_uj, anomaly = difference_uj(odd.energy_uj, energy_uj, elapsed_s, range_uj, max_power_w)
        if not anomaly:
            if is_jump or odd.values + 1 >= NEW_LINE_VALUES:
                return _new_line(meter, device, reading, odd, energy_uj, drawn_uj, at_s)
            waiting = odd._replace(values=odd.values + 1)
            return meter._replace(fallback=fallback, odd=waiting), None
    others = 0 if odd is None else odd.values + odd.others
    since_s = at_s if odd is None else odd.since_s
    if at_s - max(meter.settled_s, since_s) >= hold_s and fallback.observed_s:
        return _step_down(meter, device, fallback, at_s, stands_still=False, rejected=others + 1)
    waiting = OddValue(energy_uj, at_s, is_jump, 1, others, since_s, fallback)
    return meter._replace(fallback=fallback, odd=waiting), None


def _new_line(
    meter: Meter, device: Device, reading: Reading, odd: OddValue, energy_uj: int, drawn_uj: int, at_s: float
) -> tuple[Meter, Interval]:
    """The counter was reset, or jumped: the fallback is credited until then, the counter from then on."""
    interval = _count_odd(fallback_interval(meter, device, odd.fallback, odd.at_s), odd)
    elapsed_s = at_s - odd.at_s
    counter_j = drawn_uj / UJ_PER_J
    interval = interval._replace(
        end_s=at_s,
        counter_j=counter_j,
        power_w=counter_j / elapsed_s if elapsed_s > 0.0 else None,
        unobserved_s=interval.unobserved_s + meter.open_s,
    )
    return Meter(at_s, energy_uj, at_s, fallback_baseline(device, reading, at_s), moved_s=at_s), interval


def _count_odd(interval: Interval, odd: OddValue | None) -> Interval:
    """Count an odd value that turned out to be the beginning of a new line, and those that were noise."""
    if odd is None:
        return interval
    return interval._replace(
        resets=int(not odd.is_jump),
        jumps=int(odd.is_jump),
        step_backs=odd.others,
    )


def _step_down(
    meter: Meter,
    device: Device,
    fallback: FallbackMeter,
    at_s: float,
    stands_still: bool,
    rejected: int = 0,
) -> tuple[Meter, Interval | None]:
    """Credit the fallback. A counter that may return still covers what it did not observe."""
    interval = fallback_interval(meter, device, fallback, at_s)
    after = FallbackMeter(fallback.last_s, fallback.last_w)
    if meter.base_uj is None:
        return Meter(at_s, None, meter.base_s, after), interval
    if not fallback.observed_s:
        return meter._replace(fallback=fallback), None
    if meter.odd is not None and not rejected:
        rejected = meter.odd.values + meter.odd.others
    stepped = meter._replace(
        settled_s=at_s,
        fallback=after,
        ahead_j=meter.ahead_j + interval.energy_j,
        open_s=meter.open_s + interval.unobserved_s,
        stands_still=stands_still,
        is_stuck=meter.is_stuck or stands_still,
        odd=None,
    )
    return stepped, interval._replace(
        unobserved_s=0.0, stuck=int(stands_still and not meter.is_stuck), step_backs=rejected
    )


def _set_new_baseline(
    meter: Meter, device: Device, fallback: FallbackMeter, energy_uj: int, at_s: float
) -> tuple[Meter, Interval]:
    """Take a counter's value as the new baseline, and credit the fallback with the time before it."""
    interval = fallback_interval(meter, device, fallback, at_s)
    interval = interval._replace(unobserved_s=interval.unobserved_s + meter.open_s)
    after = FallbackMeter(fallback.last_s, fallback.last_w)
    return Meter(at_s, energy_uj, at_s, after, moved_s=at_s), interval
