"""From the user's choices to what a joule costs: the source of intensity, PUE, WUE and the tariff."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.footprint import Overheads, Tariff
from carbonmon.core.ports import IntensityProvider, IntensitySettings
from carbonmon.service import plugins


def open_provider(config: Config) -> IntensityProvider:
    """The intensity that the user chose: a figure, a file, live sources, a place, or the world's average.

    Raises `ConfigError` for mistakes in the choice. Live sources ask the network later, in their own thread.
    """
    name = "table"
    if config.intensity_g_per_kwh is not None:
        name = "fixed"
    elif config.intensity_file is not None:
        name = "file"
    elif config.grid:
        name = "live"
    factory: Callable[[IntensitySettings], IntensityProvider] = plugins.load("carbonmon.intensity", name)
    return factory(
        IntensitySettings(
            config.region,
            config.intensity_g_per_kwh,
            config.intensity_file,
            config.grid,
            os.environ,
            _load_source,
        )
    )


def open_overheads(config: Config) -> Overheads:
    """PUE, WUE and tariff as the user chose them; raises `ConfigError` where a word has no figure here."""
    pue_ratio, pue_source = pue_of(config.pue, config.region)
    wue_l_per_kwh, wue_source = wue_of(config.wue, config.region)
    return Overheads(pue_ratio, pue_source, wue_l_per_kwh, wue_source, _tariff(config))


def pue_of(choice: float | str, region: str | None) -> tuple[float, str]:
    """The ratio that a figure or a word means in a region, and who states it; "" for none applied."""
    if not isinstance(choice, str):
        return choice, "" if choice == 1.0 else "user"
    from carbonmon.grid.overheads import pue_for
    from carbonmon.grid.regions import resolve

    return pue_for(None if region is None else resolve(region), choice)


def wue_of(choice: float | str | None, region: str | None) -> tuple[float | None, str]:
    """The litres per kWh that a figure or a word means in a region, and who states it."""
    if not isinstance(choice, str):
        return choice, "" if choice is None else "user"
    from carbonmon.grid.overheads import wue_for
    from carbonmon.grid.regions import resolve

    return wue_for(None if region is None else resolve(region), choice)


def _tariff(config: Config) -> Tariff | None:
    if config.price_per_kwh is None and config.price_file is None:
        return None
    if config.currency is None:
        raise ConfigError("--price needs its currency: give for example --currency EUR")
    if config.price_file is None:
        return Tariff(config.currency, config.price_per_kwh, source="user")
    from carbonmon.grid.timefile import read_timeline

    timeline = read_timeline(config.price_file, unit=f"{config.currency}/kWh", lowest=None, highest=1e6)
    return Tariff(config.currency, None, timeline, f"file {config.price_file.name}")


def _load_source(name: str) -> Any:
    """The factory of a live source by its name; raises `ConfigError` that lists what there is."""
    return plugins.load("carbonmon.grid", name)
