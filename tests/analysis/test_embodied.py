"""Embodied emissions: always a range, with its sources, and unknown is never 0."""

from __future__ import annotations

import json
from typing import Any

import pytest

from carbonmon.analysis.embodied import (
    HOURS_PER_YEAR,
    LIFETIME_UTILIZATION,
    Embodied,
    Hardware,
    document,
    embodied_range,
    of_summary,
)
from carbonmon.analysis.estimate.loads import loads_of
from carbonmon.analysis.estimate.parts import Counted, Part
from carbonmon.analysis.estimate.records import snapshot_of
from carbonmon.core.footprint import Overheads
from carbonmon.runs.summary.document import summarize
from tests.support import records

A100 = "NVIDIA A100-SXM4-80GB"
SERVER_KG_PER_GPU = 5700 / 8


def grams(kg: float, hours: float, years: float) -> float:
    return 1000 * kg * hours / (years * HOURS_PER_YEAR * LIFETIME_UTILIZATION)


def test_a_gpu_costs_from_the_least_figure_for_the_card_to_the_largest_with_its_part_of_a_server() -> None:
    found = embodied_range([Hardware("gpu", A100, 8, 10.0)])
    assert found.low_g == pytest.approx(grams(8 * 127.6, 10.0, 6))
    assert found.high_g == pytest.approx(grams(8 * (181 + SERVER_KG_PER_GPU), 10.0, 3))
    assert found.unknown == ()
    assert any("2509.00093" in source for source in found.sources)


def test_bloom_s_own_figure_is_within_the_range() -> None:
    """1.08 million GPU hours: 3.64 t for the GPUs and 7.57 t for the servers (Luccioni et al. 2023)."""
    found = embodied_range([Hardware("gpu", A100, 384, 1_082_990 / 384)])
    assert found.low_g is not None
    assert found.high_g is not None
    assert found.low_g < 3.64e6
    assert found.high_g > 11.2e6
    only_cards = embodied_range([Hardware("gpu", A100, 1, 1_082_990)], lifetime_years=(6.0, 6.0))
    assert only_cards.low_g == pytest.approx(3.64e6 * 127.6 / 150, rel=0.01)


@pytest.mark.parametrize("name", ["NVIDIA H100 PCIe", "A100X", "RTX A1000", "T4", "GB200", "nonsense"])
def test_a_gpu_of_which_nothing_was_published_is_unknown_and_not_0(name: str) -> None:
    assert embodied_range([Hardware("gpu", name, 4, 10.0)]) == Embodied(None, None, (name,), ())


def test_what_is_known_is_told_beside_what_is_not() -> None:
    known = embodied_range([Hardware("gpu", A100, 1, 10.0)])
    both = embodied_range([Hardware("gpu", A100, 1, 10.0), Hardware("gpu", "T4", 1, 10.0)])
    assert both == known._replace(unknown=("T4",))


@pytest.mark.parametrize("name", ["H100", "NVIDIA H100 80GB HBM3", "H100 SXM5 80GB"])
def test_the_vendor_s_figure_for_an_h100_is_the_low_end(name: str) -> None:
    found = embodied_range([Hardware("gpu", name, 1, 1.0)])
    assert found.low_g == pytest.approx(grams(164, 1.0, 6))


def test_a_server_s_figure_holds_cpus_and_memory_already() -> None:
    gpus = Hardware("gpu", A100, 8, 10.0)
    rest = [Hardware("cpu", "AMD EPYC 7742", 2, 10.0), Hardware("dram", "512 GB of memory", 1, 10.0)]
    alone, whole = embodied_range([gpus]), embodied_range([gpus, *rest])
    assert whole.high_g == alone.high_g
    assert whole.low_g == pytest.approx(grams(8 * 127.6 + 2 * 11 + 512 * 0.4, 10.0, 6))
    without = embodied_range(rest)
    assert without.high_g == pytest.approx(grams(2 * 100 + 512 * 1.56, 10.0, 3))


def test_two_machines_do_not_share_a_server() -> None:
    training = Hardware("gpu", A100, 8, 10.0, "training")
    serving = Hardware("cpu", "AMD EPYC 7742", 100, 10.0, "serving")
    parts = [embodied_range([item]).high_g or 0.0 for item in (training, serving)]
    assert embodied_range([training, serving]).high_g == pytest.approx(sum(parts))


def test_memory_of_unknown_size_is_unknown() -> None:
    assert embodied_range([Hardware("dram", "memory of package 0", 1, 1.0)]).unknown == (
        "memory of package 0",
    )


def test_a_shorter_life_and_a_less_used_one_make_a_larger_part() -> None:
    item = Hardware("gpu", A100, 1, 1.0)
    usual = embodied_range([item])
    assert (embodied_range([item], (2.0, 3.0)).high_g or 0) > (usual.high_g or 0)
    assert (embodied_range([item], utilization=0.5).low_g or 0) > (usual.low_g or 0)


def summary(**changes: Any) -> dict[str, Any]:
    snapshot = records.node(8, 2, 0)
    document: dict[str, Any] = json.loads(json.dumps(summarize(snapshot, snapshot.runs[0], "final")))
    document["run"].update(changes)
    return document


def test_a_run_had_its_devices_for_as_long_as_it_lasted() -> None:
    found = of_summary(summary(duration_s=7200.0))
    assert found.low_g == pytest.approx(grams(8 * 127.6 + 2 * 11, 2.0, 6))
    assert found.high_g == pytest.approx(grams(8 * (181 + SERVER_KG_PER_GPU), 2.0, 3))


def test_a_run_that_shared_a_device_has_its_part_of_it() -> None:
    shared = summary()
    for device in shared["energy"]["devices"]:
        device["node_energy_j"] = 4 * device["energy_j"]
    whole = of_summary(summary())
    assert of_summary(shared).low_g == pytest.approx((whole.low_g or 0) / 4)
    sliced = summary()
    for device in sliced["energy"]["devices"]:
        device.update(node_energy_j=None, share_ratio=0.5)
    assert of_summary(sliced).low_g == pytest.approx((whole.low_g or 0) / 2)


def test_a_run_of_unknown_length_has_unknown_embodied_emissions() -> None:
    found = of_summary(summary(duration_s=None))
    assert found == Embodied(None, None, (A100, "AMD EPYC 7742 64-Core Processor"), ())


def test_the_devices_of_an_estimate_stand_for_several_and_have_their_own_times() -> None:
    parts = (
        Part("train", 48.0, (Counted("A100-SXM4-80GB", 8),), gpu_utilization=0.8),
        Part("serve", 10.0, (Counted("H100 SXM5 80GB", 1),), (Counted("EPYC 7742", 2),)),
    )
    loads = [load for part in parts for load in loads_of(part)]
    snapshot = snapshot_of(loads, records.intensity(), Overheads(), "0")
    found = of_summary(json.loads(json.dumps(summarize(snapshot, snapshot.runs[0], "estimated"))))
    direct = embodied_range([Hardware(i.component, i.name, i.number, i.hours, i.part) for i in loads])
    assert (found.low_g, found.high_g) == pytest.approx((direct.low_g, direct.high_g))
    assert found.sources == direct.sources


def test_the_summary_s_object_states_its_assumptions() -> None:
    shown = document(embodied_range([Hardware("gpu", A100, 1, 1.0)]))
    assert list(shown) == ["low_g", "high_g", "lifetime_years", "utilization_ratio", "unknown", "sources"]
    assert shown["lifetime_years"] == [3.0, 6.0]
    assert shown["utilization_ratio"] == 0.85
