"""What of a part's keys contradicts another one, or says nothing without it; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from carbonmon.core.errors import ConfigError

_HARDWARE = ("gpu", "cpu", "memory-gb")
_OF_HARDWARE = (
    "gpu-tdp",
    "gpu-utilization",
    "cpu-tdp",
    "cpu-utilization",
    "cpu-cores",
    "host-power",
    "idle-share",
    "kind",
)
_WORK = ("flops", "tokens", "steps")
"""What states the work of a training; parameters may be those of an inference."""
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
    ("flops", ("hours", "gpu-hours", "parameters", "tokens", "steps"), "one follows from the other"),
    ("tokens", ("steps",), "the tokens are batch × steps × sequence"),
    ("tokens", ("hours", "gpu-hours"), "the time follows from the FLOPs"),
    ("steps", ("hours", "gpu-hours"), "the time follows from the FLOPs"),
    ("kind", ("gpu-utilization",), "a kind stands for the utilisation that nobody knows"),
    ("kind", ("flops", "tokens", "steps"), "the hours of a training follow from its FLOPs, at its MFU"),
    ("flops-peak", ("precision",), "the peak is known with the one, and looked up with the other"),
    ("region", ("intensity",), "they exclude one another"),
)
"""A key, those that it cannot stand beside, and why."""
_NEEDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("tokens", ("parameters",), "FLOPs are 6 × parameters × tokens"),
    ("steps", ("parameters",), "FLOPs are 6 × parameters × tokens"),
    ("steps", ("batch",), "tokens are batch × steps × sequence"),
    ("steps", ("sequence",), "tokens are batch × steps × sequence"),
    ("parameters", ("tokens", "steps", "queries"), "FLOPs are 6 × parameters × tokens"),
    ("batch", ("steps", "queries"), "it says nothing by itself"),
    ("sequence", ("steps", "layers"), "it says nothing by itself"),
    ("layers", ("width",), "attention is 12 × layers × width × sequence FLOPs a token"),
    ("layers", ("sequence",), "attention is 12 × layers × width × sequence FLOPs a token"),
    ("layers", ("tokens", "steps"), "it says nothing by itself"),
    ("width", ("layers",), "attention is 12 × layers × width × sequence FLOPs a token"),
    ("tokens-out", ("queries",), "they are those of one query"),
    *((key, _WORK, "it says nothing by itself") for key in ("mfu", "precision", "flops-peak")),
    *((key, ("gpu",), "only the device says how long that takes") for key in _WORK),
    ("cpu-cores", ("cpu",), "it says how many of the CPU's cores the job has"),
    ("kind", ("gpu",), "it says how much of their TDP the GPUs of such jobs draw"),
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
