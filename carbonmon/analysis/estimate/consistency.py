"""What of a part's keys contradicts another one, or says nothing without it; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from carbonmon.core.errors import ConfigError

_HARDWARE = ("gpu", "cpu", "memory-gb")
_OF_HARDWARE = ("gpu-tdp", "gpu-utilization", "cpu-tdp", "cpu-utilization", "host-power", "idle-share")
_WORK = ("flops", "parameters", "tokens")
_EXCLUSIVE: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "energy",
        ("hours", "gpu-hours", "power", *_HARDWARE, *_OF_HARDWARE, *_WORK),
        "the energy is known with the one, and calculated with the other",
    ),
    (
        "power",
        ("gpu-hours", *_HARDWARE, *_OF_HARDWARE, *_WORK),
        "the power is that of all the hardware together",
    ),
    ("gpu-hours", ("hours",), "the hours are the GPU-hours divided by the number of GPUs"),
    ("flops", ("hours", "gpu-hours", "parameters", "tokens"), "one follows from the other"),
    ("parameters", ("hours", "gpu-hours"), "the time follows from the FLOPs"),
    ("flops-peak", ("precision",), "the peak is known with the one, and looked up with the other"),
    ("region", ("intensity",), "they exclude one another"),
)
"""A key, those that it cannot stand beside, and why."""
_NEEDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("tokens", ("parameters",), "FLOPs are 6 × parameters × tokens"),
    ("parameters", ("tokens",), "FLOPs are 6 × parameters × tokens"),
    *(
        (key, ("flops", "parameters"), "it says nothing by itself")
        for key in ("mfu", "precision", "flops-peak")
    ),
    *((key, ("gpu",), "only the device says how long that takes") for key in ("flops", "parameters")),
    ("gpu-idle", ("idle-share",), "it says nothing by itself"),
    ("idle-share", ("gpu", "cpu"), "no other hardware has an idle power here"),
    ("gpu-idle", ("gpu",), "it says nothing by itself"),
)
"""A key, those of which it needs one, and why."""


def check_consistent(values: Mapping[str, Any], key_text: Callable[[str], str]) -> None:
    """Raise ConfigError for two keys that contradict one another, with both values, and for a missing one."""
    for key, others, reason in _EXCLUSIVE:
        other = next((other for other in others if _is_given(values, other)), None)
        if other is not None and _is_given(values, key):
            raise ConfigError(
                f"{key_text(key)} {_shown(values[key])} and {other} {_shown(values[other])} contradict one "
                f"another: {reason}; give one of them"
            )
    for key, needed, reason in _NEEDS:
        if _is_given(values, key) and not any(_is_given(values, other) for other in needed):
            raise ConfigError(
                f"{key_text(key)} {_shown(values[key])} needs {' or '.join(needed)}, "
                f"which is not given: {reason}"
            )


def _is_given(values: Mapping[str, Any], key: str) -> bool:
    return values.get(key) not in (None, (), [])


def _shown(value: Any) -> str:
    texts = value if isinstance(value, (list, tuple)) else (value,)
    return f"{', '.join(str(text) for text in texts):.80}"
