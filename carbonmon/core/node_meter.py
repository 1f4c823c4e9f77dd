"""The records of node meters: what a meter of the whole machine says, and what became of it.

A node meter is an envelope: it measures what the devices draw and more (fans, disks, power supplies). Its
energy is never added to theirs.
"""

from __future__ import annotations

from carbonmon.core.records import NamedTuple

MOST_NODE_W = 50_000.0
"""Above what one machine draws: eight accelerators of 1.4 kW make some 15 kW. 0xFFFF W, which a management
controller says for «not available», is above it."""


class NodeReading(NamedTuple):
    """What a node meter says at one moment; None is what it does not say.

    `energy_uj` is a counter that never wraps, in steps that may be as coarse as a kWh. `line` names the
    counter's present line: another name says that it began anew, also where its value is the larger one.
    """

    power_w: float | None = None
    energy_uj: int | None = None
    line: str = ""


class NodeEnergy(NamedTuple):
    """Energy by one node meter over some time.

    `counter_j` by its energy counter, `power_j` by integrated power. `unobserved_s` are seconds for which
    it could not be known. `covered_j` is what the metered devices drew in the seconds that it could.
    `rejected` counts resets and jumps of its counter, and implausible readings. `unattributed_j` is what no
    run was charged with, while runs were charged with it (`--charge node`).
    """

    meter: str
    counter_j: float = 0.0
    power_j: float = 0.0
    covered_j: float = 0.0
    observed_s: float = 0.0
    unobserved_s: float = 0.0
    rejected: int = 0
    unattributed_j: float = 0.0

    @property
    def energy_j(self) -> float:
        return self.counter_j + self.power_j

    def lost(self, seconds: float) -> NodeEnergy:
        """The same after so many more seconds that nobody observed."""
        return self._replace(unobserved_s=self.unobserved_s + seconds)

    def plus(self, grown: NodeEnergy, ratio: float) -> NodeEnergy:
        """With a part of what was measured in some more time; its counts are not divided."""
        return self._replace(
            counter_j=self.counter_j + grown.counter_j * ratio,
            power_j=self.power_j + grown.power_j * ratio,
            covered_j=self.covered_j + grown.covered_j * ratio,
            observed_s=self.observed_s + grown.observed_s * ratio,
            unobserved_s=self.unobserved_s + grown.unobserved_s * ratio,
        )

    def minus(self, before: NodeEnergy) -> NodeEnergy:
        """The growth of each amount since `before`; never below 0, whatever rounding does."""
        return NodeEnergy(
            self.meter,
            max(0.0, self.counter_j - before.counter_j),
            max(0.0, self.power_j - before.power_j),
            max(0.0, self.covered_j - before.covered_j),
            max(0.0, self.observed_s - before.observed_s),
            max(0.0, self.unobserved_s - before.unobserved_s),
            max(0, self.rejected - before.rejected),
            max(0.0, self.unattributed_j - before.unattributed_j),
        )


class NodeMeterState(NamedTuple):
    """A node meter's totals and its last power, None while that is unknown.

    `coverage_ratio` is the part of the last minute's energy that the devices drew; None while unknown, more
    than 1 where the meter misses some of them. `counter_step_j` is the smallest step of its counter that was
    seen, None before one. `charges` says whether runs are charged with its energy.
    """

    total: NodeEnergy
    power_w: float | None = None
    coverage_ratio: float | None = None
    counter_step_j: float | None = None
    charges: bool = False


class NodeCharge(NamedTuple):
    """A run's part of what a node meter measured, and its emissions with PUE.

    Their low and high are the intensity's range alone.
    """

    meter: str
    energy_j: float = 0.0
    emissions_g: float = 0.0
    emissions_low_g: float = 0.0
    emissions_high_g: float = 0.0
