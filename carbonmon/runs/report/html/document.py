"""The whole report as one HTML file: no script, nothing from elsewhere, in ASCII whatever the encoding is."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from carbonmon.core.times import known_time, shown_utc
from carbonmon.runs.report import sections as plain
from carbonmon.runs.report import side_by_side
from carbonmon.runs.report.details import Section
from carbonmon.runs.report.equivalents import equivalents
from carbonmon.runs.report.html import LOOK
from carbonmon.runs.report.html.device_plots import device_plots
from carbonmon.runs.report.html.elements import Markup, h, joined, section_table, void
from carbonmon.runs.report.html.intensity_plot import intensity_plot
from carbonmon.runs.report.html.layers import hatches
from carbonmon.runs.report.html.method_bar import method_bar
from carbonmon.runs.report.html.power_plot import power_plot
from carbonmon.runs.report.html.tiles import tiles
from carbonmon.runs.report.html.totals_plot import totals_plots
from carbonmon.runs.report.impact import statement
from carbonmon.runs.report.markup import readable
from carbonmon.runs.report.over_time import OverTime

_OWN = Path(__file__).parent / "report.css"

MOST_ROWS = 250
"""Rows of the table of devices: some 100 kB."""

_STATES = {
    "running": "The run was still active: these are its figures so far.",
    "recovered": "The monitor was lost before the run's end: these are the figures of its last checkpoint.",
    "estimated": "This is an estimate from specifications, without a measurement.",
}


def html_text(
    summary: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]],
    over_time: OverTime,
    sections: Sequence[Section] = (),
) -> str:
    """The report of a run, ending in a newline.

    `nodes` are the summaries of its nodes, of which `summary` is the whole; `sections` stand behind its own.
    """
    style = f"{LOOK.read_text()}{_OWN.read_text()}"
    run = summary["run"]
    title = f"Energy and carbon of run {readable(run['name'] or run['id'], 100)}"
    head = (
        void("meta", {"charset": "utf-8"}),
        void("meta", {"http-equiv": "Content-Security-Policy", "content": _policy(style)}),
        void("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        void("meta", {"name": "color-scheme", "content": "light dark"}),
        h("title", None, title),
        h("style", None, Markup(style)),
    )
    body = h(
        "body",
        None,
        hatches(),
        _header(summary, title),
        h("main", None, _main(summary, nodes, over_time, sections)),
    )
    document = f"<!doctype html>\n{h('html', {'lang': 'en'}, h('head', None, head), body)}\n"
    return document.encode("ascii", "xmlcharrefreplace").decode()


def _policy(style: str) -> str:
    """Nothing may be loaded or run; the only style is the one in the file."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _header(summary: Mapping[str, Any], title: str) -> Markup:
    run = summary["run"]
    state = _STATES.get(summary["state"])
    moments = [at_s for key in ("started_at", "ended_at") if (at_s := known_time(run[key])) is not None]
    times = " to ".join(shown_utc(at_s, "%Y-%m-%d %H:%M:%S") for at_s in moments)
    parts = (readable(run["id"], 64), readable(run["host"] or "", 200), times and f"{times} UTC")
    return h(
        "header",
        None,
        h("h1", None, title),
        h("p", {"class": "id"}, " · ".join(filter(None, parts))),
        h("p", {"class": "warn"}, state) if state else None,
    )


def _main(
    summary: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]],
    over_time: OverTime,
    sections: Sequence[Section],
) -> list[Markup]:
    energy, carbon = summary["energy"], summary["carbon"]
    found = [
        tiles(summary, nodes),
        *(h("p", {"class": "note"}, note) for note in summary["run"].get("notes") or ()),
    ]
    found += _over_time(summary, over_time)
    tables = [
        plain.results({**summary, "forecasts": ()}),  # they have a table of their own
        *_forecasts(nodes),
        side_by_side.settled_and_live(summary),
        plain.phases(energy),
        plain.epochs(summary),
        _devices(energy),
        side_by_side.nodes(nodes),
        *sections,
    ]
    found += [_section(table) for table in tables if table.rows or table.notes]
    found += _how_known(summary, [plain.methods(energy), side_by_side.intensities(carbon, energy["total_j"])])
    like = [h("li", None, f"{each.sentence} ({each.source})") for each in equivalents(summary)]
    if like:
        found.append(h("section", None, h("h2", None, "What it is like"), h("ul", None, like)))
    words = (h("p", None, paragraph) for paragraph in statement(summary, readable))
    found.append(h("section", None, h("h2", None, "Text for a paper"), h("blockquote", None, words)))
    facts = plain.facts(summary)
    found.append(h("section", None, h("h2", None, facts.title), section_table(facts)))
    return found


def _forecasts(nodes: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Those of each node: they cannot be added up."""
    if len(nodes) == 1:
        return [side_by_side.forecasts_and_outcome(nodes[0])]
    return [side_by_side.forecasts_and_outcome(node, f" of {node['run']['host']}") for node in nodes]


def _devices(energy: Mapping[str, Any]) -> Section:
    """The devices; of very many those that drew most."""
    devices = energy["devices"]
    more = len(devices) - MOST_ROWS
    if more <= 0:
        return plain.devices(energy)
    largest = sorted(devices, key=lambda device: -(device["energy_j"] or 0.0))[:MOST_ROWS]
    note = f"{more} more devices, which drew less, are left out; --format json has all."
    return plain.devices({**energy, "devices": largest})._replace(notes=[note])


def _over_time(summary: Mapping[str, Any], over_time: OverTime) -> list[Markup]:
    """The plots, or a sentence where there is nothing to draw."""
    notes = [h("p", {"class": "note"}, note) for note in over_time.notes]
    glance = over_time.glance
    if glance is None:
        nothing = h("p", None, "Nothing is known of the run over time: its series has no rows.")
        return [h("section", None, h("h2", None, "Over time"), nothing, notes)]
    what = "What the run was charged, before the PUE. Times are in UTC."
    energy = summary["energy"]
    return [
        h(
            "section",
            None,
            h("h2", None, "Power over time"),
            h("p", {"class": "quiet"}, what),
            notes,
            power_plot(glance),
            h("h3", None, "By device"),
            h(
                "p",
                {"class": "quiet"},
                "A line for the mean, dashed where it is estimated; a band from lowest to highest.",
            ),
            device_plots(glance, energy["devices"]),
        ),
        h("section", None, h("h2", None, "Energy and emissions so far"), totals_plots(glance)),
        h(
            "section",
            None,
            h("h2", None, "Carbon intensity over time"),
            h(
                "p",
                {"class": "quiet"},
                "g CO2e/kWh; a line for the mean of a step, a band from lowest to highest.",
            ),
            intensity_plot(glance),
        ),
    ]


def _how_known(summary: Mapping[str, Any], tables: Sequence[Section]) -> list[Markup]:
    """Methods with their shares, intensities with their years, sensors."""
    inner = [method_bar(summary["energy"])]
    for table in (*tables, plain.sensors(summary["monitor"])):
        if table.rows:
            inner.append(joined((h("h3", None, table.title), section_table(table))))
            inner += [h("p", {"class": "note"}, note) for note in table.notes]
    return [h("section", None, h("h2", None, "How it was known"), inner)]


def _section(section: Section) -> Markup:
    notes = (h("p", {"class": "note"}, note) for note in section.notes)
    return h("section", None, h("h2", None, section.title), section_table(section), notes)
