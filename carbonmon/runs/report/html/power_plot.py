"""Power over time: components above each other, measured and estimated told apart, with the phases below."""

from __future__ import annotations

from collections.abc import Sequence

from carbonmon.core.times import shown_utc
from carbonmon.runs.downsampling import Glance
from carbonmon.runs.report.html import axes
from carbonmon.runs.report.html.elements import Markup, h, joined, marked, under_plot
from carbonmon.runs.report.html.layers import (
    UNKNOWN,
    Layer,
    groups_of,
    known_steps,
    layers_of,
    legend,
    masked,
    mean,
    phase_class,
    phases_of,
    span_text,
    swatch,
)
from carbonmon.runs.summary.figures import percent_text, power_text
from carbonmon.runs.summary.strings import phase_text

HEIGHT = 200
STRIP = 14
_MOST_PHASES = 12
"""Phases in the legend; the table of phases has all."""

_PART_WORTH_DRAWING = 0.005


def power_plot(glance: Glance) -> Markup:
    """The plot with its legend and its table."""
    layers = layers_of(glance)
    known = known_steps(glance)
    if not layers:
        return h("p", None, "No device has drawn anything that is known.")
    most_w = max(
        (sum(values) for values in zip(*(layer.power_w for layer in layers), strict=True)), default=0.0
    )
    top, step = axes.top_of(max(most_w, 1.0))
    frame = axes.Frame(glance.begin_s, glance.end_s, glance.step_s, HEIGHT, top)
    ticks = [(step * n, power_text(step * n, top)) for n in range(round(top / step) + 1)]
    label = (
        f"Power from {shown_utc(glance.begin_s)} to {shown_utc(glance.end_s)} UTC, at most "
        f"{power_text(most_w)} in the mean of a step; the table below has its figures"
    )
    items = [(swatch(layer.component, layer.is_estimated), marked(layer.name)) for layer in layers]
    return joined(
        (
            axes.plot(label, frame, ticks, _stack(frame, layers, known)),
            phase_strip(frame, glance),
            legend(items),
            _phase_legend(glance),
            under_plot("Power over time", *_rows(glance, layers, known)),
        )
    )


def phase_strip(frame: axes.Frame, glance: Glance) -> Markup:
    """The phases over time: a rectangle for each part of each step."""
    phases = phases_of(glance)
    frame = frame._replace(height=STRIP, top=1.0)
    floors = [0.0] * len(glance.grid)
    paths = []
    for place, phase in enumerate(phases):
        parts = glance.phases[phase]
        roofs = [floor + part for floor, part in zip(floors, parts, strict=True)]
        shown: axes.Values = [
            roof if part > _PART_WORTH_DRAWING else None for roof, part in zip(roofs, parts, strict=True)
        ]
        paths.append(axes.area(frame, floors, shown, {"class": phase_class(place)}))
        floors = roofs
    return h(
        "svg",
        {"class": "chart strip", "height": STRIP, "aria-hidden": "true"},
        axes.stretched(frame, *paths),
    )


def _stack(frame: axes.Frame, layers: Sequence[Layer], known: Sequence[bool]) -> Markup:
    """The layers above each other."""
    floors = [0.0] * len(known)
    found = []
    for layer in layers:
        sums = [floor + power_w for floor, power_w in zip(floors, layer.power_w, strict=True)]
        roofs, kind = masked(sums, known), layer.component
        if layer.is_estimated:
            found.append(axes.hatched(frame, floors, roofs, f"hatch-{kind}", f"power-{kind}"))
        else:
            filled = axes.area(frame, floors, roofs, {"class": f"area {kind}"})
            found.append(axes.stretched(frame, filled, axes.edge(frame, roofs, kind)))
        floors = sums
    return joined(found)


def _phase_legend(glance: Glance) -> Markup:
    phases = phases_of(glance)
    items = [
        (h("span", {"class": f"square {phase_class(place)}", "aria-hidden": "true"}), phase_text(phase))
        for place, phase in enumerate(phases[:_MOST_PHASES])
    ]
    more = len(phases) - len(items)
    if more > 0:
        items.append((Markup(""), f"and {more} phases more: the table of phases has all"))
    return legend(items)


def _rows(
    glance: Glance, layers: Sequence[Layer], known: Sequence[bool]
) -> tuple[list[str], list[list[str]]]:
    rows = []
    largest = [max(layer.power_w) for layer in layers]
    for group in groups_of(len(known)):
        cells = [span_text(glance, group)]
        for layer, largest_w in zip(layers, largest, strict=True):
            power_w = mean([layer.power_w[place] if known[place] else None for place in group])
            cells.append(UNKNOWN if power_w is None else power_text(power_w, largest_w))
        rows.append([*cells, _phases_text(glance, group)])
    return ["Time (UTC)", *(layer.name for layer in layers), "Phases"], rows


def _phases_text(glance: Glance, group: range) -> str:
    """The phases of a row with their parts of its time, the longest first."""
    parts = {phase: mean([glance.phases[phase][place] for place in group]) or 0.0 for phase in glance.phases}
    shown = sorted((phase for phase in parts if parts[phase] > 0.0), key=lambda phase: -parts[phase])
    if len(shown) == 1:
        return phase_text(shown[0])
    return ", ".join(f"{phase_text(phase)} {percent_text(parts[phase])}" for phase in shown[:_MOST_PHASES])
