"""The choices of a `Config` as texts by option: what a monitor tells, and what a command compares to it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carbonmon.core.config import UNLIMITED, Config
from carbonmon.core.files import absolute
from carbonmon.core.ways import OPTIONS, Option

_TOLD = ("monitor", "output")
_TOLD_OF_RUNS = ("gpus", "idle")
"""Besides: a monitor that has some of the node's GPUs has no others, and its policy is that of its runs."""


def texts(config: Config) -> dict[str, str | None]:
    """Each option's value as a text that its flag would take, with absolute paths; None is "not chosen"."""
    found = {option.name: _text(option, config) for option in OPTIONS.values() if option.field is not None}
    return found | {"host": config.host or os.uname().nodename}


def told(config: Config) -> dict[str, str | None]:
    """What a monitor tells its own user of its options."""
    return {
        name: text
        for name, text in texts(config).items()
        if OPTIONS[name].belongs_to in _TOLD or name in _TOLD_OF_RUNS
    }


def told_to_others(settings: dict[str, str | None]) -> dict[str, str | None]:
    """The same for another user: an exporter's address may hold a password, a node meter's an account."""
    return settings | {name: _without_arguments(settings.get(name)) for name in ("exporter", "node-meter")}


def _without_arguments(text: str | None) -> str:
    entries = (entry.partition(":") for entry in (text or "").split(","))
    return ",".join(name + ":…" * bool(colon) for name, colon, _ in entries)


def _text(option: Option, config: Config) -> str | None:
    value: Any = getattr(config, str(option.field))
    if option.name == "no-dram-estimate":
        value = not value
    if option.name == "grid":
        value = value or None
    return None if value is None else _WRITTEN.get(option.kind, str)(value)


def _address(value: tuple[str, int]) -> str:
    host, port = value
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _path(value: Path) -> str:
    return str(absolute(value))


_WRITTEN: dict[str, Callable[[Any], str]] = {
    "number": lambda value: value if isinstance(value, str) else f"{value:.12g}",
    "list": ",".join,
    "path": _path,
    "address": _address,
    "flag": lambda value: str(value).lower(),
    "size": lambda value: UNLIMITED if value == math.inf else f"{value:.0f}B",
    "budgets": lambda budgets: ",".join(budget.text for budget in budgets),
    "action": lambda action: action.text,
    "labels": lambda labels: "\n".join(f"{key}={text}" for key, text in labels),
}
