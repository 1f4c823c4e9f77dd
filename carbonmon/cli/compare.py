"""`carbonmon compare`: what differs between runs, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from carbonmon.analysis.comparison import Comparison, compare, forms
from carbonmon.cli import options, printing
from carbonmon.core import config
from carbonmon.core.errors import ConfigError
from carbonmon.runs.report.merging import merged
from carbonmon.runs.summaries import find_nodes


def _per_cent(text: str) -> float:
    return config.parse_number(
        text.strip().removesuffix("%"), "--fail-above", "a difference in per cent", 0.0, 1e6
    )


@click.command("compare")
@options.with_options(*options.REPORT_OPTIONS)
@printing.format_option("text", "markdown", "json")
@click.option(
    "--fail-above",
    "limit_percent",
    type=options.Checked("per cent", _per_cent),
    metavar="PERCENT",
    help="Exit code 1 if a run has drawn so much more energy than the first, for instance 5%.",
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN…")
def command(
    runs: tuple[str, ...], form: str, output: Path, limit_percent: float | None, **values: Any
) -> None:
    """Compare runs with the first one: energy, time, power, emissions, phase by phase.

    RUN is a run's folder, its summary.json, or a run under the output folder: its id, how the id begins, its
    name, or `last`; of a run on several nodes all are taken. The range of a difference leaves out what is
    wrong in both runs alike: the same sensor, the same specification, the same intensity.
    """
    options.set_up_log(values["log_level"], values["log_format"])
    try:
        if len(runs) < 2:
            raise ConfigError(
                "compare: name two runs or more, the one that the others are compared with first"
            )
        base, *others = [merged(find_nodes(run, output, "compare")) for run in runs]
        found = [compare(base, other) for other in others]
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    printing.show(_text(found, form))
    if limit_percent is not None:
        _fail_above(found, limit_percent)


def _text(found: Sequence[Comparison], form: str) -> str:
    if form == "json":
        document = {"schema": forms.SCHEMA, "comparisons": [forms.document(each) for each in found]}
        return printing.json_text(document)
    if form == "markdown":
        from carbonmon.runs.report.markdown import section_markdown

        return "\n".join(section_markdown(forms.section(each)) for each in found)
    from carbonmon.runs.report.details import section_text

    return "\n".join(section_text(forms.section(each)) for each in found)


def _fail_above(found: Sequence[Comparison], limit_percent: float) -> None:
    """End with 1 where a run has drawn more than the limit allows; what is unknown is not below it."""
    over = [
        each for each in found if each.energy_j.ratio is None or 100.0 * each.energy_j.ratio > limit_percent
    ]
    for each in over:
        text = forms.difference_text(each.energy_j.ratio)
        run_id = each.other["run"]["id"]
        printing.echo(
            f"carbonmon: energy of run {run_id}: {text}; the limit is +{limit_percent:g} %", err=True
        )
    if over:
        raise click.exceptions.Exit(1)
