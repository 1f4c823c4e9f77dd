"""Energy and emissions added up over time."""

from __future__ import annotations

from itertools import accumulate

from carbonmon.runs.downsampling import Glance
from carbonmon.runs.report.html import axes
from carbonmon.runs.report.html.elements import ESTIMATED, MEASURED, Markup, h, joined, marked, under_plot
from carbonmon.runs.report.html.layers import groups_of, legend, span_text, swatch
from carbonmon.runs.summary.figures import ENERGY_UNITS, GRAMS, JOULES, MASS_UNITS, figure, unit_of

HEIGHT = 150


def totals_plots(glance: Glance) -> Markup:
    """Two plots, and one table of both."""
    steps = range(len(glance.grid))
    measured_j = list(accumulate(sum(_parts_j(glance, place)) for place in steps))
    estimated_j = list(accumulate(_parts_j(glance, place)[1] for place in steps))
    measured_j = [both - part for both, part in zip(measured_j, estimated_j, strict=True)]
    grams = list(accumulate(0.0 if step is None else step.emissions_g for step in glance.grid))
    plots = h(
        "div",
        {"class": "pair"},
        h("div", None, _energy(glance, measured_j, estimated_j)),
        h("div", None, _emissions(glance, grams)),
    )
    return joined(
        (plots, under_plot("Energy and emissions so far", *_rows(glance, measured_j, estimated_j, grams)))
    )


def _energy(glance: Glance, measured_j: list[float], estimated_j: list[float]) -> Markup:
    both = [sum(parts) for parts in zip(measured_j, estimated_j, strict=True)]
    unit = unit_of(both[-1], ENERGY_UNITS)
    frame, ticks = _axis(glance, both[-1], JOULES[unit], unit)
    inside = []
    if measured_j[-1]:
        filled = axes.area(frame, [0.0] * len(both), measured_j, {"class": "area all"})
        inside.append(axes.stretched(frame, filled, axes.edge(frame, measured_j, "all")))
    if estimated_j[-1]:
        inside.append(axes.hatched(frame, measured_j, both, "hatch-all", "energy-estimated"))
    known = ((measured_j, MEASURED, False), (estimated_j, ESTIMATED, True))
    items = [
        (swatch("all", is_estimated), marked(word)) for joules, word, is_estimated in known if joules[-1]
    ]
    label = f"Energy so far, {figure(both[-1] / JOULES[unit])} {unit} at the end"
    return joined((h("h3", None, "Energy"), axes.plot(label, frame, ticks, *inside), legend(items)))


def _emissions(glance: Glance, grams: list[float]) -> Markup:
    unit = unit_of(grams[-1], MASS_UNITS)
    frame, ticks = _axis(glance, grams[-1], GRAMS[unit], unit)
    filled = axes.area(frame, [0.0] * len(grams), grams, {"class": "area grams"})
    inside = axes.stretched(frame, filled, axes.edge(frame, grams, "grams"))
    label = f"Emissions so far, {figure(grams[-1] / GRAMS[unit])} {unit} CO2e at the end"
    return joined((h("h3", None, "Emissions, CO2e"), axes.plot(label, frame, ticks, inside)))


def _axis(
    glance: Glance, most: float, divisor: float, unit: str
) -> tuple[axes.Frame, list[tuple[float, str]]]:
    top, step = axes.top_of(most / divisor)
    frame = axes.Frame(glance.begin_s, glance.end_s, glance.step_s, HEIGHT, top * divisor)
    return frame, [(step * n * divisor, f"{step * n:g} {unit}") for n in range(round(top / step) + 1)]


def _parts_j(glance: Glance, place: int) -> tuple[float, float]:
    """Joules of one step that were measured, and that were estimated."""
    measured_j = estimated_j = 0.0
    for steps in glance.devices.values():
        step = steps[place]
        if step is not None:
            part_j = step.energy_j * (step.measured_ratio or 0.0)
            measured_j += part_j
            estimated_j += step.energy_j - part_j
    return measured_j, estimated_j


def _rows(
    glance: Glance, measured_j: list[float], estimated_j: list[float], grams: list[float]
) -> tuple[list[str], list[list[str]]]:
    joules_unit = unit_of(measured_j[-1] + estimated_j[-1], ENERGY_UNITS)
    mass_unit = unit_of(grams[-1], MASS_UNITS)
    rows = []
    for group in groups_of(len(glance.grid)):
        place = group.stop - 1
        cells = [span_text(glance, group)]
        cells += [
            f"{figure(each[place] / JOULES[joules_unit])} {joules_unit}" for each in (measured_j, estimated_j)
        ]
        rows.append([*cells, f"{figure(grams[place] / GRAMS[mass_unit])} {mass_unit}"])
    return ["Time (UTC), to its end", "Measured", "Estimated", "CO2e"], rows
