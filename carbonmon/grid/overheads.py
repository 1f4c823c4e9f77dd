"""PUE (facility over device energy) and WUE (litres per kWh) from the tables.

They are applied only if the user asks for them with a keyword, and each figure comes with its source.
"""

from __future__ import annotations

from carbonmon.core.config import PUE_WORDS, WUE_WORDS
from carbonmon.core.errors import ConfigError
from carbonmon.data import CLOUD_REGIONS, OVERHEADS, Row, rows, using
from carbonmon.grid.annual import Region

_PUE, _WUE = "pue_ratio", "wue_l_per_kwh"


def pue_for(region: Region | None, word: str) -> tuple[float, str]:
    """The PUE of a keyword, and its source: of the cloud `region`, its `provider`, or the `world`.

    The world's is the mean that operators report for all kinds of data centres. Raises ConfigError where
    there is no such figure.
    """
    _check("--pue", word, PUE_WORDS)
    with using(CLOUD_REGIONS, OVERHEADS):
        if word == "world":
            return _world("--pue", _PUE)
        cloud = _cloud("--pue", region, word)
        return _of_region(cloud) if word == "region" else _fleet("--pue", cloud, _PUE)


def wue_for(region: Region | None, word: str) -> tuple[float, str]:
    """The WUE (litres per kWh) of a keyword, and its source: the cloud's `provider`, or the `world`.

    Water on site only, without that of power stations. Raises ConfigError where there is no such figure.
    """
    _check("--wue", word, WUE_WORDS)
    with using(OVERHEADS, CLOUD_REGIONS):
        if word == "world":
            return _world("--wue", _WUE)
        return _fleet("--wue", _cloud("--wue", region, word), _WUE)


def _check(option: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise ConfigError(f"{option}: {word!r:.40} is none of {', '.join(words)}, and no number")


def _cloud(option: str, region: Region | None, word: str) -> Row:
    """The row of the cloud region that the user named."""
    if region is None or region.cloud is None:
        place = (
            f"{region.zone} is a place, not a cloud region" if region is not None else "no region is given"
        )
        raise ConfigError(
            f"{option} {word}: {place}, so it is unknown; give --region PROVIDER:REGION "
            f"(aws:us-east-1), {option} world or a number"
        )
    return next(row for row in rows(CLOUD_REGIONS) if (row["provider"], row["region"]) == region.cloud)


def _of_region(cloud: Row) -> tuple[float, str]:
    if not cloud["region_pue"]:
        raise ConfigError(
            f"--pue region: {cloud['provider']} states none for {cloud['region']}; "
            "give --pue provider, --pue world or a number"
        )
    return float(cloud["region_pue"]), f"{cloud['provider']} {cloud['region']}, {cloud['region_pue_year']}"


def _fleet(option: str, cloud: Row, column: str) -> tuple[float, str]:
    """The figure of a provider's whole fleet, not of a single site."""
    provider = cloud["provider"]
    found = [row for row in _stating(provider, column) if row["scope"] == "fleet"]
    if found:
        return _stated(_best(found), column)
    if column == _PUE and cloud["provider_pue"]:
        return float(cloud["provider_pue"]), f"{provider}: {cloud['provider_pue_note']}"
    raise ConfigError(
        f"{option} provider: the table has no figure that {provider} publishes for its fleet; "
        f"give {option} world or a number"
    )


def _stating(provider: str, column: str) -> list[Row]:
    return [row for row in rows(OVERHEADS) if row["provider"] == provider and row[column]]


def _world(option: str, column: str) -> tuple[float, str]:
    """The average of data centres: the preferred row's, else the newest."""
    found = _stating("world", column)
    if not found:
        raise ConfigError(f"{option} world: the table has no average; give a number")
    return _stated(_best(found), column)


def _best(found: list[Row]) -> Row:
    return max(found, key=lambda row: (row["preferred"] == "1", row["data_year"].removeprefix("FY")))


def _stated(row: Row, column: str) -> tuple[float, str]:
    """The figure and its source: provider, scope, year, and a note."""
    whose = "average data centre" if row["provider"] == "world" else f"{row['provider']} {row['scope']}"
    note = f" ({row['note']})" if row["note"] else ""
    return float(row[column]), f"{whose}, {row['data_year']}: {row['source']}{note}"
