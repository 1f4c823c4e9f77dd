"""The type of an option whose text a function of the core turns into its value, or into a clear error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from carbonmon.core.errors import ConfigError


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
            raise click.UsageError(f"{_variable(param, ctx)}{error}", ctx) from None


def _variable(param: click.Parameter | None, ctx: click.Context | None) -> str:
    """The variable that gave a value, to begin an error with; "" where it was given otherwise."""
    if ctx is None or param is None or param.name is None or not isinstance(param.envvar, str):
        return ""
    is_variable = ctx.get_parameter_source(param.name) is click.core.ParameterSource.ENVIRONMENT
    return f"{param.envvar}: " if is_variable else ""
