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
  from the counter's next difference; if the fallback was too high, from the following ones as well. The
  total therefore returns to the counter's value, and it never decreases.
- **Wraps, resets, jumps.** A decrease of a counter that wraps is a wrap if the wrapped difference is
  plausible; any other decrease is a reset. A difference above what the device can draw is a jump. Resets
  and jumps are rejected and counted, and the fallback is credited where it observed something.
- **Nothing is invented.** Time that no method observed is reported in seconds, without energy: at once
  where there is no counter; where there is one, when it is certain that it cannot cover the gap.
"""

from __future__ import annotations

from typing import NamedTuple

from carbonmon.core.model import Curve, Device, Failure, FallbackMeter, Interval, Meter, Reading

UJ_PER_J = 1_000_000

PLAUSIBLE_POWER_FACTOR = 2.0
"""A counter may grow at twice the device's power limit: the counter of Grace Hopper holds the whole
module, about 1.4 times the GPU's limit, and firmware lets short peaks pass."""

PLAUSIBLE_SLACK_S = 1.0
"""Counters are refreshed in steps of up to 0.1 s (NVML; RAPL about 1 ms), so a short interval may hold
the energy of a longer one. A second at full power is far below any false value worth rejecting."""

TRACE_TOLERANCE_S = 0.25
"""How far a trace's own duration may differ from ours before only its mean power is used."""


SHAPE_TOLERANCE_S = 0.25
"""How much of an interval's ends its power samples may leave open: drivers take one every 20 to 100 ms."""

NO_FALLBACK = FallbackMeter()


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
    return Meter(at_s, reading.energy_uj, at_s, _fallback_baseline(device, reading, at_s))


def advance(
    meter: Meter, device: Device, reading: Reading | Failure, at_s: float, limits: Limits
) -> tuple[Meter, Interval | None]:
    """The next meter, and the interval that this reading credits (None while a counter is waited for).

    `at_s` is the time of the reading. A `Failure` is a reading in which the device gave no value.
    """
    if isinstance(reading, Failure):
        reading = Reading(reading.device_id)
    energy_uj = reading.energy_uj
    base_uj = meter.base_uj
    anomaly = ""
    if energy_uj is not None and base_uj is not None:
        elapsed_s = at_s - meter.base_s
        range_uj, max_power_w = device.counter_range_uj, device.max_power_w
        drawn_uj, anomaly = difference_uj(base_uj, energy_uj, elapsed_s, range_uj, max_power_w)
        if not anomaly:
            drawn_j = drawn_uj / UJ_PER_J
            credited_j = drawn_j - meter.ahead_j
            ahead_j = 0.0
            if credited_j < 0.0:
                credited_j, ahead_j = 0.0, -credited_j
            return (
                Meter(at_s, energy_uj, at_s, _fallback_baseline(device, reading, at_s), ahead_j),
                Interval(
                    device.id,
                    meter.settled_s,
                    at_s,
                    credited_j,
                    0.0,
                    0.0,
                    drawn_j / elapsed_s if elapsed_s > 0.0 else None,
                ),
            )
    fallback = _advance_fallback(meter.fallback, device, reading, at_s, meter.settled_s, limits.max_gap_s)
    if energy_uj is None:
        waiting = base_uj is not None or not fallback.observed_s
        if waiting and at_s - meter.settled_s < limits.hold_s:
            return meter._replace(fallback=fallback), None
        return _step_down(meter, device, fallback, at_s)
    return _set_new_baseline(meter, device, fallback, energy_uj, at_s, anomaly)


def finish(meter: Meter, device: Device, at_s: float) -> Interval | None:
    """Credit, at the end of metering, the time held for a counter that gave no value again."""
    end_s = max(at_s, meter.settled_s)
    interval = _fallback_interval(meter, device, meter.fallback, end_s)
    lost_s = interval.unobserved_s + meter.open_s
    if not (lost_s or interval.energy_j):
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
        plausible_uj = PLAUSIBLE_POWER_FACTOR * max_power_w * (elapsed_s + PLAUSIBLE_SLACK_S) * UJ_PER_J
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


def trapezoid_j(trace: tuple[tuple[float, float], ...]) -> float:
    """Joules under (s, W) samples joined by straight lines: Σ ½ (wᵢ + wᵢ₊₁)(tᵢ₊₁ − tᵢ).

    Repeated values count. Where time decreases (a driver clock that was set back) nothing is added.
    """
    energy_j = 0.0
    before_s, before_w = trace[0]
    for sample_s, power_w in trace:
        if sample_s > before_s:
            energy_j += (sample_s - before_s) * (before_w + power_w) * 0.5
        before_s, before_w = sample_s, power_w
    return energy_j


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


def estimated_power_w(device: Device, reading: Reading) -> float | None:
    """TDP × utilisation in W, the product that the field's calculators use; None if unknown."""
    spec = device.spec
    if spec is None:
        return None
    ratio = reading.utilization_ratio
    if ratio is None:
        ratio = spec.assumed_utilization_ratio
    return None if ratio is None else spec.tdp_w * ratio


def _fallback_baseline(device: Device, reading: Reading, at_s: float) -> FallbackMeter:
    """The fallback methods from this reading on, with nothing to credit."""
    power_w = reading.power_w
    if power_w is not None or reading.trace is not None or estimated_power_w(device, reading) is not None:
        return FallbackMeter(at_s, power_w)
    return NO_FALLBACK


def _advance_fallback(
    fallback: FallbackMeter, device: Device, reading: Reading, at_s: float, settled_s: float, max_gap_s: float
) -> FallbackMeter:
    """The fallback methods after one more reading: power by trapezoid, else TDP × utilisation."""
    last_s, last_w, power_j, tdp_j, observed_s = fallback
    elapsed_s = -1.0 if last_s is None else at_s - last_s
    near = 0.0 <= elapsed_s <= max_gap_s
    power_w = reading.power_w
    trace = reading.trace
    if trace is not None:
        if len(trace) < 2:
            # The driver has nothing newer than last time: its next trace covers this time too.
            return FallbackMeter(last_s if near else at_s, power_w, power_j, tdp_j, observed_s)
        span_s = trace[-1][0] - trace[0][0]
        if not near:
            # A trace that began before a failed read covers it: the driver sampled meanwhile.
            elapsed_s = at_s - settled_s - observed_s
            near = elapsed_s > 0.0 and abs(span_s - elapsed_s) <= TRACE_TOLERANCE_S
        if near and span_s > 0.0:
            energy_j = trapezoid_j(trace)
            if abs(span_s - elapsed_s) > TRACE_TOLERANCE_S + 0.5 * elapsed_s:
                energy_j *= elapsed_s / span_s
            return FallbackMeter(at_s, power_w, power_j + energy_j, tdp_j, observed_s + elapsed_s)
        return FallbackMeter(at_s, power_w, power_j, tdp_j, observed_s)
    if power_w is not None and near and last_w is not None:
        power_j += 0.5 * (last_w + power_w) * elapsed_s
        return FallbackMeter(at_s, power_w, power_j, tdp_j, observed_s + elapsed_s)
    estimate_w = estimated_power_w(device, reading)
    if estimate_w is None:
        return FallbackMeter(None if power_w is None else at_s, power_w, power_j, tdp_j, observed_s)
    if near:
        tdp_j += estimate_w * elapsed_s
        observed_s += elapsed_s
    return FallbackMeter(at_s, power_w, power_j, tdp_j, observed_s)


def _fallback_interval(meter: Meter, device: Device, fallback: FallbackMeter, at_s: float) -> Interval:
    """The interval since `settled_s` by the fallback methods; what they did not observe is unobserved."""
    energy_j = fallback.power_j + fallback.tdp_j
    return Interval(
        device.id,
        meter.settled_s,
        at_s,
        0.0,
        fallback.power_j,
        fallback.tdp_j,
        energy_j / fallback.observed_s if fallback.observed_s > 0.0 else None,
        # Sums of differences carry rounding: less than a microsecond was not lost.
        lost_s if (lost_s := at_s - meter.settled_s - fallback.observed_s) > 1e-6 else 0.0,
    )


def _step_down(
    meter: Meter, device: Device, fallback: FallbackMeter, at_s: float
) -> tuple[Meter, Interval | None]:
    """Credit the fallback methods. A counter that may return still covers what they did not observe."""
    interval = _fallback_interval(meter, device, fallback, at_s)
    after = FallbackMeter(fallback.last_s, fallback.last_w)
    if meter.base_uj is None:
        return Meter(at_s, None, meter.base_s, after), interval
    if not fallback.observed_s:
        return meter._replace(fallback=fallback), None
    stepped = meter._replace(
        settled_s=at_s,
        fallback=after,
        ahead_j=meter.ahead_j + interval.energy_j,
        open_s=meter.open_s + interval.unobserved_s,
    )
    return stepped, interval._replace(unobserved_s=0.0)


def _set_new_baseline(
    meter: Meter, device: Device, fallback: FallbackMeter, energy_uj: int, at_s: float, anomaly: str
) -> tuple[Meter, Interval]:
    """Take a counter's value as the new baseline and credit the time before it by the fallback methods."""
    interval = _fallback_interval(meter, device, fallback, at_s)
    interval = interval._replace(
        unobserved_s=interval.unobserved_s + meter.open_s,
        resets=int(anomaly == "reset"),
        jumps=int(anomaly == "jump"),
    )
    return Meter(at_s, energy_uj, at_s, FallbackMeter(fallback.last_s, fallback.last_w)), interval
