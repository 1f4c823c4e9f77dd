"""How options were given: what one needs beside it, and who is to blame for a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from carbonmon.core.files import absolute
from carbonmon.core.ways import Choice

_NEEDS = (
    ("on_budget", ("budget",), "--budget 2kWh"),
    ("by", ("budget",), "--budget 2kWh"),
    ("currency", ("price", "price_file", "budget"), "--price or --price-file"),
)
"""Options, which others they serve, and an example."""


def check_needs(ctx: click.Context, values: Mapping[str, Any]) -> None:
    """Raise `click.UsageError` for an option of the command line that does nothing without another one.

    For a monitor of its own: another one may have what is needed.
    """
    for name, needs, example in _NEEDS:
        typed = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if typed and all(values.get(each) in (None, ()) for each in needs):
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} does nothing alone: give {example} as well, or leave it out")


def given(ctx: click.Context) -> set[str]:
    """The options that somebody gave, here, in a variable or in a file, by their names with hyphens."""
    default = click.core.ParameterSource.DEFAULT
    return {name.replace("_", "-") for name in ctx.params if ctx.get_parameter_source(name) is not default}


def with_source(choices: Iterable[Choice], error: str) -> str:
    """The text of an error, behind the variable or the file that gave the value which it quotes.

    An error about a file that was named, which begins with its path, gets the option in any case.
    """
    begin = str(absolute(Path(error.partition(": ")[0])))  # as the choices have it
    for choice in choices:
        is_of_file = begin == choice.text
        if choice.is_argument and is_of_file:
            return f"--{choice.option.name}: {error}"
        if not choice.is_argument and (is_of_file or repr(choice.text) in error):
            return f"{choice.shown.partition('=')[0].strip()}: {error}"
    return error
