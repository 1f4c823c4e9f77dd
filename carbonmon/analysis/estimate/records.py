"""An estimate as the records of a run that was not measured, so that its summary has the same schema."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from carbonmon.analysis.estimate.loads import Load, number_text
from carbonmon.core.footprint import Overheads, rates
from carbonmon.core.model import (
    Charge,
    Cost,
    Device,
    DeviceState,
    Intensity,
    RunInfo,
    RunState,
    RunTotal,
    SensorState,
    Snapshot,
)

RUN_ID = "estimate"


def snapshot_of(
    loads: Sequence[Load], intensity: Intensity, overheads: Overheads, version: str, name: str = ""
) -> Snapshot:
    """The job as the records of a run that was not measured: its parts are phases, a model one device."""
    tariff = overheads.tariff
    price = None if tariff is None else tariff.per_kwh
    cost = rates(intensity, overheads, price)
    hours = {load.part: load.hours for load in loads}
    devices = dict(zip(_ids(loads), loads, strict=True))
    energy_j = sum(load.energy_j for load in loads)
    totals = tuple(
        RunTotal(
            *(load.part, load.component, device_id, "tdp", load.energy_j),
            *(load.energy_j * grams for grams in (cost.grams, cost.low_grams, cost.high_grams)),
        )
        for device_id, load in devices.items()
    )
    charge = Charge(
        *(intensity.source, intensity.zone, intensity.kind, intensity.basis, intensity.accounting),
        *(intensity.year, energy_j, energy_j * cost.grams),
    )
    run = RunState(
        RunInfo(RUN_ID, name, (), (), "", math.nan),
        totals,
        power_w=(),
        unobserved_s=(),
        phases_s=tuple((part, each * 3600.0) for part, each in hours.items()),
        # It is unknown whether several parts run one after another or at the same time.
        duration_s=loads[0].hours * 3600.0 if len(hours) == 1 else math.nan,
        charges=(charge,),
        costs=() if cost.cost is None else (Cost(cost.currency, energy_j * cost.cost, energy_j),),
        water_l=None if cost.litres is None else energy_j * cost.litres,
    )
    return Snapshot(
        at_s=math.nan,
        version=version,
        interval_s=0.0,
        samples=0,
        runs=(run,),
        devices=tuple(_device_state(device_id, load) for device_id, load in devices.items()),
        sensors=tuple(SensorState("tdp", "used", sentence(load)) for load in loads),
        intensity=intensity,
        pue_ratio=overheads.pue_ratio,
        exporter_errors=(),
        pue_source=overheads.pue_source,
        wue_l_per_kwh=overheads.wue_l_per_kwh,
        wue_source=overheads.wue_source,
        price_per_kwh=price,
        price_source="" if tariff is None else tariff.source,
        currency="" if tariff is None else tariff.currency,
    )


def sentence(load: Load) -> str:
    """A load in words, with the source of its power."""
    return f"{load.part}: {load.name}: {load.formula} for {number_text(load.hours)} h; {load.spec.source}"


def _ids(loads: Iterable[Load]) -> list[str]:
    """An id for each load, from its model: `gpu-V100-SXM2`; the same model again gets a number."""
    ids: list[str] = []
    for load in loads:
        plain = f"{load.component}-{re.sub(r'[^A-Za-z0-9.]+', '-', load.name).strip('-')}"
        same = sum(other == plain or other.startswith(f"{plain}#") for other in ids)
        ids.append(f"{plain}#{same + 1}" if same else plain)
    return ids


def _device_state(device_id: str, load: Load) -> DeviceState:
    name = f"{load.number} × {load.name}" if load.number > 1 else load.name
    device = Device(device_id, load.component, name, methods=("tdp",), spec=load.spec)
    stated = load.seen_utilization if load.utilization is None else load.utilization
    return DeviceState(
        device=device,
        counter_j=0.0,
        power_j=0.0,
        tdp_j=load.energy_j,
        unattributed_j=0.0,
        power_w=None,
        peak_power_w=None,
        mean_power_w=load.power_w,
        utilization_ratio=None,
        utilization_mean_ratio=None if load.is_assumed else stated,
        unobserved_s=0.0,
        resets=0,
        jumps=0,
    )
