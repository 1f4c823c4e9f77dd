"""What the plots of a run are made of: the power of each layer, the phases, and rows for the tables below."""

from __future__ import annotations

from collections.abc import Sequence

from carbonmon.core.model import Component
from carbonmon.core.records import NamedTuple
from carbonmon.core.times import shown_utc
from carbonmon.runs.downsampling import Glance, Step
from carbonmon.runs.report.html.axes import Values
from carbonmon.runs.report.html.elements import ESTIMATED, MEASURED, Markup, h, joined

ORDER: tuple[Component, ...] = ("gpu", "cpu", "dram", "module")
PLURALS = {"gpu": "GPUs", "cpu": "CPUs", "dram": "memory", "module": "modules"}
PHASE_COLOURS = 7
"""The last one is for all phases beyond."""

MOST_ROWS = 24
"""Rows of the table below a plot."""

UNKNOWN = "unknown"


class Layer(NamedTuple):
    """A component, the measured or the estimated part of it, and its power at each step (W)."""

    component: Component
    is_estimated: bool
    power_w: list[float]

    @property
    def name(self) -> str:
        return f"{PLURALS[self.component]}, {ESTIMATED if self.is_estimated else MEASURED}"


def layers_of(glance: Glance) -> list[Layer]:
    """The layers in which anything was drawn, from the lowest up."""
    found = []
    for component in ORDER:
        devices = [
            steps for device, steps in glance.devices.items() if glance.components[device] == component
        ]
        for is_estimated in (False, True):
            power_w = [
                sum(_part_w(steps[place], is_estimated) for steps in devices)
                for place in range(len(glance.grid))
            ]
            if any(power_w):
                found.append(Layer(component, is_estimated, power_w))
    return found


def known_steps(glance: Glance) -> list[bool]:
    """Whether the power of any device is known, at each step."""
    return [
        any(
            (step := steps[place]) is not None and step.power_w is not None
            for steps in glance.devices.values()
        )
        for place in range(len(glance.grid))
    ]


def masked(values: Sequence[float], known: Sequence[bool]) -> Values:
    """The values with None where nothing is known."""
    return [value if is_known else None for value, is_known in zip(values, known, strict=True)]


def phases_of(glance: Glance) -> list[str]:
    """All phases, the longest first."""
    return sorted(glance.phases, key=lambda phase: -sum(glance.phases[phase]))


def phase_class(place: int) -> str:
    return f"phase-{min(place, PHASE_COLOURS - 1)}"


def groups_of(steps: int) -> list[range]:
    """The steps of each row of a table."""
    each = max(1, -(-steps // MOST_ROWS))
    return [range(begin, min(begin + each, steps)) for begin in range(0, steps, each)]


def span_text(glance: Glance, group: range) -> str:
    """The time of some steps in UTC."""
    begin_s = glance.begin_s + group.start * glance.step_s
    end_s = min(glance.begin_s + group.stop * glance.step_s, glance.end_s)
    form = "%Y-%m-%d %H:%M:%S" if end_s - begin_s < 120 else "%Y-%m-%d %H:%M"
    return f"{shown_utc(begin_s, form)} to {shown_utc(end_s, form)}"


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def legend(items: Sequence[tuple[Markup, str]]) -> Markup:
    """What the shapes and colours of a plot mean."""
    return h(
        "div",
        {"class": "legend"},
        h("ul", None, (h("li", None, joined((sign, " ", text))) for sign, text in items)),
    )


def swatch(kind: str, is_estimated: bool) -> Markup:
    """A rectangle as the layer is drawn: full with an edge where measured, hatched where estimated."""
    if is_estimated:
        filling = {"class": "hatched", "fill": f"url(#hatch-{kind})"}
    else:
        filling = {"class": f"area {kind}"}
    upper = None if is_estimated else h("path", {"class": f"edge {kind}", "d": "M0 2H26"})
    shape = h("rect", {**filling, "x": 0, "y": 2, "width": 26, "height": 12})
    return h(
        "svg",
        {"class": "swatch", "width": 26, "height": 14, "viewBox": "0 0 26 14", "aria-hidden": "true"},
        shape,
        upper,
    )


def hatches() -> Markup:
    """The patterns of what is estimated, once in a document."""
    return h(
        "svg",
        {"width": 0, "height": 0, "aria-hidden": "true", "class": "patterns"},
        h("defs", None, map(_hatch, (*ORDER, "all"))),
    )


def _hatch(kind: str) -> Markup:
    space = {"patternUnits": "userSpaceOnUse", "patternTransform": "rotate(45)"}
    return h(
        "pattern",
        {"id": f"hatch-{kind}", "width": 6, "height": 6, **space},
        h("rect", {"class": f"area {kind} pale", "width": 6, "height": 6}),
        h("rect", {"class": f"area {kind}", "width": 2, "height": 6}),
    )


def _part_w(step: Step | None, is_estimated: bool) -> float:
    if step is None or step.power_w is None:
        return 0.0
    return step.power_w - step.measured_w if is_estimated else step.measured_w
