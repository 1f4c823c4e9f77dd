"""How far each method's figures may lie from the true value, with the evidence for it.

Every constant is a pair of ratios of the figure (`Uncertainty`). An error within a method is
systematic: the same sensor gain, the same wrong model of the same chip, at every sample. So it
neither averages out over a run nor over devices of the same kind: joules and their bounds are
added up linearly, never in quadrature. The bands are meant to hold for nearly all machines, they
are not standard deviations; where the sources give no bound, the band is our judgement of them.
"""

from __future__ import annotations

from carbonmon.core.model import Uncertainty

NVML_UNCERTAINTY = Uncertainty(
    0.05,
    0.05,
    "±5 %: steady-state gain error of the on-board sensor against an external meter on over 70 GPUs "
    "(arXiv:2312.02741)",
)
"""Integrated power sensor or energy counter of an NVIDIA GPU, as read through NVML.

The same paper finds that A100 and H100 sample only a quarter of the time, which comes on top for
loads whose rhythm is near the sensor's; over a training run of minutes it evens out.
"""

RAPL_PACKAGE_UNCERTAINTY = Uncertainty(
    0.10,
    0.10,
    "±10 %: RAPL follows reference meters closely since it is measured instead of modelled on Intel "
    "(Hackenberg et al. 2015, doi:10.1109/IPDPSW.2015.70; Khan et al. 2018, doi:10.1145/3177754); "
    "widened for AMD, where it is modelled (Schöne et al. 2021, arXiv:2108.00808)",
)
"""The package domain of RAPL. It holds no voltage regulators, fans or power supply losses."""

RAPL_DRAM_UNCERTAINTY = Uncertainty(
    0.30,
    0.20,
    "−30 %/+20 %: RAPL's DRAM domain is right in trend with an offset, best when the memory is busy "
    "(Desrochers et al. 2016, doi:10.1145/2989081.2989088), and reads high at low load "
    "(Alt et al. 2024, doi:10.1145/3629526.3645052)",
)
"""The DRAM domain of RAPL. Persistent memory modules lie outside the band: RAPL overstates them more."""

HWMON_UNCERTAINTY = Uncertainty(
    0.10,
    0.10,
    "±10 %: our judgement of the sensors on boards of AMD, Intel and NVIDIA that drivers tell through hwmon; "
    "no comparison with an external meter is known to us",
)
"""An energy counter or an average power that a driver of the kernel tells through hwmon."""

GAUDI_UNCERTAINTY = Uncertainty(
    0.10,
    0.10,
    "±10 %: our judgement of the sensors on Intel Gaudi cards that HLML tells; no comparison with an "
    "external meter is known to us",
)
"""An energy counter of a Gaudi accelerator."""

LEVEL_ZERO_UNCERTAINTY = Uncertainty(
    0.10,
    0.10,
    "±10 %: our judgement of the sensors on Intel's graphics cards that Level Zero tells; no comparison with "
    "an external meter is known to us",
)
"""An energy counter of an Intel GPU's card."""

AMDSMI_UNCERTAINTY = Uncertainty(
    0.10,
    0.10,
    "±10 %: our judgement of the sensors on AMD's cards; no comparison with an external meter is known to us",
)
"""An energy counter or a power that AMD's library tells."""

MOMENTARY_UNCERTAINTY = Uncertainty(
    0.25,
    0.40,
    "−25 %/+40 %: readings of momentary power a second apart under a square wave of 0.7 s between a sixth "
    "and all of the power, over 3 s or more; a load whose rhythm is that of the readings misses by more",
)
"""Beside a power that holds for the moment of its reading only: what is between two readings is not seen.

The trapezoid over readings a second apart of a wave between 60 W and 350 W misses by −23 % to +37 % at the
worst phase over 3 s, by −14 % to +18 % over 5 s, and by −10 % to +12 % over a minute (a test computes it).
"""

TDP_UNCERTAINTY = Uncertainty(
    0.50,
    1.20,
    "−50 %/+120 %: measured CPUs draw 12 % of TDP when idle, 32 % at 10 % load, 75 % at 50 % and 102 % "
    "at full load (Teads, in Boavizta's CPU model), desktop parts more in turbo; H100 training nodes "
    "draw at most 76 % of their rating, so that TDP misses by 27–37 % (Newkirk et al. 2025, "
    "arXiv:2506.14551); tools that estimate miss by up to 40 % (Fischer 2025, arXiv:2509.22092)",
)
"""TDP × utilisation of a known model, CPU or GPU.

Upwards: a CPU at 20 % load draws 2.1 times what TDP × utilisation says, at 50 % 1.5 times; below
20 % the ratio grows without limit, because an idle chip draws power, but the watts are few.
Downwards: a GPU counts as fully utilised while any kernel runs, so a load that waits for memory or
the network draws about half of its TDP at a utilisation of 100 %.
"""

TPU_UNCERTAINTY = Uncertainty(
    0.55,
    1.20,
    "−55 %/+120 %: TPUs draw less than their maximum in training: v2 74–79 % of it, v3 49–69 % (Patterson "
    "et al. 2021, arXiv:2104.10350), v4 89 % in the mean (cloud.google.com/tpu/docs); upwards by the power "
    "at no load, 47 % of the maximum of a v4, from a duty cycle of 28 % on",
)
"""A TPU's maximum power × its duty cycle. Where the power at no load is published it is in the estimate."""

NEURON_UNCERTAINTY = Uncertainty(
    0.55,
    1.20,
    "−55 %/+120 %: our judgement, no comparison with a meter is known to us: the driver tells a percentage "
    "of a maximum that AWS does not publish, without the power at no load, of two dies that of the larger "
    "(aws-neuronx-dkms 2.27.4, neuron_power.c)",
)
"""A Trainium's or Inferentia's maximum power, as the user states it, × its driver's percentage of it."""

ASSUMED_UTILIZATION_UNCERTAINTY = Uncertainty(
    0.75,
    0.0,
    "a utilisation of 1 is assumed, down to 0.25: GPUs of a training cluster were used to 52 % on average "
    "(Jeon et al. 2019, arXiv:1901.05758); of TDP × hours, measured jobs drew 43 % (BERT fine-tuning on "
    "V100) and 30 % (a small vision transformer; both Dodge et al. 2022, arXiv:2206.05229), an evaluation of "
    "BLOOM-1b7 on A40 30 % (emissions files of the model's repository)",
)
"""Beside a TDP whose utilisation nobody stated. The true one may be lower, and is never higher than 1."""


def combine(a: Uncertainty, b: Uncertainty) -> Uncertainty:
    """The uncertainty of a product of two figures, both as wrong as they may be: the ratios multiply."""
    return Uncertainty(
        1.0 - (1.0 - a.low_ratio) * (1.0 - b.low_ratio),
        (1.0 + a.high_ratio) * (1.0 + b.high_ratio) - 1.0,
        f"{a.source}; and {b.source}",
    )
