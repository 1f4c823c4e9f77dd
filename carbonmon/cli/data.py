"""`carbonmon data`: which tables are in use, whether they are sound, and newer editions of their sources."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import click

from carbonmon import data
from carbonmon.cli import printing, progress
from carbonmon.core.errors import ConfigError
from carbonmon.core.times import utc_text
from carbonmon.data import editions
from carbonmon.data.checks import faults
from carbonmon.data.table import Table, TableError

_MOST = 5
"""So many rows of a kind of change are named."""
_YEAR_COLUMNS = {
    data.INTENSITIES: "data_year",
    data.CLOUD_REGIONS: "default_year",
    data.OVERHEADS: "data_year",
}


@click.group("data", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Check the bundled tables, or take a newer edition of their sources.

    Without a command: lists the tables in use, with edition, source and licence.
    """
    if ctx.invoked_subcommand is None:
        _show()


def _show() -> None:
    """The tables that look-ups use."""
    rows: list[tuple[str, ...]] = [("TABLE", "ROWS", "EDITION", "LICENCE", "SOURCE")]
    try:
        found = editions.tables_of()
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    for name, table in found.items():
        form = data.FORMATS[name]
        rows.append((name, str(len(table.records)), _edition(table), form.licence, form.source))
    printing.show_table(rows, numbers=(1,), wraps=4)
    printing.echo()
    own = [name for name, table in found.items() if table.path.parent != data.PACKAGE]
    printing.echo(f"the package's, edition {data.EDITION}: {data.PACKAGE}")
    if own:
        printing.echo(f"before them {', '.join(own)}: {found[own[0]].path.parent}")
    folder = data.user_folder()
    printing.echo(f"`carbonmon data update` writes to {folder or 'nothing without --into: there is no home'}")
    printing.echo(f"sources, licences and equivalences: {data.PACKAGE / 'SOURCES.md'}")


def _edition(table: Table) -> str:
    """The newest year of a table's data; without years the package's edition, or the day of one's own."""
    column = _YEAR_COLUMNS.get(table.name)
    if column is not None:
        return f"data to {max(record.row[column].removeprefix('FY') for record in table.records)}"
    if table.path.parent == data.PACKAGE:
        return data.EDITION
    return utc_text(table.path.stat().st_mtime, "%Y-%m-%d")


@command.command("check")
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(path_type=Path))
def check(folder: Path | None) -> None:
    """Check the tables in use, or those of a folder, by every rule that an update must pass.

    The exit code is 1 if something is wrong.
    """
    if folder is not None and not folder.is_dir():
        raise click.UsageError(f"data check: there is no folder {str(folder)!r}")
    if folder is not None and not any((folder / name).is_file() for name in data.FORMATS):
        raise click.UsageError(
            f"data check: no table is in {str(folder)!r}; there may be {', '.join(data.FORMATS)}"
        )
    try:
        found = editions.tables_of(folder)
        wrong = faults(found)
        if wrong:
            raise TableError(wrong)
    except TableError as error:
        printing.echo(str(error), err=True)
        raise click.exceptions.Exit(1) from None
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    for table in found.values():
        printing.echo(f"{table.path}: {len(table.records)} rows, sound")
    for note in editions.not_in_force(found):
        printing.echo(f"a correction is not in force: {note}")


@command.command("update")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="FILE_OR_FOLDER",
    type=click.Path(path_type=Path),
    help="Tables of ours or Our World in Data's carbon-intensity-electricity as CSV, a wheel of CodeCarbon.",
)
@click.option(
    "--into",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the tables are; default: your own, which take precedence over the package's.",
)
@click.option("--dry-run", is_flag=True, help="Say what would change, and write no table.")
@click.option(
    "--diff",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write every cell that changes to a CSV file: table, row, column, old, new.",
)
def update(source: Path, into: Path | None, dry_run: bool, diff: Path | None) -> None:
    """Take a newer edition of the sources, all of it or nothing, and say what changed.

    Our own tables take the place of those before them; Our World in Data's newest year of each country is put
    into the intensity table, and so are CodeCarbon's US states, provinces of China and Nordic zones. Then the
    corrections of the package are applied, and everything is checked. Nothing is fetched from the network:
    give files that you have.
    """
    folder = into or data.user_folder()
    try:
        if folder is None:
            raise ConfigError("data update: there is no home for your own tables: give --into DIR")
        with progress.working("reading and checking the tables"):
            made = editions.update(source, folder, only_news=into is None, dry_run=dry_run)
        if diff is not None:
            _write_diff(diff, made.changes)
    except TableError as error:
        printing.echo(f"refused, nothing is replaced:\n{error}", err=True)
        raise click.exceptions.Exit(1) from None
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    for change in made.changes:
        for line in _change_lines(change):
            printing.echo(line)
    for note in made.notes:
        printing.echo(f"note: {note}")
    printing.echo(f"{made.corrected} corrections applied")
    if dry_run:
        printing.echo("a dry run: no table is written")
        return
    names = ", ".join(path.name for path in made.written)
    printing.echo(
        f"written to {folder}: {names}" if names else f"nothing to write: {folder} is as it should be"
    )
    if into is None and any(data.data_file(path.name) != path for path in made.written):
        printing.echo(f"note: {data.VARIABLE} is set, so that look-ups do not use them")


def _write_diff(path: Path, changes: Sequence[editions.Change]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("table", "row", "column", "old", "new"))
    writer.writerows((change.name, *cell) for change in changes for cell in change.cells)
    try:
        path.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--diff {path}: {error.strerror or error}") from None


def _change_lines(change: editions.Change) -> list[str]:
    """A short account of what a table has now that it had not."""
    counts = f"{len(change.added)} added, {len(change.removed)} removed, {len(change.changed)} changed"
    if change.rows == change.rows_before and not (change.added or change.removed or change.changed):
        return [f"{change.name}: {change.rows} rows, as they were"]
    lines = [f"{change.name}: {change.rows_before} rows, now {change.rows}: {counts}"]
    for sign, keys in (("+", change.added), ("-", change.removed)):
        lines += [f"  {sign} {key}" for key in keys[:_MOST]]
        if len(keys) > _MOST:
            lines.append(f"  {sign} and {len(keys) - _MOST} more")
    moves = sorted(now / before - 1 for _, before, now in change.figures if before)
    if len(moves) > _MOST:
        from statistics import quantiles  # decimal and fractions come with it

        low, middle, high = quantiles(moves, n=4)
        lines.append(
            f"  {len(moves)} figures move: half of them by {low:+.0%} to {high:+.0%}, middle {middle:+.0%}"
        )
    largest = sorted(change.figures, key=lambda figure: -abs(figure[2] - figure[1]) / max(figure[1], 1e-9))
    for key, before, now in largest[:_MOST]:
        ratio = f" ({now / before - 1:+.0%})" if before else ""
        place = key.partition(" | ")[0] if change.name == data.INTENSITIES else key
        lines.append(f"  {place}: {before:g} → {now:g}{ratio}")
    if len(largest) > _MOST:
        lines.append(f"  and {len(largest) - _MOST} more figures, by less")
    return lines
