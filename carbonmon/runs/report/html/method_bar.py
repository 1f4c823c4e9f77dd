"""How much of the energy was measured and estimated, by component: one bar, full and hatched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.core.model import MEASURED_METHODS
from carbonmon.runs.report.html.elements import ESTIMATED, MEASURED, Markup, h, joined, marked
from carbonmon.runs.report.html.layers import ORDER, PLURALS, legend, swatch
from carbonmon.runs.summary.figures import percent_text

HEIGHT = 22


def method_bar(energy: Mapping[str, Any]) -> Markup:
    """The bar with its legend; a sentence where there is no energy."""
    parts_j = _parts_j(energy)
    total_j = sum(parts_j.values())
    if not total_j:
        return h("p", None, "No energy was seen, so that nothing is measured or estimated.")
    rects, items, at = [], [], 0.0
    for (component, is_estimated), part_j in parts_j.items():
        filling = {"class": f"area {component}"}
        if is_estimated:
            filling = {"class": "hatched", "fill": f"url(#hatch-{component})"}
        ratio = part_j / total_j
        place = {"x": f"{100 * at:.3f}%", "width": f"{100 * ratio:.3f}%"}
        rects.append(h("rect", {**filling, **place, "y": 0, "height": HEIGHT}))
        word = ESTIMATED if is_estimated else MEASURED
        items.append(
            (swatch(component, is_estimated), f"{PLURALS[component]}, {word}: {percent_text(ratio)}")
        )
        at += ratio
    label = "; ".join(text for _, text in items)
    bar = h("svg", {"class": "bar", "height": HEIGHT, "role": "img", "aria-label": label}, rects)
    return joined((bar, legend([(sign, marked(text)) for sign, text in items])))


def _parts_j(energy: Mapping[str, Any]) -> dict[tuple[str, bool], float]:
    """Joules by component and whether they were estimated; none that is 0."""
    sums = {(component, is_estimated): 0.0 for component in ORDER for is_estimated in (False, True)}
    for device in energy["devices"]:
        for method, joules in device["methods"].items():
            sums[device["component"], method not in MEASURED_METHODS] += joules
    return {key: joules for key, joules in sums.items() if joules > 0.0}
