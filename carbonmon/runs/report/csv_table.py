"""Every detail of runs as one CSV table: a row is one amount of one thing, its unit in the column's name.

The column `scope` says what a row is about, `item` which one:

| scope | item | a row for |
|---|---|---|
| run | | each run: the totals |
| settled | | each run that was settled: its emissions again |
| what_if | the place | the emissions that the run's energy would have caused there |
| elsewhere | the place | the same at each place of `--elsewhere`: in no sum |
| embodied | | each run with embodied emissions: their range |
| phase | its name | each phase |
| component | gpu, cpu, dram, module | each component |
| method | counter, power, tdp | each way in which energy was known |
| device | its id | each device and method |
| source | who states it | each intensity that the energy was charged with |
| cost | the currency | each currency in which the energy has a price |
| node | | the energy of the whole node meanwhile, whoever caused it |
| work | steps, epochs, samples, tokens, flops | each count, from its first report to its last |
| epoch | its number, from 1 | each epoch of which the training code told |
| gpu_time | held, idle, unknown | GPU-seconds, as the duration; of idle ones the energy |

Each of phase, component, method, device and source adds up to run: **sum within one scope only**. Unknown is
an empty cell, never 0. Power, utilisation and unobserved time are the device's: each of its methods' rows
repeats them. A method's range comes from its relative uncertainty. `run_id` and `host` identify the run. A
text that begins like a formula has a `'` before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from carbonmon.core.efficiency import done, quotient
from carbonmon.core.plain_text import plain_cell
from carbonmon.core.work import COUNTS
from carbonmon.runs.summary.work_text import epoch_text

COLUMNS = (
    *(
        "run_id",
        "run_name",
        "host",
        "state",
        "started_at",
        "ended_at",
        "scope",
        "item",
        "component",
        "method",
    ),
    *("energy_j", "energy_low_j", "energy_high_j", "measured_ratio"),
    *("emissions_g", "emissions_low_g", "emissions_high_g", "duration_s"),
    *("mean_power_w", "peak_power_w", "utilization_ratio", "unobserved_s", "device_name"),
    *("water_l", "cost", "currency"),
    *("pue_ratio", "intensity_g_per_kwh", "intensity_zone", "intensity_source", "intensity_kind"),
    *("intensity_basis", "intensity_accounting", "intensity_year", "carbonmon_version", "interpolated_ratio"),
    *("count", "energy_per_count_j", "mfu_ratio"),
)

Cells = dict[str, Any]


def csv_text(summaries: Iterable[Mapping[str, Any]]) -> str:
    """The table with its head; lines end in a newline, texts are quoted as RFC 4180 says."""
    lines = [",".join(COLUMNS)]
    for summary in summaries:
        run = summary["run"]
        whose = {
            "run_id": run["id"],
            "run_name": run["name"],
            "host": run["host"],
            "state": summary["state"],
            "started_at": run["started_at"],
            "ended_at": run["ended_at"],
            "carbonmon_version": summary["monitor"]["version"],
        }
        lines += [
            ",".join(cell((whose | cells).get(column)) for column in COLUMNS) for cells in _rows(summary)
        ]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """A value as it stands in a table; unknown is empty."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return repr(value)
    text = plain_cell(value)
    is_bare = text == text.strip() and not any(character in text for character in ',"')
    return text if is_bare else '"' + text.replace('"', '""') + '"'


def _rows(summary: Mapping[str, Any]) -> Iterator[Cells]:
    energy, carbon = summary["energy"], summary["carbon"]
    yield {
        "scope": "run",
        "duration_s": summary["run"]["duration_s"],
        "energy_j": energy["total_j"],
        "energy_low_j": energy["low_j"],
        "energy_high_j": energy["high_j"],
        "measured_ratio": energy["measured_ratio"],
        "water_l": (summary.get("water") or {}).get("litres"),
        **_carbon(carbon),
    }
    settled = summary.get("settled")
    if settled is not None:
        yield {"scope": "settled", **_carbon(settled)}
    what_if = summary.get("what_if")
    if what_if is not None:
        yield {"scope": "what_if", "item": what_if["place"], **_carbon(what_if)}
    for place in (summary.get("elsewhere") or {}).get("places", ()):
        yield {"scope": "elsewhere", "item": place["place"], **_carbon(place)}
    embodied = summary.get("embodied")
    if embodied is not None:
        ends = {"emissions_low_g": embodied["low_g"], "emissions_high_g": embodied["high_g"]}
        yield {"scope": "embodied", **ends}
    for name, phase in energy["phases"].items():
        keys = "energy_j", "emissions_g", "duration_s", "measured_ratio", "interpolated_ratio"
        cells = {key: phase.get(key) for key in keys}
        yield {"scope": "phase", "item": name, **cells}
    for component, part in energy["components"].items():
        yield {"scope": "component", "item": component, "component": component, **part}
    for method, part in energy["methods"].items():
        yield {"scope": "method", "item": method, "method": method, **_method(part)}
    for device in energy["devices"]:
        yield from _device(device)
    for source in carbon.get("sources") or ():
        amounts = {key: source[key] for key in ("energy_j", "emissions_g")}
        yield {"scope": "source", "item": source["source"], **amounts, **_intensity(source)}
    for cost in summary.get("costs") or ():
        currency = cost["currency"]
        yield {"scope": "cost", "item": currency, "cost": cost["amount"], "currency": currency}
    node = energy.get("node")
    if node is not None:
        yield {
            "scope": "node",
            "energy_j": node["total_j"],
            "emissions_g": node["emissions_g"],
            "measured_ratio": node["measured_ratio"],
        }
    if summary.get("work") is not None:
        yield from _work(summary["work"])
    if summary.get("gpu_time") is not None:
        yield from _gpu_time(summary["gpu_time"])


def _work(work: Mapping[str, Any]) -> Iterator[Cells]:
    """What was done of each count, and the energy of one of it."""
    for what in COUNTS:
        span = work["spans"].get(what)
        if span is None:
            continue
        energy_j, count = span["energy_j"], done(span)
        yield {
            "scope": "work",
            "item": what,
            "energy_j": energy_j,
            "duration_s": span["duration_s"],
            "count": count,
            "energy_per_count_j": quotient(energy_j, count),
            "mfu_ratio": work["mfu"] if what == "flops" else None,
        }
    for epoch in work.get("each_epoch") or ():
        yield {
            "scope": "epoch",
            "item": epoch_text(epoch),
            "energy_j": epoch["energy_j"],
            "duration_s": epoch["duration_s"],
            "count": done(epoch),
            "energy_per_count_j": quotient(epoch["energy_j"], done(epoch)),
        }


def _gpu_time(time: Mapping[str, Any]) -> Iterator[Cells]:
    for item in ("held", "idle", "unknown"):
        energy_j = time["idle_energy_j"] if item == "idle" else None
        yield {"scope": "gpu_time", "item": item, "duration_s": time[f"{item}_s"], "energy_j": energy_j}


def _carbon(carbon: Mapping[str, Any]) -> Cells:
    intensity = carbon.get("intensity") or {}
    return {
        "emissions_g": carbon["emissions_g"],
        "emissions_low_g": carbon.get("low_g"),
        "emissions_high_g": carbon.get("high_g"),
        "pue_ratio": carbon.get("pue"),
        "intensity_g_per_kwh": intensity.get("mean_g_per_kwh"),
        **_intensity(intensity),
    }


def _intensity(facts: Mapping[str, Any]) -> Cells:
    keys = ("zone", "source", "kind", "basis", "accounting", "year")
    return {f"intensity_{key}": facts.get(key) for key in keys}


def _method(part: Mapping[str, Any]) -> Cells:
    joules, low, high = part["energy_j"], part["low_ratio"], part["high_ratio"]
    return {
        "energy_j": joules,
        "energy_low_j": None if low is None else joules * (1 - low),
        "energy_high_j": None if high is None else joules * (1 + high),
    }


def _device(device: Mapping[str, Any]) -> Iterator[Cells]:
    """A row for each method; one without a method for a device that gave nothing."""
    cells = {
        "scope": "device",
        "item": device["id"],
        "device_name": device["name"],
        **{
            key: device[key]
            for key in ("component", "mean_power_w", "peak_power_w", "utilization_ratio", "unobserved_s")
        },
    }
    if not device["methods"]:
        yield {**cells, "energy_j": device["energy_j"]}
    for method, joules in device["methods"].items():
        yield {**cells, "method": method, "energy_j": joules}
