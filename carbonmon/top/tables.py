"""The tables of a frame: devices, runs, phases, and the state of the sensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from carbonmon.core.text_layout import columns_of
from carbonmon.runs.summary.figures import (
    ENERGY_UNITS,
    JOULES,
    duration_text,
    figure,
    mass_text,
    percent_text,
    power_text,
    unit_of,
)
from carbonmon.runs.summary.strings import phase_text
from carbonmon.top.cells import Line, Signs, Span
from carbonmon.top.document import Document
from carbonmon.top.figures import LABEL, UNKNOWN
from carbonmon.top.history import drawn
from carbonmon.top.table import Column, table
from carbonmon.top.view import View

_COMPONENTS = {"gpu": "GPUs", "cpu": "CPUs", "dram": "memory", "module": "modules"}


def device_lines(view: View, room: int, signs: Signs) -> list[Line]:
    """Each device with its power now and over time, those of a run with the run's part."""
    rows = device_rows(view)
    return _devices(view, [([row], _device_name(row)) for row in rows], room, signs)


def component_lines(view: View, room: int, signs: Signs) -> list[Line]:
    """The same for all devices of a kind together, where there is no room for each."""
    kinds: dict[str, list[Document]] = {}
    for row in device_rows(view):
        kinds.setdefault(row.text("component"), []).append(row)
    groups = [(rows, f"{len(rows)} {_COMPONENTS.get(kind, kind)}") for kind, rows in kinds.items()]
    return _devices(view, groups, room, signs)


def device_rows(view: View) -> list[Document]:
    """The node's devices, or those that the run uses, in the order that was chosen."""
    devices = view.now.part("node").parts("devices")
    if not view.is_node:
        own = {part.raw_text("id"): part for part in view.now.part("run").parts("devices")}
        devices = [_merged(device, own[name]) for device in devices if (name := device.raw_text("id")) in own]
    keys = {"power": "power_w", "energy": "energy_j", "use": "utilization_ratio"}
    key = keys.get(view.device_sort)
    if view.is_node or key is None:
        return devices
    return sorted(devices, key=lambda device: -(device.number(key) or 0.0))


def _merged(device: Document, part: Document) -> Document:
    """A device of the node with the power and the energy of the run's part of it."""
    return Document({**device.values(), **{key: part.number(key) for key in ("power_w", "energy_j")}})


def _device_name(device: Document) -> str:
    index = device.number("index")
    place = device.text("id") if index is None else f"{index:.0f}"
    return f"{device.text('component')} {place}"


def _devices(view: View, groups: Sequence[tuple[list[Document], str]], room: int, signs: Signs) -> list[Line]:
    if not groups:
        return [[Span("no device is metered here: see carbonmon doctor")]]
    watts = [_sum(rows, "power_w") for rows, _ in groups]
    joules = [_sum(rows, "energy_j") for rows, _ in groups]
    known = [_known(rows, signs) for rows, _ in groups]
    members = [[row.raw_text("id") for row in rows] for rows, _ in groups]
    span = view.history.span_s()

    def draw(cells: int) -> list[Span]:
        return [
            Span(drawn(view.history.bins(ids, cells, view.phase), signs.solid, signs.dotted), style)
            for ids, (_, _, style) in zip(members, known, strict=True)
        ]

    names = [row.text("name") if len(rows := group[0]) == 1 and (row := rows[0]) else "" for group in groups]
    use = [_ratio(rows[0].number("utilization_ratio")) if len(rows) == 1 else "" for rows, _ in groups]
    columns = [
        Column("DEVICE", [Span(name) for _, name in groups]),
        Column("", [Span(sign, style) for sign, _, style in known]),
        Column("KNOWN BY", [Span(word, style) for _, word, style in known], rank=5),
        Column("POWER", _texts(watts, power_text), right=True),
        Column("ENERGY", _energies(joules), right=True, rank=6),
        Column("USE", [Span(text) for text in use], right=True, rank=4),
        Column(
            f"POWER OVER {duration_text(span)}" if span else "", short=duration_text(span), draw=draw, rank=7
        ),
    ]
    if room >= 110 and any(names):
        columns.insert(1, Column("NAME", [Span(name) for name in names], elastic=True, rank=3))
    return table(columns, room)


def run_lines(view: View, room: int, signs: Signs) -> list[Line]:
    """The runs, each with its share of the node's power now."""
    runs = view.sorted_runs()
    if not runs:
        return [[Span("no run at the moment: one appears with carbonmon run, track() or register")]]
    whole_w = view.now.part("node").number("power_w")
    watts = [run.number("power_w") for run in runs]
    shares = [None if each is None or not whole_w else each / whole_w for each in watts]
    joules, grams, seconds = (
        [run.number(key) for run in runs] for key in ("energy_j", "emissions_g", "duration_s")
    )
    columns = [
        Column("RUN", [Span(run.text("name") or run.text("id")) for run in runs], elastic=True),
        Column("ID", [Span(run.text("id")) for run in runs], rank=3),
        Column("", [Span(_run_sign(run, signs)) for run in runs]),
        Column("POWER", [Span(_run_power(run)) for run in runs], right=True),
        Column("SHARE", [Span(_ratio(share)) for share in shares], right=True, rank=6),
        Column("ENERGY", _energies(joules), right=True, rank=7),
        Column("CO2E", _texts(grams, mass_text), right=True, rank=5),
        Column("TIME", _texts(seconds, duration_text), right=True, rank=4),
    ]
    return table(columns, room, view.marked)


def _run_sign(run: Document, signs: Signs) -> str:
    """How the run's power now is known: both signs where a part of it is estimated."""
    watts, estimated_w = run.number("power_w"), run.number("estimated_power_w")
    if watts is None:
        return signs.unknown
    if not watts and run.text("power_known_by") in ("estimated", "both"):
        return signs.estimated
    if not estimated_w:
        return signs.measured
    return signs.estimated if estimated_w >= watts else signs.measured + signs.estimated


def _run_power(run: Document) -> str:
    return "ended" if run.text("state") == "ended" else _or_unknown(run.number("power_w"), power_text)


def phase_lines(view: View, room: int, signs: Signs) -> list[Line]:
    """The phases of a run; none where there is only one."""
    phases = view.now.part("run").parts("phases")
    if view.is_node or len(phases) < 2:
        return []
    here = view.now.part("run").raw_text("phase")
    seconds, joules, grams = (
        [phase.number(key) for phase in phases] for key in ("duration_s", "energy_j", "emissions_g")
    )
    columns = [
        Column("PHASE", [Span(phase_text(phase.text("name"))) for phase in phases], elastic=True),
        Column("", [Span("now" if phase.raw_text("name") == here else "") for phase in phases]),
        Column("TIME", _texts(seconds, duration_text), right=True, rank=6),
        Column("ENERGY", _energies(joules), right=True),
        Column("CO2E", _texts(grams, mass_text), right=True, rank=5),
    ]
    return table(columns, room)


def sensor_lines(view: View, room: int, signs: Signs) -> list[Line]:
    """A line of those that work, and one for each that does not, with the command that mends it."""
    sensors = view.now.parts("sensors")
    working = [sensor.text("name") for sensor in sensors if sensor.flag("is_up")]
    lines: list[Line] = [
        [Span(f"{'sensors':<{LABEL}}", "title"), Span(f"working: {', '.join(working) or 'none'}")]
    ]
    wrong: list[tuple[str, list[Line]]] = []
    for sensor in sensors:
        if sensor.flag("is_up"):
            continue
        state = "lost" if sensor.flag("is_used") else "not used"
        style = "alarm" if state == "lost" else ""
        text = ": ".join(filter(None, (f"{signs.lost} {sensor.text('name')} {state}", sensor.text("reason"))))
        whole = "; ".join(filter(None, (text, sensor.text("remedy"))))
        parts = [whole] if columns_of(whole) <= room - LABEL else [text, f"  {sensor.text('remedy')}"]
        wrong.append((style, [[Span(" " * LABEL), Span(part, style)] for part in parts if part.strip()]))
    for error in view.now.parts("fetch_errors"):
        count = error.number("count") or 0
        text = f"{signs.lost} {error.text('source')}: {error.text('reason')} ({count:.0f} times)"
        wrong.append(("", [[Span(" " * LABEL), Span(text)]]))
    for _, more in sorted(wrong, key=lambda each: each[0] != "alarm"):
        lines += more
    return lines


def _known(rows: Sequence[Document], signs: Signs) -> tuple[str, str, str]:
    """Sign, word and style of how power is known now: of several devices by the least certain one."""
    words = {row.text("known_by") if row.number("power_w") is not None else "" for row in rows}
    if words == {""}:
        return signs.unknown, UNKNOWN, ""
    if words == {"measured"}:
        return signs.measured, "measured", "measured"
    if "measured" in words:
        return signs.measured + signs.estimated, "partly", "estimated"
    return signs.estimated, "estimated", "estimated"


def _energies(joules: Sequence[float | None]) -> list[Span]:
    """Energies in the unit of the largest, so that they compare."""
    unit = unit_of(max((each for each in joules if each is not None), default=0.0), ENERGY_UNITS)
    return [Span(UNKNOWN if each is None else f"{figure(each / JOULES[unit])} {unit}") for each in joules]


def _texts(numbers: Sequence[float | None], text_of: Callable[[float], str]) -> list[Span]:
    return [Span(_or_unknown(number, text_of)) for number in numbers]


def _sum(rows: Sequence[Document], key: str) -> float | None:
    known = [number for row in rows if (number := row.number(key)) is not None]
    return sum(known) if known else None


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else percent_text(ratio)


def _or_unknown(number: float | None, text_of: Callable[[float], str]) -> str:
    return UNKNOWN if number is None else text_of(number)
