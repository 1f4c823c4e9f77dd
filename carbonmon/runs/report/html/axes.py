"""Plots over time as SVG: axes, and lines of steps. Width is a share of the page, height is in pixels.

The steps of a plot are an SVG of their own that is stretched to the width, one unit a step. Texts stand
outside of it, so that they have their size on a phone, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from carbonmon.core.records import NamedTuple
from carbonmon.core.times import shown_utc
from carbonmon.runs.report.html.elements import Markup, h, joined

Values = Sequence["float | None"]

UNITS = 2
"""Units of a path in a pixel of height."""

_MARGIN = 1
"""Pixels around the steps: half of a line that runs along the edge."""

_TICK = 22
"""Pixels below a plot for the times."""

_TICKS_S = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200),
    *(86400, 172800, 604800, 1209600, 2592000),
)
_DAY_S = 86400
_MOST_NARROW_TICKS = 5
"""So many times find room on a phone."""

_MIDDLE = {"text-anchor": "middle"}

_EDGE = 0.03
"""So near to an end of the axis a text has no room."""


class Frame(NamedTuple):
    """What a plot is drawn into: the run's time in steps, and its height in pixels, for 0 to `top`.

    `most_ticks` is how many times find room below it.
    """

    begin_s: float
    end_s: float
    step_s: float
    height: int
    top: float
    most_ticks: int = 10

    @property
    def steps(self) -> float:
        """The time in steps; the last one may be a part."""
        return max((self.end_s - self.begin_s) / self.step_s, 1e-6)

    def y(self, value: float) -> int:
        return round(UNITS * self.height * (1.0 - min(value, self.top) / self.top))


def top_of(most: float) -> tuple[float, float]:
    """The end of an axis for values up to `most`, and the distance of its ticks."""
    least = max(most, 1e-12) / 4.0
    size = 10.0 ** math.floor(math.log10(least))
    step = size * next((factor for factor in (1.0, 2.0, 2.5, 5.0) if factor * size >= least), 10.0)
    return math.ceil(max(most, 1e-12) / step - 1e-9) * step, step


def plot(label: str, frame: Frame, ticks: Sequence[tuple[float, str]], *inside: Markup) -> Markup:
    """A plot with its axes; `ticks` are values with texts, `inside` what `stretched` and `hatched` give."""
    lines = [_line("grid", frame.y(value) / UNITS) for value, _ in ticks]
    texts = [
        h("text", {"class": "tick", "x": -6, "y": frame.y(value) / UNITS + 4, "text-anchor": "end"}, text)
        for value, text in ticks
    ]
    return h(
        "svg",
        {"class": "chart", "height": frame.height + _TICK, "role": "img", "aria-label": label},
        lines,
        texts,
        inside,
        _times(frame),
    )


def stretched(frame: Frame, *paths: Markup) -> Markup:
    """Paths in units of steps and half pixels, stretched to the plot's width; a line at its top is whole."""
    height = frame.height + 2 * _MARGIN
    return h(
        "svg",
        {
            "y": -_MARGIN,
            "width": "100%",
            "height": height,
            "viewBox": f"0 {-_MARGIN * UNITS} {frame.steps:.4g} {height * UNITS}",
            "preserveAspectRatio": "none",
        },
        paths,
    )


def area(frame: Frame, floors: Values, roofs: Values, attributes: dict[str, str]) -> Markup:
    """What lies between two lines of steps; interrupted where one of them is None."""
    return h("path", {**attributes, "d": area_path(frame, floors, roofs)})


def edge(frame: Frame, roofs: Values, kind: str) -> Markup:
    """A line of steps."""
    found = "".join(_upper(frame, roofs, begin, end) for begin, end in known_spans(roofs))
    return h("path", {"class": f"edge {kind}", "d": found})


def hatched(frame: Frame, floors: Values, roofs: Values, pattern: str, name: str) -> Markup:
    """Such an area filled with a pattern, which keeps its shape however wide the plot is. `name` is unique in
    the document.

    The area is a mask over a rectangle, since a pattern inside of what is stretched would be stretched, too.
    """
    shape = stretched(frame, area(frame, floors, roofs, {"fill": "#fff"}))
    size = {"maskUnits": "userSpaceOnUse", "x": "0", "y": "0", "width": "100%", "height": "100%"}
    mask = h("mask", {"id": name, **size}, shape)
    filling = {"fill": f"url(#{pattern})", "mask": f"url(#{name})"}
    return joined((mask, h("rect", {"width": "100%", "height": frame.height, **filling})))


def area_path(frame: Frame, floors: Values, roofs: Values) -> str:
    """The outlines of the areas between two lines of steps."""
    known = [None if floor is None else roof for floor, roof in zip(floors, roofs, strict=True)]
    return "".join(
        f"{_upper(frame, roofs, begin, end)}{_lower(frame, floors, begin, end)}Z"
        for begin, end in known_spans(known)
    )


def known_spans(values: Values) -> Iterable[tuple[int, int]]:
    """Begin and end of each stretch of steps without a None."""
    begin = None
    for place, value in enumerate((*values, None)):
        if value is not None and begin is None:
            begin = place
        elif value is None and begin is not None:
            yield begin, place
            begin = None


def _edge(frame: Frame, values: Values, places: range, begin: str, step: str) -> str:
    """Along the values at `places`, in commands of an SVG path; steps of one height are one line."""
    at = frame.y(values[places[0]] or 0.0)
    path, width = [f"{begin}{at}"], 0
    for place in places:
        y = frame.y(values[place] or 0.0)
        if y != at:
            path.append(f"{step}{width}v{y - at}")
            at, width = y, 0
        width += 1
    return "".join((*path, f"{step}{width}"))


def _upper(frame: Frame, values: Values, begin: int, end: int) -> str:
    """From left to right."""
    return _edge(frame, values, range(begin, end), f"M{begin} ", "h")


def _lower(frame: Frame, values: Values, begin: int, end: int) -> str:
    """Back from right to left."""
    return _edge(frame, values, range(end - 1, begin - 1, -1), "V", "h-")


def _line(kind: str, y: float) -> Markup:
    return h("line", {"class": kind, "x1": 0, "x2": "100%", "y1": y, "y2": y})


def _times(frame: Frame) -> list[Markup]:
    """Ticks of the time in UTC; on a phone only each second one is shown, if there are many."""
    length_s = max(frame.end_s - frame.begin_s, 1.0)
    longest_s = math.ceil(length_s / frame.most_ticks / _DAY_S) * _DAY_S
    step_s = next((each for each in _TICKS_S if length_s / each <= frame.most_ticks), longest_s)
    found = []
    places = range(math.ceil(frame.begin_s / step_s), math.floor(frame.end_s / step_s) + 1)
    for number, place in enumerate(places):
        at_s = place * step_s
        ratio = (at_s - frame.begin_s) / length_s
        kind = "tick more" if number % 2 and len(places) > _MOST_NARROW_TICKS else "tick"
        x, y = f"{100 * ratio:.2f}%", frame.height
        found.append(h("line", {"class": kind, "x1": x, "x2": x, "y1": y, "y2": y + 4}))
        if _EDGE <= ratio <= 1.0 - _EDGE:
            found.append(h("text", {"class": kind, "x": x, "y": y + 17, **_MIDDLE}, _time(at_s, step_s)))
    return found


def _time(at_s: float, step_s: float) -> str:
    if step_s >= _DAY_S or at_s % _DAY_S == 0:
        return shown_utc(at_s, "%m-%d")
    return shown_utc(at_s, "%H:%M:%S" if step_s < 60 else "%H:%M")
