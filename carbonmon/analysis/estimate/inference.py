"""The use of a model: how many queries, and what they draw where nobody knows the hours; pure.

    kWh of a query = GPUs × tokens × (α × exp(β × batch) × P + γ) / 1000
                   + tokens × (a × P + b × batch + c) / 3600 × 1.2 kW × GPUs / 8 / batch

P are the active parameters in billions, tokens those that come out. The first line is that of the GPUs, the
second that of the server around them. Formula and constants are EcoLogits' (version 0.11.3,
ecologits/impacts/llm.py, MPL-2.0): fitted to H100 of 80 GB of the ML.ENERGY leaderboard, in 16 bits, 8 GPUs
a server. Tokens that go in have no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from carbonmon.analysis.estimate.part_values import number_at, scaled_at
from carbonmon.core.model import JOULES_PER_KWH, Uncertainty
from carbonmon.core.records import NamedTuple

USUAL_BATCH = 64
"""Requests that are served at once where nobody says how many, as EcoLogits takes it."""
LARGEST_BATCH = 512
"""The fit holds up to here."""

_ENERGY = (1.1665273170451914e-06, -0.011205921025579175, 4.052928146734005e-05)
"""α, β and γ, Wh a token of one GPU."""
_LATENCY = (0.0006785088094353663, 0.0003119310311688259, 0.019473717579473387)
"""a, b and c, seconds a token."""
_GPU_MEMORY_GB = 80.0
_SERVER_KW = 1.2
_SERVER_GPUS = 8
_SOURCE = "EcoLogits 0.11.3, fitted to H100 of the ML.ENERGY leaderboard"

FIT_UNCERTAINTY = Uncertainty(
    0.60,
    1.50,
    "−60 %/+150 %, our judgement of a fit over all models: Llama 3.1 8B at a batch of 511 on one H100 was "
    "measured with 0.070 J a token (Green Token Index, huggingface.co/datasets/leadgreen/green-token-index), "
    "half of what the fit says of the GPU",
)


class Inference(NamedTuple):
    """Queries in all; tokens that come out of each, and active parameters, None where not given.

    `batch` requests are served at once.
    """

    queries: float
    tokens_out: float | None
    parameters: float | None
    batch: int
    is_usual_batch: bool

    @property
    def is_work(self) -> bool:
        """Whether it says itself what the queries draw."""
        return self.parameters is not None and self.tokens_out is not None


class Drawn(NamedTuple):
    """What all queries draw, in joules, GPUs and the rest of their servers, and how that is known."""

    gpu_j: float
    server_j: float
    gpus: int
    note: str
    source: str


def inference_of(values: Mapping[str, Any], where: str) -> Inference | None:
    """The use that the keys of a part state; None for none."""
    queries = scaled_at(values, "queries", where, "a number of queries", 1.0, 1e18, "1.5M")
    if queries is None:
        return None
    batch = number_at(values, "batch", where, "a number of requests at once", 1.0, LARGEST_BATCH)
    return Inference(
        queries,
        scaled_at(values, "tokens-out", where, "a number of tokens a query", 1.0, 1e9, "300"),
        scaled_at(values, "parameters", where, "a number of parameters", 1.0, 1e13, "70B"),
        USUAL_BATCH if batch is None else round(batch),
        batch is None,
    )


def drawn_by(use: Inference) -> Drawn:
    """The energy of a use whose parameters and tokens are known."""
    billions = (use.parameters or 0.0) / 1e9
    tokens = (use.tokens_out or 0.0) * use.queries
    memory_gb = 1.2 * billions * 2.0  # 16 bits a parameter, and a fifth on top
    gpus = 2 ** math.ceil(math.log2(math.ceil(memory_gb / _GPU_MEMORY_GB)))
    alpha, beta, gamma = _ENERGY
    gpu_wh = alpha * math.exp(beta * use.batch) * billions + gamma
    per_parameter, per_request, constant = _LATENCY
    seconds = per_parameter * billions + per_request * use.batch + constant
    server_kwh = seconds / 3600.0 * _SERVER_KW * gpus / _SERVER_GPUS / use.batch
    batch = f"{use.batch}{' (assumed)' if use.is_usual_batch else ''}"
    note = (
        f"{use.queries:g} queries × {use.tokens_out:g} tokens of {billions:g} B parameters, {batch} at once, "
        f"on {gpus} H100 80GB in 16 bits"
    )
    return Drawn(
        tokens * gpus * gpu_wh / 1000.0 * JOULES_PER_KWH,
        tokens * server_kwh * JOULES_PER_KWH,
        gpus,
        note,
        _SOURCE,
    )
