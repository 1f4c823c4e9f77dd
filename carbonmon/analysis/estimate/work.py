"""How long the hardware of a part works: as given, from its GPU-hours, or from the FLOPs of a training."""

from __future__ import annotations

from carbonmon.analysis.estimate.figures import number_text
from carbonmon.analysis.estimate.parts import Part
from carbonmon.analysis.estimate.training import Training
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Uncertainty
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.peak_flops import Peak, peak_of

ASSUMED_MFU = 0.4
MFU_UNCERTAINTY = Uncertainty(
    1.0 - 0.4 / 0.6,
    0.4 / 0.2 - 1.0,
    "MFU 0.2 to 0.6, 0.4 assumed: 0.213 (GPT-3), 0.302 (MT-NLG), 0.325 (Gopher), 0.462 (PaLM; all four in "
    "Chowdhery et al. 2022, arXiv:2204.02311), 0.38 to 0.43 (Llama 3, arXiv:2407.21783)",
)
"""Model FLOPs utilisation, the part of the peak that a training reaches, where nobody states it."""


class Work(NamedTuple):
    """For how many hours the hardware works, all attempts together, and how that is known.

    `is_device_hours`: it is the sum over devices whose number nobody stated, and counted as one device's.
    `uncertainty` is that of the hours, None where they were given.
    """

    hours: float
    is_device_hours: bool
    note: str
    uncertainty: Uncertainty | None = None


def work_of(part: Part) -> Work:
    """The hours of a part; raises ConfigError where they cannot be calculated."""
    count = sum(number for _, number in part.gpus)
    notes = [] if part.attempts == 1 else [f"{number_text(part.attempts)} attempts"]
    uncertainty = None
    if part.training is not None:
        device_hours, note = _training_hours(part, part.training)
        hours = device_hours / count
        notes.append(note)
        uncertainty = MFU_UNCERTAINTY if part.training.mfu is None else None
    elif part.gpu_hours is not None:
        hours = part.gpu_hours / max(count, 1)
        if count > 1:
            notes.append(f"{number_text(part.gpu_hours)} GPU-hours on {count} GPUs")
    else:
        return Work((part.hours or 0.0) * part.attempts, False, "; ".join(notes))
    if count <= 1 and (part.cpus or part.memory_gb is not None or part.host_power_w is not None):
        raise ConfigError(
            f"{part.key('gpu')}: the other hardware works as long as the GPUs do, so their number must be "
            f"known: give for example {part.gpus[0].name if part.gpus else 'A100 SXM4 80GB'}:8"
        )
    return Work(hours * part.attempts, count <= 1, "; ".join(notes), uncertainty)


def _training_hours(part: Part, training: Training) -> tuple[float, str]:
    """Device-hours = FLOPs / (peak × MFU), of several models with the mean peak of the devices."""
    remedy = "give it: " + ("flops-peak = '312T'" if part.where else "--flops-peak 312T")
    peaks = [
        Peak(training.flops_peak, "", f"{number_text(training.flops_peak / 1e12)} TFLOP/s, as given")
        if training.flops_peak is not None
        else peak_of(name, training.precision, part.key("gpu"), remedy)
        for name, _ in part.gpus
    ]
    count = sum(number for _, number in part.gpus)
    total = sum(peak.flop_per_s * number for peak, (_, number) in zip(peaks, part.gpus, strict=True))
    mfu = ASSUMED_MFU if training.mfu is None else training.mfu
    device_hours = training.flops / (total / count * mfu * 3600.0)
    ratio = f"{number_text(mfu)}{' (assumed)' if training.mfu is None else ''}"
    sources = "; ".join(dict.fromkeys(peak.source for peak in peaks))
    return device_hours, (
        f"{training.flops:.4g} FLOPs ({training.stated}) at MFU {ratio} are {number_text(device_hours)} "
        f"device-hours; {sources}"
    )
