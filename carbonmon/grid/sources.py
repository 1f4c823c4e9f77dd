"""Opens the live sources that a user names, `uk:13` or `dk`, best first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf

from carbonmon.core.errors import ConfigError
from carbonmon.core.ports import GridSettings, GridSource
from carbonmon.grid.annual import Region
from carbonmon.grid.regions import resolve

TABLE = "table"
"""The name of the annual figure, which is the last source of every chain, named or not."""

LoadSource = Callable[[str], Callable[[GridSettings], GridSource]]


def open_sources(
    names: Sequence[str],
    region: str | None,
    environ: Mapping[str, str],
    load: LoadSource,
    option: str = "--grid",
    takes_marginal: bool = False,
) -> list[GridSource]:
    """The sources in the user's order; raises ConfigError for an unknown, repeated or marginal one.

    `load` gives a source's factory by its name. `region` is the user's, for entries without a zone.
    `takes_marginal` is for advice, which marginal sources may give.
    """
    resolved = None if region is None else resolve(region)
    sources = [_open(entry, resolved, environ, load, option, takes_marginal) for entry in names]
    keys = [(source.name, source.zone) for source in sources]
    for position, key in enumerate(keys):
        if key in keys[:position]:
            raise ConfigError(f"{option}: {names[position]!r:.60} is given twice; name each source once")
    return sources


def without_table(names: Sequence[str], option: str = "--grid") -> tuple[str, ...]:
    """The names without `table` at the end; raises ConfigError where it is before others."""
    if TABLE in names[:-1]:
        raise ConfigError(f"{option}: 'table' always has a figure, so no later source is used; put it last")
    return tuple(names[:-1] if names[-1:] == (TABLE,) else names)


def _open(
    entry: str,
    region: Region | None,
    environ: Mapping[str, str],
    load: LoadSource,
    option: str,
    takes_marginal: bool,
) -> GridSource:
    name, _, zone = entry.partition(":")
    settings = GridSettings(
        zone=zone.strip(),
        region=None if region is None else region.zone,
        em_zone="" if region is None else region.em_zone,
        environ=environ,
    )
    factory = load(name.strip())
    try:
        source = factory(settings)
        is_valid = 0.0 < source.slot_s < inf and 0.0 <= source.lag_s < inf and bool(source.name)
        is_marginal = source.is_marginal
    except ConfigError:
        raise
    except Exception as error:  # a third party's source may raise anything, and lack attributes of the port
        raise ConfigError(f"{option}: {name!r:.60} cannot be opened: {type(error).__name__}") from error
    if not is_valid:
        raise ConfigError(f"{option}: {name!r:.60} cannot be opened: its name or its times are impossible")
    if is_marginal and not takes_marginal:
        raise ConfigError(
            f"{option}: {name!r:.60} gives the marginal intensity, to choose a time to run, and is never a "
            "footprint; name a source of average intensity"
        )
    return source
