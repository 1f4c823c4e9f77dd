"""What commands print: the option `--format`, and texts, JSON and tables in the same way everywhere.

All that a command prints goes through here, and becomes printable here (`core/plain_text.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import click

from carbonmon.core.plain_text import plain_json, plain_lines
from carbonmon.runs.summary.columns import aligned

MOST_NOTES = 5

Command = TypeVar("Command", bound=Callable[..., Any])


def format_option(*forms: str) -> Callable[[Command], Command]:
    """A decorator that adds `--format` with these words, the first of which is the default."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help="What to print.",
    )


def json_text(document: Any) -> str:
    """A document as JSON for people and programs; ends in a newline."""
    return plain_json(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"


def show(text: str) -> None:
    """Print a text that has its line ends, whatever stands in it."""
    echo(text, nl=False)


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text, and a line end behind it; to stderr if it is an error or a note."""
    click.echo(plain_lines(text), err=err, nl=nl)


def width() -> int | None:
    """The columns of the terminal; None where the output goes to a file or another program."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


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


def show_table(rows: Sequence[Sequence[str]], numbers: Collection[int] = (), indent: str = "") -> None:
    """Print cells below one another; `numbers` are the columns that are aligned right."""
    show("".join(f"{indent}{line}\n" for line in aligned(rows, numbers)))
