"""The joules and grams of one row of a run's totals: of a phase, a device and a method."""

from __future__ import annotations

from carbonmon.core.model import Component, Method, RunTotal


class Amounts:
    """Joules and grams of one row of a run's totals; `is_new` until they were told, with a later start."""

    __slots__ = (
        "component",
        "emissions_g",
        "emissions_high_g",
        "emissions_low_g",
        "energy_j",
        "is_new",
        "start_s",
    )

    def __init__(self, component: Component, start_s: float | None) -> None:
        self.component = component
        self.start_s = start_s
        self.is_new = True
        self.energy_j = self.emissions_g = self.emissions_low_g = self.emissions_high_g = 0.0

    def total(self, phase: str, device_id: str, method: Method) -> RunTotal:
        """The row as it is told."""
        return RunTotal(
            phase,
            self.component,
            device_id,
            method,
            self.energy_j,
            self.emissions_g,
            self.emissions_low_g,
            self.emissions_high_g,
            self.start_s,
        )
