"""Finds sensors, intensity providers and exporters by name, through their entry points."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from typing import Any, Literal

from carbonmon.errors import ConfigError

Group = Literal["carbonmon.sensors", "carbonmon.intensity", "carbonmon.exporters"]


def load(group: Group, name: str) -> Any:
    """What the entry point `name` names; raises `ConfigError` that lists what there is.

    Our own distribution is asked first: looking through every installed package takes longer than all
    the rest of the start.
    """
    own = {point.name: point for point in _own() if point.group == group}
    if name in own:
        return own[name].load()
    everywhere = {point.name: point for point in entry_points(group=group)}
    if name not in everywhere:
        kind = group.rpartition(".")[2]
        near = difflib.get_close_matches(name, everywhere, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"{kind}: there is no {name!r}; {hint}there are {', '.join(sorted(everywhere))}")
    try:
        return everywhere[name].load()
    except Exception as error:  # a third party's module may raise anything while it is imported
        raise ConfigError(f"{group}: {name!r} cannot be loaded: {type(error).__name__}: {error}") from error


def _own() -> list[EntryPoint]:
    try:
        return list(distribution("carbonmon").entry_points)
    except PackageNotFoundError:
        return []
