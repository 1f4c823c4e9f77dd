"""FLOPs by parameters where the rule holds, and no figure where it does not; torch is not needed for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from carbonmon.integrations.nominal_flops import flops_per_token


class Weight:
    def __init__(self, numel: int, requires_grad: bool = True) -> None:
        self._numel = numel
        self.requires_grad = requires_grad

    def numel(self) -> int:
        return self._numel


class Embedding(SimpleNamespace):
    pass


class Linear(SimpleNamespace):
    pass


class LayerNorm(SimpleNamespace):
    pass


class Model:
    """A model of layers; its parameters are their weights, each once."""

    main_input_name = "input_ids"

    def __init__(self, *layers: Any, fused: int = 0, **config: Any) -> None:
        self._layers = layers
        self._fused = [Weight(fused)] if fused else []
        self.config = SimpleNamespace(**config)

    def modules(self) -> tuple[Any, ...]:
        return (self, *self._layers)

    def parameters(self) -> list[Weight]:
        return [*{id(layer.weight): layer.weight for layer in self._layers}.values(), *self._fused]


def layers(head: Weight | None = None) -> list[Any]:
    """An embedding of 1000, a matrix of 4000, a norm of 10 and an output layer."""
    embedding = Embedding(weight=Weight(1000))
    output = Linear(weight=head or embedding.weight)
    return [embedding, Linear(weight=Weight(4000)), LayerNorm(weight=Weight(10)), output]


def test_the_output_layer_counts_tied_or_not_and_the_embedding_never():
    assert flops_per_token(Model(*layers())) == 6.0 * 5000
    assert flops_per_token(Model(*layers(head=Weight(1000)))) == 6.0 * 5000


def frozen() -> Model:
    """As of an adapter, whose base stands still."""
    return Model(*layers(), Linear(weight=Weight(4000, requires_grad=False)))


def of_images() -> Model:
    model = Model(*layers())
    model.main_input_name = "pixel_values"
    return model


def quantised() -> Model:
    model = Model(*layers())
    model.hf_quantizer = "bitsandbytes"  # type: ignore[attr-defined]
    return model


def divided() -> Model:
    """As by ZeRO-3, where a rank holds a part."""
    model = Model(*layers())
    model.parameters()[0].ds_id = 0  # type: ignore[attr-defined]
    return model


@pytest.mark.parametrize(
    "model",
    [
        *(frozen(), of_images(), quantised(), divided(), Model()),
        Model(*layers(), is_encoder_decoder=True),
        Model(*layers(), num_local_experts=8),
        Model(*layers(), fused=5000),  # experts, or another kind of layer, in one block
    ],
)
def test_where_the_rule_does_not_hold_there_is_no_figure(model: Any):
    assert flops_per_token(model) is None
