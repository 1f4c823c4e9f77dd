"""Reads one value of a part by its key; every error is a ConfigError that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from carbonmon.analysis.estimate.quantities import number_of, power_w_of
from carbonmon.core.config import parse_intensity, parse_number
from carbonmon.core.errors import ConfigError


def key_text(where: str, word: str) -> str:
    """A key for messages: that of a part of a file, or the option."""
    return f"{where}: {word!r:.60}" if where else f"--{word}"


def ratio_at(values: Mapping[str, Any], key: str, where: str, what: str) -> float | None:
    value = values.get(key)
    if value is not None and _is_percent(value):
        raise ConfigError(
            f"{key_text(where, key)}: {what} is a ratio from 0 to 1: write {float(value) / 100:g} "
            f"for {float(value):g} %"
        )
    return number_at(values, key, where, what, 0.0, 1.0)


def _is_percent(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        return 1.0 < float(value) <= 100.0
    except (TypeError, ValueError, OverflowError):
        return False


def watts_at(values: Mapping[str, Any], key: str, where: str) -> float | None:
    return number_at(values, key, where, "a power in watts", 0.1, 100_000)


def power_at(values: Mapping[str, Any], key: str, where: str) -> float | None:
    return None if values.get(key) is None else power_w_of(values[key], key_text(where, key))


def scaled_at(
    values: Mapping[str, Any], key: str, where: str, what: str, low: float, high: float, example: str
) -> float | None:
    if values.get(key) is None:
        return None
    return number_of(values[key], key_text(where, key), what, low, high, example)


def intensity_at(
    values: Mapping[str, Any], where: str, key: Literal["intensity", "market-intensity"] = "intensity"
) -> float | None:
    """In gCO2e/kWh, as `--intensity` takes it; of the market 0 is electricity of renewable sources."""
    value = values.get(key)
    if isinstance(value, (str, float)):
        return parse_intensity(str(value)[:40], key_text(where, key))
    return number_at(values, key, where, "an intensity in gCO2e/kWh", 0.0, 5000.0)


def water_intensity_at(values: Mapping[str, Any], where: str) -> float | None:
    """Litres of water for a kWh of electricity where it is generated."""
    return number_at(values, "water-intensity", where, "litres of water a kWh", 0.0, 1000.0)


def number_at(
    values: Mapping[str, Any], key: str, where: str, what: str, low: float, high: float
) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ConfigError(f"{key_text(where, key)} must be a number")
    if isinstance(value, int) and value.bit_length() > 64:
        raise ConfigError(f"{key_text(where, key)} is too large a number")
    return parse_number(str(value)[:40], key_text(where, key), what, low, high)
