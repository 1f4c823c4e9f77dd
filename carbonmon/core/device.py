"""The records of one device: what it is, what is read of it, and what its meter knows; all immutable.

Units live in the names, as in `model.py`, which has these names too. `None` means unknown; it is never 0.
"""

from __future__ import annotations

from typing import Literal

from carbonmon.core.records import NamedTuple

Component = Literal["gpu", "cpu", "dram", "module"]
"""What a device is. A module is one meter of several parts, such as a superchip's GPU, CPU and memory."""
Method = Literal["counter", "power", "tdp"]

METHODS: tuple[Method, ...] = ("counter", "power", "tdp")
MEASURED_METHODS: frozenset[Method] = frozenset(("counter", "power"))


class Uncertainty(NamedTuple):
    """How far the true value may lie from a figure, as ratios of the figure, and whose statement that is.

    The true value lies in `[x × (1 − low_ratio), x × (1 + high_ratio)]`. The error is systematic: over a
    run these errors add up, they do not average out.
    """

    low_ratio: float
    high_ratio: float
    source: str


class Spec(NamedTuple):
    """The power of one device at full load as a specification states it: the base of method `tdp`.

    `assumed_utilization_ratio` is set where the utilisation cannot be measured on the machine. `idle_w` is
    the power at no load where the specification states that too: the estimate then lies between the two.
    """

    tdp_w: float
    uncertainty: Uncertainty
    source: str
    assumed_utilization_ratio: float | None = None
    idle_w: float | None = None


class Part(NamedTuple):
    """A part of the machine that a device measures: by kind, and by number or by a device's id.

    The number is the `Device.index` of a GPU, or of the CPU package whose cores or memory are meant. Without
    both it is every part of that kind: `Part("dram")` is all memory.
    """

    component: Component
    number: int | None = None
    device_id: str | None = None


class Device(NamedTuple):
    """One part of the machine that draws power, or a module of several: what one meter measures.

    `id` is the GPU's NVML UUID, `package-0` (`package-0-die-1` where dies are separate), `dram-0`,
    `module-0`. `contains` are the parts that it measures beside its own: `scope.decide` counts none
    of them twice.
    `counter_range_uj` is the largest value of a counter that wraps, None for one that never wraps.
    `max_power_w` bounds what is plausible: no reading above it is believed, and no counter that grows
    faster over a second. `plausibility.bound_w` makes it where a sensor leaves it None.
    `methods` are the methods that this device supports, best first.
    `share_ratio` is the part of the device that the run owns (less than 1 for a MIG slice).
    """

    id: str
    component: Component
    name: str
    index: int | None = None  # type: ignore[assignment]  # a tuple's method of this name is of no use here
    methods: tuple[Method, ...] = ()
    counter_range_uj: int | None = None
    max_power_w: float | None = None
    spec: Spec | None = None
    measured_uncertainty: Uncertainty | None = None
    share_ratio: float = 1.0
    share_note: str = ""
    contains: tuple[Part, ...] = ()

    @property
    def is_measured(self) -> bool:
        """Whether hardware measures it; else its energy is estimated, or unknown."""
        return not MEASURED_METHODS.isdisjoint(self.methods)

    @property
    def gpu_ids(self) -> tuple[str, ...]:
        """The GPUs in it, by id: its energy is charged to those who hold them."""
        own = (self.id,) if self.component == "gpu" else ()
        if not self.contains:
            return own
        inside = [part.device_id for part in self.contains if part.component == "gpu" and part.device_id]
        return (*own, *inside)


class Reading(NamedTuple):
    """What the hardware reported about one device at one moment; None means that it reported nothing.

    `trace` is a run of (driver time in s, W) samples from the driver's own buffer; its first sample
    is the last one of the trace before, so that two traces join without a gap or an overlap.
    `utilization_ratio` is the mean since the reading before. `shape` are (Unix time in s, W) samples of the
    last seconds that say when what the counter counted was drawn; they are never counted themselves.
    """

    device_id: str
    energy_uj: int | None = None
    power_w: float | None = None
    trace: tuple[tuple[float, float], ...] | None = None
    utilization_ratio: float | None = None
    shape: tuple[tuple[float, float], ...] | None = None


class Failure(NamedTuple):
    """A read of one device that did not succeed; `reason` is a short, stable word for a label."""

    device_id: str
    reason: str
    detail: str = ""


class Curve(NamedTuple):
    """How a device's energy grew: at each of `times_s`, on the injected clock, its `joules` since the first.

    Only ratios of it mean anything: what was drawn is what the interval says.
    """

    times_s: tuple[float, ...]
    joules: tuple[float, ...]


class Interval(NamedTuple):
    """Energy of one device over one stretch of time, by the method that it is known by.

    `start_s` and `end_s` are on the injected clock. `power_w` is the mean power by the best method, None
    when it had none. `unobserved_s` are seconds for which no energy could be known, and none was
    invented. `resets`, `jumps`, `step_backs` and `stuck` count rejected readings of a hardware counter.
    `curve` says when within the interval its energy was drawn; without one it is taken to be drawn evenly.
    """

    device_id: str
    start_s: float
    end_s: float
    counter_j: float = 0.0
    power_j: float = 0.0
    tdp_j: float = 0.0
    power_w: float | None = None
    unobserved_s: float = 0.0
    resets: int = 0
    jumps: int = 0
    curve: Curve | None = None
    step_backs: int = 0
    stuck: int = 0

    @property
    def energy_j(self) -> float:
        return self.counter_j + self.power_j + self.tdp_j


class FallbackMeter(NamedTuple):
    """What the methods below the counter observed and is not credited yet.

    `last_s` is the time of their last good reading, None after a failure; `last_w` its power, None
    where only utilisation was known. `power_j` and `tdp_j` were observed in `observed_s` seconds.
    """

    last_s: float | None = None
    last_w: float | None = None
    power_j: float = 0.0
    tdp_j: float = 0.0
    observed_s: float = 0.0


class OddValue(NamedTuple):
    """A counter's value that does not fit the one before: a glitch, or the beginning of a new line.

    `fallback` is what the other methods had observed by then. `others` are odd values before it, the first
    one at `since_s`, that fit neither line.
    """

    energy_uj: int
    at_s: float
    is_jump: bool
    values: int
    others: int
    since_s: float
    fallback: FallbackMeter


class Meter(NamedTuple):
    """What the meter knows of one device after its last reading; times are seconds on the injected clock.

    `settled_s` is the time up to which energy was credited or given up. `base_uj` and `base_s` are
    the counter's last good value, None before the first one. `ahead_j` was credited by the fallback since
    then; `open_s` seconds since then were observed by no method and may still be covered by the counter.
    `moved_s` is when the counter's value changed last, `rate_w` the mean power by its last difference.
    `stands_still`: it gave the same value again while the
    device worked; `is_stuck`: for so long that the fallback stepped in. `odd` is a value that is not
    understood yet.
    """

    settled_s: float
    base_uj: int | None
    base_s: float
    fallback: FallbackMeter
    ahead_j: float = 0.0
    open_s: float = 0.0
    moved_s: float = 0.0
    rate_w: float | None = None
    stands_still: bool = False
    is_stuck: bool = False
    odd: OddValue | None = None
