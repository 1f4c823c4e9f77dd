"""An estimate as the records of a run that was not measured, so that its summary has the same schema."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from carbonmon.analysis.estimate.figures import number_text
from carbonmon.analysis.estimate.load import Load
from carbonmon.core.footprint import Overheads, Rates, rates
from carbonmon.core.model import (
    JOULES_PER_KWH,
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
from carbonmon.runs.summary.document import summarize

RUN_ID = "estimate"


class Place(NamedTuple):
    """Where a part works: the intensity there, and PUE, WUE and price.

    `market_g_per_kwh` is that of the electricity which was bought, `water_l_per_kwh` the water of generating
    a kWh; None where nobody gave them.
    """

    intensity: Intensity
    overheads: Overheads
    market_g_per_kwh: float | None = None
    water_l_per_kwh: float | None = None

    @property
    def has_beside(self) -> bool:
        """Whether something is to be stated beside energy and location-based emissions."""
        return self.market_g_per_kwh is not None or self.water_l_per_kwh is not None


def summary_of(snapshot: Snapshot, loads: Sequence[Load]) -> dict[str, Any]:
    """The summary of an estimate: with the energy of the facility, and what of it the user gave."""
    run = snapshot.runs[0]
    summary = summarize(snapshot, run, "estimated")
    stated_j = sum(load.energy_j for load in loads if load.is_stated)
    by_id = dict(zip(_ids(loads), loads, strict=True))
    for device in summary["energy"]["devices"]:
        load = by_id[device["id"]]
        device.update(number=load.known_number, is_stated=load.is_stated)
    summary["energy"].update(
        facility_j=run.facility_j,
        facility_kwh=None if run.facility_j is None else run.facility_j / JOULES_PER_KWH,
        stated_j=stated_j,
    )
    return summary


def snapshot_of(
    loads: Sequence[Load],
    intensity: Intensity,
    overheads: Overheads,
    version: str,
    name: str = "",
    places: Mapping[str, Place] = MappingProxyType({}),
) -> Snapshot:
    """The job as the records of a run that was not measured: its parts are phases, a model one device.

    Parts that `places` does not name are where `intensity` and `overheads` are.
    """
    home = Place(intensity, overheads)
    devices = dict(zip(_ids(loads), loads, strict=True))
    places = {load.part: places.get(load.part, home) for load in loads}
    costs = {part: _rates(place) for part, place in places.items()}
    totals = tuple(
        RunTotal(
            *(load.part, load.component, device_id, "tdp", load.energy_j),
            *(
                load.energy_j * grams
                for grams in (costs[load.part].grams, costs[load.part].low_grams, costs[load.part].high_grams)
            ),
        )
        for device_id, load in devices.items()
    )
    energy_j = sum(load.energy_j for load in loads)
    facility_j = sum(load.energy_j * costs[load.part].pue_ratio for load in loads)
    seconds = {load.part: load.hours * 3600.0 for load in loads if load.hours and not load.is_device_hours}
    tariff = overheads.tariff
    price = None if tariff is None else tariff.per_kwh
    has_water = all(cost.litres is not None for cost in costs.values())
    run = RunState(
        RunInfo(RUN_ID, name, (), (), "", math.nan),
        totals,
        power_w=(),
        unobserved_s=(),
        phases_s=tuple(seconds.items()),
        # It is unknown whether several parts run one after another or at the same time.
        duration_s=next(iter(seconds.values())) if len(places) == len(seconds) == 1 else math.nan,
        charges=_charges(loads, places, costs),
        costs=() if price is None or tariff is None else (_cost(loads, costs, tariff.currency),),
        water_l=sum(load.energy_j * (costs[load.part].litres or 0.0) for load in loads)
        if has_water
        else None,
        facility_j=facility_j,
    )
    pue_ratio, pue_source = _pue(places, facility_j / energy_j if energy_j else overheads.pue_ratio)
    return Snapshot(
        at_s=math.nan,
        version=version,
        interval_s=0.0,
        samples=0,
        runs=(run,),
        devices=tuple(_device_state(device_id, load) for device_id, load in devices.items()),
        sensors=tuple(SensorState("tdp", "used", sentence(load)) for load in loads),
        intensity=next(iter(places.values())).intensity if len(places) == 1 else intensity,
        pue_ratio=pue_ratio,
        exporter_errors=(),
        pue_source=pue_source,
        wue_l_per_kwh=overheads.wue_l_per_kwh,
        wue_source=overheads.wue_source,
        price_per_kwh=price,
        price_source="" if tariff is None else tariff.source,
        currency="" if tariff is None else tariff.currency,
    )


def _rates(place: Place) -> Rates:
    tariff = place.overheads.tariff
    return rates(place.intensity, place.overheads, None if tariff is None else tariff.per_kwh)


def _charges(
    loads: Iterable[Load], places: Mapping[str, Place], costs: Mapping[str, Rates]
) -> tuple[Charge, ...]:
    """The energy by the intensity that it is charged with."""
    sums: dict[Intensity, Charge] = {}
    for load in loads:
        at = places[load.part].intensity
        before = sums.get(at)
        joules, grams = (0.0, 0.0) if before is None else (before.energy_j, before.emissions_g)
        sums[at] = Charge(
            *(at.source, at.zone, at.kind, at.basis, at.accounting, at.year),
            joules + load.energy_j,
            grams + load.energy_j * costs[load.part].grams,
        )
    return tuple(sums.values())


def _cost(loads: Sequence[Load], costs: Mapping[str, Rates], currency: str) -> Cost:
    energy_j = sum(load.energy_j for load in loads)
    return Cost(currency, sum(load.energy_j * (costs[load.part].cost or 0.0) for load in loads), energy_j)


def _pue(places: Mapping[str, Place], mean: float) -> tuple[float, str]:
    """The PUE of all parts, or the mean over their energy, with each part's in its source."""
    stated = {(place.overheads.pue_ratio, place.overheads.pue_source) for place in places.values()}
    if len(stated) == 1:
        return stated.pop()
    each = (f"{part} {place.overheads.pue_ratio:g}" for part, place in places.items())
    return mean, f"the mean over the energy of the parts ({', '.join(each)})"


def sentence(load: Load) -> str:
    """A load in words, with the source of its power."""
    hours = "" if load.hours is None else f" for {hours_text(load)}"
    note = f"; {load.note}" if load.note else ""
    return f"{load.part}: {load.name}: {load.formula}{hours}; {load.source}{note}"


def hours_text(load: Load) -> str:
    """`48 h`, or `184320 GPU-hours` of devices whose number is not known."""
    return f"{number_text(load.hours or 0.0)} {'GPU-hours' if load.is_device_hours else 'h'}"


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
    device = Device(
        device_id, load.component, name, methods=("tdp",), spec=load.spec, share_ratio=load.share_ratio
    )
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
