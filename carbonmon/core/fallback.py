"""The methods below a hardware counter: integrated power, else TDP × utilisation; pure.

They are read all the time, so that a step down from the counter leaves no gap (`energy.py` says when they are
credited). What they observe is in a `FallbackMeter`.
"""

from __future__ import annotations

from carbonmon.core.model import Device, FallbackMeter, Interval, Meter, Reading
from carbonmon.core.records import record

TRACE_TOLERANCE_S = 0.25
"""How far a trace's own duration may differ from ours before only its mean power is used."""

NO_FALLBACK = FallbackMeter()


def fallback_baseline(device: Device, reading: Reading, at_s: float) -> FallbackMeter:
    """The fallback methods from this reading on, with nothing to credit."""
    power_w = reading.power_w
    if power_w is not None or reading.trace is not None or estimated_power_w(device, reading) is not None:
        return record(FallbackMeter, (at_s, power_w, 0.0, 0.0, 0.0))
    return NO_FALLBACK


def advance_fallback(
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


def fallback_interval(meter: Meter, device: Device, fallback: FallbackMeter, at_s: float) -> Interval:
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


def estimated_power_w(device: Device, reading: Reading) -> float | None:
    """TDP × utilisation in W, the product that the field's calculators use; None if unknown.

    Where the specification states the power at no load, utilisation is of what is above that.
    """
    spec = device.spec
    if spec is None:
        return None
    ratio = reading.utilization_ratio
    if ratio is None:
        ratio = spec.assumed_utilization_ratio
    if ratio is None:
        return None
    idle_w = spec.idle_w or 0.0
    return idle_w + (spec.tdp_w - idle_w) * ratio


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
