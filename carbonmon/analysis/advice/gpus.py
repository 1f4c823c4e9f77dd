"""Advice from how a run used its GPUs: idle, little used, waiting for memory, precision, power limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carbonmon.analysis.advice.record import Advice
from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.device_names import gpu_idle
from carbonmon.hardware.peak_flops import peak_of
from carbonmon.hardware.spec_sheets import gpu_spec
from carbonmon.runs.summary.figures import duration_text, energy_text, figure, percent_text

LITTLE_USED = 0.7
"""A mean utilisation below this is worth a line."""
BUSY = 0.9
WAITING = 0.6
"""GPUs that are busy at less of their TDP than this wait for memory or for others: kernels run, and most of
the chip does nothing."""
AT_LIMIT = 0.9
_WHOLE = 0.99
_BITS = {"fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8}
_NEXT = {"fp32": "bf16", "tf32": "bf16", "bf16": "fp8", "fp16": "fp8"}

TUNING_RATIO = 0.153
TUNING_SOURCE = (
    "of the 15.3 % to 75.8 % that batch size and power limit saved together (You et al. 2023, NSDI)"
)
"""Zeus: Understanding and Optimizing GPU Energy Consumption of DNN Training, arXiv:2208.06102, abstract."""


class Used(NamedTuple):
    """A whole GPU of the run: its TDP in W, how busy it was, its mean and its peak power in W."""

    name: str
    energy_j: float
    seconds: float
    tdp_w: float
    utilization: float
    mean_w: float
    peak_w: float


def gpu_advice(summary: Mapping[str, Any]) -> Iterator[Advice]:
    """What the devices of the summary give; GPUs that the run shared with others are left out."""
    time = summary.get("gpu_time") or {}
    idle_j = time.get("idle_energy_j") or 0.0
    if idle_j:
        yield _idle(time, idle_j)
    used = list(_used(summary))
    yield from _little_used(used, idle_j)
    yield from _waiting(used, summary)
    yield from _precision(used, summary)
    yield from _at_limit(used)


def _used(summary: Mapping[str, Any]) -> Iterator[Used]:
    for device in summary["energy"]["devices"]:
        spec = None if device["component"] != "gpu" or not device["name"] else gpu_spec(device["name"])
        figures = device["utilization_ratio"], device["mean_power_w"], device["energy_j"]
        if spec is None or None in figures or (device["share_ratio"] or 0.0) < _WHOLE:
            continue
        seconds = (summary["run"]["duration_s"] or 0.0) - (device["unobserved_s"] or 0.0)
        peak_w = device["peak_power_w"] or 0.0
        yield Used(
            *(device["name"], device["energy_j"], seconds, spec.tdp_w),
            *(device["utilization_ratio"], device["mean_power_w"], peak_w),
        )


def _idle(time: Mapping[str, Any], idle_j: float) -> Advice:
    """The GPUs that did nothing."""
    held, idle = duration_text(time["held_s"]), duration_text(time["idle_s"])
    below = percent_text(time["idle_below_ratio"] or 0.0)
    return Advice(
        "idle GPUs",
        f"{idle} of {held} of GPU time were held and unused",
        "give them back while nothing is computed, or ask for fewer",
        idle_j,
        None,
        f"what the GPUs drew in intervals with a utilisation below {below}",
    )


def _little_used(used: Sequence[Used], idle_j: float) -> Iterator[Advice]:
    """Time without a kernel costs idle power; what wholly idle intervals cost is a line of its own."""
    lost_j, names = 0.0, dict[str, None]()
    for gpu in used:
        idle = gpu_idle(gpu.name)
        if gpu.utilization < LITTLE_USED and idle is not None:
            lost_j += min(gpu.energy_j, idle[0] * (1.0 - gpu.utilization) * gpu.seconds)
            names[idle[1]] = None
    few = [gpu for gpu in used if gpu.utilization < LITTLE_USED]
    if not few:
        return
    mean = sum(gpu.utilization for gpu in few) / len(few)
    is_known = bool(names) and lost_j > idle_j
    yield Advice(
        "low utilisation",
        f"{len(few)} of {len(used)} GPUs were busy for {percent_text(mean)} of the time",
        "load data ahead, enlarge the batch, or let two jobs share a GPU",
        lost_j - idle_j if is_known else None,
        None,
        f"idle power ({'; '.join(names)}) over the time without a kernel, without the idle intervals above"
        if is_known
        else "their idle power was never published, or is counted above",
    )


def _waiting(used: Sequence[Used], summary: Mapping[str, Any]) -> Iterator[Advice]:
    slow = [gpu for gpu in used if gpu.utilization >= BUSY and gpu.mean_w < WAITING * gpu.tdp_w]
    if not slow:
        return
    energy_j = sum(gpu.energy_j for gpu in slow)
    power = sum(gpu.mean_w for gpu in slow) / sum(gpu.tdp_w for gpu in slow)
    precision = (summary.get("work") or {}).get("precision")
    bits, following = _BITS.get(precision or "", 0), _NEXT.get(precision or "", "")
    finding = (
        f"{len(slow)} of {len(used)} GPUs were busy, at {percent_text(power)} of their TDP: memory-bound"
    )
    action = "a larger batch, fused kernels, or fewer bits a value (mixed precision, quantisation)"
    if not following:
        why = (
            "no precision was told (run.progress)" if not precision else f"{precision} is the narrowest known"
        )
        yield Advice("memory-bound", finding, action, None, None, f"how much does not follow: {why}")
        return
    ratio = 1.0 - _BITS[following] / bits
    yield Advice(
        "memory-bound",
        finding,
        action,
        energy_j * ratio,
        None,
        f"at most: {following} moves {_BITS[following]} bits in place of {bits}, and time follows the bytes",
    )


def _precision(used: Sequence[Used], summary: Mapping[str, Any]) -> Iterator[Advice]:
    """What fewer bits save where the GPUs compute: at the same MFU the time follows the peak."""
    precision = (summary.get("work") or {}).get("precision")
    busy = [gpu for gpu in used if gpu.mean_w >= WAITING * gpu.tdp_w]
    if precision not in ("fp32", "tf32") or not busy:
        return
    saved_j, sources = 0.0, dict[str, None]()
    for gpu in busy:
        try:
            now, then = (peak_of(gpu.name, kind, "", "") for kind in (precision, "bf16"))
        except ConfigError:  # no such peak was published
            continue
        saved_j += gpu.energy_j * (1.0 - now.flop_per_s / then.flop_per_s)
        sources[f"{now.flop_per_s / 1e12:g} TFLOP/s in {precision}, {then.flop_per_s / 1e12:g} in bf16"] = (
            None
        )
    if saved_j:
        yield Advice(
            "precision",
            f"the model computes in {precision}",
            "mixed precision",
            saved_j,
            None,
            f"at most: the same MFU at the peak of bf16 ({'; '.join(sources)})",
        )


def _at_limit(used: Sequence[Used]) -> Iterator[Advice]:
    full = [gpu for gpu in used if gpu.mean_w >= AT_LIMIT * gpu.tdp_w]
    if not full:
        return
    energy_j = sum(gpu.energy_j for gpu in full)
    power = sum(gpu.mean_w for gpu in full) / sum(gpu.tdp_w for gpu in full)
    peak = max(gpu.peak_w for gpu in full)
    yield Advice(
        "power limit",
        f"{len(full)} of {len(used)} GPUs drew {percent_text(min(1.0, power))} of their TDP in the mean, "
        f"{figure(peak)} W at most",
        "try a lower power limit (nvidia-smi -pl) and compare joules a step with carbonmon compare",
        energy_j * TUNING_RATIO,
        None,
        f"{percent_text(TUNING_RATIO)} of {energy_text(energy_j)}, the least {TUNING_SOURCE}",
    )
