"""`carbonmon compare`: what differs between runs, or between two commands that run in turn."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from carbonmon.analysis.comparison import Difference, compare, forms
from carbonmon.cli import options, printing, terminal
from carbonmon.cli.checked import Checked
from carbonmon.cli.log import set_up_log
from carbonmon.core import config
from carbonmon.core.errors import ConfigError
from carbonmon.runs.report.details import Section
from carbonmon.runs.report.merging import merged
from carbonmon.runs.summaries import find_nodes, summary_of
from carbonmon.runs.summary.figures import duration_text
from carbonmon.service import rounds as service

VERSUS = "--versus"
FEWEST_ROUNDS, MOST_ROUNDS = 2, 100


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
    type=Checked("per cent", _per_cent),
    metavar="PERCENT",
    help="Exit code 1 if a run has drawn so much more energy than the first, for instance 5%.",
)
@click.option(
    "--rounds",
    type=click.IntRange(FEWEST_ROUNDS, MOST_ROUNDS),
    metavar="N",
    help="Run two commands in turn, N times each: -- COMMAND --versus COMMAND.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="RUN RUN…")
def command(
    words: tuple[str, ...],
    form: str,
    output: Path,
    limit_percent: float | None,
    rounds: int | None,
    **values: Any,
) -> None:
    """Compare runs with the first one: energy, time, power, emissions, phase by phase.

    RUN is a run's folder, its summary.json, or a run under the output folder: its id, how the id begins, its
    name, or `last`; of a run on several nodes all are taken. The range of a difference leaves out what is
    wrong in both runs alike: the same sensor, the same specification, the same intensity.

    With --rounds two commands run in turn, each under `carbonmon run`, whose options they take from the
    environment and the TOML file. Medians are compared, with the chance that the difference is none.
    """
    set_up_log(values["log_level"], values["log_format"])
    try:
        if rounds is None:
            is_short = form == "text" and terminal.width() is not None
            sections, documents, energies = _of_runs(words, output, is_short)
        else:
            sections, documents, energies = _of_rounds(_commands(words), rounds, output)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except service.RoundFailed as error:
        raise click.ClickException(str(error)) from None
    printing.show_form(form, _text(sections, documents, form))
    if limit_percent is not None:
        _fail_above(energies, limit_percent)


Found = tuple[list[Section], list[dict[str, Any]], dict[str, Difference]]
"""What to print of each comparison, and the energies by what was compared with the first."""


def _of_runs(words: Sequence[str], output: Path, is_short: bool) -> Found:
    if VERSUS in words:
        raise ConfigError(f"{VERSUS} goes with --rounds N, before the --")
    if len(words) < 2:
        raise ConfigError("compare: name two runs or more, the one that the others are compared with first")
    base, *others = [merged(find_nodes(run, output, "compare")) for run in words]
    found = [compare(base, other) for other in others]
    energies = {f"run {each.other['run']['id']}": each.energy_j for each in found}
    sections = [forms.section(each, is_short=is_short) for each in found]
    return sections, list(map(forms.document, found)), energies


def _commands(words: Sequence[str]) -> dict[str, Sequence[str]]:
    """The two commands on both sides of `--versus`."""
    places = [place for place, word in enumerate(words) if word == VERSUS]
    if len(places) != 1 or not words[: places[0]] or not words[places[0] + 1 :]:
        raise ConfigError(
            "--rounds: give two commands: carbonmon compare --rounds 5 -- python a.py --versus python b.py"
        )
    return dict(zip(service.SIDES, (words[: places[0]], words[places[0] + 1 :]), strict=True))


def _of_rounds(commands: dict[str, Sequence[str]], rounds: int, output: Path) -> Found:
    from carbonmon.analysis.comparison.rounds import compare_rounds

    plan = service.turns(rounds, time.time())
    begin_s = time.monotonic()

    def tell(turn: service.Turn) -> None:
        """A sign of life between two jobs, for whoever looks; a bar would mix with what the jobs print."""
        if sys.stderr is not None and sys.stderr.isatty():
            line, done = shlex.join(commands[turn.side]), plan.index(turn)
            each_s = (time.monotonic() - begin_s) / max(1, done)
            rest = f"; about {duration_text(each_s * (len(plan) - done))} to go" if done else ""
            said = f"carbonmon: round {turn.round} of {rounds}, {turn.side}: {line:.60}{rest}"
            printing.echo(said, err=True)

    service.run_in_turn(commands, plan, output, tell)
    runs = [
        [summary_of(output / turn.run_id) for turn in plan if turn.side == side] for side in service.SIDES
    ]
    found = compare_rounds(*runs)
    names = [shlex.join(commands[side]) for side in service.SIDES]
    assert found.energy_j is not None  # compare_rounds refuses runs without
    return (
        [forms.section_of_rounds(found, *names)],
        [forms.document_of_rounds(found, *names)],
        {names[1]: found.energy_j.difference},
    )


def _text(sections: Sequence[Section], documents: Sequence[dict[str, Any]], form: str) -> str:
    if form == "json":
        return printing.json_text({"schema": forms.SCHEMA, "comparisons": documents})
    if form == "markdown":
        from carbonmon.runs.report.markdown import section_markdown

        return "\n".join(map(section_markdown, sections))
    from carbonmon.runs.report.details import section_text

    return "\n".join(section_text(section, terminal.width()) for section in sections)


def _fail_above(energies: dict[str, Difference], limit_percent: float) -> None:
    """End with 1 where more was drawn than the limit allows; what is unknown is not below it."""
    over = {
        name: energy
        for name, energy in energies.items()
        if energy.ratio is None or 100.0 * energy.ratio > limit_percent
    }
    for name, energy in over.items():
        text = forms.difference_text(energy.ratio)
        printing.echo(f"carbonmon: energy of {name}: {text}; the limit is +{limit_percent:g} %", err=True)
    if over:
        raise click.exceptions.Exit(1)
