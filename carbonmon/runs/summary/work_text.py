"""What a run has done, and what that took, in words: for the table at its end and for reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from carbonmon.core.efficiency import UNITS, WHOLE, quotient
from carbonmon.core.text_layout import labelled
from carbonmon.runs.summary.figures import JOULES, duration_text, energy_text, figure, percent_text
from carbonmon.runs.summary.strings import one_line

_SMALL = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (0.0, "nJ"))
_LARGE = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))
_FLOPS = ((1e12, "TFLOP"), (1e9, "GFLOP"), (0.0, "MFLOP"))
_IN_FLOPS = {"TFLOP": 1e12, "GFLOP": 1e9, "MFLOP": 1e6}
_IN_J = {"J": 1.0, "mJ": 1e-3, "µJ": 1e-6, "nJ": 1e-9}

_LARGEST = 1e6
"""Of more MWh a step, TFLOP a joule or times the peak no size is said: the counts are in another unit."""

_IDLE_WORTH_SAYING = 0.01
"""Of less idle time than this the table says nothing."""


def work_lines(summary: Mapping[str, Any], width: int | None) -> list[str]:
    """The lines of the table: what was done, the energy of each, and GPUs that were held for nothing."""
    lines = []
    work = summary.get("work")
    if work is not None:
        each = ", ".join(energies_text(work))
        took = f": {each} ({_scope_text(work, summary['energy']['measured_ratio'])})" if each else ""
        text = "; ".join(filter(None, (counts_text(work) + took, flops_text(work))))
        lines += labelled("work", text, width)
    time = summary.get("gpu_time")
    if time is not None and time["idle_s"] and time["idle_s"] > _IDLE_WORTH_SAYING * time["held_s"]:
        lines += labelled("idle", idle_text(time), width)
    return lines


def counts_text(work: Mapping[str, Any]) -> str:
    """`600 of 1,000 steps, 1.2 epochs, 614 million tokens`."""
    parts = []
    for what, unit in UNITS.items():
        if work[what] is not None:
            of = (
                "" if what != "steps" or work["total_steps"] is None else f" of {_count(work['total_steps'])}"
            )
            parts.append(f"{_count(work[what])}{of} {unit if work[what] == 1 and not of else what}")
    return ", ".join(parts) or "FLOPs were told, and no steps"


def epoch_text(span: Mapping[str, Any]) -> str:
    """`3`, counted from 1; `1–8` for several; `4 (to 3.2)` for one that is not whole."""
    first, last = span["first"], span["last"]
    number, end = math.floor(first) + 1, math.ceil(last)
    parts = [f"from {first:.4g}"] if first % 1 else []
    parts += [f"to {last:.4g}"] if last % 1 else []
    name = f"{number}" if end <= number else f"{number}–{end}"
    return f"{name} ({' '.join(parts)})" if parts else name


def energies_text(work: Mapping[str, Any]) -> list[str]:
    """`12.3 J a step`, and so on, between the first and the last report."""
    found = ((unit, work[f"energy_per_{unit}_j"]) for unit in UNITS.values())
    return [f"{joules_text(joules)} {_a(unit)}" for unit, joules in found if joules is not None]


def flops_text(work: Mapping[str, Any]) -> str:
    """FLOPs a joule, and the part of the GPUs' peak that the model reached."""
    parts = []
    if work["flops_per_joule"] is not None:
        unit = next(unit for least, unit in _FLOPS if work["flops_per_joule"] >= least)
        parts.append(f"{_bounded(work['flops_per_joule'] / _IN_FLOPS[unit])} {unit} a joule")
    if work["mfu"] is not None:
        mfu = percent_text(work["mfu"]) if work["mfu"] < _LARGEST else f"{_bounded(100 * work['mfu'])} %"
        parts.append(f"MFU {mfu} ({one_line(work['precision'] or 'unknown', 20)})")
    return ", ".join(parts)


def idle_text(time: Mapping[str, Any]) -> str:
    """How long GPUs were held and did nothing, with their energy."""
    share = idle_share_text(time)
    lack = f"; of {duration_text(time['unknown_s'])} more it is unknown" if time["unknown_s"] else ""
    return (
        f"GPUs did nothing for {duration_text(time['idle_s'])} of GPU time ({share}) and drew "
        f"{energy_text(time['idle_energy_j'] or 0.0)} in it{lack}"
    )


def idle_share_text(time: Mapping[str, Any]) -> str:
    """The idle part of the time in which the utilisation was known."""
    ratio = quotient(time["idle_s"], time["held_s"] - time["unknown_s"])
    return percent_text(min(1.0, ratio or 0.0))


def joules_text(joules: float) -> str:
    """Joules down to a nanojoule: a token may take less than a millijoule."""
    if joules >= JOULES["MWh"]:
        return f"{_bounded(joules / JOULES['MWh'])} MWh"
    if joules >= 1.0:
        return energy_text(joules)
    unit = next(unit for least, unit in _SMALL if joules >= least)
    return f"{figure(joules / _IN_J[unit])} {unit}"


def _scope_text(work: Mapping[str, Any], measured_ratio: float | None) -> str:
    parts = ["from the first to the last report"]
    if work["job_ratio"] is not None and work["job_ratio"] < WHOLE:
        parts.append("this node's part")
    if measured_ratio != 1:
        parts.append("partly estimated" if measured_ratio else "estimated")
    return ", ".join(parts)


def _count(number: float) -> str:
    """`1,024`, `1.5`, `614 million`, `3e+16`."""
    if number >= 1e3 * _LARGE[0][0]:
        return f"{number:.4g}"
    for size, word in _LARGE:
        if number >= size:
            return f"{figure(number / size)} {word}"
    return f"{number:,.0f}" if number == int(number) else f"{number:.4g}"


def _bounded(number: float) -> str:
    return figure(number) if number < _LARGEST else f">{_LARGEST:,.0f}"


def _a(unit: str) -> str:
    return f"{'an' if unit == 'epoch' else 'a'} {unit}"
