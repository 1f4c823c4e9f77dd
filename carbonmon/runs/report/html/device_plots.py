"""Each device over time, in small plots of one scale: a line for the mean, a band from lowest to highest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.core.model import MEASURED_METHODS
from carbonmon.runs.downsampling import Glance, Step
from carbonmon.runs.report.condensing import MOST_DEVICES
from carbonmon.runs.report.html import axes
from carbonmon.runs.report.html.elements import ESTIMATED, Markup, h, joined, marked
from carbonmon.runs.report.sections import COMPONENTS, known_text
from carbonmon.runs.summary.figures import power_text
from carbonmon.runs.summary.strings import device_text

HEIGHT = 60
MOST_STEPS = 180
"""A small plot has room for no more."""


def device_plots(glance: Glance, devices: Sequence[Mapping[str, Any]]) -> Markup:
    """A plot for each device of which the series knows something, for the largest of very many."""
    drawn = [device for device in devices if any(glance.devices.get(device["id"], ()))]
    shown = sorted(drawn, key=lambda device: -(device["energy_j"] or 0.0))[:MOST_DEVICES]
    ids = {device["id"] for device in shown}
    plots = [_figure(glance, device, devices) for device in drawn if device["id"] in ids]
    if not plots:
        return Markup("")
    more = len(drawn) - len(plots)
    rest = (
        h("p", None, f"{more} more devices, which drew less, are in the table only.") if more else Markup("")
    )
    return joined((h("div", {"class": "small-plots"}, plots), rest))


def fewer_steps(steps: Sequence[Step | None], most: int = MOST_STEPS) -> tuple[list[Step | None], int]:
    """At most so many steps, and how many have become one; the extremes and the joules stay."""
    each = max(1, -(-len(steps) // most))
    return [_one(steps[begin : begin + each]) for begin in range(0, len(steps), each)], each


def _one(steps: Sequence[Step | None]) -> Step | None:
    known = [step for step in steps if step is not None]
    if len(known) < 2:
        return known[0] if known else None
    powers = [step.power_w for step in known if step.power_w is not None]
    lows = [step.low_w for step in known if step.low_w is not None]
    highs = [step.high_w for step in known if step.high_w is not None]
    energy_j = sum(step.energy_j for step in known)
    measured_j = sum(step.energy_j * (step.measured_ratio or 0.0) for step in known)
    return Step(
        sum(powers) / len(powers) if powers else None,
        min(lows) if lows else None,
        max(highs) if highs else None,
        measured_j / energy_j if energy_j else None,
        energy_j,
    )


def _figure(glance: Glance, device: Mapping[str, Any], devices: Sequence[Mapping[str, Any]]) -> Markup:
    steps, each = fewer_steps(glance.devices[device["id"]])
    alike = [other["id"] for other in devices if other["component"] == device["component"]]
    most_w = max(_highest_w(glance.devices.get(other, ())) for other in alike)
    top, _ = axes.top_of(max(most_w, 1.0))
    frame = axes.Frame(glance.begin_s, glance.end_s, glance.step_s * each, HEIGHT, top, most_ticks=5)
    kind = device["component"]
    lows = [None if known is None else known.lowest_w for known in steps]
    highs = [None if known is None else known.highest_w for known in steps]
    lines = []
    for style, is_estimated in ((kind, False), (f"{kind} {ESTIMATED}", True)):
        power_w = [
            known.power_w if known is not None and _is_estimated(known) is is_estimated else None
            for known in steps
        ]
        lines.append(axes.edge(frame, power_w, style))
    band = axes.area(frame, lows, highs, {"class": f"band {kind}"})
    ticks = [(0.0, "0 W"), (top, power_text(top))]
    name = f"{COMPONENTS[kind]} {device_text(device['id'], device['index'], is_short=True)}"
    parts = (h("b", None, name), " ", device["name"] or "", " · ", marked(_known(device)), " · ")
    plot = axes.plot(f"Power of {name}", frame, ticks, axes.stretched(frame, band, *lines))
    return h("figure", None, h("figcaption", None, parts, _words(device, steps)), plot)


def _is_estimated(step: Step) -> bool:
    """Whether more than half of its energy is."""
    return step.measured_ratio is not None and step.measured_ratio < 0.5


def _known(device: Mapping[str, Any]) -> str:
    methods, total_j = device["methods"], sum(device["methods"].values())
    measured_j = sum(joules for method, joules in methods.items() if method in MEASURED_METHODS)
    return known_text({"measured_ratio": measured_j / total_j if total_j else None}, total_j)


def _words(device: Mapping[str, Any], steps: Sequence[Step | None]) -> str:
    lows = [low for step in steps if step and (low := step.lowest_w) is not None]
    mean_w = device["mean_power_w"]
    mean = "mean unknown" if mean_w is None else f"mean {power_text(mean_w)}"
    return f"{mean}, {power_text(min(lows))} to {power_text(_highest_w(steps))}" if lows else mean


def _highest_w(steps: Sequence[Step | None]) -> float:
    return max((step.highest_w or 0.0 for step in steps if step), default=0.0)
