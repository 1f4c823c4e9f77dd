"""How long each part of the check lasts."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Plan:
    """Durations in seconds, and numbers of repetitions.

    `calls`: how often each NVML call is timed. `record_s`: idle and steady load, polled fast; `wave_s`: each
    square wave, polled fast. `energy_s`: each load, read once a second. `lengths_s`: of phases, and
    `phases`: how often each comes. `share_s`: two processes. `limit_s`: with a lowered power limit.
    `starts`: how often the command is started and ended. `cost_s`: its CPU time is measured for so long.
    `gap_s`: from its kill to its resumption. `ticks`: of the sampler, against as many bare reads.
    """

    calls: int = 100
    record_s: float = 4.0
    wave_s: float = 5.0
    energy_s: float = 6.0
    lengths_s: tuple[float, ...] = (0.5, 1.0, 3.0)
    phases: int = 2
    share_s: float = 6.0
    limit_s: float = 5.0
    starts: int = 4
    cost_s: float = 9.0
    gap_s: float = 4.0
    ticks: int = 150

    def scaled(self, minutes: float) -> Plan:
        """The plan for so many minutes: what is measured is measured longer."""
        factor = max(1.0, minutes / DEFAULT_MINUTES)
        return replace(
            self,
            record_s=self.record_s * factor,
            wave_s=self.wave_s * factor,
            energy_s=self.energy_s * factor,
            phases=round(self.phases * factor),
            share_s=self.share_s * factor,
            cost_s=self.cost_s * factor,
        )


DEFAULT_MINUTES = 3.0
"""What the plan takes at most, the start of the loads included."""

DEFAULT = Plan()
QUICK = Plan(
    calls=20,
    record_s=0.6,
    wave_s=2.5,
    energy_s=1.0,
    lengths_s=(0.5, 1.0),
    phases=1,
    share_s=2.0,
    limit_s=0.6,
    starts=1,
    cost_s=0.8,
    gap_s=0.5,
    ticks=30,
)
"""Every step once and short: whether it works, not what it measures."""
