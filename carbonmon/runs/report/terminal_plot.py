"""Power over time for a terminal: the sum in a few rows of blocks, below it each device in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.core.records import NamedTuple
from carbonmon.core.text_layout import PROSE_WIDTH, cut, padded, wrapped
from carbonmon.core.times import shown_in, zone_at
from carbonmon.runs.downsampling import Glance, Step
from carbonmon.runs.report.condensing import MOST_DEVICES
from carbonmon.runs.report.over_time import OverTime
from carbonmon.runs.summary.figures import duration_text, percent_text, power_text
from carbonmon.runs.summary.strings import device_text, one_line

ROWS = 8
_LEFT = 9
_SEEN = 0.5
"""An estimated part that fills less of a cell is not drawn."""

_ROUNDING = 1e-9
_NARROWEST = 10
"""Columns of the plot that stay, however narrow the terminal is."""

_LABEL, _WORDS, _KNOWN = 20, 32, 16
"""Columns of a device's line before its plot and behind it, there without the extremes."""


class Signs(NamedTuple):
    """What is drawn with: parts of a cell from low to full, an estimated cell, the axis."""

    levels: str
    estimated: str
    axis: str

    @property
    def everything(self) -> str:
        return "".join(self)


BLOCKS = Signs("▁▂▃▄▅▆▇█", "░", "│")
ASCII = Signs("_.-=+*#", ":", "|")


class _Column(NamedTuple):
    """The mean power of a column, and what of it is measured."""

    power_w: float
    measured_w: float


Devices = Sequence[Mapping[str, Any]]
"""Those of the summary."""


def plot_text(found: OverTime, devices: Devices, width: int | None, signs: Signs = BLOCKS) -> str:
    """The plot, each line ending in a newline and no wider than `width`; None for no terminal."""
    width = PROSE_WIDTH if width is None else width
    lines = ["  the series of the run has no rows"]
    if found.glance is not None:
        lines = _lines(found.glance, devices, width, signs)
    for note in found.notes:
        lines += wrapped(one_line(note, 1000), width, "  ")
    return "".join(f"{cut(line.rstrip(), width)}\n" for line in lines)


def _lines(glance: Glance, devices: Devices, width: int, signs: Signs) -> list[str]:
    known = list(glance.devices.values())
    columns = _columns(known, max(_NARROWEST, width - _LEFT - 4))
    top_w = max((column.power_w for column in columns if column), default=0.0)
    if not top_w:
        return ["  power over time: not known"]
    zone = zone_at(glance.begin_s)
    title = f"power over time ({zone}), at most {power_text(top_w)} in the mean of a column"
    lines = wrapped(title, width, "  ", "    ")
    for row in reversed(range(ROWS)):
        label = power_text(top_w) if row == ROWS - 1 else "0 W" if row == 0 else ""
        cells = "".join(_cell(column, row, top_w, signs) for column in columns)
        lines.append(f"  {label:>{_LEFT}} {signs.axis}{cells}")
    begin, end = (shown_in(zone, at_s, "%m-%d %H:%M") for at_s in (glance.begin_s, glance.end_s))
    lines.append(f"  {'':{_LEFT}}  {begin}{end:>{max(1, len(columns) - len(begin))}}")
    column_s = (glance.end_s - glance.begin_s) / len(columns)
    legend = f"{_legend(columns, signs)}; {duration_text(column_s)} a column"
    lines += wrapped(legend, width, " " * (_LEFT + 4))
    return lines + _device_lines(glance, devices, width, signs)


def _legend(columns: Sequence[_Column | None], signs: Signs) -> str:
    """The signs, and how much is estimated: it may be too little to be drawn."""
    power_w = sum(column.power_w for column in columns if column)
    estimated_w = power_w - sum(column.measured_w for column in columns if column)
    ratio = estimated_w / power_w
    if ratio < _ROUNDING:
        return f"{signs.levels[-1]} measured"
    return f"{signs.levels[-1]} measured, {signs.estimated} estimated ({percent_text(min(1.0, ratio))})"


def _device_lines(glance: Glance, devices: Devices, width: int, signs: Signs) -> list[str]:
    """A line for each device, of one scale for those of one component."""
    drawn = [device for device in devices if any(glance.devices.get(device["id"], ()))]
    room = width - _LABEL - _WORDS - 4
    has_extremes = room >= _NARROWEST
    room = room if has_extremes else max(_NARROWEST, width - _LABEL - _KNOWN - 4)
    most_w: dict[str, float] = {}
    of_device = {}
    for device in drawn[:MOST_DEVICES]:
        columns = of_device[device["id"]] = _columns([glance.devices[device["id"]]], room)
        kind, highest_w = device["component"], max((each.power_w for each in columns if each), default=0.0)
        most_w[kind] = max(most_w.get(kind, 0.0), highest_w)
    lines = []
    for device in drawn[:MOST_DEVICES]:
        columns = of_device[device["id"]]
        plot = "".join(_level(column, most_w[device["component"]], signs) for column in columns)
        name = device_text(device["id"], device["index"], is_short=True)
        label = padded(cut(f"{device['component']} {name}", _LABEL), _LABEL)
        words = _known(columns)
        if has_extremes:
            words = f"{_extremes(glance.devices[device['id']])}, {words}"
        lines.append(f"  {label} {plot} {words}")
    if len(drawn) > MOST_DEVICES:
        lines.append(f"  and {len(drawn) - MOST_DEVICES} devices more")
    return lines


def _columns(devices: Sequence[Sequence[Step | None]], width: int) -> list[_Column | None]:
    """The steps of some devices as so many columns, None where nothing is known."""
    steps = len(devices[0]) if devices else 0
    found: list[_Column | None] = []
    for place in range(width if steps else 0):
        begin = place * steps // width
        end = max(begin + 1, (place + 1) * steps // width)
        sums = [total for step in range(begin, end) if (total := _sum(devices, step)) is not None]
        count = len(sums)
        found.append(
            _Column(sum(each.power_w for each in sums) / count, sum(each.measured_w for each in sums) / count)
            if sums
            else None
        )
    return found


def _sum(devices: Sequence[Sequence[Step | None]], place: int) -> _Column | None:
    power_w = measured_w = 0.0
    is_known = False
    for steps in devices:
        step = steps[place]
        if step is not None and step.power_w is not None:
            is_known = True
            power_w += step.power_w
            measured_w += step.measured_w
    return _Column(power_w, measured_w) if is_known else None


def _cell(column: _Column | None, row: int, top_w: float, signs: Signs) -> str:
    """One cell of the plot: what is measured is below, above it what is estimated if it fills half a cell."""
    if column is None:
        return " "
    filled, measured = (
        min(1.0, max(0.0, ROWS * watts / top_w - row)) for watts in (column.power_w, column.measured_w)
    )
    if filled and (filled - measured >= _SEEN or not column.measured_w):
        return signs.estimated
    return _sign(filled, signs) if measured else " "


def _level(column: _Column | None, top_w: float, signs: Signs) -> str:
    return " " if column is None else _sign(column.power_w / top_w if top_w else 0.0, signs)


def _sign(ratio: float, signs: Signs) -> str:
    """The sign of a part of a cell; the lowest one even for nothing, so that it is no gap."""
    return signs.levels[min(len(signs.levels) - 1, int(ratio * len(signs.levels)))]


def _extremes(steps: Sequence[Step | None]) -> str:
    lows = [step.lowest_w for step in steps if step and step.lowest_w is not None]
    highs = [step.highest_w for step in steps if step and step.highest_w is not None]
    return f"{power_text(min(lows, default=0.0))} to {power_text(max(highs, default=0.0))}"


def _known(columns: Sequence[_Column | None]) -> str:
    """How the power of a device is known."""
    power_w = sum(column.power_w for column in columns if column)
    measured_w = sum(column.measured_w for column in columns if column)
    if measured_w >= power_w * (1.0 - _ROUNDING):
        return "measured"
    return "partly estimated" if measured_w else "estimated"
