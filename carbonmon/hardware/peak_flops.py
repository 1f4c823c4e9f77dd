"""Peak FLOP/s of a device by precision, from vendors' data sheets: dense, without structured sparsity."""

from __future__ import annotations

from collections.abc import Iterable

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Device
from carbonmon.core.records import NamedTuple
from carbonmon.core.work import GpuPeak, Peaks
from carbonmon.data import GPU_PEAKS, rows, using
from carbonmon.hardware.device_names import gpu_rows

USUAL = ("bf16", "fp16")
"""What is meant without a precision, best first: large models are trained in 16 bits."""


class Peak(NamedTuple):
    """The peak of one device in FLOP/s, in which precision, and whose figure that is."""

    flop_per_s: float
    precision: str
    source: str


def peak_of(name: str, precision: str | None, place: str, remedy: str) -> Peak:
    """The peak of the device that a text names, in a precision or in the usual one of 16 bits.

    Raises ConfigError that begins with `place`, and says with `remedy` how to give the figure, where none is
    in the table, or models of different peaks may be meant.
    """
    models = [row["model"] for row in gpu_rows(name)]
    with using(GPU_PEAKS):
        found = [
            (row["model"], row["precision"], Peak(float(row["peak_tflops"]) * 1e12, *_origin(row)))
            for row in rows(GPU_PEAKS)
            if row["model"] in models
        ]
    wanted = USUAL if precision is None else (precision,)
    known = {kind for _, kind, _ in found}
    kind = next((each for each in wanted if each in known), "")
    peaks = {model: peak for model, each, peak in found if each == kind}
    if not peaks or len(peaks) < len(models):
        has = f"; it has {', '.join(dict.fromkeys(each for _, each, _ in found))}" if found else ""
        raise ConfigError(
            f"{place}: no peak of {name!r:.80} in {' or '.join(wanted)} is known{has}: {remedy}"
        )
    if len({peak.flop_per_s for peak in peaks.values()}) > 1:
        listed = ", ".join(f"{model} ({peak.flop_per_s / 1e12:g}T)" for model, peak in peaks.items())
        raise ConfigError(f"{place}: {name!r:.80} may mean {listed}: name one, or {remedy}")
    return next(iter(peaks.values()))


def gpu_peaks(devices: Iterable[Device], precision: str) -> Peaks:
    """The peaks of the GPUs among the devices, by id, in FLOP/s; without those whose peak is not known.

    Nor is that of a part of a GPU (MIG), or of a module, whose parts have one meter.
    """
    by_name: dict[str, float | None] = {}
    for device in devices:
        if device.component == "gpu" and device.name not in by_name:
            is_part = device.share_ratio < 1.0 or " MIG " in device.name
            by_name[device.name] = None if is_part else _known_peak(device.name, precision)
    return tuple(
        GpuPeak(device.id, peak)
        for device in devices
        if device.component == "gpu" and (peak := by_name[device.name]) is not None
    )


def _known_peak(name: str, precision: str) -> float | None:
    try:
        return peak_of(name, precision, "", "").flop_per_s
    except ConfigError:  # not in the table, or a name that several models of different peaks have
        return None


def _origin(row: dict[str, str]) -> tuple[str, str]:
    return row[
        "precision"
    ], f"{row['model']}: {row['peak_tflops']} TFLOP/s in {row['precision']} ({row['source']})"
