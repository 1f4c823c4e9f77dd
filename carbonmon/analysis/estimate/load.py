"""Devices of one model in a part of a job: their power, hours and energy, in figures and in words."""

from __future__ import annotations

from carbonmon.analysis.estimate.figures import number_text
from carbonmon.core.model import Component, Spec, Uncertainty
from carbonmon.core.records import NamedTuple
from carbonmon.runs.summary.figures import energy_text

AS_GIVEN = Uncertainty(0.0, 0.0, "a figure that the user gave, taken as exact")


class Idle(NamedTuple):
    """The share of the time in which a device is idle, from 0 to 1, and what it draws then, in W."""

    share: float
    power_w: float
    source: str


class Load(NamedTuple):
    """Devices of one model that work for `hours` in a part of the job.

    Each draws `spec.tdp_w` × `utilization`; that is None where the power does not depend on utilisation, and
    `is_assumed` where it was not given. `seen_utilization` is that of the run which the power was fitted to.
    `given_j` is an energy that is known without a power: hours and power are unknown then. `note` says how
    the hours are known; `hours` are those of one device (see `Work.is_device_hours`). `share` are the cores
    that the part has of the devices' cores, None for all of them.
    """

    part: str
    component: Component
    name: str
    number: int
    spec: Spec
    utilization: float | None
    is_assumed: bool
    hours: float | None
    seen_utilization: float | None = None
    idle: Idle | None = None
    given_j: float | None = None
    note: str = ""
    is_device_hours: bool = False
    share: tuple[float, float] | None = None

    @property
    def power_w(self) -> float | None:
        """Mean watts of all the devices together; None where only their energy is known."""
        if self.given_j is not None:
            return None
        busy_w = self.spec.tdp_w * (1.0 if self.utilization is None else self.utilization)
        number = self.number * self.share_ratio
        if self.idle is None:
            return number * busy_w
        return number * (busy_w * (1.0 - self.idle.share) + self.idle.power_w * self.idle.share)

    @property
    def share_ratio(self) -> float:
        """The part of the devices that the job has."""
        return 1.0 if self.share is None else self.share[0] / self.share[1]

    @property
    def known_number(self) -> int | None:
        """How many devices there are; None where nobody said it: of GPU-hours, an energy, a power."""
        is_unknown = self.is_device_hours or self.given_j is not None or self.is_stated
        return None if is_unknown else self.number

    @property
    def energy_j(self) -> float:
        if self.given_j is not None:
            return self.given_j
        return (self.power_w or 0.0) * (self.hours or 0.0) * 3600.0

    @property
    def is_stated(self) -> bool:
        """Whether the user gave the power or the energy itself, and no specification did."""
        return self.spec.uncertainty is AS_GIVEN

    @property
    def formula(self) -> str:
        """The inputs and their product in words: `10 × 300 W × 0.8 = 2400 W`."""
        if self.given_j is not None:
            return energy_text(self.given_j)
        factors = [f"{number_text(self.spec.tdp_w)} W"]
        if self.utilization is not None:
            factors.append(f"{number_text(self.utilization)}{' (assumed)' if self.is_assumed else ''}")
        product = " × ".join(factors)
        if self.idle is not None:
            busy, share = number_text(1.0 - self.idle.share), number_text(self.idle.share)
            product = f"({product} × {busy} + {number_text(self.idle.power_w)} W idle × {share})"
        if self.share is not None:
            product += f" × {number_text(self.share[0])} of {number_text(self.share[1])} cores"
        return f"{self.number} × {product} = {number_text(self.power_w or 0.0)} W"

    @property
    def source(self) -> str:
        """Where the power is from."""
        return self.spec.source if self.idle is None else f"{self.spec.source}; idle {self.idle.source}"
