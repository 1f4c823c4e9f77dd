"""Mean power of chips that only clouds have: whose figure, of what, and how far it may lie off."""

from __future__ import annotations

import pytest

from carbonmon.analysis.estimate.loads import loads_of
from carbonmon.analysis.estimate.parts import Counted, Part
from carbonmon.core.errors import ConfigError
from carbonmon.hardware.accelerator_power import published_mean
from carbonmon.hardware.device_names import gpu_model
from tests.support.rows import for_each_row


@for_each_row(
    ("model", "mean_w", "low_w", "high_w"),
    # cloud.google.com/tpu/docs/v3 and /v4; Patterson et al. 2021, Table 4; Schneider et al. 2025, Table 1
    [
        ("TPU v3", 220, 123, 262),
        ("TPU v4", 170, 90, 192),
        ("TPU v2", 208, 110.24, 416),
        ("TPU v6e (Trillium)", 153, 81.09, 306),
    ],
)
def test_a_published_mean_has_the_range_that_was_measured_or_a_wide_one(
    model: str, mean_w: float, low_w: float, high_w: float
) -> None:
    spec = published_mean(model)
    assert spec is not None
    assert spec.tdp_w == mean_w
    assert mean_w * (1 - spec.uncertainty.low_ratio) == pytest.approx(low_w)
    assert mean_w * (1 + spec.uncertainty.high_ratio) == pytest.approx(high_w)


def test_a_figure_that_holds_the_host_says_so_and_one_of_the_chip_alone_goes_before_it() -> None:
    v2, v3 = published_mean("TPU v2"), published_mean("TPU v3")
    assert v2 is not None
    assert v3 is not None
    assert "208 W of chip, memory, network interface, fans, host CPU (Patterson et al. 2021" in v2.source
    assert "220 W of chip (Google Cloud" in v3.source
    assert "also 283 W of chip, memory, network interface, fans, host CPU" in v3.source


def test_what_nobody_published_is_unknown_and_never_0() -> None:
    assert published_mean("TPU v5p") is None
    assert published_mean("Trainium2") is None
    with pytest.raises(ConfigError, match="was never published"):
        gpu_model("TPU v5p", "--gpu")


def test_a_mean_is_not_multiplied_by_a_utilisation() -> None:
    (load,) = loads_of(Part("main", 10.0, (Counted("TPU v4", 8),)))
    assert load.power_w == 8 * 170
    assert load.utilization is None
    assert load.spec.uncertainty.low_ratio == pytest.approx(1 - 90 / 170)


@for_each_row(
    ("given", "key"), [({"gpu_utilization": 0.5}, "--gpu-utilization"), ({"idle_share": 0.5}, "--idle-share")]
)
def test_a_utilisation_of_a_published_mean_is_refused_with_the_cure(
    given: dict[str, float], key: str
) -> None:
    part = Part("main", 10.0, (Counted("TPU v4", 8),), **given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"^{key}: .* leave this out, or give --gpu-tdp$"):
        loads_of(part)


def test_with_a_power_of_the_users_own_a_utilisation_counts_again() -> None:
    (load,) = loads_of(Part("main", 10.0, (Counted("TPU v4", 8),), gpu_utilization=0.5, gpu_tdp_w=200.0))
    assert load.power_w == 8 * 100


@for_each_row(
    ("name", "model"),
    [
        ("Ironwood", "TPU v7 (Ironwood)"),
        ("tpu7x", "TPU v7 (Ironwood)"),
        ("AWS Trainium3", "Trainium3"),
        ("Ascend910B", "Ascend 910B"),
        ("Rubin", "Rubin"),
        ("NVIDIA RTX 6000D", "RTX 6000D"),
    ],
)
def test_a_chip_without_a_figure_is_known_by_name(name: str, model: str) -> None:
    with pytest.raises(
        ConfigError, match=f"the TDP of {model.replace('(', '.').replace(')', '.')} was never"
    ):
        gpu_model(name, "--gpu")


@for_each_row(
    ("name", "tdp_w"),
    [
        ("HL-338", 600),
        ("Gaudi 3 PCIe", 600),
        ("HL-325", 900),
        ("Ascend 910", 310),
        ("MTIA v2", 90),
        ("MTIA 400", 1200),
    ],
)
def test_a_chip_of_which_the_vendor_states_the_tdp_has_it(name: str, tdp_w: float) -> None:
    assert gpu_model(name, "--gpu").spec.tdp_w == tdp_w
