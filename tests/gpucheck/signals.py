"""Group 2: how fresh, fine and late counter, sample buffer and power sensor are, under steps of load."""

from __future__ import annotations

import statistics
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.gpucheck import limit, series
from tests.gpucheck.figures import Book, percent_off
from tests.gpucheck.plan import Plan
from tests.gpucheck.series import Track
from tests.gpucheck.subject import Subject

POLL_S = 0.005
WAVES_S = (0.2, 0.7, 2.0)
SETTLE_S = 1.2
"""Longer than the second over which a power sensor averages."""

COUNTER_SOURCE = "arXiv 2312.02741: refreshed every 10 to 100 ms"
LAG_SOURCE = "own need: phases of 0.5 s; carbonmon takes samples that leave 0.25 s open"
USAGE_SOURCE = "nvml.h: mean of 1 s on Ampere and later except GA100, else of the moment"
BUFFER_SOURCE = "own need: a poll each second must lose no sample"
NO_SWING = "no difference between idle and steady power"
UNDER_READ_SOURCE = "arXiv 2312.02741: boards under-read when polled faster than they refresh"


@dataclass
class Recording:
    """Readings polled as fast as it goes: Unix times with J for the counter, W for the others."""

    counter: Track = field(default_factory=list)
    counter_mj: list[int] = field(default_factory=list)
    usage: Track = field(default_factory=list)
    average: Track = field(default_factory=list)
    instant: Track = field(default_factory=list)


def record(subject: Subject, seconds: float, step_s: float = POLL_S) -> Recording:
    """Poll everything for so long; what the driver cannot say stays empty."""
    nvml, handle, clock = subject.nvml, subject.handle, subject.clock
    found = Recording()
    begin_s, steps = clock.now_s(), 0
    while clock.now_s() - begin_s < seconds:
        # That one does not answer is a figure of the first group.
        with suppress(nvml.NVMLError):
            counter_mj = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            found.counter.append((clock.wall_s(), counter_mj / 1e3))
            found.counter_mj.append(counter_mj)
        with suppress(nvml.NVMLError):
            power_mw = nvml.nvmlDeviceGetPowerUsage(handle)
            found.usage.append((clock.wall_s(), power_mw / 1e3))
        for track, power_w in zip((found.average, found.instant), _powers_w(nvml, handle), strict=True):
            if power_w is not None:
                track.append((clock.wall_s(), power_w))
        steps += 1
        clock.sleep(begin_s + steps * step_s - clock.now_s())
        if clock.now_s() > begin_s + (steps + 1) * step_s:
            steps = int((clock.now_s() - begin_s) / step_s)  # slow calls: no burst to catch up
    return found


def _powers_w(nvml: Any, handle: Any) -> tuple[float | None, float | None]:
    """Average and instantaneous power by field values."""
    try:
        values = nvml.nvmlDeviceGetFieldValues(handle, [185, 186])
    except nvml.NVMLError:
        return None, None
    average, instant = (value.value.uiVal / 1e3 if value.nvmlReturn == 0 else None for value in values)
    return average, instant


def samples(subject: Subject, since_us: int = 0) -> Track:
    """The driver's buffer of power samples (Unix time in s, W) after that time; empty where it has none."""
    nvml = subject.nvml
    try:
        _, found = nvml.nvmlDeviceGetSamples(subject.handle, nvml.NVML_TOTAL_POWER_SAMPLES, since_us)
    except nvml.NVMLError:
        return []
    return [(sample.timeStamp / 1e6, sample.sampleValue.uiVal / 1e3) for sample in found]


def measure(subject: Subject, book: Book, plan: Plan) -> None:
    book.group = "the signals"
    load, clock = subject.load, subject.clock
    if load is None:
        book.missing("refresh, resolution and lag", "no load for the GPU")
        return
    load.idle()
    clock.sleep(SETTLE_S)
    idle = record(subject, plan.record_s)
    load.steady()
    clock.sleep(SETTLE_S)
    steady = record(subject, plan.record_s)
    slow_w = _slow_power_w(subject, plan.record_s)
    waves = {}
    for period_s in WAVES_S:
        load.square(period_s)
        clock.sleep(period_s)
        waves[period_s] = record(subject, max(plan.wave_s, period_s * 1.6))
    edges = load.edges()
    load.idle()
    _counter(subject, book, [idle, steady, *waves.values()], waves[2.0], edges)
    book.between(
        "counter polled fast against once a second, steady load",
        percent_off(_mean_w(steady.counter), slow_w),
        -3.0,
        3.0,
        "%",
        UNDER_READ_SOURCE,
        f"mean power by the counter, every {POLL_S * 1e3:.0f} ms and every second, one after the other",
    )
    _buffer(book, samples(subject))
    _sensor(subject, book, waves, edges)
    idle_w, steady_w = _mean_w(idle.counter), _mean_w(steady.counter)
    book.note("idle power by the counter", idle_w, "W")
    book.note("steady power by the counter", steady_w, "W", f"load by {load.kind}")
    _swings(book, waves, idle_w, steady_w)
    limit.measure(subject, book, plan)


def _mean_w(counter: Track) -> float | None:
    """From the first change to the last: what was drawn before the first is not known."""
    seen = series.changes(counter)
    if len(seen) < 2:
        return None
    return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])


def _slow_power_w(subject: Subject, seconds: float) -> float | None:
    """The counter's mean power over so long, read at the ends and once a second between."""
    nvml, handle, clock = subject.nvml, subject.handle, subject.clock
    track: Track = []
    try:
        while not track or track[-1][0] - track[0][0] < seconds:
            track.append((clock.wall_s(), nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3))
            clock.sleep(min(1.0, seconds))
    except nvml.NVMLError:
        return None
    return (track[-1][1] - track[0][1]) / (track[-1][0] - track[0][0])


def _counter(
    subject: Subject, book: Book, recordings: list[Recording], wave: Recording, edges: series.Edges
) -> None:
    how = f"polled every {POLL_S * 1e3:.0f} ms"
    longest = max(recordings, key=lambda recording: len(recording.counter))
    period_s = series.refresh_period_s(longest.counter)
    book.between("counter: refresh period", period_s, 0.005, 0.12, "s", COUNTER_SOURCE, how)
    step_mj = series.resolution(longest.counter_mj)
    book.between("counter: resolution", step_mj, 1, 1000, "mJ", "nvml.h: the unit is 1 mJ", how)
    late_s = series.lag_s(series.power_track(wave.counter), edges)
    note = "shift of best correlation with a load of 2 s"
    book.between("counter: lag behind the load", late_s, None, 0.25, "s", LAG_SOURCE, note)


def _buffer(book: Book, found: Track) -> None:
    period_s = statistics.median(b[0] - a[0] for a, b in pairwise(found)) if len(found) > 2 else None
    span_s = found[-1][0] - found[0][0] if len(found) > 2 else None
    why = "the buffer is empty or not supported"
    book.between(
        "sample buffer: period", period_s, 0.005, 0.15, "s", "arXiv 2312.02741: 20 to 100 ms", why=why
    )
    book.note("sample buffer: length", len(found) or None, "samples", why=why)
    book.between("sample buffer: time that it holds", span_s, 1.5, None, "s", BUFFER_SOURCE, why=why)


def _sensor(subject: Subject, book: Book, waves: dict[float, Recording], edges: series.Edges) -> None:
    averages = subject.averages_power
    wave, fast = waves[2.0], waves[0.7]
    usage_range = (0.25, 0.75) if averages else (None, 0.25)
    for name, tracks, (low, high), source in (
        ("nvmlDeviceGetPowerUsage", (wave.usage, fast.usage), usage_range, USAGE_SOURCE),
        ("power field 185, average", (wave.average, fast.average), (0.25, 0.75), "nvml.h: average power"),
        (
            "power field 186, instantaneous",
            (wave.instant, fast.instant),
            (None, 0.25),
            "nvml.h: of the moment",
        ),
    ):
        late_s = series.lag_s(tracks[0], edges)
        note = "shift of best correlation with a load of 2 s; a mean of 1 s lags by 0.5 s"
        book.between(f"{name}: lag behind the load", late_s, low, high, "s", source, note)
        apart_s = series.refresh_period_s(tracks[1])
        book.note(f"{name}: time between two changes", apart_s, "s", "under a load of 0.7 s")


def _swings(book: Book, waves: dict[float, Recording], idle_w: float | None, steady_w: float | None) -> None:
    """How much of a square wave each reading shows."""
    if idle_w is None or steady_w is None:
        return
    for period_s, recording in waves.items():
        for name, track in (("nvmlDeviceGetPowerUsage", recording.usage), ("field 186", recording.instant)):
            ratio = series.swing_ratio(track, idle_w, steady_w)
            book.note(f"{name}: part of the swing seen at {period_s:g} s", ratio, why=NO_SWING)
