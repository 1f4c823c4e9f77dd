"""`carbonmon report`: the summary of a run, also of one whose monitor was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from carbonmon_exporters.document import SCHEMA, summarize
from carbonmon_exporters.text import table_text

from carbonmon import runfolder
from carbonmon.cli import options
from carbonmon.errors import ConfigError
from carbonmon.recorder import is_watched
from carbonmon.recovery import JournalError, read_checkpoint


@click.command("report")
@options.with_options(*options.REPORT_OPTIONS)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What to print.",
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
def command(runs: tuple[str, ...], form: str, output: Path, **values: Any) -> None:
    """Print the summary of a run, also of one whose monitor was killed.

    RUN is a run's folder, its summary.json, or an id under the output folder.
    """
    options.set_up_log(values["log_level"], values["log_format"])
    try:
        summaries = [summary_of(_folder(run, output)) for run in runs]
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if form == "json":
        document = summaries[0] if len(summaries) == 1 else summaries
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for summary in summaries:
        click.echo(table_text(summary), nl=False)


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary of a run's folder: the final one if it ended, else made from its last checkpoint."""
    path = folder / "summary.json"
    if path.exists():
        try:
            summary = json.loads(path.read_bytes())
            if not isinstance(summary, dict) or summary.get("schema") != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA!r}: read it with the version that wrote it")
        except (OSError, ValueError, RecursionError) as error:
            raise JournalError(f"{path}: {error}") from None
        if summary.get("state") == "final":
            return dict(summary)
    snapshot = read_checkpoint(folder).snapshot
    return summarize(snapshot, snapshot.runs[0], "running" if is_watched(folder) else "recovered")


def _folder(run: str, output: Path) -> Path:
    path = Path(run)
    if path.name == "summary.json":
        return path.parent
    return path if path.is_dir() else runfolder.find(output, run, "report")
