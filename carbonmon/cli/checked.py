"""Types of options: each turns a text into its value by a function of the core, or into a clear error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from carbonmon.cli import from_text
from carbonmon.core import config
from carbonmon.core.errors import ConfigError

LONGEST_H = 24.0 * 366


class Checked(click.ParamType):  # type: ignore[type-arg]  # generic in click's newest releases only
    """A text that a function of `carbonmon.config` turns into its value."""

    def __init__(self, name: str, convert: Callable[[str], Any], splitter: str | None = None) -> None:
        """`splitter` is between the values of an option that may be repeated, in its variable."""
        self.name = name
        self.envvar_list_splitter = splitter  # type: ignore[misc]  # a class variable of click's
        self._convert = convert

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._convert(value)
        except ConfigError as error:
            raise click.UsageError(f"{variable_of(param, ctx)}{error}", ctx) from None


class FilledPath(click.Path):
    """A path; an empty text, as of a variable that is not set, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty: name one", param, ctx)
        return super().convert(value, param, ctx)


def variable_of(param: click.Parameter | None, ctx: click.Context | None) -> str:
    """The variable that gave a value, to begin an error with; "" where it was given otherwise."""
    if ctx is None or param is None or param.name is None or not isinstance(param.envvar, str):
        return ""
    is_variable = ctx.get_parameter_source(param.name) is click.core.ParameterSource.ENVIRONMENT
    return f"{param.envvar}: " if is_variable else ""


def hours(option: str, low: float) -> Checked:
    """A time in hours, from `low` to a year."""
    return Checked("hours", lambda text: config.parse_number(text, option, "a time in hours", low, LONGEST_H))


def number(option: str, what: str, low: float, high: float = float("inf")) -> Checked:
    """A finite number; `what` names it and its unit in the error."""
    return Checked("number", lambda text: config.parse_number(text, option, what, low, high))


def name_list(option: str) -> Checked:
    """Names between commas."""
    return Checked("names", lambda text: config.parse_list(text, option))


def watts(option: str) -> Checked:
    """A power of a device."""
    return Checked("number", lambda text: from_text.watts(text, option))
