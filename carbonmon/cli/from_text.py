"""From the text of an option to its value, without click; a mistake is a `ConfigError`.

Options whose values `carbonmon.core.config` reads as they are stand there alone.
"""

from __future__ import annotations

from carbonmon.core import config
from carbonmon.hardware import gpu_selection


def interval(text: str) -> float:
    """Seconds between samples."""
    low, high = config.MIN_INTERVAL_S, config.MAX_INTERVAL_S
    return config.parse_number(text, "--interval", "an interval in seconds", low, high)


def checkpoint(text: str) -> float:
    """Seconds between checkpoints."""
    low, high = config.MIN_CHECKPOINT_S, config.MAX_CHECKPOINT_S
    return config.parse_number(text, "--checkpoint", "a time in seconds", low, high)


def watts(text: str, option: str) -> float:
    """The power of a device."""
    return config.parse_number(text, option, "a power in watts", 0.1, 100_000)


def gpu_list(text: str) -> tuple[str, ...]:
    """Indices or UUIDs of GPUs."""
    entries = config.parse_list(text, "--gpus")
    gpu_selection.check_entries(entries)
    return entries
