"""The lines above the tables: what runs, and its figures, each in as many words as there is room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carbonmon.core.plain_text import plain
from carbonmon.core.records import NamedTuple
from carbonmon.core.text_layout import columns_of
from carbonmon.runs.summary.figures import (
    ENERGY_UNITS,
    GRAMS,
    JOULES,
    MASS_UNITS,
    clock_text,
    duration_text,
    energy_text,
    figure,
    mass_text,
    percent_text,
    power_text,
    range_text,
    unit_of,
)
from carbonmon.runs.summary.strings import phase_text
from carbonmon.top.cells import Line, Signs, Span, fit
from carbonmon.top.document import Document
from carbonmon.top.view import View, split

UNKNOWN = "unknown"
LABEL = 11
_NARROW = 60


def head(view: View, room: int, signs: Signs) -> list[Line]:
    """What is looked at, when it was seen last, and what is wrong."""
    now, run = view.now, view.now.part("run")
    at_s = now.number("at_s")
    clock = "" if at_s is None else clock_text(at_s, seconds=True)
    is_narrow = room < _NARROW
    clock = clock[-8:] if is_narrow else clock
    name = now.text("host") or view.url
    if not view.is_node:
        name = f"{name}{signs.between}{_called(run) or plain(view.run_id)}"
    title = fit([Span("" if is_narrow else "carbonmon top  "), Span(name, "title")], room - len(clock) - 2)
    space = room - sum(columns_of(span.text) for span in title) - len(clock)
    lines = [[*title, Span(" " * space + clock)]]
    said = [_node_state(now) if view.is_node else _run_state(run, signs)]
    if not view.is_node and _others(now):
        said.append(_others(now))
    lines.append([Span(signs.between.join(filter(None, said)))])
    if view.problem:
        lines.append([Span(f"{signs.lost} no newer answer: {plain(view.problem)}", "alarm")])
    lines += [[Span(f"note: {note}", "title")] for note in view.notes[-2:]]
    if run.text("state") == "ended" and not view.is_node:
        lines.append([Span(f"its final figures: carbonmon report {run.text('id')}")])
    if not view.is_node:
        lines += [[Span(f"note: {note}")] for note in run.texts("notes")[:2]]
    return lines


def figure_lines(view: View, room: int, signs: Signs) -> list[Line]:
    """Power, energy, emissions and the like, a line each."""
    now, run = view.now, view.now.part("run")
    if view.is_node:
        rows = [_power(now, now.part("node"), now.part("node").number("power_w"), signs), *_node_rows(now)]
    else:
        running = run.text("state") == "running"
        rows = [_power(now, run, run.number("power_w"), signs)] if running else []
        rows += _phase_rows(view) if view.phase else _run_rows(now, run)
    rows.append(_intensity(now.part("intensity")))
    if not view.is_node:
        rows += [*_forecast(run.part("forecast")), *map(_budget, run.parts("budgets"))]
    return [_figure(label, variants, room) for label, *variants in rows]


Row = Sequence[str]
"""A label, and the same text in fewer and fewer words."""


def _figure(label: str, variants: Sequence[str], room: int) -> Line:
    left = room - LABEL
    text = next((text for text in variants if columns_of(text) <= left), variants[-1])
    return [Span(f"{label:<{LABEL}}", "title"), Span(text)]


def _called(run: Document) -> str:
    name, run_id = run.text("name"), run.text("id")
    return run_id if name in ("", run_id) else f"{name} ({run_id})"


def _others(now: Document) -> str:
    count = (now.part("runs").number("running") or 0) - 1
    return f"{count:.0f} other runs" if count > 1 else "1 other run" if count == 1 else ""


def _node_state(now: Document) -> str:
    if now.text("state") == "ended":
        ids = now.texts("ended")
        return f"this monitor has ended; its runs: {', '.join(f'carbonmon report {each}' for each in ids)}"
    if now.text("state") == "starting":
        return "the monitor has taken no sample yet"
    running, ended = (now.part("runs").number(key) for key in ("running", "ended"))
    if running is None:
        return ""
    return f"{running:.0f} running" + (f", {ended:.0f} ended" if ended else "")


def _run_state(run: Document, signs: Signs) -> str:
    seconds = run.number("duration_s")
    length = UNKNOWN if seconds is None else duration_text(seconds)
    if run.text("state") == "ended":
        signal, code = run.number("signal"), run.number("exit_code")
        how = "exit code not known" if code is None else f"exit code {code:.0f}"
        how = how if signal is None else f"by signal {signal:.0f}"
        return f"ended after {length}, {how}"
    parts = [f"running {length}"]
    if run.text("phase"):
        parts.append(_phase(run.text("phase")))
    done = run.number("progress_ratio")
    if done is not None:
        parts.append(f"{percent_text(done)} of its steps")
    return signs.between.join(parts)


def _phase(name: str) -> str:
    shown = phase_text(name)
    return f"phase {name}" if shown == name else shown


def _power(now: Document, owner: Document, watts: float | None, signs: Signs) -> Row:
    """Power now, and how much of it is known by which way; what is unknown is no 0."""
    known = split(now, owner.parts("devices"))
    parts = []
    if known.measured_w is not None:
        parts.append((f"{signs.measured} {power_text(known.measured_w)}", " measured"))
    if known.estimated_w is not None:
        parts.append((f"{signs.estimated} {power_text(known.estimated_w)}", " estimated"))
    if known.unknown:
        parts.append((f"{signs.unknown} {known.unknown} devices", " unknown"))
    total = UNKNOWN if watts is None else power_text(watts)
    long = "  ".join((total, *(f"{text}{word}" for text, word in parts)))
    return "power", long, "  ".join((total, *(text for text, _ in parts))), total


def _run_rows(now: Document, run: Document) -> list[Row]:
    energy_j, grams = run.number("energy_j"), run.number("emissions_g")
    rows = [
        _amount(
            "energy", ENERGY, energy_j, (run.number("energy_low_j"), run.number("energy_high_j")),
            _measured_text(run.number("measured_ratio")),
        ),
        _amount(
            "emissions", MASS, grams, (run.number("emissions_low_g"), run.number("emissions_high_g")),
            _pue(now),
        ),
    ]  # fmt: skip
    paid = [
        f"{cost.number('amount') or 0.0:.4g} {cost.text('currency')}"
        for cost in run.parts("costs")
        if cost.number("amount") is not None
    ]
    water = run.number("water_l")
    if paid:
        rows.append(("cost", ", ".join(paid)))
    if water is not None:
        rows.append(("water", f"{figure(water)} l"))
    return rows


def _phase_rows(view: View) -> list[Row]:
    """The figures of the one phase that is looked at."""
    phase = next(each for each in view.now.part("run").parts("phases") if each.raw_text("name") == view.phase)
    name, seconds = phase_text(phase.text("name")), _seconds(phase.number("duration_s"))
    return [
        ("phase", f"{name}, {seconds} (p: the next one)"),
        _amount("energy", ENERGY, phase.number("energy_j"), (None, None)),
        _amount("emissions", MASS, phase.number("emissions_g"), (None, None), _pue(view.now)),
    ]


def _node_rows(now: Document) -> list[Row]:
    node = now.part("node")
    joules, rest_j = node.number("energy_j"), node.number("unattributed_j")
    energy = UNKNOWN if joules is None else energy_text(joules)
    whole = f"{energy} since the monitor's start"
    if rest_j is None or not joules:
        return [("energy", whole, energy)]
    part = percent_text(rest_j / joules)
    rest = f"of no run {energy_text(rest_j)}"
    return [("energy", f"{whole}, {rest} ({part})", f"{energy}, {rest}", energy)]


class Scale(NamedTuple):
    """The units of a quantity by its size, their factors, and what stands behind the unit."""

    units: tuple[tuple[float, str], ...]
    factors: Mapping[str, float]
    of: str = ""


ENERGY, MASS = Scale(ENERGY_UNITS, JOULES), Scale(MASS_UNITS, GRAMS, " CO2e")


def _amount(
    label: str, scale: Scale, amount: float | None, span: tuple[float | None, float | None], more: str = ""
) -> Row:
    """An amount with its range in the same unit."""
    if amount is None:
        return label, UNKNOWN
    unit = unit_of(amount, scale.units)
    factor = scale.factors[unit]
    total = f"{figure(amount / factor)} {unit}{scale.of}"
    ranged = total
    if None not in span:
        ranged = f"{total} ({range_text(*span, factor)})"
    return (
        label,
        f"{ranged}, {more}" if more else ranged,
        ranged,
        f"{total}, {more}" if more else total,
        total,
    )


def _grams(grams: float) -> str:
    return f"{mass_text(grams)} CO2e"


def _pue(now: Document) -> str:
    pue = now.number("pue_ratio")
    return "" if pue is None else f"PUE {pue:.2f} included"


def _measured_text(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return "all of it estimated" if ratio == 0 else f"{percent_text(ratio)} measured"


def _intensity(found: Document) -> Row:
    grams = found.number("g_per_kwh")
    rate = UNKNOWN if grams is None else f"{figure(grams)} g/kWh"
    year = found.number("year")
    facts = [found.text("zone"), found.text("kind"), "" if year is None else f"{year:.0f}"]
    return "intensity", ", ".join(filter(None, [rate, *facts, found.text("source")]))


def _forecast(made: Document) -> list[Row]:
    energy_j, end_s = made.part("energy_j"), made.part("end_at_s")
    expected_j, grams = energy_j.number("expected"), made.part("emissions_g").number("expected")
    end = end_s.number("expected")
    if expected_j is None or end is None:
        return []
    _, ranged, *_, total = _amount("", ENERGY, expected_j, (energy_j.number("low"), energy_j.number("high")))
    until = f"end {clock_text(end)}"
    mass = [] if grams is None else [_grams(grams)]
    cost = made.part("cost").number("expected")
    money = [] if cost is None else [f"{cost:.4g} {made.text('currency')}"]
    return [
        (
            "forecast",
            ", ".join([ranged, *mass, *money, until]),
            ", ".join([total, *mass, until]),
            f"{total}, {until}",
        )
    ]


def _budget(budget: Document) -> Row:
    limit, spent = budget.number("limit"), budget.number("spent")
    part = UNKNOWN if not limit or spent is None else percent_text(spent / limit)
    reached_s = budget.number("reached_at_s")
    then = f"then: {budget.text('action')}"
    if reached_s is not None:
        then = f"reached {clock_text(reached_s)}: {budget.text('action')}"
    text = budget.text("text")
    return "budget", f"{text}: {part} spent, {then}", f"{text}: {part} spent", f"{text} {part}"


def _seconds(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else duration_text(seconds)
