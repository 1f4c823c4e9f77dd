"""The work of a training: its FLOPs, from parameters and tokens, or from steps, batch and sequence; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.analysis.estimate.part_values import key_text, ratio_at, scaled_at
from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple

MAX_FLOPS = 1e33
PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "fp8")
SIZES = ("batch", "steps", "sequence")
"""What stands for the tokens of a training: sequences a step, steps, tokens a sequence."""


class Training(NamedTuple):
    """Work that is known in FLOPs; `stated` is how. `mfu` and `flops_peak` (FLOP/s) are None if not given."""

    flops: float
    stated: str
    mfu: float | None
    precision: str | None
    flops_peak: float | None


def is_training(values: Mapping[str, Any]) -> bool:
    """Whether the keys of a part state the work of a training."""
    return any(values.get(key) is not None for key in ("flops", "tokens", "steps"))


def training_of(values: Mapping[str, Any], where: str) -> Training | None:
    """The FLOPs that are given, or those of parameters and tokens; None for neither.

    6 × parameters × tokens: forward 2 and backward 4 FLOPs a parameter and token, Kaplan et al. 2020
    (arXiv:2001.08361, section 2.1) and Hoffmann et al. 2022 (arXiv:2203.15556, appendix F). With the layers
    and the width of the model attention comes on top: 12 × layers × width × sequence a token, Chowdhery et
    al. 2022 (arXiv:2204.02311, appendix B). Of a mixture of experts the active parameters count.
    """
    if not is_training(values):
        return None
    flops = scaled_at(values, "flops", where, "a number of FLOPs", 1.0, MAX_FLOPS, "3.14e23")
    stated = "as given"
    if flops is None:
        flops, stated = _flops(values, where)
    precision = values.get("precision")
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(
            f"{key_text(where, 'precision')}: {precision!r:.40} is none of {', '.join(PRECISIONS)}"
        )
    mfu = ratio_at(values, "mfu", where, "a model FLOPs utilisation")
    if mfu == 0:
        raise ConfigError(f"{key_text(where, 'mfu')}: 0 would take for ever: give a ratio above 0")
    peak = scaled_at(values, "flops-peak", where, "a peak in FLOP/s", 1e9, 1e18, "312T")
    return Training(flops, stated, mfu, precision, peak)


def _flops(values: Mapping[str, Any], where: str) -> tuple[float, str]:
    parameters = scaled_at(values, "parameters", where, "a number of parameters", 1.0, 1e18, "7B") or 0.0
    tokens, tokens_text = _tokens(values, where)
    flops = 6.0 * parameters * tokens
    stated = f"6 × {parameters:g} parameters × {tokens_text} tokens; Kaplan et al. 2020, arXiv:2001.08361"
    layers = scaled_at(values, "layers", where, "a number of layers", 1.0, 1e5, "32")
    if layers is not None:
        width = scaled_at(values, "width", where, "the width of a model", 1.0, 1e7, "4096") or 0.0
        sequence = _sequence(values, where) or 0.0
        flops += 12.0 * layers * width * sequence * tokens
        stated += (
            f"; with attention, 12 × {layers:g} layers × {width:g} × {sequence:g} a token; "
            "Chowdhery et al. 2022, arXiv:2204.02311"
        )
    return flops, stated


def _tokens(values: Mapping[str, Any], where: str) -> tuple[float, str]:
    """Those that are given, or batch × steps × sequence."""
    tokens = scaled_at(values, "tokens", where, "a number of tokens", 1.0, 1e18, "2T")
    if tokens is not None:
        return tokens, f"{tokens:g}"
    batch = scaled_at(values, "batch", where, "a number of sequences a step", 1.0, 1e9, "1024") or 0.0
    steps = scaled_at(values, "steps", where, "a number of steps", 1.0, 1e12, "500k") or 0.0
    sequence = _sequence(values, where) or 0.0
    return batch * steps * sequence, f"({batch:g} a step × {steps:g} steps × {sequence:g})"


def _sequence(values: Mapping[str, Any], where: str) -> float | None:
    return scaled_at(values, "sequence", where, "a number of tokens a sequence", 1.0, 1e9, "4096")
