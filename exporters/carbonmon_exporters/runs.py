"""The metric families of the runs: what each was charged, what its node drew meanwhile, how far it is."""

from __future__ import annotations

import os
from collections.abc import Iterator

from carbonmon.core import metrics as f
from carbonmon.core.labels import is_reserved, metric_name
from carbonmon.core.model import RunInfo, RunState, Snapshot
from carbonmon.runs.summary.node import drawn_j
from carbonmon.runs.summary.strings import encodable
from carbonmon_exporters.families import RowFamily, as_counter, as_gauge, as_info
from carbonmon_exporters.remembered import Remembered
from carbonmon_exporters.starts import Starts
from carbonmon_exporters.work import work_families


class _Texts(dict[str, str]):
    """Texts made fit for a label, each once a scrape: hundreds of runs share a few devices and phases."""

    def __missing__(self, text: str) -> str:
        fit = self[text] = encodable(text)
        return fit


def run_families(snapshot: Snapshot, starts: Starts) -> Iterator[RowFamily]:
    """The families of all runs; an unknown value stays absent."""
    texts = _Texts()
    components: dict[str, str] = {state.device.id: state.device.component for state in snapshot.devices}
    yield from _charged(snapshot, starts, texts, components)
    yield from _of_the_run(snapshot, starts, texts, components)
    yield from work_families(snapshot, starts)


def _charged(
    snapshot: Snapshot, starts: Starts, texts: _Texts, components: dict[str, str]
) -> Iterator[RowFamily]:
    """What the runs were charged, device by device: the many samples of a scrape."""
    energy, emissions = as_counter(f.RUN_ENERGY), as_counter(f.RUN_EMISSIONS)
    power, unobserved = as_gauge(f.RUN_POWER), as_counter(f.RUN_UNOBSERVED)
    for run in snapshot.runs:
        run_id = encodable(run.info.id)
        grams: dict[tuple[str, str, str], tuple[float, float | None]] = {}
        devices: dict[str, float | None] = {}
        for row in run.totals:
            phase, component = texts[row.phase], row.component
            start_s = run.start_s if row.start_s is None else row.start_s
            starts.add(
                energy, (run_id, phase, component, texts[row.device_id], row.method), row.energy_j, start_s
            )
            devices.setdefault(row.device_id, start_s)
            key = (run_id, phase, component)
            amount_g, first_s = grams.get(key, (0.0, start_s))
            grams[key] = amount_g + row.emissions_g, first_s
        for labels, (amount_g, first_s) in grams.items():
            starts.add(emissions, labels, amount_g, first_s)
        for device_id, watts in run.power_w:
            if watts is not None and run.ended_at_s is None:
                power.add_metric((run_id, components.get(device_id, ""), texts[device_id]), watts)
        for device_id, seconds in run.unobserved_s:
            first_s = devices.get(device_id, run.start_s)
            starts.add(unobserved, (run_id, texts[device_id]), seconds, first_s)
    yield from (energy, emissions, power, unobserved)


def _of_the_run(
    snapshot: Snapshot, starts: Starts, texts: _Texts, components: dict[str, str]
) -> Iterator[RowFamily]:
    """What there is once a run."""
    node, cpu = as_counter(f.RUN_NODE_ENERGY), as_counter(f.RUN_CPU)
    processes, progress = as_gauge(f.RUN_PROCESSES), as_gauge(f.RUN_PROGRESS)
    water, cost = as_counter(f.RUN_WATER), as_gauge(f.RUN_COST)
    start, end, info = as_gauge(f.RUN_START), as_gauge(f.RUN_END), as_info(f.RUN_INFO)
    phase = as_info(f.RUN_PHASE)
    for run in snapshot.runs:
        label = (encodable(run.info.id),)
        for component, joules in _node_joules(run, components).items():
            starts.add(node, (*label, component), joules, run.start_s)
        for counter, value in ((cpu, run.cpu_s), (water, run.water_l)):
            if value is not None:
                starts.add_late(counter, label, value, run.start_s)
        for gauge, value in (
            (processes, run.processes),
            (progress, None if run.work is None else run.work.ratio),
            (start, run.info.started_at_s),
            (end, run.ended_at_s),
        ):
            if value is not None:
                gauge.add_metric(label, value)
        if run.ended_at_s is None:
            phase.add_metric((), {"run_id": label[0], "phase": encodable(run.phase)})
        for paid in run.costs:
            cost.add_metric((*label, encodable(paid.currency)), paid.amount)
        info.add_named(_info((run.info,), snapshot.intensity.zone))
    yield from (node, cpu, processes, phase, progress, water, cost, start, end, info)


def _node_joules(run: RunState, components: dict[str, str]) -> dict[str, float]:
    """Joules of the metered devices while the run lasted, by component ("" for a device that is gone)."""
    joules: dict[str, float] = {}
    for total in run.node:
        component = components.get(total.device_id, "")
        joules[component] = joules.get(component, 0.0) + drawn_j(total)
    return joules


def info_labels(info: RunInfo, zone: str) -> dict[str, str]:
    """The labels of `run_info`: ours, then the user's under names that Prometheus accepts.

    Two keys that become the same name are told apart by a number; none is dropped. `user` is ours only where
    the monitor gives names: else a label of that name stays as the user wrote it.
    """
    uid = os.geteuid() if info.uid is None else info.uid
    labels: dict[str, str] = {
        "run_id": info.id,
        "name": info.name,
        "scheduler": info.scheduler,
        "scheduler_job_id": info.scheduler_job_id,
        "zone": zone,
        "idle_policy": info.idle_policy,
        "uid": str(uid),
        **({"user": info.user} if info.user else {}),
    }
    ours = frozenset(labels)
    for key, value in info.labels:
        name = metric_name(key)
        # A leading digit is invalid; a reserved one may stand in the files of an earlier release.
        if name in ours or not name or name[0].isdigit() or is_reserved(key):
            name = f"label_{name}"
        unique, number = name, 2
        while unique in labels:
            unique, number = f"{name}_{number}", number + 1
        labels[unique] = value
    return {name: encodable(value) for name, value in labels.items()}


def _made_info(info: RunInfo, zone: str) -> tuple[tuple[str, str], ...]:
    return tuple(info_labels(info, zone).items())


_info = Remembered[RunInfo, "tuple[tuple[str, str], ...]"](_made_info)
