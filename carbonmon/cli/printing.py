"""What commands print: the option `--format`, and texts, JSON and tables in the same way everywhere.

All that a command prints goes through here. It becomes printable here (`core/plain_text.py`); what is for
people is as wide as the terminal (`terminal.py`) and gets colours (`colours.py`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from carbonmon.cli import terminal
from carbonmon.core.plain_text import plain_json, plain_lines
from carbonmon.core.text_layout import columns_of, table, wrapped

MOST_NOTES = 5

_LONGEST_CHOICE = 36
"""Characters of an option's words that the help shows beside its name: with more, 50 columns do not do."""

Command = TypeVar("Command", bound=Callable[..., Any])


def format_option(*forms: str) -> Callable[[Command], Command]:
    """A decorator that adds `--format` with these words, the first of which is the default."""
    import click

    is_long = len("|".join(forms)) > _LONGEST_CHOICE
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        metavar="FORM" if is_long else None,
        default=forms[0],
        show_default=True,
        help=f"What to print: {', '.join(forms)}." if is_long else "What to print.",
    )


def json_text(document: Any) -> str:
    """A document as JSON for people and programs; ends in a newline."""
    return plain_json(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"


def show_document(text: str) -> None:
    """Print what is for programs or a file, with its line ends: in any terminal it is the same."""
    _write(plain_lines(text))


def show_form(form: str, text: str) -> None:
    """Print a text in a form of `--format`: `text` is for people."""
    (show if form == "text" else show_document)(text)


def show(text: str) -> None:
    """Print a text for people that has its line ends, whatever stands in it."""
    echo(text, nl=False)


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text for people, and a line end behind it; to stderr if it is an error or a note."""
    shown = fitted(plain_lines(text), terminal.width(err=err))
    has_colours = terminal.has_colours(os.environ, err=err)
    if has_colours:
        from carbonmon.cli.colours import coloured  # for a person only

        shown = "\n".join(map(coloured, shown.split("\n")))
    _write(f"{shown}\n" if nl else shown, err=err, color=has_colours)


def _write(text: str, *, err: bool = False, color: bool | None = None) -> None:
    """Write and flush: to stderr at once, else by click, which also knows what to do with other encodings."""
    stream = sys.stderr
    if err and stream is not None and (stream.encoding or "").lower() in ("utf-8", "utf8"):
        stream.write(text)
        stream.flush()
        return
    import click

    click.echo(text, err=err, nl=False, color=color)


def fitted(text: str, width: int | None) -> str:
    """The text with what is wider than the terminal wrapped; further lines are a little more to the right."""
    if width is None or all(columns_of(line) <= width for line in text.split("\n")):
        return text
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        is_wide = columns_of(line) > width
        lines += wrapped(line, width, indent, f"{indent}    ") if is_wide else [line]
    return "\n".join(lines)


def takes(signs: str) -> bool:
    """Whether stdout can show these signs: its encoding has them, and it is no terminal without any."""
    try:
        signs.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return not (sys.stdout.isatty() and os.environ.get("TERM") == "dumb")


def tell(notes: Sequence[str]) -> None:
    """Notes go to stderr, so that a table in a pipe is a table; of many the first, and how many there are."""
    for note in notes[:MOST_NOTES]:
        echo(f"carbonmon: {note}", err=True)
    if len(notes) > MOST_NOTES:
        echo(f"carbonmon: and {len(notes) - MOST_NOTES} notes more", err=True)


def show_table(
    rows: Sequence[Sequence[str]],
    numbers: Collection[int] = (),
    indent: str = "",
    *,
    cuts: int | None = None,
    wraps: int | None = None,
) -> None:
    """Print cells below one another, as `text_layout.table` lays them out."""
    lines = table(rows, numbers, terminal.width(), indent=indent, cuts=cuts, wraps=wraps)
    show("".join(f"{line}\n" for line in lines))
