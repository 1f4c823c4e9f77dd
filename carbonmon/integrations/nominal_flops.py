"""The FLOPs that a dense text model takes to train one token, from its parameters; no framework is imported.

6 × N: two for each parameter of a matrix in the forward pass, four in the backward pass (Kaplan et al.,
"Scaling Laws for Neural Language Models", arXiv:2001.08361, section 2.1). N has the output layer, also where
it shares its weights with the embeddings; these are looked up, and are not in it. Nor are attention's own
products, and activations that are computed again.
"""

from __future__ import annotations

from typing import Any

FLOPS_PER_PARAMETER = 6.0

DENSE_LAYERS = {"Linear", "Conv1D", "NonDynamicallyQuantizableLinear"}
"""Classes of layers that multiply a token by a matrix; Conv1D is transformers' own, of GPT-2."""

DENSE_RATIO = 0.95
"""The least part of the parameters that such layers and embeddings must hold: with less, it is another kind
of model, such as one of fused experts or of convolutions."""

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""What configurations call the number of experts, of which a token uses some."""


def flops_per_token(model: Any) -> float | None:
    """None where the rule does not hold: images, experts, an encoder beside a decoder, frozen, quantised or
    divided parameters."""
    config = getattr(model, "config", None)
    if getattr(model, "main_input_name", None) != "input_ids" or getattr(config, "is_encoder_decoder", False):
        return None
    if any(getattr(config, name, None) for name in EXPERTS) or getattr(model, "hf_quantizer", None):
        return None
    parameters = list(model.parameters())
    whole = sum(parameter.numel() for parameter in parameters)
    if not whole or any(not each.requires_grad or hasattr(each, "ds_id") for each in parameters):
        return None
    dense, known = 0, set()
    for module in model.modules():
        kind = type(module).__name__
        weight = getattr(module, "weight", None)
        if weight is None or kind not in DENSE_LAYERS | {"Embedding"}:
            continue
        known.add(weight)
        if kind != "Embedding":
            dense += weight.numel()
    if sum(weight.numel() for weight in known) < DENSE_RATIO * whole:
        return None
    return FLOPS_PER_PARAMETER * dense
