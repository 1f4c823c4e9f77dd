"""The forms of `carbonmon report`: what is printed of runs that were found."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from carbonmon.cli import printing, terminal
from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple
from carbonmon.runs.summaries import Part
from carbonmon.runs.summary.text import table_text

Summary = dict[str, Any]
Sections = Sequence[Any]
"""Of `carbonmon.runs.report.details.Section`, which is imported only where it is used."""

FORMATS = (
    *("text", "json", "markdown", "html", "csv", "model-card", "paragraph", "annex-xi", "sci", "boamps"),
    *("codecarbon-csv", "hourly-csv"),
)
WITHOUT_NOTES = ("csv", "details", *FORMATS[FORMATS.index("model-card") :])
"""Formats that have no place for how well a run was scraped."""
LANGUAGES = ("en", "zh", "fr", "de", "es")
PER = ("token", "sample", "request", "step", "epoch")


class Asked(NamedTuple):
    """What is to be printed: the form, of which other places beside the run's own, a plot or advice below it.

    `per` is the functional unit of an SCI, `units` how many of it there were if the run did not tell.
    """

    form: str
    elsewhere: str | None = None
    what_if: str | None = None
    plot: bool = False
    advice: bool = False
    per: str | None = None
    units: float | None = None
    language: str | None = None


class Run(NamedTuple):
    """What is reported as one: a summary, and the nodes that it adds up."""

    summary: Summary
    parts: Sequence[Part]


def _with_places(summary: Summary, asked: Asked) -> Summary:
    """The summary with what is asked of other places; no figure of the run itself changes."""
    if asked.elsewhere is not None or asked.what_if is not None:
        from carbonmon.analysis.compare_regions import with_elsewhere, with_what_if

        if asked.what_if is not None:
            summary = with_what_if(summary, asked.what_if)
        if asked.elsewhere is not None:
            summary = with_elsewhere(summary, asked.elsewhere)
    return summary


def report_text(runs: Sequence[Run], asked: Asked, more: Sections = ()) -> str:
    """What to print; each form imports only what it needs."""
    summaries, form = [_with_places(run.summary, asked) for run in runs], asked.form
    if asked.advice:
        summaries = [_with_advice(summary, run.parts) for summary, run in zip(summaries, runs, strict=True)]
    if asked.per is not None:
        summaries = [_with_sci(summary, asked) for summary in summaries]
    if form == "json":
        return printing.json_text(summaries[0] if len(summaries) == 1 else summaries)
    from carbonmon.runs.report.earlier import as_now

    summaries = [as_now(summary) for summary in summaries]
    if form in ("csv", "details"):
        return _csv(summaries, asked)
    if form in REQUIRED:
        return REQUIRED[form](summaries, runs, asked)
    if form == "model-card":
        if len(summaries) > 1:
            raise ConfigError("a model card is of one run: name one, or add up its nodes with --merge")
        from carbonmon.analysis.compare_regions import place_name
        from carbonmon.runs.report.modelcard import model_card_text

        return model_card_text(summaries[0], place_name(summaries[0]))
    from carbonmon.runs.report.other_places import sections as places

    def sections(summary: Summary) -> list[Any]:
        return [*_advice_sections(summary), *places(summary)]

    if form == "html":
        if len(runs) > 1:
            raise ConfigError(
                "--format html is a file of one run: name one, or add up its nodes with --merge"
            )
        return _html(summaries[0], runs[0].parts, [*more, *sections(summaries[0])])
    if form == "markdown":
        from carbonmon.runs.report.markdown import markdown_text

        return "\n".join(markdown_text(summary, [*more, *sections(summary)]) for summary in summaries)
    tables = [_table(summary, [*more, *sections(summary)]) for summary in summaries]
    plots = map(_plot, runs) if asked.plot else [""] * len(runs)
    return "".join(table + plot for table, plot in zip(tables, plots, strict=True))


def _html(summary: Summary, parts: Sequence[Part], sections: Sections) -> str:
    from carbonmon.runs.report.html.document import html_text
    from carbonmon.runs.report.over_time import over_time

    return html_text(summary, [part.summary for part in parts], over_time(parts), sections)


def _plot(run: Run) -> str:
    from carbonmon.runs.report.over_time import over_time
    from carbonmon.runs.report.terminal_plot import ASCII, BLOCKS, plot_text

    signs = BLOCKS if printing.takes(BLOCKS.everything) else ASCII
    return plot_text(over_time(run.parts), run.summary["energy"]["devices"], terminal.width(), signs)


def _csv(summaries: Sequence[Summary], asked: Asked) -> str:
    from carbonmon.runs.report.merging import check_no_duplicates

    check_no_duplicates(summaries)
    if asked.form == "details":
        from carbonmon.runs.report.csv_table import csv_text

        return csv_text(summaries)
    if asked.elsewhere is not None:
        if asked.what_if is not None:
            raise ConfigError("--format csv has one table: put the place of --region into --elsewhere")
        from carbonmon.runs.report.other_places import places_csv

        return places_csv(summaries)
    from carbonmon.runs.report.spreadsheet import spreadsheet_text

    return spreadsheet_text(summaries)


def _table(summary: Summary, sections: Sections) -> str:
    from carbonmon.runs.report.condensing import condensed
    from carbonmon.runs.report.details import details_text, section_text
    from carbonmon.runs.report.other_places import what_if_text

    width = terminal.width()
    below = "".join(section_text(section, width) for section in sections)
    details = details_text(summary, width, what_if=what_if_text(summary))
    return table_text(condensed(summary), width) + details + below


def _with_advice(summary: Summary, parts: Sequence[Part]) -> Summary:
    from carbonmon.analysis.advice import advice, documents

    return {**summary, "advice": documents(advice(summary, parts))}


def _advice_sections(summary: Summary) -> list[Any]:
    if summary.get("advice") is None:
        return []
    from carbonmon.analysis.advice import section

    return [section(summary["advice"])]


def _with_sci(summary: Summary, asked: Asked) -> Summary:
    from carbonmon.analysis.required.sci import sci_document

    return {**summary, "sci": sci_document(summary, asked.per or "", asked.units)}


def _sci(summaries: Sequence[Summary], runs: Sequence[Run], asked: Asked) -> str:
    from carbonmon.analysis.required.sci import sci_text

    return "".join(sci_text(summary, summary["sci"]) for summary in summaries)


def _paragraph(summaries: Sequence[Summary], runs: Sequence[Run], asked: Asked) -> str:
    from carbonmon.analysis.required.paragraph import paragraph

    return "\n".join(paragraph(summary, asked.language or "en") for summary in summaries)


def _annex_xi(summaries: Sequence[Summary], runs: Sequence[Run], asked: Asked) -> str:
    from carbonmon.analysis.compare_regions import place_name
    from carbonmon.analysis.required.annex_xi import annex_xi_text

    return "\n".join(annex_xi_text(summary, place_name(summary)) for summary in summaries)


def _boamps(summaries: Sequence[Summary], runs: Sequence[Run], asked: Asked) -> str:
    from carbonmon.analysis.required.boamps import boamps_document

    if len(summaries) > 1:
        raise ConfigError("a BoAmps report is of one run: name one, or add up its nodes with --merge")
    return printing.json_text(boamps_document(summaries[0], time.time()))


def _codecarbon(summaries: Sequence[Summary], runs: Sequence[Run], asked: Asked) -> str:
    from carbonmon.analysis.required.codecarbon import codecarbon_csv

    return codecarbon_csv(summaries)


def _hourly(summaries: Sequence[Summary], runs: Sequence[Run], asked: Asked) -> str:
    from carbonmon.runs.report.hours import hourly_csv

    text, notes = hourly_csv([part for run in runs for part in run.parts])
    for note in notes:
        printing.echo(f"carbonmon: {note}", err=True)
    return text


REQUIRED: dict[str, Callable[[Sequence[Summary], Sequence[Run], Asked], str]] = {
    "paragraph": _paragraph,
    "annex-xi": _annex_xi,
    "sci": _sci,
    "boamps": _boamps,
    "codecarbon-csv": _codecarbon,
    "hourly-csv": _hourly,
}
"""Forms that others require, each by its own module."""
