"""Group 3: energy by carbonmon's three ways against one another, a bare loop, and `nvidia-smi`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from carbonmon.core import energy
from carbonmon.core.model import Failure, Meter, Reading
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.sensors.nvml.sensor import NvmlSensor
from tests.gpucheck import series
from tests.gpucheck.figures import Book, percent_off
from tests.gpucheck.plan import Plan
from tests.gpucheck.series import Track
from tests.gpucheck.signals import SETTLE_S, WAVES_S, samples
from tests.gpucheck.smi import Smi
from tests.gpucheck.subject import Subject

INTERVAL_S = 1.0
COUNTER, SAMPLES, POWER = "counter", "sample buffer", "power at 1 Hz"
WITHHELD = {
    COUNTER: (),
    SAMPLES: ("nvmlDeviceGetTotalEnergyConsumption",),
    POWER: ("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetSamples"),
}
"""Which calls are withheld from carbonmon's own sensor so that it goes each of its ways."""

REFRESH_S = 0.1
"""Two reads of the counter may differ by one refresh: 10 to 100 ms (arXiv 2312.02741)."""
OWN = "own promise: the meter adds nothing to what NVML says; one refresh of the counter is allowed"
SENSOR = (
    "arXiv 2312.02741: the sensor watches 25 of every 100 ms on A100 and H100; one sensor behind all ways"
)
TRUTH = "the simulation's integral of power"
NO_REFERENCE = "one of the two is missing"
TWO = "two processes"
BOUNDS_PERCENT: dict[str, dict[str, float]] = {
    SAMPLES: {"idle": 5.0, "steady": 3.0, "0.2 s": 15.0, "0.7 s": 12.0, "2 s": 6.0, TWO: 3.0},
    POWER: {"idle": 5.0, "steady": 3.0, "0.2 s": 10.0, "0.7 s": 10.0, "2 s": 10.0, TWO: 3.0},
}


class Withholding:
    """pynvml, some of whose calls answer "not supported"."""

    nvmlLib = None  # noqa: N815 - its name in pynvml
    """Nothing goes around these calls, into the library itself."""

    def __init__(self, nvml: Any, withheld: tuple[str, ...]) -> None:
        self._nvml = nvml
        self._withheld = withheld

    def __getattr__(self, name: str) -> Any:
        return self._refuse if name in self._withheld else getattr(self._nvml, name)

    def _refuse(self, *arguments: Any) -> Any:
        raise self._nvml.NVMLError(self._nvml.NVML_ERROR_NOT_SUPPORTED)


class Way:
    """carbonmon's NVML sensor and its fold of readings to joules, going one of its ways."""

    def __init__(self, subject: Subject, withheld: tuple[str, ...]) -> None:
        subject.nvml.nvmlInit()  # the sensor shuts down for itself, and NVML counts its users
        self._sensor = NvmlSensor(Withholding(subject.nvml, withheld), SensorSettings(gpus=(subject.uuid,)))
        (self._device,) = self._sensor.devices()
        self._limits = energy.limits_for(INTERVAL_S)
        self._meter: Meter | None = None
        self.energy_j = 0.0
        self.methods: set[str] = set()

    def read(self, clock: Any, edge: bool) -> None:
        readings = [one for one in self._sensor.read(clock.now_s(), edge) if isinstance(one, Reading)]
        at_s = clock.now_s()
        reading: Reading | Failure = readings[0] if readings else Failure(self._device.id, "none", "")
        if self._meter is None:
            self._meter = energy.start(self._device, reading, at_s)
            return
        self._meter, interval = energy.advance(self._meter, self._device, reading, at_s, self._limits)
        if interval is not None:
            self.energy_j += interval.energy_j
            parts = {"counter": interval.counter_j, "power": interval.power_j, "tdp": interval.tdp_j}
            self.methods |= {name for name, joules in parts.items() if joules}

    def close(self) -> None:
        self._sensor.close()


@dataclass
class Bare:
    """The same calls without anything around them. Unix times with J and W."""

    counter: Track = field(default_factory=list)
    power: Track = field(default_factory=list)
    buffer: Track = field(default_factory=list)

    def read(self, subject: Subject) -> None:
        """One read of everything; what the driver cannot say stays empty."""
        nvml, handle, clock = subject.nvml, subject.handle, subject.clock
        for track, name in (
            (self.counter, "nvmlDeviceGetTotalEnergyConsumption"),
            (self.power, "nvmlDeviceGetPowerUsage"),
        ):
            try:
                value = getattr(nvml, name)(handle)
            except nvml.NVMLError:
                continue  # that it does not answer is a figure of the first group
            track.append((clock.wall_s(), value / 1e3))
        since_us = round(self.buffer[-1][0] * 1e6) if self.buffer else 0
        self.buffer += [
            point for point in samples(subject, since_us) if not self.buffer or point > self.buffer[-1]
        ]

    def counter_j(self) -> float | None:
        return self.counter[-1][1] - self.counter[0][1] if len(self.counter) > 1 else None

    def between(self, start_s: float, end_s: float) -> dict[str, float | None]:
        """Joules by each way between two Unix times; the counter on straight lines between its changes."""
        counter_j = None
        if self.counter and self.counter[0][0] <= start_s and self.counter[-1][0] >= end_s:
            seen = [self.counter[0], *series.changes(self.counter)]
            counter_j = series.value_at(seen, end_s) - series.value_at(seen, start_s)
        return {
            COUNTER: counter_j,
            SAMPLES: series.integral(self.buffer, start_s, end_s),
            POWER: series.integral(self.power, start_s, end_s),
        }


@contextmanager
def ways(subject: Subject) -> Iterator[dict[str, Way]]:
    with ExitStack() as stack:
        opened = {}
        for name, withheld in WITHHELD.items():
            opened[name] = Way(subject, withheld)
            stack.callback(opened[name].close)
        yield opened


def measure(subject: Subject, book: Book, plan: Plan) -> None:
    book.group = "energy by three ways"
    load = subject.load
    if load is None:
        book.missing("energy by three ways", "no load for the GPU")
        return
    steps: list[tuple[str, float, Callable[[], None]]]
    steps = [("idle", plan.energy_s, load.idle), ("steady", plan.energy_s, load.steady)]
    for period_s in WAVES_S:  # whole periods: then it does not matter how late a sensor is
        seconds = math.ceil(plan.energy_s / period_s - 1e-9) * period_s
        steps.append((f"{period_s:g} s", seconds, partial(load.square, period_s)))
    stack = ExitStack()

    def two() -> None:
        pair = subject.two_loads()
        if pair is not None:
            stack.callback(pair.close)

    steps.append((TWO, plan.energy_s, two))
    with Smi(subject) as smi, stack:
        spans = {}
        for name, seconds, begin in steps:
            begin()
            subject.clock.sleep(SETTLE_S)
            spans[name] = _span(subject, seconds)
        stack.close()
        load.idle()
        if subject.real_time:
            subject.clock.sleep(0.5)  # until nvidia-smi has told the end of the last one
    for name, span in spans.items():
        _compare(subject, book, name, span, smi)


@dataclass
class Span:
    """One load: its ends as Unix times, joules and methods of carbonmon's ways, and the bare loop."""

    start_s: float
    end_s: float
    ways_j: dict[str, float]
    methods: dict[str, str]
    bare: Bare


def _span(subject: Subject, seconds: float) -> Span:
    clock = subject.clock
    bare = Bare()
    with ways(subject) as opened:
        begin_s, start_s = clock.now_s(), clock.wall_s()
        count = max(1, round(seconds / INTERVAL_S))
        for number in range(count + 1):
            edge = number in (0, count)
            for way in opened.values():
                way.read(clock, edge)
            bare.read(subject)
            if number < count:
                clock.sleep(begin_s + (number + 1) * seconds / count - clock.now_s())
        end_s = clock.wall_s()
        return Span(
            start_s,
            end_s,
            {name: way.energy_j for name, way in opened.items()},
            {name: " + ".join(sorted(way.methods)) or "nothing" for name, way in opened.items()},
            bare,
        )


def _compare(subject: Subject, book: Book, name: str, span: Span, smi: Smi) -> None:
    seconds = span.end_s - span.start_s
    is_wave = name.endswith(" s")
    what = f"wave of {name}" if is_wave else f"load {name}"
    counter_j = span.ways_j[COUNTER] if span.methods[COUNTER] == "counter" else None
    refresh_percent = 100.0 * REFRESH_S / seconds
    if counter_j is None:
        book.missing(f"{what}: energy by the counter", f"carbonmon took it from: {span.methods[COUNTER]}")
    else:
        book.note(f"{what}: energy by the counter", counter_j, "J", f"{seconds:.2f} s")
    off = percent_off(counter_j, span.bare.counter_j())
    bound = refresh_percent + 0.5
    book.between(f"{what}: counter against the bare loop's", off, -bound, bound, "%", OWN, why=NO_REFERENCE)
    truth_j = subject.truth_j(span.start_s, span.end_s)
    if truth_j is not None:
        off = percent_off(counter_j, truth_j)
        book.between(
            f"{what}: counter against what was drawn", off, -bound, bound, "%", TRUTH, why=NO_REFERENCE
        )
    reference_j = counter_j if counter_j is not None else span.bare.counter_j()
    for way in (SAMPLES, POWER):
        bound = BOUNDS_PERCENT[way][name] + refresh_percent
        off = percent_off(span.ways_j[way], reference_j) if span.methods[way] == "power" else None
        _against(subject, book, f"{what}: {way} against the counter", off, bound, way == POWER and is_wave)
        bare_j = span.bare.between(span.start_s, span.end_s)[way]
        off = percent_off(span.ways_j[way], bare_j) if span.methods[way] == "power" else None
        book.between(f"{what}: {way} against the bare loop's", off, -bound, bound, "%", OWN, why=NO_REFERENCE)
    off = percent_off(series.integral(smi.track, span.start_s, span.end_s), reference_j)
    bound = BOUNDS_PERCENT[POWER][name] + refresh_percent
    _against(subject, book, f"{what}: nvidia-smi against the counter", off, bound, is_wave, smi.why)


def _against(
    subject: Subject, book: Book, name: str, off: float | None, bound: float, of_moments: bool, why: str = ""
) -> None:
    """A sensor that shows the moment cannot follow a wave at a poll a second: then it is only noted."""
    if of_moments and not subject.averages_power:
        note = "power of the moment once a second: nothing is expected of it"
        book.note(name, off, "%", note, why=why or NO_REFERENCE)
    else:
        book.between(name, off, -bound, bound, "%", SENSOR, why=why or NO_REFERENCE)
