"""A TOML file of options, each in the form that its flag takes and checked as the flag checks it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from carbonmon.core.documents import read_toml
from carbonmon.core.errors import ConfigError
from carbonmon.core.hints import meant

Options = Mapping[str, Mapping[str, Any]]
"""What click is told of each option, by its name with hyphens."""


def options_in(path: Path, known: Options, is_named: bool) -> dict[str, Any]:
    """The options of a file as click's default map; raises `ConfigError` with file, line and key.

    One that nobody named lies in the working folder, which may be somebody else's repository: it runs no
    command.
    """
    options: dict[str, Any] = {}
    for key, value in read_toml(path).items():
        parameter = key.replace("-", "_")
        if parameter in options:
            raise ConfigError(f"{path}: {key!r} is given twice, with a hyphen and with an underscore")
        options[parameter] = _value(path, key, value, known)
        _check(path, key, options[parameter], known)
        if parameter == "on_budget" and not is_named and options[parameter].strip().startswith("notify"):
            raise ConfigError(
                f"{path}: {key!r} names a command, which no file of the working folder may: give the flag, "
                f"or name the file: --config {path}"
            )
    return options


def _check(path: Path, key: str, value: Any, known: Options) -> None:
    """Raise `ConfigError` with file and key for a text that the flag would refuse on the command line."""
    kind = known[key.replace("_", "-")].get("type")
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and "\0" in text:
            raise ConfigError(f"{path}: {key!r} holds a NUL character")
        if isinstance(text, str) and kind is not None:
            try:
                kind.convert(text, None, None)
            except click.UsageError as error:
                raise ConfigError(f"{path}: {key!r}: {error.message}") from None


def _value(path: Path, key: str, value: Any, known: Options) -> Any:
    """A TOML value in the form that the flag takes on the command line."""
    name = key.replace("_", "-")
    settings = known.get(name)
    if settings is None and isinstance(value, dict):
        raise ConfigError(f"{path}: [{key:.60}] is no option: they stand at the top, without a heading")
    if settings is None:
        raise ConfigError(f"{path}: unknown option {key!r:.60}; {meant(_as_key(name), known)}")
    if settings.get("is_flag"):
        if isinstance(value, bool):
            return value
        raise ConfigError(f"{path}: {key!r} must be true or false")
    if name == "label":
        if isinstance(value, dict):
            return tuple(_label(path, label, text) for label, text in value.items())
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ConfigError(f'{path}: {key!r} must be a table or a list: label = {{ team = "vision" }}')
    if isinstance(value, list) and settings.get("multiple"):
        return tuple(_text(path, key, item) for item in value)
    if settings.get("multiple"):
        return (_text(path, key, value),)
    if isinstance(value, list) and name in ("gpus", "grid", "sensor", "node-meter", "exporter"):
        return ",".join(_text(path, key, item) for item in value)
    return _text(path, key, value)


def _as_key(name: str) -> str:
    """A name as the file has it, of a flag (`--region`) or a variable (`CARBONMON_REGION`)."""
    return name.lower().removeprefix("carbonmon-").lstrip("-")


def _label(path: Path, label: str, value: Any) -> str:
    if "=" in label:
        raise ConfigError(f"{path}: 'label': {label!r:.60} holds an equals sign, which ends a label's name")
    return f"{label}={_text(path, f'label.{label}', value)}"


def _text(path: Path, key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ConfigError(f"{path}: {key!r:.60} must be a text or a number")
    if isinstance(value, int) and value.bit_length() > 64:
        raise ConfigError(f"{path}: {key!r:.60} is too large a number")
    return str(value)
