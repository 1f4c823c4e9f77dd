"""Carbon intensity over time: its mean as a line, its extremes as a band, a forecast dashed."""

from __future__ import annotations

from carbonmon.core.model import IntensityKind
from carbonmon.runs.downsampling import Glance
from carbonmon.runs.report.details import KINDS
from carbonmon.runs.report.html import axes
from carbonmon.runs.report.html.elements import Markup, h, joined, under_plot
from carbonmon.runs.report.html.layers import UNKNOWN, groups_of, legend, mean, span_text
from carbonmon.runs.summary.figures import figure

HEIGHT = 120

_DASHED: frozenset[IntensityKind] = frozenset(("forecast", "stale"))
"""What was not observed at that time."""


def intensity_plot(glance: Glance) -> Markup:
    """The plot with its table."""
    steps = glance.grid
    values: axes.Values = [None if step is None else step.mean_g_per_kwh for step in steps]
    top, step = axes.top_of(max((each.high_g_per_kwh for each in steps if each), default=0.0))
    frame = axes.Frame(glance.begin_s, glance.end_s, glance.step_s, HEIGHT, top)
    band = axes.area(
        frame,
        [None if each is None else each.low_g_per_kwh for each in steps],
        [None if each is None else each.high_g_per_kwh for each in steps],
        {"class": "band grams"},
    )
    is_dashed = [each is not None and bool(each.kinds & _DASHED) for each in steps]
    lines = [
        axes.edge(
            frame,
            [value if kind is dashed else None for value, kind in zip(values, is_dashed, strict=True)],
            style,
        )
        for dashed, style in ((False, "grams"), (True, "grams estimated"))
        if dashed in is_dashed
    ]
    known = [value for value in values if value is not None]
    span = f"{figure(min(known))} to {figure(max(known))} g CO2e/kWh"
    label = f"Carbon intensity, {span} in the mean of a step; the table below has its figures"
    ticks = [(step * n, f"{step * n:g}") for n in range(round(top / step) + 1)]
    plot = axes.plot(label, frame, ticks, axes.stretched(frame, band, *lines))
    return joined((plot, _legend(glance), under_plot("Carbon intensity over time", *_rows(glance))))


def _legend(glance: Glance) -> Markup:
    kinds = sorted({kind for step in glance.grid if step for kind in step.kinds})
    items = [(_line(kind in _DASHED), KINDS[kind]) for kind in kinds]
    return legend(items)


def _line(is_dashed: bool) -> Markup:
    kind = "edge grams estimated" if is_dashed else "edge grams"
    return h(
        "svg",
        {"class": "swatch", "width": 26, "height": 14, "viewBox": "0 0 26 14", "aria-hidden": "true"},
        h("path", {"class": kind, "d": "M0 8H26"}),
    )


def _rows(glance: Glance) -> tuple[list[str], list[list[str]]]:
    rows = []
    for group in groups_of(len(glance.grid)):
        steps = [step for place in group if (step := glance.grid[place]) is not None]
        value = mean([step.mean_g_per_kwh for step in steps])
        cells = [UNKNOWN, UNKNOWN, UNKNOWN]
        if value is not None:
            lowest, highest = (
                min(each.low_g_per_kwh for each in steps),
                max(each.high_g_per_kwh for each in steps),
            )
            cells = [figure(value), figure(lowest), figure(highest)]
        kinds = sorted({KINDS[kind] for step in steps for kind in step.kinds})
        rows.append([span_text(glance, group), *cells, ", ".join(kinds)])
    return ["Time (UTC)", "g CO2e/kWh", "Lowest", "Highest", "Kind"], rows
