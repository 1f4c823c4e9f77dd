"""Makes the records of a run, as a node has them, from the last scrapes of its counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar, get_args

from carbonmon.analysis.prometheus.charged_intensity import ChargedIntensity
from carbonmon.analysis.prometheus.counter_history import CounterHistory
from carbonmon.analysis.prometheus.node_meters import node_charges, node_energies
from carbonmon.analysis.prometheus.totals import Totals
from carbonmon.core import metrics as f
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import (
    IDLE_POLICIES,
    MAIN_PHASE,
    METHODS,
    Charge,
    Component,
    Cost,
    Device,
    DeviceState,
    Intensity,
    Method,
    RunInfo,
    RunState,
    RunTotal,
    Snapshot,
    Spec,
    Uncertainty,
)

STATED = f"the nodes' own {f.UNCERTAINTY.name}"
"""The source of an uncertainty."""

_LONGEST_INDEX = 10

Word = TypeVar("Word", bound=str)
_Key = tuple[str, str]


class RunCounters(NamedTuple):
    """The counters of a run from one monitor; `ended_at_s` is None where no scrape showed the run's end."""

    run_id: str
    host: str
    ended_at_s: float | None
    history: CounterHistory
    totals: Totals
    charged_intensities: Sequence[ChargedIntensity]

    @property
    def until_s(self) -> float:
        """The run's end, else the last sample that was scraped: a gateway shows it long after."""
        if self.ended_at_s is not None:
            return self.ended_at_s
        sampled_s = self.totals.one(f.LAST_SAMPLE)
        return self.history.last_s if sampled_s is None else min(sampled_s, self.history.last_s)


def snapshot(counters: RunCounters) -> Snapshot:
    """The node with this one run; what is not in the metrics is None where a record allows it.

    Raises ConfigError for a component or a method that is unknown to this version.
    """
    totals = counters.totals
    interval_s = totals.one(f.SAMPLE_INTERVAL)
    pue = totals.one(f.PUE) or None  # no site has less than 1
    return Snapshot(
        at_s=counters.history.last_s,
        version=totals.info(f.BUILD_INFO).get("version", "") or "unknown",
        interval_s=(counters.history.interval_s or 0.0) if interval_s is None else interval_s,
        samples=counters.history.scrapes,
        runs=(_run(counters),),
        devices=tuple(_devices(totals)),
        sensors=(),
        intensity=_intensity(counters),
        pue_ratio=1.0 if pue is None else pue,
        pue_source="" if pue is not None else "unknown to Prometheus: the intensity includes it",
        exporter_errors=(),
        wue_l_per_kwh=totals.one(f.WUE),
    )


def _run(counters: RunCounters) -> RunState:
    totals, start_s = counters.totals, counters.history.start_s
    info = dict(totals.info(f.RUN_INFO))
    own = {key: info.pop(key, "") for key in f.RUN_INFO.labels if key != "user"}
    # `user` stays a label: nothing says whether the monitor gave it, or whoever began the run.
    rows = tuple(_rows(counters))
    energy_j = sum(row.energy_j for row in rows)
    grams = sum(row.emissions_g for row in rows)
    return RunState(
        info=RunInfo(
            id=counters.run_id,
            name=own["name"],
            command=(),
            labels=tuple(info.items()),
            host=counters.host,
            started_at_s=start_s,
            scheduler=own["scheduler"],
            scheduler_job_id=own["scheduler_job_id"],
            idle_policy=next((policy for policy in IDLE_POLICIES if policy == own["idle_policy"]), "none"),
            uid=int(own["uid"]) if own["uid"].isdecimal() else None,
        ),
        totals=rows,
        power_w=(),
        unobserved_s=tuple(
            (labels.get("device", ""), value) for labels, value in totals.of(f.RUN_UNOBSERVED)
        ),
        phases_s=(),
        duration_s=max(0.0, counters.until_s - start_s),
        ended_at_s=counters.ended_at_s,
        cpu_s=totals.one(f.RUN_CPU),
        charges=tuple(_charge(part, energy_j, grams) for part in counters.charged_intensities),
        costs=tuple(Cost(labels.get("currency", ""), value, 0.0) for labels, value in totals.of(f.RUN_COST)),
        water_l=totals.one(f.RUN_WATER),
        node_meters=tuple(node_energies(totals, max(0.0, counters.until_s - start_s))),
        node_charges=tuple(node_charges(totals, _intensity_range(counters.charged_intensities))),
    )


def _charge(part: ChargedIntensity, energy_j: float, grams: float) -> Charge:
    now = part.intensity
    origin = now.source, now.zone, now.kind, now.basis, now.accounting, now.year
    return Charge(*origin, energy_j * part.energy_ratio, grams * part.emissions_ratio)


def _rows(counters: RunCounters) -> list[RunTotal]:
    """The run's energy row by row; the emissions of a phase and component are split like its energy."""
    grams: dict[_Key, float] = {}
    for labels, value in counters.totals.of(f.RUN_EMISSIONS):
        key = labels.get("phase", MAIN_PHASE), labels.get("component", "")
        grams[key] = grams.get(key, 0.0) + value
    groups: dict[_Key, list[tuple[str, Method, float]]] = {}
    for labels, joules in counters.totals.of(f.RUN_ENERGY):
        key = labels.get("phase", MAIN_PHASE), labels.get("component", "")
        method = _known("method", labels, METHODS)
        groups.setdefault(key, []).append((labels.get("device", ""), method, joules))
    low, high = _intensity_range(counters.charged_intensities)
    rows = []
    for (phase, name), group in groups.items():
        component = _known("component", {"component": name}, get_args(Component))
        joules_of_all = sum(joules for _, _, joules in group)
        for device, method, joules in group:
            part = joules / joules_of_all if joules_of_all else 1 / len(group)
            own_g = grams.get((phase, name), 0.0) * part
            rows.append(RunTotal(phase, component, device, method, joules, own_g, own_g * low, own_g * high))
    return rows


def _known(key: str, labels: Mapping[str, str], known: Sequence[Word]) -> Word:
    value = labels.get(key, "")
    for word in known:
        if word == value:
            return word
    raise ConfigError(
        f"--prometheus: this version of carbonmon knows no {key} {value!r:.40}: "
        "read the run with the version that measured it"
    )


def _intensity_range(charged_intensities: Sequence[ChargedIntensity]) -> tuple[float, float]:
    """The bounds of the intensity, as ratios of the intensity that was used."""
    low = high = 0.0
    for part in charged_intensities:
        now = part.intensity
        low += part.emissions_ratio * (now.low_g_per_kwh / now.g_per_kwh if now.g_per_kwh else 1.0)
        high += part.emissions_ratio * (now.high_g_per_kwh / now.g_per_kwh if now.g_per_kwh else 1.0)
    return low, high


def _devices(totals: Totals) -> list[DeviceState]:
    bounds: dict[_Key, dict[str, float]] = {}
    for labels, value in totals.of(f.UNCERTAINTY):
        key = labels.get("component", ""), labels.get("method", "")
        bounds.setdefault(key, {})[labels.get("bound", "")] = value
    stated = {
        key: Uncertainty(min(1.0, max(0.0, found["low"])), max(0.0, found["high"]), STATED)
        for key, found in bounds.items()
        if "low" in found and "high" in found
    }
    infos = {labels.get("device", ""): labels for labels, _ in totals.of(f.DEVICE_INFO)}
    rejected: dict[_Key, int] = {}
    for labels, value in totals.of(f.ANOMALIES):
        rejected[labels.get("device", ""), labels.get("kind", "")] = round(value)
    components = {labels.get("device", ""): labels for labels, _ in totals.of(f.RUN_ENERGY)}
    devices = []
    for device_id, labels in components.items():
        component = _known("component", labels, get_args(Component))
        info = infos.get(device_id, {})
        index = info.get("index", "")
        guess = stated.get((component, "tdp"))
        device = Device(
            device_id,
            component,
            info.get("name", ""),
            int(index) if index.isdecimal() and len(index) < _LONGEST_INDEX else None,
            spec=None if guess is None else Spec(0.0, guess, ""),
            measured_uncertainty=stated.get((component, "counter")) or stated.get((component, "power")),
        )
        devices.append(
            DeviceState(
                *(device, 0.0, 0.0, 0.0, 0.0),
                *(None, None, None, None, None),
                unobserved_s=0.0,
                resets=rejected.get((device_id, "reset"), 0),
                jumps=rejected.get((device_id, "jump"), 0),
                step_backs=rejected.get((device_id, "step_back"), 0),
                stuck=rejected.get((device_id, "stuck"), 0),
                implausible=rejected.get((device_id, "implausible"), 0),
            )
        )
    order = {component: index for index, component in enumerate(get_args(Component))}
    return sorted(devices, key=lambda state: (order[state.device.component], state.device.index or 0))


def _intensity(counters: RunCounters) -> Intensity:
    """The last intensity in force. Without any, its zone alone; the mean then is that of the totals."""
    if counters.charged_intensities:
        return counters.charged_intensities[-1].intensity
    zone = counters.totals.info(f.RUN_INFO).get("zone", "")
    return Intensity(0.0, 0.0, 0.0, zone, "", "stale", note="Prometheus does not hold what the intensity was")
