"""Charges the runs with the energy of the whole machine: `--charge node`. For the sampling thread.

What a node meter measured since it was settled last is split as what the devices drew meanwhile: a run has
its devices' part, and what no run caused of them keeps its part too. So fans, losses and whatever else no
device explains goes with the devices' energy, and the runs' parts and the unattributed rest are the whole.
It is the field's way of splitting a node's power (CEEMS splits 90 % of it by RAPL and CPU time and 10 % in
equal parts, ceems-dev/ceems, cmd/ceems_tool/rules/cpu-ipmi-redfish-hwmon.rules), without a constant that
somebody must know of the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from carbonmon.core.footprint import Rates
from carbonmon.core.node_meter import NodeCharge

if TYPE_CHECKING:
    from carbonmon.monitor.run_account import RunAccount


class NodeChargeAccount:
    """What one run was charged with; `settled_j` is what its devices had drawn when that was done last."""

    __slots__ = ("_charges", "settled_j")

    def __init__(self, charges: Iterable[NodeCharge] = (), settled_j: float = 0.0) -> None:
        self._charges = {charge.meter: charge for charge in charges}
        self.settled_j = settled_j

    def add(self, meter: str, energy_j: float, rates: Rates) -> None:
        before = self._charges.get(meter) or NodeCharge(meter)
        self._charges[meter] = NodeCharge(
            meter,
            before.energy_j + energy_j,
            before.emissions_g + energy_j * rates.grams,
            before.emissions_low_g + energy_j * rates.low_grams,
            before.emissions_high_g + energy_j * rates.high_grams,
        )

    def state(self) -> tuple[NodeCharge, ...]:
        """By each meter that it was charged by; empty for a run that was never charged in this way."""
        return tuple(self._charges.values())


def charge_runs(
    runs: Iterable[RunAccount], meter: str, energy_j: float, devices_j: float, rates: Rates
) -> float:
    """Split what a meter measured while the devices drew `devices_j`; returns what the runs have of it."""
    grown = []
    for run in runs:
        now_j = run.work.total_j
        grown.append((run.node_charge, max(0.0, now_j - run.node_charge.settled_j)))
        run.node_charge.settled_j = now_j
    # The runs' sums and the devices' are rounded apart: together the runs have no more than all.
    whole_j = max(devices_j, sum(own_j for _, own_j in grown))
    charged_j = 0.0
    for account, own_j in grown:
        part_j = energy_j * own_j / whole_j if whole_j > 0.0 else 0.0
        account.add(meter, part_j, rates)
        charged_j += part_j
    return min(charged_j, energy_j)
