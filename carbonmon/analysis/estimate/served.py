"""The loads of queries whose hours nobody knows: GPUs and servers by a published fit."""

from __future__ import annotations

import math

from carbonmon.analysis.estimate.figures import number_text
from carbonmon.analysis.estimate.inference import FIT_UNCERTAINTY, Inference, drawn_by
from carbonmon.analysis.estimate.load import Load
from carbonmon.analysis.estimate.parts import Part
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Spec


def served(part: Part, use: Inference) -> list[Load]:
    """The GPUs and servers of queries whose hours nobody knows."""
    given = part.memory_gb, part.power_w, part.host_power_w
    if part.gpus or part.cpus or any(value is not None for value in given):
        raise ConfigError(
            f"{part.key('queries')}: for how many hours the hardware works is not given; without hardware "
            "the energy of the queries is that of H100 and their servers, by a published fit"
        )
    drawn = drawn_by(use)
    note = drawn.note if part.attempts == 1 else f"{drawn.note}; {number_text(part.attempts)} attempts"
    spec = Spec(math.nan, FIT_UNCERTAINTY, drawn.source)
    gpus = Load(
        *(part.name, "gpu", "H100 80GB", drawn.gpus, spec, None, False, None),
        given_j=drawn.gpu_j * part.attempts,
        note=note,
    )
    servers = Load(
        *(part.name, "module", "servers without their GPUs", 1, spec, None, False, None),
        given_j=drawn.server_j * part.attempts,
    )
    return [gpus, servers]
