"""What the product's own look-ups say to the same question."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from carbonmon.analysis.embodied import card_figures
from carbonmon.core.errors import ConfigError
from carbonmon.data import CLOUD_REGIONS, INTENSITIES, rows
from carbonmon.grid.regions import resolve
from carbonmon.hardware.cpu_specs import cpu_keys, cpu_spec, is_known_cpu
from carbonmon.hardware.peak_flops import peak_of


class Own(NamedTuple):
    """Our figure, or a place's ISO code; `note` says what it is, `row` which row of ours is meant."""

    value: float | str
    note: str = ""
    row: str = ""


def own(kind: str, key: str) -> Own | None:
    """None for what our tables do not have."""
    try:
        return _LOOK_UPS[kind](key)
    except ConfigError:
        return None


def _place(key: str) -> Own | None:
    """A place's own figure; None where another place's stands in."""
    found = resolve(key).intensity
    countries = {row["iso_alpha3"]: row["zone"] for row in rows(INTENSITIES, "zone_type", ("country",))}
    if found.zone == "WORLD" or found.zone != countries.get(key, key):
        return None
    return Own(found.g_per_kwh, f"{found.basis}, {found.year}", found.zone)


def _part(key: str) -> Own | None:
    found = resolve(key).intensity
    note = f"{found.basis}, {found.year}"
    return Own(found.g_per_kwh, note if found.zone == key else f"that of {found.zone}; {note}")


def _direct(key: str) -> Own | None:
    found = resolve(f"{key}@direct").intensity
    return Own(found.g_per_kwh, f"{found.basis}, {found.year}")


def _cloud(key: str) -> dict[str, str] | None:
    provider, _, region = key.partition(":")
    found = rows(CLOUD_REGIONS, "region", (region,))
    return next((row for row in found if row["provider"] == provider), None)


def _cloud_place(key: str) -> Own | None:
    row = _cloud(key)
    if row is None:
        return None
    countries = {
        each["iso_alpha2"]: each["iso_alpha3"] for each in rows(INTENSITIES, "zone_type", ("country",))
    }
    return Own(countries.get(row["country_iso2"], row["country_iso2"]), row["location"])


def _provider(key: str) -> Own | None:
    row = _cloud(key)
    return (
        Own(float(row["provider_gco2_per_kwh_2024"]), "2024")
        if row and row["provider_gco2_per_kwh_2024"]
        else None
    )


def _cpu(key: str) -> Own | None:
    if not cpu_keys(key) or not is_known_cpu(key):
        return None
    return Own(cpu_spec(key, visible_threads=1, physical_cores=1, virtual=False).tdp_w, row=cpu_keys(key)[0])


def _peak(key: str) -> Own | None:
    name, _, precision = key.rpartition(", ")
    return Own(peak_of(name, precision, "peak", "").flop_per_s / 1e12)


def _making(key: str) -> Own | None:
    """The largest figure of the card alone, in kg."""
    found = card_figures(key)
    return None if found is None else Own(found.high_kg, f"published: {found.low_kg:g} to {found.high_kg:g}")


_LOOK_UPS: dict[str, Callable[[str], Own | None]] = {
    "country": _place,
    "US state, direct": _direct,
    "province of China": _place,
    "bidding zone": _place,
    "grid of a part": _part,
    "cloud place": _cloud_place,
    "provider's figure": _provider,
    "CPU": _cpu,
    "peak": _peak,
    "making of a GPU": _making,
}
